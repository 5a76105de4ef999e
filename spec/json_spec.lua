-- SPDX-License-Identifier: MIT
local core = require "neap.core"
local json = require "neap.json"

--- decode's failure, checked for its shape.
local function decode_error(text)
  local value, err = json.decode(text)
  assert.is_nil(value)
  assert.equal("decode", err.kind)
  return err
end

local function encode_error(value, kind)
  local text, err = json.encode(value)
  assert.is_nil(text)
  assert.equal(kind or "invalid", err.kind)
  return err
end

local function round_trip(text)
  return assert(json.encode(json.decode(text)))
end

describe("neap.json.decode", function()
  it("decodes every kind of value", function()
    local v = json.decode ' {"s": "x", "n": -1.5e2, "t": true, "f": false, "z": null, "a": [1, [2]], "o": {"k": "v"}} '
    assert.same({ s = "x", n = -150, t = true, f = false, z = json.null, a = { 1, { 2 } }, o = { k = "v" } }, v)
  end)

  it("decodes a bare value of every kind", function()
    assert.equal(12, json.decode "12")
    assert.equal("x", json.decode '"x"')
    assert.equal(false, json.decode "false")
    assert.equal(json.null, json.decode "null")
  end)

  it("decodes escapes, surrogate pairs and zero bytes", function()
    assert.equal('"\\/\b\f\n\r\t\0é😀', json.decode [["\"\\\/\b\f\n\r\t\u0000\u00e9\ud83d\ude00"]])
  end)

  it("takes the last of a repeated key", function()
    assert.same({ a = 2 }, json.decode '{"a":1,"a":2}')
  end)

  local wrong = {
    { "", 1, "empty" }, { " \n\t", 4, "empty" }, { "{} x", 4, "follows" }, { "[1,]", 4 }, { '{"a":1,}', 8, "key" },
    { "[1 2]", 4, "','" }, { '{"a" 1}', 6, "':'" }, { '{"a":1 "b":2}', 8, "','" }, { "{a:1}", 2, "key" },
    { "{1:1}", 2, "key" }, { "[", 2, "too early" }, { '{"a":', 6, "too early" }, { "]", 1 }, { "tru", 1 },
    { "nulL", 1 }, { "TRUE", 1 }, { "01", 1, "leading zero" }, { "-01", 1, "leading zero" }, { "-", 2 },
    { "+1", 1 }, { ".5", 1 }, { "1.", 3 }, { "[1.]", 4, "point" }, { "1.e3", 3, "point" }, { "1e", 3 },
    { "[1e+]", 5, "exponent" }, { "0x1F", 2, "follows" }, { "NaN", 1 }, { "nan", 1 }, { "-NaN", 2 },
    { "Infinity", 1 }, { "-Infinity", 2 }, { "inf", 1 }, { "1_000", 2 }, { "1,5", 2, "follows" },
    { "'x'", 1 }, { '"abc', 1, "without its end" }, { '"a\\"', 1, "without its end" }, { '"a\nb"', 3, "control" },
    { '"\0"', 2, "control" }, { '"\\x41"', 2, "escape" }, { '"\\u12"', 2, "hex" }, { '"\\u00g0"', 2, "hex" },
    { '"\\\0"', 2, "escape" }, { '"\255"', 2, "UTF-8" }, { '"a\192\175"', 3, "UTF-8" },
    { '"\237\160\128"', 2, "UTF-8" }, { '"\244\144\128\128"', 2, "UTF-8" }, { '"\226\130"', 2, "UTF-8" },
    { "\239\187\191{}", 1, "byte order mark" }, { "/* c */ 1", 1 }, { "[1] // c", 5, "follows" }, { "\0", 1 },
    { "1\0", 2, "follows" },
  }
  it("refuses what is not JSON and says where", function()
    for _, case in ipairs(wrong) do
      local err = decode_error(case[1])
      assert.equal(case[2], err.position, ("%q: %s"):format(case[1], err.message))
      if case[3] then assert.truthy(err.message:find(case[3], 1, true), ("%q: %s"):format(case[1], err.message)) end
      assert.is_false((json.valid(case[1])))
    end
  end)

  it("refuses each proper beginning of a JSON text", function()
    local text = [[{"a":[1,-2.5e3,"x\u00e9é",true,false,null,[],{}],"b":{"c":"d"}}]]
    assert.is_true(json.valid(text))
    for i = 0, #text - 1 do decode_error(text:sub(1, i)) end
  end)

  it("refuses a number that a double cannot hold", function()
    assert.truthy(decode_error("[1e400]").message:find "double")
    assert.equal(2, decode_error("[1e400]").position)
    decode_error "-1e309"
    decode_error "1.7976931348623159e308"
    decode_error "123456789e301"
    decode_error("0." .. ("0"):rep(400) .. "1e800")
    assert.equal(1.7976931348623157e308, json.decode "1.7976931348623157e308")
    assert.equal(0, json.decode "0e999999999999999999999")
    assert.equal(1, json.decode("0." .. ("0"):rep(399) .. "1e400"))
    assert.equal(0, json.decode "1e-400")
  end)

  it("refuses half a surrogate pair, which no UTF-8 string can hold", function()
    for _, text in ipairs { [["\ud800"]], [["\udc00"]], [["\ud800\ud800"]], [["\ud800x"]], [["\udc00\ud800"]] } do
      assert.truthy(decode_error(text).message:find "surrogate")
      assert.equal(2, decode_error(text).position)
    end
  end)

  it("gives integers beyond 2^53 as strings of their digits", function()
    local v = json.decode '[9007199254740992, 9007199254740993, -9007199254740993, {"id": 18446744073709551615}]'
    assert.same({ 2 ^ 53, "9007199254740993", "-9007199254740993", { id = "18446744073709551615" } }, v)
    assert.equal("12345678901234567890", json.decode "12345678901234567890")
    assert.equal(("9"):rep(500), json.decode(("9"):rep(500)))
    assert.same({ "x", "12345678901234567890" }, json.decode '["x",12345678901234567890]')
  end)

  it("keeps strings that look like numbers and marks as they are", function()
    local text = '["12345678901234567890","[]","neap:0123456789abcdef:",[],90071992547409931]'
    assert.same({ "12345678901234567890", "[]", "neap:0123456789abcdef:", {}, "90071992547409931" }, json.decode(text))
  end)

  it("keeps an empty array an empty array", function()
    assert.equal("[]", round_trip "[]")
    assert.equal("{}", round_trip "{}")
    assert.equal("[[],{},[[]],[1,[]]]", round_trip "[ [ ], { }, [[\n]], [1,[]] ]")
    assert.equal('{"a":[]}', round_trip '{"a":[]}')
    local v = json.decode '{"a":[]}'
    assert.is_nil(next(v.a))
    v.a[1] = "x"
    assert.equal('{"a":["x"]}', json.encode(v))
  end)

  it("goes 1,000 levels deep and no deeper", function()
    assert.is_table(json.decode(("["):rep(1000) .. "1" .. ("]"):rep(1000)))
    assert.is_table(json.decode(("["):rep(1000) .. ("]"):rep(1000)))
    local err = decode_error(("["):rep(1001) .. ("]"):rep(1001))
    assert.equal(1001, err.position)
    decode_error(('{"a":'):rep(100000))
  end)

  it("raises when it does not get a string", function()
    assert.has_error(function() json.decode(nil) end)
    assert.has_error(function() json.decode(12) end)
    assert.has_error(function() json.decode {} end)
  end)
end)

