local headers = require "neap.http.headers"

describe("response headers", function()
  local flat = {
    "Content-Type", "text/plain", "set-cookie", "a=1; Expires=Mon, 1", "Vary", "a", "Set-Cookie", "b=2", "vary", "b",
  }

  it("are found in any case", function()
    local view = headers.view(flat)
    assert.equal("text/plain", view["content-type"])
    assert.equal("text/plain", view["CONTENT-Type"])
    assert.is_nil(view["X-None"])
    assert.is_nil(view[1])
  end)

  it("have lower-case names when one goes through them", function()
    local names = {}
    for name in pairs(headers.view(flat)) do names[#names + 1] = name end
    table.sort(names)
    assert.same({ "content-type", "set-cookie", "vary" }, names)
  end)

  it("join repeated values by a comma and also give them one by one", function()
    assert.equal("a, b", headers.view(flat).vary)
    assert.same({ "a=1; Expires=Mon, 1", "b=2" }, headers.values(flat, "SET-COOKIE"))
    assert.same({}, headers.values(flat, "none"))
  end)
end)

describe("request headers", function()
  local defaults = { "Accept", "*/*", "X-A", "1", "X-B", "2" }

  it("replace defaults of the same name in any case", function()
    assert.same({ "Accept", "*/*", "X-B", "2", "x-a", "9" }, headers.merge("test", defaults, { ["x-a"] = "9" }))
  end)

  it("drop a default with false and write numbers as text", function()
    assert.same({ "Accept", "*/*", "X-A", "1", "n", "7" }, headers.merge("test", defaults, { ["X-B"] = false, n = 7 }))
  end)

  it("repeat for each item of an array", function()
    assert.same({ "X-C", "1", "X-C", "2" }, headers.merge("test", {}, { ["X-C"] = { "1", 2 } }))
  end)

  it("come in the order of their names, so that equal requests are equal bytes", function()
    assert.same({ "a", "1", "b", "2", "c", "3" }, headers.merge("test", {}, { c = "3", a = "1", b = "2" }))
  end)

  it("leave the defaults alone", function()
    headers.merge("test", defaults, { ["X-A"] = false })
    headers.without(defaults, { ["x-a"] = true })
    headers.with(defaults, "X-C", "3")
    assert.same({ "Accept", "*/*", "X-A", "1", "X-B", "2" }, defaults)
  end)

  it("raise on names and values of other types", function()
    assert.error_matches(function() headers.merge("test", {}, { [1] = "x" }) end, "names must be strings")
    assert.error_matches(function() headers.merge("test", {}, { a = true }) end, "header 'a' must be")
    assert.error_matches(function() headers.merge("test", {}, { a = { {} } }) end, "header 'a' must be")
  end)
end)
