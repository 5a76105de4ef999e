local child = require "spec.support.child"
local tmp = require "spec.support.tmp"

describe("a loop over pairs", function()
  -- LuaJIT#827: with the built-in pairs and next, Debian 12's LuaJIT ends the outer
  -- loop early once in a run, when it gives up compiling it. In a process of its own,
  -- for what the JIT did before decides whether the fault shows.
  local script = [[
    local inner = { 1, 2, 3, 4, 5 }
    local outer = { a = inner, b = inner, c = inner, d = inner, e = inner }
    local function back_to_interpreter(...) for _ = 1, 100 do end end
    for _ = 1, 100000 do
      back_to_interpreter()
      local count = 0
      for _, value in EACH(outer) do
        for _ in EACH(value) do end
        count = count + 1
      end
      assert(count == 5, "it saw " .. count .. " of 5 elements")
    end
  ]]

  local function run(text)
    local dir = tmp.dir()
    finally(function() tmp.remove(dir) end)
    local result = child.run { "run", tmp.write(dir .. "/loop.lua", text) }
    assert.equal(0, result.code, result.err)
  end

  it("sees every element, also when the JIT gives up on it #real", function()
    run((script:gsub("EACH", "pairs")))
  end)

  it("may be written with next #real", function()
    run((script:gsub("EACH%((%w+)%)", "next, %1")))
  end)

  it("behaves like Lua's own otherwise", function()
    local seen = {}
    for key, value in pairs { 10, 20, x = 30 } do seen[key] = value end
    assert.same({ 10, 20, x = 30 }, seen)
    assert.is_nil(next {})
    assert.same({ 1, "a" }, { next { "a" } })
    local ok, message = pcall(function() for _ in pairs(nil) do error "never" end end)
    assert.is_false(ok)
    assert.matches("iteration_spec%.lua:%d+: bad argument #1 to 'pairs' %(table expected, got nil%)", message)
    assert.error_matches(function() next(5) end, "bad argument #1 to 'next' %(table expected, got number%)")
    local t = { a = 1, b = 2, c = 3 }
    for key in pairs(t) do t[key] = nil end
    assert.is_nil(next(t))
  end)
end)
