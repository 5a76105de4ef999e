local sse = require "neap.http.sse"

--- All events of `text`, fed in chunks of `size` bytes.
local function parse(text, size)
  local parser, events = sse.new(), {}
  for from = 1, #text, size or math.max(#text, 1) do
    parser:feed(text:sub(from, from + (size or #text) - 1))
    for event in function() return parser:next() end do events[#events + 1] = event end
  end
  return events
end

local function data_of(text)
  local list = {}
  for i, event in ipairs(parse(text)) do list[i] = event.data end
  return list
end

describe("the event-stream parser", function()
  it("gives an event's data, type, id and reconnection time", function()
    assert.same({ { data = "hello", event = "greeting", id = "7", retry = 1.5 } },
      parse "event: greeting\nid: 7\nretry: 1500\ndata: hello\n\n")
  end)

  it("calls an event without a type 'message' and one without an id ''", function()
    assert.same({ { data = "x", event = "message", id = "" } }, parse "data: x\n\n")
  end)

  it("joins data lines by LF", function()
    assert.same({ "YHOO\n+2\n10" }, data_of "data: YHOO\ndata: +2\ndata: 10\n\n")
  end)

  it("takes LF, CRLF and CR as line ends, also mixed", function()
    local expected = { "a", "b\nc", "d" }
    assert.same(expected, data_of "data: a\n\ndata: b\ndata: c\n\ndata: d\n\n")
    assert.same(expected, data_of "data: a\r\n\r\ndata: b\r\ndata: c\r\n\r\ndata: d\r\n\r\n")
    assert.same(expected, data_of "data: a\r\rdata: b\rdata: c\r\rdata: d\r\r")
    assert.same(expected, data_of "data: a\r\n\rdata: b\ndata: c\r\r\ndata: d\n\r\n")
  end)

  it("strips one byte-order mark at the start and no other", function()
    assert.same({ "a" }, data_of "\239\187\191data: a\n\n")
    assert.same({}, data_of "\239\187\191\239\187\191data: a\n\n")
    assert.same({ "a" }, data_of "data: a\n\n\239\187\191data: b\n\n")
  end)

  it("takes a stream that only begins like a byte-order mark as it is", function()
    assert.same({ "a" }, data_of "\239\187\n\ndata: a\n\n")
    assert.same({ "a" }, data_of "\239data: b\ndata: a\n\n")
  end)

  it("ignores comments and unknown fields", function()
    assert.same({ "a" }, data_of ": ping\ndata: a\nfoo: bar\n:\n\n")
  end)

  it("drops one space after the colon and no more", function()
    assert.same({ " a", "b", "\tc" }, data_of "data:  a\n\ndata:b\n\ndata:\tc\n\n")
  end)

  it("takes a line without a colon as a field with an empty value", function()
    assert.same({ "", "\n" }, data_of "data\n\ndata\ndata\n\n")
  end)

  it("keeps colons in values and the case of field names", function()
    assert.same({ "a:b: c" }, data_of "data: a:b: c\nData: no\nDATA: no\n\n")
  end)

  it("gives nothing for a block without data and forgets its type", function()
    assert.same({ { data = "x", event = "message", id = "" } }, parse "event: gone\n\ndata: x\n\n")
  end)

  it("keeps the last id for later events, also from a block without data", function()
    local events = parse "id: 1\n\ndata: a\n\nid: 2\ndata: b\n\nid\ndata: c\n\n"
    assert.same({ "1", "2", "" }, { events[1].id, events[2].id, events[3].id })
  end)

  it("ignores an id that holds NUL", function()
    assert.equal("1", parse("id: 1\nid: 2\0x\ndata: a\n\n")[1].id)
  end)

  it("ignores a reconnection time that is not all digits", function()
    for _, value in ipairs { "", "-1", "1.5", "1e3", "10 s", "0x10", "9999999999999999999" } do
      assert.is_nil(parse("retry: " .. value .. "\ndata: a\n\n")[1].retry, value)
    end
    assert.equal(0, parse("retry: 0\ndata: a\n\n")[1].retry)
  end)

  it("drops an event that the end of the stream cuts off", function()
    assert.same({ "a" }, data_of "data: a\n\ndata: b\n")
    assert.same({ "a" }, data_of "data: a\n\ndata: b")
  end)

  it("passes bytes as they are", function()
    local bytes = {}
    for i = 0, 255 do
      if i ~= 10 and i ~= 13 then bytes[#bytes + 1] = string.char(i) end
    end
    local all = table.concat(bytes)
    assert.same({ all }, data_of("data: " .. all .. "\n\n"))
  end)

  it("gives the same events wherever the chunks are cut", function()
    local text = "\239\187\191: hi\r\nevent: delta\rid: 4\ndata: {\"a\":1}\r\n\r\n"
      .. "retry: 20\n\ndata: x\rdata: y\n\r\ndata\r\n\r\ndata: [DONE]\n\n"
    local whole = parse(text)
    assert.equal(4, #whole)
    for size = 1, #text do assert.same(whole, parse(text, size), "chunks of " .. size) end
    for cut = 1, #text - 1 do
      local parser, events = sse.new(), {}
      parser:feed(text:sub(1, cut))
      parser:feed ""
      parser:feed(text:sub(cut + 1))
      for event in function() return parser:next() end do events[#events + 1] = event end
      assert.same(whole, events, "cut after " .. cut)
    end
  end)

  it("does not wait for the LF of a CRLF before it gives the event", function()
    local parser = sse.new()
    parser:feed "data: a\r\n\r"
    assert.equal("a", parser:next().data)
    parser:feed "\ndata: b\r\r"
    assert.equal("b", parser:next().data)
    assert.is_nil(parser:next())
  end)

  it("raises 'too_large' for a line without end and for an event without end", function()
    local parser = sse.new(1000)
    local ok, err = pcall(function()
      for _ = 1, 20 do parser:feed(("x"):rep(100)) end
    end)
    assert.is_false(ok)
    assert.equal("too_large", err.kind)

    parser = sse.new(1000)
    ok, err = pcall(function()
      for _ = 1, 20 do parser:feed("data: " .. ("x"):rep(100) .. "\n") end
    end)
    assert.is_false(ok)
    assert.equal("too_large", err.kind)
  end)

  it("holds no more than what is unfinished", function()
    local parser = sse.new(100)
    for i = 1, 1000 do
      parser:feed("data: " .. i .. "\n\n")
      assert.equal(tostring(i), parser:next().data)
    end
    assert.is_nil(parser:next())
  end)
end)
