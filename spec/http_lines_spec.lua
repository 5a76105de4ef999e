local lines = require "neap.http.lines"

local function split(text, size, cr_ends)
  local splitter, list = lines.new(cr_ends or false), {}
  for from = 1, #text, size do
    splitter:feed(text:sub(from, from + size - 1), function(line) list[#list + 1] = line end)
  end
  return list, splitter:rest()
end

describe("the line splitter", function()
  it("drops LF and CRLF and keeps a CR inside a line", function()
    for size = 1, 12 do
      local list, rest = split("a\nb\r\n\nc\rd\r\r\ne", size)
      assert.same({ "a", "b", "", "c\rd\r" }, list, "chunks of " .. size)
      assert.equal("e", rest)
    end
  end)

  it("has no rest when the last line has its end", function()
    local list, rest = split("a\nb\n", 1)
    assert.same({ "a", "b" }, list)
    assert.is_nil(rest)
  end)

  it("ends lines at a lone CR when asked", function()
    for size = 1, 12 do
      local list, rest = split("a\rb\r\nc\n\r\n\rd\r", size, true)
      assert.same({ "a", "b", "c", "", "", "d" }, list, "chunks of " .. size)
      assert.is_nil(rest)
    end
  end)

  it("raises 'too_large' for a line over the limit", function()
    local splitter = lines.new(false, 10)
    splitter:feed("0123456789", error)
    local ok, err = pcall(splitter.feed, splitter, "x", error)
    assert.is_false(ok)
    assert.equal("too_large", err.kind)
    assert.equal("download", err.phase)
  end)
end)
