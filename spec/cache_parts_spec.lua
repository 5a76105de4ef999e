-- SPDX-License-Identifier: MIT
-- What a cache is made of, against known answers.
local json = require "neap.json"
local record = require "neap.cache.record"
local sha256 = require "neap.cache.sha256"
local sorted_json = require "neap.cache.json"

describe("the cache's SHA-256", function()
  it("agrees with FIPS 180-4's examples", function()
    for text, digest in pairs {
      [""] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
      abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
      abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq =
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
      [("a"):rep(1000)] = "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3",
    } do
      assert.equal(digest, sha256.hex(text))
    end
  end)
end)

describe("the cache file's records", function()
  it("have the CRC-32 of zlib, in one go or in parts", function()
    assert.equal(0xCBF43926, record.crc32 "123456789" % 2 ^ 32)
    for cut = 0, 9 do
      local text = "123456789"
      assert.equal(record.crc32(text), record.crc32(text:sub(cut + 1), record.crc32(text:sub(1, cut))))
    end
  end)

  it("come back as they were written, times to the millisecond", function()
    for _, time in ipairs { 0, 0.001, 1e9 + 0.123, 2 ^ 31 + 0.5, 2e11, math.huge } do
      local text = "before" .. record.encode(7, 2, "a key", "a value", time, time)
      local size = record.head_size(text, 7)
      assert.equal(record.HEAD_BYTES + 5, size)
      local head = record.decode(text, 7, 7)
      assert.same({ 2, "a key", #text - 6 }, { head.kind, head.key, head.size })
      assert.is_true(head.fresh == time or math.abs(head.fresh - time) < 0.001)
      assert.equal(head.fresh, head.keep)
      assert.equal("a value", record.value(text:sub(7), head))
      assert.is_nil(record.decode(text, 7, 8)) -- another file's
    end
  end)

  it("are wrong when any one byte is", function()
    local text = record.encode(7, 1, "key", "value", 5, 10)
    for i = 1, #text do
      local other = text:sub(1, i - 1) .. string.char((text:byte(i) + 1) % 256) .. text:sub(i + 1)
      local size = record.head_size(other, 1)
      local head = size and size <= #other and record.decode(other, 1, 7)
      assert.is_falsy(head and head.size == #other and record.value(other, head))
    end
  end)

  it("tell a file's beginning, a torn one and another file apart", function()
    local header, salt = record.header(function() return 0.5 end)
    assert.equal(record.HEADER_BYTES, #header)
    assert.equal(salt, record.salt(header .. "more"))
    for size = 0, #header - 1 do assert.is_false(record.salt(header:sub(1, size))) end
    for _, text in ipairs { "x", "neap cache 2\n", header:gsub("%x\n$", "x\n"), ("\0"):rep(40) } do
      assert.is_nil(record.salt(text))
    end
  end)
end)

describe("the cache's JSON", function()
  it("has its members in the order of their names, and is what neap.json reads", function()
    local value = {
      z = 1, a = { c = {}, b = json.array {}, d = { 1, 2, { y = 0.1, x = "\"\n" } } },
      m = json.null, n = { [1] = 1, [3] = 3 },
      [5] = "five",
    }
    local text = sorted_json.encode(value)
    assert.equal(
      '{"5":"five","a":{"b":[],"c":{},"d":[1,2,{"x":"\\"\\n","y":0.1}]},"m":null,"n":[1,null,3],"z":1}',
      text)
    assert.same(json.decode(json.encode(value)), json.decode(text))
  end)

  it("refuses what neap.json refuses", function()
    local loop = {}
    loop.loop = loop
    for _, value in ipairs { print, { f = print }, 0 / 0, loop, { [1] = 1, [1000] = 1 }, "\255" } do
      local text, err = sorted_json.encode(value)
      assert.is_nil(text)
      assert.equal("invalid", err.kind)
    end
  end)
end)
