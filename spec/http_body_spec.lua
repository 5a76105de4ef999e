local body = require "neap.http.body"
local multipart = require "neap.http.multipart"

--- Everything a source gives, and the error it ended with.
local function drain(source)
  local next_chunk, close = assert(body.open(source))
  local chunks = {}
  while true do
    local chunk, err = next_chunk()
    if not chunk then
      close()
      return table.concat(chunks), err
    end
    chunks[#chunks + 1] = chunk
  end
end

local function counter(n)
  return function()
    n = n - 1
    if n >= 0 then return "x" end
  end
end

describe("a streamed body", function()
  it("from a function is of unknown length and cannot be sent twice", function()
    local source = body.of_value("test", counter(3))
    assert.is_nil(source.length)
    assert.is_false(source.restartable)
    assert.equal("xxx", (drain(source)))
  end)

  it("from 'open' can be sent twice", function()
    local source = body.of_value("test", { open = function() return counter(3) end, length = 3 })
    assert.equal(3, source.length)
    assert.is_true(source.restartable)
    assert.equal("xxx", (drain(source)))
    assert.equal("xxx", (drain(source)))
  end)

  it("breaks off when it is shorter or longer than announced", function()
    for _, length in ipairs { 2, 4 } do
      local _, err = drain(body.of_value("test", { open = function() return counter(3) end, length = length }))
      assert.equal("invalid", err.kind)
    end
  end)

  it("passes on the error that its producer returns", function()
    local _, err = drain(body.of_function(function() return nil, "disk on fire" end))
    assert.equal("internal", err.kind)
    assert.equal("disk on fire", err.message)
  end)

  it("raises on chunks that are no strings", function()
    local numbers = body.of_function(function() return 5 end)
    assert.error_matches(function() drain(numbers) end, "must give strings, got number")
  end)

  it("raises on tables that mean nothing", function()
    local open = function() return counter(0) end
    for message, value in pairs {
      ["'fil'"] = { fil = "x" },
      ["'file'"] = { file = 5 },
      ["needs 'file' or 'open'"] = {},
      ["goes with neither"] = { file = "x", open = open },
      ["whole number"] = { open = open, length = -1 },
    } do
      assert.error_matches(function() body.of_value("test", value) end, "test: .*" .. message)
    end
  end)
end)

describe("a multipart body", function()
  local function encode(fields)
    local encoded, content_type = multipart.encode("test", fields)
    local boundary = content_type:match "^multipart/form%-data; boundary=(%S+)$"
    return encoded, boundary
  end

  it("of plain fields is a string in the order of names", function()
    local text, boundary = encode { b = 2, a = "x" }
    assert.equal("--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n"
      .. "--B\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\n2\r\n--B--\r\n",
      (text:gsub(boundary:gsub("%p", "%%%0"), "B")))
  end)

  it("keeps the order of parts, with file names, types and headers", function()
    local text, boundary = encode {
      { name = "z", value = "1" },
      { name = "f", value = "PNG", filename = "a.png", content_type = "image/png", headers = { ["X-Y"] = "1" } },
      { name = "g", value = "?", filename = "b" },
    }
    assert.equal("--B\r\nContent-Disposition: form-data; name=\"z\"\r\n\r\n1\r\n"
      .. "--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.png\"\r\n"
      .. "Content-Type: image/png\r\nX-Y: 1\r\n\r\nPNG\r\n"
      .. "--B\r\nContent-Disposition: form-data; name=\"g\"; filename=\"b\"\r\n"
      .. "Content-Type: application/octet-stream\r\n\r\n?\r\n"
      .. "--B--\r\n",
      (text:gsub(boundary:gsub("%p", "%%%0"), "B")))
  end)

  it("escapes names so that they cannot end their header", function()
    local text = encode { { name = 'a"\r\nX: y', value = "1" } }
    assert.truthy(text:find('name="a%22%0D%0AX: y"', 1, true))
  end)

  it("refuses line ends in a part's headers", function()
    assert.error_matches(function()
      encode { { name = "a", value = "1", content_type = "x\r\nEvil: 1" } }
    end, "must not hold CR")
  end)

  it("never uses the same boundary twice, nor one that a part holds", function()
    local text, first = encode { a = "1" }
    local again, second = encode { a = text }
    assert.not_equal(first, second)
    assert.truthy(again:find(text, 1, true))
  end)

  it("with a streamed part has the exact length", function()
    local source = encode {
      { name = "a", value = "1" },
      { name = "b", open = function() return counter(5) end, length = 5 },
      { name = "c", open = function() return counter(7) end, length = 7, filename = "c" },
    }
    local text, err = drain(source)
    assert.is_nil(err)
    assert.equal(#text, source.length)
    assert.is_true(source.restartable)
    assert.truthy(text:find('name="b"\r\n\r\nxxxxx\r\n', 1, true))
    assert.equal(text, (drain(source)))
  end)

  it("with a part of unknown length has none itself", function()
    local source = encode { { name = "a", value = counter(3) }, { name = "b", value = "2" } }
    assert.is_nil(source.length)
    assert.is_false(source.restartable)
    assert.truthy(drain(source):find("xxx", 1, true))
  end)

  it("passes on the error of a part that breaks off", function()
    local source = encode { { name = "a", open = function() return counter(3) end, length = 5 } }
    local _, err = drain(source)
    assert.equal("invalid", err.kind)
  end)

  it("raises on parts that mean nothing", function()
    for message, part in pairs {
      ["needs a 'name'"] = { value = "1" },
      ["exactly one of"] = { name = "a" },
      ["has no 'valu'"] = { name = "a", valu = "1" },
      ["'value' of a part cannot be a table"] = { name = "a", value = {} },
    } do
      assert.error_matches(function() encode { part } end, message)
    end
  end)
end)
