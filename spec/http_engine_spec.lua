-- SPDX-License-Identifier: MIT
-- The http client in C by itself (core.http_client): what it holds, and that it
-- lets go. What scripts see is in the other http specs.
local badserver = require "spec.support.badserver"
local core = require "neap.core"
local http = require "spec.support.http"
local neap = require "neap"

local serve, eventually, fails = http.serve, http.eventually, http.fails

local function client_of(config)
  return http.keep(core.http_client(config or {}))
end

--- A server that answers "ok", or what `handlers` says.
local function ok_server()
  return serve(function(c) c:respond(200, "ok") end)
end

--- Runs `count` tasks of `fn(index)` at once and waits for all.
local function together(count, fn)
  neap.scope(function(s)
    for i = 1, count do s:spawn(fn, i) end
  end)
end

describe("the http engine #real", function()
  after_each(http.finish)

  it("sends request after request on one connection with one libcurl handle", function()
    local server, client = ok_server(), client_of()
    for _ = 1, 100 do assert.equal("ok", assert(client:send("GET", server.url)).body) end
    local stats = client:stats()
    assert.same({ 1, 1, 100, 0, 0 },
      { stats.connections, stats.easies, stats.sends, stats.in_flight, stats.calls })
    assert.equal(1, server.connections)
  end)

  it("spreads hundreds of connections over several multi handles and uses them all again", function()
    local server, client = ok_server(), client_of { max_connections = 300 }
    local held = {}
    local slow = serve(function(c) held[#held + 1] = c end)
    together(300, function(i)
      if i == 300 then
        eventually(function() return #held == 299 end)
        for _, c in ipairs(held) do c:respond(200, "held") end
      else
        assert.equal("held", assert(client:send("GET", slow.url)).body)
      end
    end)
    assert.equal(299, slow.connections)
    assert.equal(299, client:stats().connections)
    held = {}
    together(299, function() assert(client:send("GET", server.url)) end)
    assert.is_true(client:stats().connections <= 300)
  end)

  it("never has more connections open than max_connections, whatever the number of hosts", function()
    local server, client = ok_server(), client_of { max_connections = 5 }
    local most = 0
    together(20, function(task)
      for i = 1, 15 do
        local url = ("http://h%d.localhost:%d/"):format(task * 15 + i, server.port)
        assert.equal("ok", assert(client:send("GET", url)).body)
        most = math.max(most, client:stats().connections)
      end
    end)
    assert.is_true(most <= 5, tostring(most))
    assert.equal(300, #server.requests)
  end)

  it("keeps no socket of a connect that was refused, overtaken or cancelled", function()
    local client = client_of()
    fails("connect", client:send("GET", "http://127.0.0.1:" .. badserver.free_port()))
    assert.equal(0, client:stats().connections)
    local deaf = serve { deaf = true }
    neap.timeout(0.02, function() client:send("GET", "https://127.0.0.1:" .. deaf.port) end)
    assert.equal(0, client:stats().connections)
    assert.equal(0, client:stats().in_flight)
    assert.equal("ok", assert(client:send("GET", ok_server().url)).body)
    assert.equal(1, client:stats().connections)
  end)

  it("closes idle connections after keepalive_timeout without being asked for anything", function()
    local server, client = ok_server(), client_of { keepalive_timeout = 1 }
    assert(client:send("GET", server.url))
    neap.sleep(0.3)
    assert.equal(1, client:stats().connections)
    eventually(function() return client:stats().connections == 0 and server:open_count() == 0 end)
  end)

  it("takes no notice of an idle connection that its peer closes until it is needed", function()
    local server = serve(function(c)
      c:respond(200, "ok")
      c:after(0.02, function() c:close() end)
    end)
    local client = client_of()
    assert(client:send("POST", server.url, nil, "a"))
    eventually(function() return server:open_count() == 0 end)
    local before = core.machine_time()
    local cpu = os.clock()
    neap.sleep(0.2)
    assert.is_true(os.clock() - cpu < (core.machine_time() - before) / 2, "the loop spins")
    assert.equal(1, assert(client:send("POST", server.url, nil, "b")).sends)
    assert.equal(2, #server.requests)
  end)

  it("gives a freed place to who has waited longest, before the canceller goes on", function()
    local held, client = {}, client_of { max_connections = 1 }
    local server = serve(function(c, r)
      if r.target == "/held" then held[#held + 1] = c else c:respond(200, r.target) end
    end)
    local order = {}
    neap.scope(function(s)
      local first = s:spawn(function() client:send("GET", server.url .. "/held") end)
      eventually(function() return #held == 1 end)
      for i = 1, 3 do
        s:spawn(function()
          local body = assert(client:send("GET", server.url .. "/" .. i)).body
          order[#order + 1] = body
        end)
      end
      eventually(function() return client:stats().waiting == 3 end)
      first:cancel()
      assert.same({ 2, 1 }, { client:stats().waiting, client:stats().in_flight })
    end)
    assert.same({ "/1", "/2", "/3" }, order)
  end)

  it("lets calls to a free host pass those that wait for a full one", function()
    local held = {}
    local full = serve(function(c) held[#held + 1] = c end)
    local free = ok_server()
    local client = client_of { max_connections = 4, max_connections_per_host = 1 }
    neap.scope(function(s)
      for _ = 1, 3 do s:spawn(function() assert(client:send("GET", full.url)) end) end
      eventually(function() return #held == 1 and client:stats().waiting == 2 end)
      assert.equal("ok", assert(client:send("GET", free.url)).body)
      for i = 1, 3 do
        eventually(function() return #held == i end)
        assert.equal(1, client:stats().in_flight)
        held[i]:respond(200, "")
      end
    end)
  end)

  it("ends everything when the client closes, and holds nothing afterwards", function()
    local held, client = {}, client_of { max_connections = 2 }
    local server = serve(function(c) held[#held + 1] = c end)
    local kinds, before = {}, core.http_stats().easies
    neap.scope(function(s)
      for i = 1, 4 do
        s:spawn(function()
          local _, err = client:send("GET", server.url)
          kinds[i] = err.kind
        end)
      end
      eventually(function() return #held == 2 end)
      client:close()
      client:close()
    end)
    assert.same({ "closed", "closed", "closed", "closed" }, kinds)
    fails("closed", client:send("GET", server.url))
    local stats = client:stats()
    assert.same({ 0, 0, 0, 0, 0 }, { stats.connections, stats.easies, stats.calls, stats.waiting, stats.in_flight })
    assert.is_true(core.http_stats().easies <= before)
    eventually(function() return server:open_count() == 0 end)
  end)

  it("lets go of clients and streams that nobody holds", function()
    local server = serve(function(c) c:write "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf" end)
    collectgarbage()
    collectgarbage()
    local before = core.http_stats()
    do
      local client = core.http_client {}
      local call = assert(client:open("GET", server.url))
      assert.equal("half", call:read())
    end
    eventually(function()
      collectgarbage()
      local now = core.http_stats()
      return now.clients <= before.clients and now.calls <= before.calls
        and now.connections <= before.connections and server:open_count() == 0
    end)
  end)

  it("brings bodies of all sizes whole while its buffers learn", function()
    local server = serve(function(c, r) c:respond(200, ("x"):rep(tonumber(r.target:sub(2)))) end)
    local client = client_of()
    for _, size in ipairs { 0, 1, 1000, 1024, 1025, 5000, 70000, 3, 2000000, 16384 } do
      local body = assert(client:send("GET", server.url .. "/" .. size)).body
      assert.equal(size, #body)
      assert.is_true(body == ("x"):rep(size))
    end
  end)

  it("pauses a stream that is not read, and loses nothing", function()
    local size, sent = 8 * 1024 * 1024, false
    local server = serve(function(c)
      c.socket:write("HTTP/1.1 200 OK\r\nContent-Length: " .. size .. "\r\n\r\n" .. ("y"):rep(size),
        function() sent = true end)
    end)
    local call = assert(client_of():open("GET", server.url))
    assert.equal(200, call:head().status)
    neap.sleep(0.1)
    local got, largest = 0, 0
    repeat
      local chunk, err = call:read()
      assert.is_nil(err)
      if chunk then got, largest = got + #chunk, math.max(largest, #chunk) end
    until not chunk
    assert.equal(size, got)
    assert.is_true(largest <= 512 * 1024, tostring(largest))
    assert.is_nil(call:read())
    eventually(function() return sent end)
    call:close()
    fails("closed", call:read())
  end)

  it("hands out the final head in order, names in lower case", function()
    local server = serve(function(c)
      c:write "HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\n"
      c:write "HTTP/1.1 200 OK\r\nX-B:  two words \r\nSet-Cookie: a=1\r\nSET-COOKIE: b=2\r\n"
      c:write "X-Empty:\r\nContent-Length: 0\r\n\r\n"
    end)
    local res = assert(client_of():send("GET", server.url))
    assert.same({ "x-b", "two words", "set-cookie", "a=1", "set-cookie", "b=2", "x-empty", "", "content-length", "0" },
      core.http_headers(res.raw))
  end)

  it("sends no header of its own accord but Host, Accept-Encoding and the body's length", function()
    local server = ok_server()
    assert(client_of { compression = false }:send("POST", server.url, { "X-None", "" }, "b"))
    assert.equal(("POST / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-None:\r\nContent-Length: 1\r\n"):format(server.port),
      server.requests[1].head)
  end)

  it("refuses what would break the message, without sending a byte", function()
    local server, client = ok_server(), client_of()
    for _, headers in ipairs {
      { "X", "a\r\nY: b" }, { "X", "a\nb" }, { "X", "a\0b" }, { "X Y", "a" }, { "", "a" }, { "X:", "a" },
      { "Content-Length", "5" }, { "transfer-encoding", "chunked" }, { "X" }, { "X", 1 },
    } do
      local err = fails("invalid", client:send("GET", server.url, headers))
      assert.equal("no", err.sent)
    end
    for _, method in ipairs { "", "GET /", "G\r\n", "CONNECT" } do
      fails("invalid", client:send(method, server.url))
    end
    for _, url in ipairs {
      "", "/x", "ftp://127.0.0.1/", "http://", "http:///x", "http://127.0.0.1:0/", "http://127.0.0.1:99999/",
      "http://[::1/", "http://a b/", server.url .. "/a b", server.url .. "/\n", "http://" .. ("h"):rep(300) .. "/",
    } do
      fails("invalid", client:send("GET", url))
    end
    fails("invalid", client:send("HEAD", server.url, nil, "body"))
    assert.equal(0, #server.requests)
    assert.equal(0, core.http_stats().in_flight)
  end)

  it("says no secret in its errors", function()
    local port = badserver.free_port()
    local err = fails("connect", client_of():send("GET", "http://user:secret@127.0.0.1:" .. port .. "/p?key=secret"))
    assert.is_nil(err.message:find "secret")
    assert.is_truthy(err.message:find("127.0.0.1:" .. port, 1, true))
    local proxied = client_of { proxy = "bogus://user:secret@127.0.0.1:" .. port }
    local _, failure = proxied:send("GET", "http://127.0.0.1:" .. port)
    assert.is_nil(failure.message:find "secret")
  end)

  it("counts one call per send in its totals", function()
    local server, a, b = ok_server(), client_of(), client_of()
    local before = core.http_stats().sends
    assert(a:send("GET", server.url))
    assert(b:send("GET", server.url))
    assert.same({ 2, 1, 1 }, { core.http_stats().sends - before, a:stats().sends, b:stats().sends })
  end)
end)

describe("URLs", function()
  it("are resolved as a browser would", function()
    for _, case in ipairs {
      { "http://a/b/c", "d", "http://a/b/d" }, { "http://a/b/c?q", "?r", "http://a/b/c?r" },
      { "http://a/b/c", "/d", "http://a/d" }, { "http://a/b", "//c/d", "http://c/d" },
      { "http://a/b", "https://c/", "https://c/" }, { "http://a/b/c", "../d e", "http://a/d%20e" },
    } do
      assert.equal(case[3], core.url_resolve(case[1], case[2]))
    end
    assert.is_nil(core.url_resolve("not a url", "x"))
  end)

  it("have an origin with a port", function()
    assert.equal("http://a.b:80", core.url_origin "http://u:p@A.b/c?d")
    assert.equal("https://a:444", core.url_origin "HTTPS://a:444")
    assert.is_nil(core.url_origin "nonsense:")
  end)

  it("are escaped byte by byte", function()
    assert.equal("a%20%26%2F%C3%A4-._~%00", core.url_escape "a &/ä-._~\0")
    assert.equal("", core.url_escape "")
  end)
end)
