-- SPDX-License-Identifier: MIT
local base64 = require "neap.base64"

describe("neap.base64", function()
  it("agrees with the test vectors of RFC 4648", function()
    local vectors = {
      [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foob = "Zm9vYg==", fooba = "Zm9vYmE=", foobar = "Zm9vYmFy",
    }
    for plain, encoded in pairs(vectors) do
      assert.equal(encoded, base64.encode(plain))
      assert.equal(plain, base64.decode(encoded))
      assert.equal((encoded:gsub("=", "")), base64.encode_url(plain))
      assert.equal(plain, base64.decode_url((encoded:gsub("=", ""))))
      assert.equal(plain, base64.decode_url(encoded))
    end
  end)

  it("gives every byte back at every length", function()
    local bytes = {}
    for i = 0, 255 do bytes[i + 1] = string.char(i) end
    local all = table.concat(bytes)
    for length = 0, 256 do
      local data = all:sub(257 - length)
      assert.equal(data, base64.decode(base64.encode(data)))
      assert.equal(data, base64.decode_url(base64.encode_url(data)))
    end
  end)

  it("uses the other alphabet for URLs", function()
    assert.equal("+/+/", base64.encode "\251\255\191")
    assert.equal("-_-_", base64.encode_url "\251\255\191")
    assert.is_nil((base64.decode "-_-_"))
    assert.is_nil((base64.decode_url "+/+/"))
  end)

  it("refuses what is not base64 and says where", function()
    local cases = {
      ["Zm9v "] = true, ["Zm9"] = true, ["Z"] = true, ["Zg="] = true, ["Zg==="] = true, ["="] = true, ["===="] = true,
      ["Zm9v!mFy"] = 5, ["Zm\n9"] = 3, ["Zg==Zg=="] = 3, ["Zh=="] = 2, ["Zm9="] = 3, ["Zm9v\0AAA"] = 5,
    }
    for text, position in pairs(cases) do
      local data, err = base64.decode(text)
      assert.is_nil(data, text)
      assert.equal("decode", err.kind)
      if position ~= true then assert.equal(position, err.position, text) end
    end
  end)

  it("raises when it does not get a string", function()
    for _, name in ipairs { "encode", "decode", "encode_url", "decode_url" } do
      assert.has_error(function() base64[name](nil) end, ("neap.base64.%s: expected a string, got nil"):format(name))
    end
  end)
end)