describe("neap.json.encode", function()
  it("encodes every kind of value", function()
    assert.equal('"x"', json.encode "x")
    assert.equal("true", json.encode(true))
    assert.equal("null", json.encode(nil))
    assert.equal("null", json.encode(json.null))
    assert.equal('[1,"two",[3],null]', json.encode { 1, "two", { 3 }, json.null })
    assert.equal('{"k":{"n":false}}', json.encode { k = { n = false } })
    assert.equal([["\"\\\n\t\u0001é😀"]], json.encode '"\\\n\t\1é😀')
  end)

  it("keeps all digits of a number", function()
    local cases = {
      [0] = "0", [1] = "1", [-7] = "-7", [0.5] = "0.5", [0.7] = "0.7", [0.1 + 0.2] = "0.30000000000000004",
      [1 / 3] = "0.3333333333333333", [99999999999999] = "99999999999999", [1e14] = "100000000000000",
      [123456789012345] = "123456789012345", [1700000000123456] = "1700000000123456", [2 ^ 53] = "9007199254740992",
      [-(2 ^ 53)] = "-9007199254740992", [5e-324] = "4.9406564584124654e-324",
      [1.7976931348623157e308] = "1.7976931348623157e+308",
    }
    for number, text in pairs(cases) do
      local encoded = json.encode(number)
      assert.equal(number, tonumber(encoded))
      if math.abs(number) > 1e-300 then assert.equal(text, encoded) end
    end
  end)

  it("gives every double back", function()
    for _, number in ipairs { 2 ^ 53 + 2, -12032537110972230, 1e16, 123456789e12, 1e17, 2 ^ 60, 1e22, -0.0 } do
      assert.equal(number, json.decode(json.encode(number)))
    end
    local list = {}
    for i = 1, 500 do
      local mantissa = core.random()
      list[i] = (mantissa - 0.5) * 10 ^ ((i % 600) - 300)
    end
    assert.same(list, json.decode(json.encode(list)))
    assert.same({ list = list, n = 0.1 + 0.2 }, json.decode(json.encode { list = list, n = 0.1 + 0.2 }))
  end)

  it("does not touch the tables that it encodes", function()
    local inner = { 1 / 3, json.array {} }
    local value = { inner, n = nil, x = nil }
    assert.equal("[[0.3333333333333333,[]]]", json.encode(value))
    assert.equal(1 / 3, inner[1])
    assert.equal(inner, value[1])
    assert.is_nil(next(inner[2]))
  end)

  it("encodes an empty table as an object, a marked one as an array", function()
    assert.equal("{}", json.encode {})
    assert.equal("[]", json.encode(json.array {}))
    assert.equal("[]", json.encode(json.array()))
    assert.equal("[]", json.encode(json.empty_array))
    assert.equal('{"a":[]}', json.encode { a = json.empty_array })
    assert.equal('["x"]', json.encode(json.array { "x" }))
  end)

  it("fills small holes with null and refuses large ones", function()
    assert.equal("[1,null,3]", json.encode { 1, [3] = 3 })
    encode_error { [1] = 1, [1000] = 1 }
  end)

  it("names the place of what cannot be encoded", function()
    assert.truthy(encode_error({ messages = { { content = print } } }).message:find(".messages[1].content", 1, true))
    assert.truthy(encode_error({ { 0 / 0 } }).message:find("NaN or Infinity at [1][1]", 1, true))
    assert.truthy(encode_error({ a = "\255" }).message:find("UTF-8 at .a", 1, true))
  end)

  it("refuses what JSON cannot say", function()
    encode_error(print)
    encode_error(1 / 0)
    encode_error(-1 / 0)
    encode_error(coroutine.create(print))
    encode_error(io.stdout)
    encode_error(require("ffi").new "int")
    encode_error { [true] = 1 }
    encode_error { [{}] = 1 }
    encode_error(json.array { x = 1 })
    encode_error { ["\192"] = 1 }
    encode_error { [2 ^ 40] = 1 }
    encode_error { [1 / 3] = 1, x = 1 }
  end)

  it("refuses a table within itself", function()
    local t = {}
    t.t = t
    assert.truthy(encode_error(t).message:find "within itself")
  end)

  it("refuses more than 100 MB instead of looping for ever", function()
    encode_error(("x"):rep(101 * 1000 * 1000), "too_large")
    local shared, list = ("\1"):rep(1000 * 1000), {}
    for i = 1, 110 do list[i] = shared end
    encode_error(list, "too_large")
  end)

  it("encodes a large document", function()
    local text = ("é\n"):rep(200000)
    assert.equal(text, json.decode(json.encode { text, 1 / 3, json.empty_array })[1])
  end)

  it("raises without a value", function()
    assert.has_error(function() json.encode() end)
  end)
end)

