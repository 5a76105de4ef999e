local http = require "spec.support.http"
local neap = require "neap"

local serve, client_of, fails, eventually = http.serve, http.client, http.fails, http.eventually

--- Sends a head and then each piece after a pause; `ending` closes or keeps it.
local function pieces(list, opts)
  opts = opts or {}
  return serve(function(c)
    c:write(("HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n")
      :format(opts.content_type or "text/plain"))
    local i = 0
    local function more()
      i = i + 1
      local piece = list[i]
      if piece then
        c:write(("%x\r\n%s\r\n"):format(#piece, piece))
        c:after(opts.pause or 0.005, more)
      elseif opts.breaks then
        c:reset()
      elseif not opts.hangs then
        c:write "0\r\n\r\n"
      end
    end
    more()
  end)
end

local function collect(iterator)
  local list = {}
  for item in iterator do list[#list + 1] = item end
  return list
end

describe("a streamed response #real", function()
  after_each(http.finish)

  it("is there at the head, before its body", function()
    local server = pieces({ "late" }, { pause = 0.05 })
    local res = assert(client_of(server):get("/", { stream = true }))
    assert.equal(200, res.status)
    assert.equal("text/plain", res.headers["content-type"])
    assert.is_nil(res.body)
    assert.equal(1, res.sends)
    assert.equal("http response 200 (streamed)", tostring(res))
    assert.equal("late", res:read())
    assert.is_nil(res:read())
    assert.is_nil(res:read())
    assert.is_true(res.timings.total > 0)
  end)

  it("gives its chunks as they come", function()
    local server = pieces { "one", "two", "three" }
    local res = assert(client_of(server):get("/", { stream = true }))
    assert.equal("onetwothree", table.concat(collect(res:chunks())))
  end)

  it("gives its lines, however the chunks are cut", function()
    local server = pieces { "a\nb", "c\r", "\n\nd", "\ne" }
    local res = assert(client_of(server):get("/", { stream = true }))
    assert.same({ "a", "bc", "", "d", "e" }, collect(res:lines()))
  end)

  it("gives its events as they come", function()
    local server = pieces({ "data: {\"n\"", ":1}\r", "\n\r\nevent: end\ndata: [DO", "NE]\n\n" },
      { content_type = "text/event-stream" })
    local events = {}
    local res = assert(client_of(server):post("/", { stream = true, json = { stream = true } }))
    for event in res:events() do events[#events + 1] = event.event .. " " .. event.data end
    assert.same({ 'message {"n":1}', "end [DONE]" }, events)
  end)

  it("gives each event at the time it comes", function()
    local server = pieces({ "data: 1\n\n", "data: 2\n\n", "data: 3\n\n" }, { pause = 0.05 })
    local res = assert(client_of(server):get("/", { stream = true }))
    local times = {}
    for _ in res:events() do times[#times + 1] = neap.now() end
    assert.equal(3, #times)
    assert.is_true(times[2] - times[1] > 0.03)
    assert.is_true(times[3] - times[2] > 0.03)
  end)

  it("can be collected, as the body of an error for example", function()
    local server = serve(function(c) c:respond(429, '{"error":"slow down"}') end)
    local res = assert(client_of(server):post("/", { stream = true, json = {} }))
    assert.equal(429, res.status)
    assert.equal('{"error":"slow down"}', res:read_all())
    assert.same({ error = "slow down" }, res:json())
    assert.equal('{"error":"slow down"}', res.body)
  end)

  it("lets its connection be used again once it is read to the end", function()
    local server = pieces { "a" }
    local client = client_of(server)
    for _ = 1, 3 do assert.same({ "a" }, collect(assert(client:get("/", { stream = true })):chunks())) end
    assert.equal(1, server.connections)
  end)

  it("raises the error table from its iterators when the body breaks off", function()
    for _, kind in ipairs { "chunks", "lines", "events" } do
      local server = pieces({ "data: x\n\n" }, { breaks = true, pause = 0.02 })
      local res = assert(client_of(server):get("/", { stream = true }))
      local got = 0
      local ok, err = pcall(function()
        for _ in res[kind](res) do got = got + 1 end
      end)
      assert.is_false(ok)
      assert.equal("receive", err.kind, kind)
      assert.is_true(got >= 1)
    end
  end)

  it("is closed when it is left early", function()
    local server = pieces({ "data: 1\n\n", "data: 2\n\n" }, { hangs = true })
    local client = client_of(server)
    local res = assert(client:get("/", { stream = true }))
    assert.equal("1", res:events()().data)
    assert.equal(1, client:stats().in_flight)
    res:close()
    res:close()
    assert.equal(0, client:stats().in_flight)
    fails("closed", res:read())
    eventually(function() return server:open_count() == 0 end)
  end)

  it("is closed when nobody holds it any more", function()
    local server = pieces({ "x" }, { hangs = true })
    local client = client_of(server)
    do
      local res = assert(client:get("/", { stream = true }))
      assert.equal("x", res:read())
    end
    eventually(function()
      collectgarbage()
      return client:stats().in_flight == 0
    end)
    eventually(function() return server:open_count() == 0 end)
  end)

  it("holds its place in the pool until it has ended", function()
    local server = pieces({ "x" }, { hangs = true })
    local client = client_of(server, { max_connections = 1, timeout = { queue = 0.05 } })
    local res = assert(client:get("/", { stream = true }))
    fails("queue_timeout", client:get "/")
    res:close()
    local again = assert(client:get("/", { stream = true }))
    again:close()
  end)

  it("slows the server down when it is not read", function()
    local written = 0
    local server = serve(function(c)
      c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      local chunk = ("%x\r\n%s\r\n"):format(65536, ("x"):rep(65536))
      local function more()
        if c.closed or written >= 1600 then
          if not c.closed then c:write "0\r\n\r\n" end
          return
        end
        written = written + 1
        c.socket:write(chunk, more)
      end
      more()
    end)
    local res = assert(client_of(server):get("/", { stream = true, timeout = { idle = 5 } }))
    neap.sleep(0.3)
    local stalled = written
    assert.is_true(stalled < 400, stalled .. " chunks of 64 KB are on their way")
    local size = 0
    for chunk in res:chunks() do size = size + #chunk end
    assert.equal(1600 * 65536, size)
  end)

  it("can be large without growing the heap", function()
    local server = serve(function(c)
      local total, sent = 64 * 1024 * 1024, 0
      c:write(("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"):format(total))
      local chunk = ("x"):rep(65536)
      local function more()
        if c.closed or sent == total then return end
        sent = sent + #chunk
        c.socket:write(chunk, more)
      end
      more()
    end)
    local res = assert(client_of(server):get("/", { stream = true }))
    collectgarbage()
    local size, most = 0, 0
    for chunk in res:chunks() do
      size = size + #chunk
      most = math.max(most, collectgarbage "count")
    end
    assert.equal(64 * 1024 * 1024, size)
    assert.is_true(most < 48 * 1024, most .. " KB")
  end)

  it("decodes compressed bytes on the way, unless compression is off", function()
    -- "hello hello hello hello\n" by gzip -9n
    local gzip = "\31\139\8\0\0\0\0\0\2\255\203\72\205\201\201\87\200\64\39\185\0\0\136\89\11\24\0\0\0"
    local server = serve(function(c) c:respond(200, gzip, { "Content-Encoding: gzip" }) end)
    local client = client_of(server)
    assert.equal("hello hello hello hello\n", assert(client:get("/", { stream = true })):read_all())
    assert.equal(gzip, assert(client:get("/", { stream = true, compression = false })):read_all())
  end)

  it("reads a whole response like a stream of one chunk", function()
    local server = serve(function(c) c:respond(200, "data: a\n\ndata: b\n\n") end)
    local client = client_of(server)
    local res = assert(client:get "/")
    assert.same({ "data: a\n\ndata: b\n\n" }, collect(res:chunks()))
    assert.same({ "data: a", "", "data: b", "" }, collect(assert(client:get "/"):lines()))
    local data = {}
    for event in assert(client:get "/"):events() do data[#data + 1] = event.data end
    assert.same({ "a", "b" }, data)
  end)
end)
