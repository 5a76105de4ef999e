-- SPDX-License-Identifier: MIT
local errors = require "neap.error"
local neap = require "neap"
local child = require "spec.support.child"
local raw = require "spec.support.raw_http"
local servers = require "spec.support.server"

describe("neap.serve", function()
  it("says clearly that virtual time has no sockets", function()
    local server, err = neap.serve { handler = function() end }
    assert.is_nil(server)
    assert.equal("invalid", err.kind)
    assert.truthy(err.message:find "virtual time")
  end)

  it("raises on misuse", function()
    assert.error_matches(function() neap.serve {} end, "option 'handler' is required")
    assert.error_matches(function() neap.serve { handler = print, prot = 1 } end, "did you mean 'port'")
    assert.error_matches(function() neap.serve { handler = print, port = 70000 } end, "at most 65535")
    assert.error_matches(function() neap.serve { handler = print, max_concurrency = 0 } end, "at least 1")
  end)
end)

describe("a server #real", function()
  local server

  local function start(handler, opts)
    server = servers.start(handler, opts)
    return server:port()
  end

  local function serves(name, body) it(name, servers.stopped_after(body)) end

  serves("goes on when a task that a handler has spawned fails after the answer", function()
    local heard
    local port = start(function()
      neap.spawn(function()
        neap.sleep(0.01)
        error "in the background"
      end)
      return 200, "answered"
    end, { on_error = function(_, err) heard = tostring(err) end })
    assert.equal("answered", raw.fetch(port, "GET", "/").body)
    neap.sleep(0.05)
    assert.matches("in the background", heard)
    assert.equal(200, raw.fetch(port, "GET", "/").status)
  end)

  serves("answers with the status, body and headers that the handler returns", function()
    local port = start(function() return 201, "made", { ["X-Answer"] = "42", ["X-Many"] = { "a", "b" } } end)
    local res = raw.fetch(port, "GET", "/")
    assert.equal(201, res.status)
    assert.equal("made", res.body)
    assert.equal("42", res.headers["x-answer"])
    assert.equal("text/plain; charset=utf-8", res.headers["content-type"])
    assert.truthy(res.head:find "X%-Many: a\r\nX%-Many: b")
    assert.truthy(res.headers.date)
  end)

  serves("sends tables as JSON, and takes an answer in one table", function()
    local answers = {
      ["/table"] = function() return 200, { n = 1 } end,
      ["/json"] = function() return { status = 202, json = { 1, 2 }, headers = { ["x-a"] = 1 } } end,
      ["/body"] = function() return { body = "<p>", headers = { ["content-type"] = "text/html" } } end,
      ["/empty"] = function() return 204 end,
    }
    local port = start(function(request) return answers[request.path]() end)
    local res = raw.fetch(port, "GET", "/table")
    assert.equal('{"n":1}', res.body)
    assert.equal("application/json", res.headers["content-type"])
    res = raw.fetch(port, "GET", "/json")
    assert.same({ 202, "[1,2]", "1" }, { res.status, res.body, res.headers["x-a"] })
    res = raw.fetch(port, "GET", "/body")
    assert.same({ 200, "<p>", "text/html" }, { res.status, res.body, res.headers["content-type"] })
    res = raw.fetch(port, "GET", "/empty")
    assert.same({ 204, "", nil }, { res.status, res.body, res.headers["content-type"] })
  end)

  serves("hands over method, path, query, headers, body and address", function()
    local seen
    local port = start(function(request)
      seen = {
        id = request.id, method = request.method, path = request.path, target = request.target,
        query = request.query, type = request.headers["CONTENT-TYPE"], list = request.headers["x-list"],
        values = request:header_values "X-List", absent = request.headers["x-absent"], body = request.body,
        remote = request.remote, port = type(request.remote_port), json = request:json(),
        age = request:age() >= 0 and request.arrived <= neap.now(),
      }
      return 204
    end)
    raw.fetch(port, "PATCH", "/a%20b/c?q=x%26y+z&q=2&flag&%C3%A9=1", {
      headers = { "Content-Type: application/json", "X-List: 1", "x-list: 2" }, body = '{"a":[1]}',
    })
    assert.same({
      id = 1, method = "PATCH", path = "/a b/c", target = "/a%20b/c?q=x%26y+z&q=2&flag&%C3%A9=1",
      query = { q = "x&y z", flag = "", ["\195\169"] = "1" }, type = "application/json", list = "1, 2",
      values = { "1", "2" }, body = '{"a":[1]}', remote = "127.0.0.1", port = "number", json = { a = { 1 } },
      age = true,
    }, seen)
  end)

  serves("gives nil and a decode error for a body that is not JSON", function()
    local value, err
    local port = start(function(request)
      value, err = request:json()
      return 200
    end)
    raw.fetch(port, "POST", "/", { body = "{" })
    assert.is_nil(value)
    assert.equal("decode", err.kind)
  end)

  serves("keeps a connection for the next request, pipelined ones too, in order", function()
    local port = start(function(request)
      if request.path == "/slow" then neap.sleep(0.03) end
      return 200, request.path .. request.body
    end)
    local connection = raw.connect(port)
    connection:send(raw.request("POST", "/slow", { body = "1" }) .. raw.request("GET", "/b")
      .. raw.request("POST", "/c", { body = "23" }))
    assert.equal("/slow1", connection:response().body)
    assert.equal("/b", connection:response().body)
    assert.equal("/c23", connection:response().body)
    connection:send(raw.request("GET", "/d"))
    assert.equal("/d", connection:response().body)
    assert.equal(1, server:stats().connections)
    connection:close()
  end)

  serves("closes after the answer when the client asks for it, or speaks HTTP/1.0", function()
    local port = start(function() return 200, "x" end)
    local connection = raw.connect(port):send(raw.request("GET", "/", { headers = { "Connection: close" } }))
    assert.equal("x", connection:response().body)
    assert.same({ "", "eof" }, { connection:rest() })
    connection:close()
    connection = raw.connect(port):send "GET / HTTP/1.0\r\n\r\n"
    assert.equal("x", connection:response().body)
    assert.same({ "", "eof" }, { connection:rest() })
    connection:close()
  end)

  serves("answers HEAD without a body", function()
    local port = start(function() return 200, "four" end)
    local connection = raw.connect(port):send(raw.request("HEAD", "/") .. raw.request("GET", "/"))
    assert.equal("4", connection:response(true).headers["content-length"])
    assert.equal("four", connection:response().body)
    connection:close()
  end)

  serves("runs handlers at the same time, each of which may sleep and call out", function()
    local running, most, all = 0, 0, neap.event()
    local port = start(function(request)
      if request.path == "/inner" then return 200, "inner" end
      running = running + 1
      most = math.max(most, running)
      if running == 20 then all:set() end
      all:wait()
      running = running - 1
      return 200, raw.fetch(server:port(), "GET", "/inner").body
    end)
    local bodies = neap.map({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20 },
      function(i) return raw.fetch(port, "GET", "/" .. i).body end)
    assert.equal(20, most)
    for i = 1, 20 do assert.equal("inner", bodies[i]) end
  end)

  serves("runs at most max_concurrency handlers and serves the others in order of arrival", function()
    local running, most, order, go = 0, 0, {}, neap.event()
    local port = start(function(request)
      running = running + 1
      most = math.max(most, running)
      order[#order + 1] = request.id
      go:wait()
      neap.sleep(0.001)
      running = running - 1
      return 200
    end, { max_concurrency = 3 })
    neap.scope(function(s)
      for i = 1, 12 do s:spawn(function() assert.equal(200, raw.fetch(port, "GET", "/" .. i).status) end) end
      while server:stats().waiting < 9 do neap.sleep(0.001) end
      assert.equal(3, server:stats().running)
      go:set()
    end)
    assert.equal(3, most)
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 }, order)
    assert.equal(12, server:stats().requests)
  end)

  serves("answers 503 with Retry-After beyond max_waiting", function()
    local go = neap.event()
    local port = start(function()
      go:wait()
      return 200
    end, { max_concurrency = 1, max_waiting = 1 })
    neap.scope(function(s)
      local first = s:spawn(function() return raw.fetch(port, "GET", "/1").status end)
      while server:stats().running < 1 do neap.sleep(0.001) end
      local second = s:spawn(function() return raw.fetch(port, "GET", "/2").status end)
      while server:stats().waiting < 1 do neap.sleep(0.001) end
      local res = raw.fetch(port, "GET", "/3")
      assert.same({ 503, "1" }, { res.status, res.headers["retry-after"] })
      assert.equal(1, server:stats().refused)
      go:set()
      assert.same({ 200, 200 }, { (first:await()), (second:await()) })
    end)
  end)

  describe("with max_body", function()
    local called

    local function limited(max_body)
      called = 0
      return start(function(request)
        called = called + 1
        return 200, tostring(#request.body)
      end, { max_body = max_body })
    end

    serves("takes a body of just that size", function()
      assert.equal("1000", raw.fetch(limited(1000), "POST", "/", { body = ("x"):rep(1000) }).body)
      assert.equal("0", raw.fetch(server:port(), "POST", "/", { body = "" }).body)
    end)

    serves("answers 413 to a larger one and keeps the connection", function()
      local connection = raw.connect(limited(1000))
      connection:send(raw.request("POST", "/", { body = ("x"):rep(1001) }) .. raw.request("GET", "/"))
      assert.equal(413, connection:response().status)
      assert.equal(200, connection:response().status)
      assert.equal(1, called)
      connection:close()
    end)

    serves("answers 413 to a chunked one that grows too large", function()
      local connection = raw.connect(limited(1000))
      connection:send "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
      for _ = 1, 3 do connection:send("190\r\n" .. ("x"):rep(400) .. "\r\n") end
      connection:send "0\r\n\r\n"
      assert.equal(413, connection:response().status)
      assert.equal(0, called)
      connection:close()
    end)

    serves("takes a chunked body that fits", function()
      local connection = raw.connect(limited(1000))
      connection:send "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
      connection:send "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
      assert.equal("5", connection:response().body)
      connection:close()
    end)

    serves("refuses before the body when the client waits for 100 Continue", function()
      local connection = raw.connect(limited(1000))
      connection:send "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\nExpect: 100-continue\r\n\r\n"
      assert.equal(413, connection:response().status)
      connection:close()
    end)

    serves("lets the client go on with 100 Continue when the body fits", function()
      local connection = raw.connect(limited(1000))
      connection:send "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
      assert.equal("HTTP/1.1 100 Continue", connection:take_to "\r\n\r\n")
      assert.equal("3", connection:send("abc"):response().body)
      connection:close()
    end)

    serves("cuts off a client that sends without end", function()
      local connection = raw.connect(limited(1000))
      connection:send "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
      for _ = 1, 40 do connection:send("10000\r\n" .. ("x"):rep(65536) .. "\r\n") end
      connection:rest()
      assert.truthy(connection.ended)
      assert.equal(0, called)
      connection:close()
    end)
  end)

  serves("takes a large body and sends one", function()
    local body = ("0123456789"):rep(500000)
    local port = start(function(request) return 200, request.body end)
    assert.equal(body, raw.fetch(port, "POST", "/", { body = body }).body)
  end)

  serves("answers what is no HTTP with 400 and too large a head with 431, and goes on", function()
    local port = start(function() return 200 end)
    local connection = raw.connect(port):send "GET / HTTP/1.1\r\nno colon here\r\n\r\n"
    assert.equal(400, connection:response().status)
    connection:close()
    local res = raw.fetch(port, "GET", "/", { headers = { "X-Big: " .. ("x"):rep(100000) } })
    assert.equal(431, res.status)
    assert.equal(200, raw.fetch(port, "GET", "/").status)
  end)

  describe("whose handler fails", function()
    serves("answers 500, tells on_error, and goes on", function()
      local seen
      local port = start(function(request)
        if request.path == "/bad" then error "boom" end
        return 200, "fine"
      end, { on_error = function(request, err) seen = { request.path, err } end })
      local connection = raw.connect(port):send(raw.request("GET", "/bad") .. raw.request("GET", "/"))
      local res = connection:response()
      assert.same({ 500, "internal server error\n" }, { res.status, res.body })
      assert.equal("fine", connection:response().body)
      assert.equal("/bad", seen[1])
      assert.truthy(tostring(seen[2]):find "serve_spec.lua:%d+: boom")
      assert.truthy(seen[2].traceback:find "serve_spec.lua")
      connection:close()
    end)

    serves("answers what on_error returns", function()
      local port = start(function() error(errors.new { kind = "limit", message = "enough" }) end,
        { on_error = function(_, err) return 429, { kind = err.kind } end })
      local res = raw.fetch(port, "GET", "/")
      assert.same({ 429, '{"kind":"limit"}' }, { res.status, res.body })
    end)

    local wrong = {
      ["returns nothing"] = function() end,
      ["returns a text for a status"] = function() return "200" end,
      ["returns a status that is none"] = function() return 99 end,
      ["returns a function as body"] = function() return 200, print end,
      ["returns a header with a line break"] = function() return 200, "", { a = "b\r\nc: d" } end,
      ["returns a header name with a space"] = function() return 200, "", { ["a b"] = "c" } end,
      ["returns a body that JSON cannot hold"] = function() return 200, { f = print } end,
      ["returns an unknown field"] = function() return { statsu = 200 } end,
    }
    for what, handler in pairs(wrong) do
      serves("or " .. what .. " answers 500", function()
        local told = 0
        local port = start(handler, { on_error = function() told = told + 1 end })
        assert.equal(500, raw.fetch(port, "GET", "/").status)
        assert.equal(1, told)
      end)
    end

    serves("logs error and traceback, without the query", function()
      local path, folder = child.file("fail.lua", [[
        local neap = require "neap"
        local raw = require "spec.support.raw_http"
        local server = assert(neap.serve { handler = function() error "kaputt" end })
        raw.fetch(server:port(), "GET", "/here?key=secret")
        server:stop()
      ]])
      local run = child.run { "run", path }
      child.remove(folder)
      assert.equal(0, run.code)
      assert.truthy(run.err:find "GET /here: .-fail.lua:3: kaputt")
      assert.truthy(run.err:find "stack traceback")
      assert.falsy(run.err:find "secret")
    end)
  end)

  serves("reports how each request ended, and how long it took", function()
    local list, all = {}, neap.event()
    local port = start(function(request)
      if request.path == "/drop" then return request:drop() end
      if request.path == "/hang" then return request:hang() end
      neap.sleep(0.02)
      return 200
    end, { on_finish = function(request, finished)
      list[#list + 1] = { request.path, finished.outcome }
      if request.path == "/sleep" then assert.is_true(finished.duration >= 0.02) end
      assert.is_true(finished.arrived <= neap.now())
      if #list == 3 then all:set() end
    end })
    raw.fetch(port, "GET", "/sleep")
    raw.fetch(port, "GET", "/drop")
    local connection = raw.connect(port):send(raw.request("GET", "/hang"))
    neap.sleep(0.02)
    connection:close()
    assert.is_true(all:wait(5))
    assert.same({ { "/sleep", "sent" }, { "/drop", "dropped" }, { "/hang", "disconnected" } }, list)
  end)

  serves("has reported a request before it hands out the client's next one", function()
    local reported, missing = {}, 0
    local port = start(function(request)
      if request.id > 1 and not reported[request.id - 1] then missing = missing + 1 end
      return 200
    end, { on_finish = function(request) reported[request.id] = true end })
    local connection = raw.connect(port)
    for _ = 1, 50 do
      connection:send(raw.request("GET", "/"))
      connection:response()
    end
    connection:close()
    assert.equal(0, missing)
  end)

  serves("says that a port is taken, or an address is none", function()
    local port = start(function() return 200 end)
    local other, err = neap.serve { port = port, handler = print }
    assert.is_nil(other)
    assert.same({ "connect", "listen" }, { err.kind, err.phase })
    assert.truthy(err.message:find("127.0.0.1 port " .. port, 1, true))
    other, err = neap.serve { host = "example.test", handler = print }
    assert.is_nil(other)
    assert.equal("invalid", err.kind)
  end)

  serves("listens on IPv6 too", function()
    local six, err = neap.serve { host = "::1", handler = function() return 200 end }
    if not six then
      assert.equal("connect", err.kind) -- a machine without IPv6
      return
    end
    assert.equal(("http://[::1]:%d"):format(six:port()), six:url())
    six:stop()
  end)
end)
