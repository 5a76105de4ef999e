local url = require "neap.http.url"

describe("a relative url", function()
  local function join(base, relative)
    return (url.join(assert(url.base(base)), relative))
  end

  it("is appended to the base's path, with or without slashes between", function()
    for _, base in ipairs { "https://api.test/v1", "https://api.test/v1/", "https://api.test/v1//" } do
      assert.equal("https://api.test/v1/chat", join(base, "chat"))
      assert.equal("https://api.test/v1/chat", join(base, "/chat"))
    end
    assert.equal("http://api.test/x", join("http://api.test", "x"))
  end)

  it("cannot leave the base's host", function()
    assert.equal("https://api.test/v1/evil.test/x", join("https://api.test/v1", "//evil.test/x"))
    assert.equal("https://api.test/v1/mailto:x", join("https://api.test/v1", "mailto:x"))
    assert.equal("https://api.test/@evil.test", join("https://api.test", "@evil.test"))
  end)

  it("stands for the base itself when it is empty or a query", function()
    assert.equal("https://api.test/v1", join("https://api.test/v1", ""))
    assert.equal("https://api.test/v1?a=1", join("https://api.test/v1", "?a=1"))
  end)

  it("keeps the base's query", function()
    local base = "https://api.test/openai?api-version=2"
    assert.equal("https://api.test/openai/chat?api-version=2", join(base, "chat"))
    assert.equal("https://api.test/openai/chat?x=1&api-version=2", join(base, "chat?x=1"))
    assert.equal("https://api.test/openai?api-version=2", join(base, ""))
    assert.equal("https://api.test/openai?x=1&api-version=2", join(base, "?x=1"))
  end)

  it("is left out of it when it is absolute", function()
    assert.equal("http://other.test/x", join("https://api.test/v1", "http://other.test/x"))
  end)

  it("without a base is an error of kind 'invalid'", function()
    local joined, err = url.join(nil, "/x")
    assert.is_nil(joined)
    assert.equal("invalid", err.kind)
    assert.equal("no", err.sent)
  end)
end)

describe("a base url", function()
  it("must be http or https with a host", function()
    local wrong = { "", "x", "ftp://a", "http://", "https:///x", "http:/a", "://a", "http://a b", "http://a\n" }
    for _, text in ipairs(wrong) do
      local base, err = url.base(text)
      assert.is_nil(base, text)
      assert.equal("invalid", err.kind)
    end
    assert.is_table(url.base "HTTP://a")
  end)

  it("does not show its password in the error", function()
    local _, err = url.base "ftp://user:secret@host/"
    assert.is_nil(err.message:find("secret", 1, true))
  end)
end)

describe("a query", function()
  local function query(fields) return url.encode_pairs("test", fields, url.escape) end

  it("is percent-encoded, names in order", function()
    assert.equal("a=1&b=x%20y%26%3D%2B%2F&c=true&%C3%BC=%C3%A9", query { b = "x y&=+/", a = 1, c = true, ["ü"] = "é" })
  end)

  it("repeats a name for each value of an array", function()
    assert.equal("tag=a&tag=b", query { tag = { "a", "b" } })
  end)

  it("keeps the order of pairs", function()
    assert.equal("z=1&a=2&z=3", query { { "z", 1 }, { "a", 2 }, { "z", 3 } })
  end)

  it("raises on values that have no text", function()
    assert.error_matches(function() query { a = print } end, "test: value of 'a' must be string")
    assert.error_matches(function() query { { "a" } } end, "test: item 1 must be a {name, value} pair")
  end)

  it("goes before the fragment and after a query that is there", function()
    assert.equal("http://h/p?a=1", url.add_query("http://h/p", "a=1"))
    assert.equal("http://h/p?x=0&a=1#f", url.add_query("http://h/p?x=0#f", "a=1"))
    assert.equal("http://h/p?a=1", url.add_query("http://h/p?", "a=1"))
    assert.equal("http://h/p", url.add_query("http://h/p", ""))
  end)
end)

describe("a form", function()
  it("is encoded as browsers do", function()
    assert.equal("a=x+y%2B&b=*-._%7E", url.encode_pairs("test", { a = "x y+", b = "*-._~" }, url.escape_form))
  end)
end)
