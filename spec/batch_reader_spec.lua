local reader = require "neap.batch.reader"

-- A source that hands out `text` in pieces of `size` bytes, then `err`.
local function source_of(text, size, err)
  local at = 1
  return {
    closed = false,
    read = function()
      if at > #text then return nil, err end
      local piece = text:sub(at, at + (size or 64) - 1)
      at = at + #piece
      return piece
    end,
    close = function(self) self.closed = true end,
  }
end

local function read_all(text, size, err)
  local r, items = reader.new(source_of(text, size, err)), {}
  while true do
    local item, failure = r:next()
    if not item then return items, failure end
    items[#items + 1] = item
  end
end

local function line(id, extra)
  return ('{"custom_id":"%s","method":"POST","url":"/v1/x","body":{"n":%s}}'):format(id, extra or 1)
end

local function problem_of(text)
  return read_all(text .. "\n")[1].problem
end

describe("the batch reader", function()
  it("turns lines into items whatever the pieces they come in", function()
    local text = line "a" .. "\n" .. line("b", 2) .. "\n" .. line("c", 3) .. "\n"
    for _, size in ipairs { 1, 2, 7, 64, 1000 } do
      local items = read_all(text, size)
      assert.equal(3, #items)
      for i, name in ipairs { "a", "b", "c" } do
        assert.is_nil(items[i].problem)
        assert.equal(i, items[i].line)
        assert.equal(name, items[i].name)
        assert.equal(('{"n":%d}'):format(i), items[i].body)
        assert.equal("/v1/x", items[i].url)
        assert.equal("POST", items[i].method)
      end
    end
  end)

  it("accounts for every byte of the input", function()
    local text = line "a" .. "\r\n" .. line("b", 22) .. "\n" .. line "c"
    local sum = 0
    for _, item in ipairs(read_all(text, 10)) do sum = sum + item.bytes end
    assert.equal(#text, sum)
  end)

  it("takes a last line without a line end, CRLF and a byte order mark", function()
    local items = read_all("\239\187\191" .. line "a" .. "\r\n" .. line "b", 5)
    assert.equal(2, #items)
    assert.is_nil(items[1].problem)
    assert.is_nil(items[2].problem)
  end)

  it("passes over blank lines but counts them", function()
    local items = read_all("\n \t\r\n" .. line "a" .. "\n\n" .. line "b" .. "\n\n")
    assert.equal(2, #items)
    assert.equal(3, items[1].line)
    assert.equal(5, items[2].line)
  end)

  it("has nothing in an empty input", function()
    assert.same({}, (read_all ""))
    assert.same({}, (read_all "\n\n"))
  end)

  it("keeps the bytes of body and custom_id as they came", function()
    local body = '{ "big": 12345678901234567890, "f":1.10, "e":[ ],"s":"\\u00e9\\/" }'
    local item = read_all('{"custom_id":"\\u0061\\/b","url":"\\/v1\\/x", "body": ' .. body .. " }\n")[1]
    assert.is_nil(item.problem)
    assert.equal(body, item.body)
    assert.equal('"\\u0061\\/b"', item.custom_id)
    assert.equal("a/b", item.name)
    assert.equal("/v1/x", item.url)
  end)

  it("makes the same id from the same custom_id, wherever it stands", function()
    local one = read_all(line "a")[1]
    local other = read_all(line "b" .. "\n" .. line "a")[2]
    assert.equal(one.id, other.id)
    assert.matches("^batch_req_%x+$", one.id)
  end)

  it("uses POST without a method and any method there is", function()
    assert.equal("POST", read_all '{"custom_id":"a","url":"/x","body":{}}'[1].method)
    assert.equal("PUT", read_all '{"custom_id":"a","method":"put","url":"/x","body":{}}'[1].method)
    local get = read_all '{"custom_id":"a","method":"GET","url":"/x"}'[1]
    assert.is_nil(get.problem)
    assert.is_nil(get.body)
  end)

  describe("names by its number a line", function()
    local cases = {
      { "that is not JSON", "{oops}", "^line 1 is not JSON: " },
      { "that is cut off", '{"custom_id":"a"', "^line 1 is not JSON: " },
      { "that is not UTF-8", '{"custom_id":"\255","url":"/x","body":{}}', "^line 1 is not JSON: " },
      { "that is JSON but no object", "[1]", "^line 1 is not a JSON object$" },
      { "without a custom_id", '{"url":"/x","body":{}}', '^line 1 has no "custom_id"$' },
      { "with a null custom_id", '{"custom_id":null,"url":"/x","body":{}}', '^line 1 has no "custom_id"$' },
      { "with a number as custom_id", '{"custom_id":7,"url":"/x","body":{}}', "custom_id\" that is not a string$" },
      { "with an empty custom_id", '{"custom_id":"","url":"/x","body":{}}', '^line 1 has an empty "custom_id"$' },
      { "without a url", '{"custom_id":"a","body":{}}', '^line 1 has no "url"$' },
      { "with a url that is a number", '{"custom_id":"a","url":1,"body":{}}', "url\" that is not a string$" },
      { "with a url to another host", '{"custom_id":"a","url":"http://x/","body":{}}', "no path beginning with" },
      { "without a body", '{"custom_id":"a","url":"/x"}', '^line 1 has no "body"$' },
      { "with a null body", '{"custom_id":"a","url":"/x","body":null}', '^line 1 has no "body"$' },
      { "with a method that is none", '{"custom_id":"a","method":"GE T","url":"/x","body":{}}', "method" },
      { "with a method that is a number", '{"custom_id":"a","method":1,"url":"/x","body":{}}', "method" },
    }
    for _, case in ipairs(cases) do
      it(case[1], function() assert.matches(case[3], problem_of(case[2])) end)
    end

    it("that repeats a custom_id, and runs the first one", function()
      local items = read_all(table.concat({ line "a", line "b", line "a", "", line "a" }, "\n"))
      assert.is_nil(items[1].problem)
      assert.is_nil(items[2].problem)
      assert.equal('line 3 repeats the custom_id "a" of an earlier line', items[3].problem)
      assert.equal('line 5 repeats the custom_id "a" of an earlier line', items[4].problem)
      assert.equal('"a"', items[3].custom_id)
      assert.not_equal(items[1].id, items[3].id)
      assert.not_equal(items[3].id, items[4].id)
    end)

    it("that repeats a custom_id written with other escapes", function()
      assert.matches("repeats", read_all(line "a" .. "\n" .. line "\\u0061")[2].problem)
    end)

    it("that is too long, and reads on behind it", function()
      local most = reader.MAX_LINE
      reader.MAX_LINE = 100
      finally(function() reader.MAX_LINE = most end)
      local items = read_all(line "a" .. "\n" .. ("x"):rep(1000) .. "\n" .. line "b" .. "\n" .. ("y"):rep(101), 30)
      assert.equal(4, #items)
      assert.matches("^line 2 is longer than", items[2].problem)
      assert.equal(1001, items[2].bytes)
      assert.is_nil(items[3].problem)
      assert.matches("^line 4 is longer than", items[4].problem)
    end)
  end)

  it("goes on after a bad line, which has an id of its own", function()
    local items = read_all("nonsense\n" .. line "a" .. "\nnonsense\n")
    assert.equal(3, #items)
    assert.is_nil(items[2].problem)
    assert.not_equal(items[1].id, items[3].id)
    assert.is_nil(items[1].custom_id)
  end)

  it("hands on the error of its source", function()
    local items, err = read_all(line "a" .. "\n" .. '{"custom', 64, { kind = "invalid" })
    assert.equal(1, #items)
    assert.equal("invalid", err.kind)
  end)

  it("closes its source", function()
    local source = source_of("")
    reader.new(source):close()
    assert.is_true(source.closed)
  end)
end)