describe("neap.json.array", function()
  it("refuses a table that has a metatable of its own", function()
    assert.has_error(function() json.array(setmetatable({}, {})) end)
    local t = json.array {}
    assert.equal(t, json.array(t))
  end)
end)

describe("neap.json.members", function()
  it("gives the members of an object as they stand in the text", function()
    local text = ' { "a" : [ 1 , 2 ] ,"b":"x\\u0041", "c": 1.50e0 , "d":{"e":null} } '
    assert.same({ a = "[ 1 , 2 ]", b = '"x\\u0041"', c = "1.50e0", d = '{"e":null}' }, json.members(text))
    assert.same({}, json.members "{}")
  end)

  it("undoes the escapes of keys and takes the last of a repeated one", function()
    assert.same({ ['a"\n😀'] = "1", b = "3" }, json.members [[{"a\"\n\ud83d\ude00":1,"b":2,"\u0062":3}]])
  end)

  it("passes on what decode would refuse", function()
    assert.same({ n = "1e400", s = '"\\ud800"', i = "123456789012345678901234567890" },
      json.members '{"n":1e400,"s":"\\ud800","i":123456789012345678901234567890}')
  end)

  it("says what is wrong and where", function()
    local members, message = json.members '{"a":}'
    assert.is_nil(members)
    assert.equal("not a JSON value at byte 6", message)
    members, message = json.members " [1]"
    assert.is_nil(members)
    assert.equal("not an object at byte 2", message)
  end)
end)

describe("neap.json.clean_utf8", function()
  it("replaces only what is not UTF-8", function()
    assert.equal("aé😀", json.clean_utf8 "aé😀")
    assert.equal("a\239\191\189b", json.clean_utf8 "a\255b")
    assert.equal("\239\191\189", json.clean_utf8 "\226\130")
    assert.equal("\239\191\189\239\191\189x", json.clean_utf8 "\192\175x")
    assert.equal("", json.clean_utf8 "")
    assert.is_true(json.valid(json.encode(json.clean_utf8(("\200"):rep(1000)))))
  end)
end)
