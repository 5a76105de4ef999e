local inspect = require "neap.cli.inspect"

local show = inspect.inspect

describe("inspect", function()
  it("shows numbers as they read back", function()
    assert.equal("2", show(2))
    assert.equal("0.1", show(0.1))
    assert.equal("9007199254740991", show(2 ^ 53 - 1))
    assert.equal(0.1 + 0.2, tonumber(show(0.1 + 0.2)))
    assert.equal("inf", show(math.huge))
    assert.equal("1e+300", show(1e300))
  end)

  it("quotes strings and escapes what cannot be seen", function()
    assert.equal([["a\"b\\c\n\t\x00"]], show 'a"b\\c\n\t\0')
    assert.equal('"grün"', show "grün")
  end)

  it("shows a small table on one line, the list first, then sorted keys", function()
    assert.equal('{ 1, 2, a = true, b = "x" }', show { 1, 2, b = "x", a = true })
    assert.equal("{}", show {})
    assert.equal('{ [10] = 1, ["a b"] = 2, ["end"] = 3 }', show { [10] = 1, ["a b"] = 2, ["end"] = 3 })
  end)

  it("breaks a wide table over lines, nested ones indented", function()
    local text = show({ first = { "aaaaaaaaaa", "bbbbbbbbbb" }, second = { x = 1 } }, { width = 30 })
    assert.equal([[
{
  first = {
    "aaaaaaaaaa",
    "bbbbbbbbbb"
  },
  second = { x = 1 }
}]], text)
  end)

  it("marks a cycle, but not a table that occurs twice", function()
    local cyclic = { name = "c" }
    cyclic.self = cyclic
    assert.equal('{ name = "c", self = <cycle> }', show(cyclic))
    local twice = { 1 }
    assert.equal("{ { 1 }, { 1 } }", show { twice, twice })
  end)

  it("bounds depth, entries and strings inside tables", function()
    assert.equal("{ { {...} } }", show({ { { {} , 1 } } }, { depth = 2 }))
    assert.equal("{ 1, 2, ... (8 more) }", show({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, { items = 2 }))
    assert.equal("{ 1, a = 1, ... (2 more) }", show({ 1, a = 1, b = 2, c = 3 }, { items = 2 }))
    assert.equal('{ "aaaa"... (10 bytes) }', show({ ("a"):rep(10) }, { string_length = 4 }))
    assert.equal('{ "ü"... (6 bytes) }', show({ "üüü" }, { string_length = 3 }))
  end)

  it("uses __tostring, and survives one that raises", function()
    assert.equal("me", show(setmetatable({}, { __tostring = function() return "me" end })))
    assert.matches("^<error in __tostring: .*oops>$",
      show(setmetatable({}, { __tostring = function() error("oops", 0) end })))
  end)

  it("does not run __index, __pairs or __len", function()
    local trap = setmetatable({ a = 1 }, { __index = error, __pairs = error, __len = error })
    assert.equal("{ a = 1 }", show(trap))
  end)

  it("shows an error table as its message", function()
    local err = require("neap.error").new { kind = "timeout", message = "too late" }
    assert.equal("timeout: too late", show(err))
  end)

  it("says where a function is defined", function()
    assert.matches("^function <.*cli_inspect_spec.lua:%d+>$", show(function() end))
    assert.matches("^function: ", show(print))
  end)

  it("shows several values, nils included", function()
    assert.equal('1, nil, "x", nil', inspect.values(4, 1, nil, "x", nil))
    assert.equal("", inspect.values(0))
  end)

  it("shows a string result in full", function()
    local long = ("x"):rep(5000)
    assert.equal('"' .. long .. '"', inspect.values(1, long))
  end)
end)
