local http = require "spec.support.http"
local neap = require "neap"

local serve, client_of, fails, eventually = http.serve, http.client, http.fails, http.eventually

--- Answers a request `seconds` after it came.
local function slow(seconds)
  return serve(function(c, r)
    c:after(seconds, function() c:respond(200, r.target) end)
  end)
end

describe("a client's pool #real", function()
  after_each(http.finish)

  it("keeps connections for the next request", function()
    local server = http.echo()
    local client = client_of(server)
    for _ = 1, 5 do assert(client:post("/", { json = {} })) end
    assert.equal(1, server.connections)
    assert.equal(1, client:stats().connections)
    assert.equal(5, client:stats().sends)
  end)

  it("closes the connection after each request with force_close", function()
    local server = http.echo()
    local client = client_of(server, { force_close = true })
    for _ = 1, 3 do assert(client:get "/") end
    assert.equal(3, server.connections)
    eventually(function() return server:open_count() == 0 end)
  end)

  it("does not use a connection that was idle for longer than keepalive_timeout", function()
    local server = http.echo()
    local client = client_of(server, { keepalive_timeout = 1 })
    assert(client:get "/")
    assert(client:get "/")
    assert.equal(1, server.connections)
    neap.sleep(2.1) -- libcurl counts whole seconds
    assert(client:get "/")
    assert.equal(2, server.connections)
  end)

  it("does not use a connection that the server says it closes", function()
    local server = serve(function(c) c:respond(200, "x", { "Connection: close" }):close() end)
    local client = client_of(server)
    for i = 1, 3 do
      assert.equal(1, assert(client:get "/").sends)
      assert.equal(i, server.connections)
    end
  end)

  it("has at most max_connections requests on the wire and serves the others in order", function()
    local most = 0
    local server
    server = serve(function(c, r)
      most = math.max(most, server:open_count())
      c:after(0.02, function() c:respond(200, r.target) end)
    end)
    local client = client_of(server, { max_connections = 3 })
    local order = {}
    local results = neap.map({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, function(i)
      local res = assert(client:get("/" .. i))
      order[#order + 1] = i
      return res
    end, { concurrency = 10 })
    assert.equal(3, most)
    assert.equal(3, server.connections)
    for i, res in ipairs(results) do assert.equal("/" .. i, res.body) end
    for i, request in ipairs(server.requests) do assert.equal("/" .. i, request.target) end
    assert.equal(10, #order)
    assert.is_true(results[10].timings.queue > 0.03)
    assert.is_true(results[1].timings.queue < 0.01)
  end)

  it("has at most max_connections_per_host to each host, and hosts do not wait for one another", function()
    local a, b = slow(0.05), slow(0.05)
    local client = client_of(nil, { max_connections = 10, max_connections_per_host = 2 })
    local urls = {}
    for _ = 1, 6 do urls[#urls + 1] = a.url .. "/" end
    for _ = 1, 2 do urls[#urls + 1] = b.url .. "/" end
    local results = neap.map(urls, function(url) return assert(client:get(url)) end, { concurrency = 8 })
    assert.equal(2, a.connections)
    assert.equal(2, b.connections)
    assert.is_true(results[7].timings.queue < 0.03)
    assert.is_true(results[6].timings.queue > 0.07)
  end)

  it("refuses at once with kind 'queue_full' beyond max_waiting", function()
    local server = slow(0.1)
    local client = client_of(server, { max_connections = 1, max_waiting = 2 })
    local outcomes = { ok = 0, queue_full = 0 }
    neap.scope(function(s)
      for _ = 1, 5 do
        s:spawn(function()
          local res, err = client:get "/"
          local outcome = res and "ok" or err.kind
          outcomes[outcome] = outcomes[outcome] + 1
          if err then
            assert.equal("no", err.sent)
            assert.is_true(err.retryable)
            assert.equal("queue", err.phase)
          end
        end)
      end
      neap.sleep(0.02)
      assert.same({ waiting = 2, in_flight = 1 },
        { waiting = client:stats().waiting, in_flight = client:stats().in_flight })
    end)
    assert.same({ ok = 3, queue_full = 2 }, outcomes)
    assert.equal(3, #server.requests)
  end)

  it("gives kind 'queue_timeout' after timeout.queue, and nothing was sent", function()
    local server = slow(0.3)
    local client = client_of(server, { max_connections = 1, timeout = { queue = 0.05 } })
    neap.scope(function(s)
      s:spawn(function() assert(client:get "/first") end)
      neap.sleep(0.01)
      local before = neap.now()
      local err = fails("queue_timeout", client:get "/second")
      assert.is_true(neap.now() - before < 0.2)
      assert.equal("queue", err.phase)
      assert.equal("queue", err.timeout)
      assert.equal("no", err.sent)
      fails("queue_timeout", client:get("/third", { timeout = { queue = 0 } }))
    end)
    assert.equal(1, #server.requests)
  end)

  it("does not count the time in the queue against the total timeout", function()
    local server = slow(0.12)
    local client = client_of(server, { max_connections = 1, timeout = { total = 0.25 } })
    local results = neap.map({ 1, 2, 3, 4 }, function(i) return assert(client:get("/" .. i)) end, { concurrency = 4 })
    assert.is_true(results[4].timings.queue > 0.3)
  end)

  it("frees the place of a request that fails", function()
    local server = serve(function(c, r)
      if r.target == "/bad" then return c:reset() end
      c:respond(200, "ok")
    end)
    local client = client_of(server, { max_connections = 1 })
    for _ = 1, 3 do
      assert.is_nil(client:post "/bad")
      assert.equal("ok", assert(client:get "/good").body)
    end
  end)

  it("lets the next one in when a waiting one is cancelled", function()
    local server = slow(0.05)
    local client = client_of(server, { max_connections = 1 })
    neap.scope(function(s)
      s:spawn(function() assert(client:get "/1") end)
      local second = s:spawn(function() client:get "/2" end)
      local third = s:spawn(function() return assert(client:get "/3").body end)
      neap.sleep(0.01)
      second:cancel()
      neap.sleep(0)
      assert.equal(1, client:stats().waiting)
      assert.equal("/3", third:await())
    end)
    assert.equal(2, #server.requests)
  end)
end)

describe("a client that is closed #real", function()
  after_each(http.finish)

  it("ends what runs and what waits with kind 'closed', and takes nothing more", function()
    local server = slow(5)
    local client = client_of(server, { max_connections = 1 })
    local errs = {}
    neap.scope(function(s)
      for i = 1, 3 do
        s:spawn(function() errs[i] = select(2, client:get("/" .. i)) end)
      end
      neap.sleep(0.03)
      client:close()
    end)
    for i = 1, 3 do assert.equal("closed", errs[i].kind) end
    assert.equal("no", errs[3].sent)
    fails("closed", client:get "/")
    fails("closed", client:get("/", { stream = true }))
    client:close()
    eventually(function() return server:open_count() == 0 end)
  end)

  it("ends a stream that is being read", function()
    local server = serve(function(c) c:write "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345" end)
    local client = client_of(server)
    local res = assert(client:get("/", { stream = true }))
    assert.equal("12345", res:read())
    neap.scope(function(s)
      s:spawn(function()
        neap.sleep(0.02)
        client:close()
      end)
      fails("closed", res:read())
    end)
  end)

  it("is what happens to one that nobody holds any more", function()
    local server = http.echo()
    do
      local client = assert(neap.http.client { base_url = server.url })
      assert(client:get "/")
    end
    eventually(function()
      collectgarbage()
      return server:open_count() == 0
    end)
  end)
end)

describe("a client's cookies #real", function()
  after_each(http.finish)

  local function cookie_server()
    return serve(function(c, r)
      c:respond(200, r.headers.cookie or "none", { "Set-Cookie: a=1; Path=/", "Set-Cookie: b=2; Path=/only" })
    end)
  end

  it("are kept and sent when asked", function()
    local client = client_of(cookie_server(), { cookies = true })
    assert.equal("none", assert(client:get "/").body)
    assert.equal("a=1", assert(client:get "/").body)
    assert.equal("b=2; a=1", assert(client:get "/only/x").body)
  end)

  it("are nobody's otherwise, and never another client's", function()
    local server = cookie_server()
    local plain, jar = client_of(server), client_of(server, { cookies = true })
    assert(plain:get "/")
    assert.equal("none", assert(plain:get "/").body)
    assert(jar:get "/")
    assert.equal("none", assert(client_of(server, { cookies = true }):get "/").body)
    assert.equal("a=1", assert(jar:get "/").body)
  end)
end)

describe("max_body and max_headers #real", function()
  after_each(http.finish)

  it("give kind 'too_large' for an announced length before the body comes", function()
    local server = serve(function(c) c:write "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" end)
    local err = fails("too_large", client_of(server, { max_body = 1000 }):get "/")
    assert.equal("yes", err.sent)
    assert.is_false(err.retryable)
  end)

  it("give kind 'too_large' while a body of unknown length grows", function()
    local server = serve(function(c)
      c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      for _ = 1, 100 do c:write("3e8\r\n" .. ("x"):rep(1000) .. "\r\n") end
    end)
    fails("too_large", client_of(server, { max_body = 50000 }):get "/")
    fails("too_large", client_of(server):get("/", { max_body = 50000 }))
  end)

  it("let through what is exactly as long, and everything when false", function()
    local server = serve(function(c) c:respond(200, ("x"):rep(1000)) end)
    assert.equal(1000, #assert(client_of(server, { max_body = 1000 }):get "/").body)
    fails("too_large", client_of(server, { max_body = 999 }):get "/")
    assert.equal(1000, #assert(client_of(server, { max_body = 10 }):get("/", { max_body = false })).body)
  end)

  it("hold for streams when they are set, and for what is collected from one", function()
    local server = serve(function(c) c:respond(200, ("x"):rep(100000)) end)
    local res = assert(client_of(server):get("/", { stream = true }))
    assert.equal(100000, #assert(res:read_all()))
    local _, err = client_of(server):get("/", { stream = true, max_body = 1000 })
    if not err then
      res = assert(client_of(server):get("/", { stream = true, max_body = 1000 }))
      _, err = res:read_all()
    end
    assert.equal("too_large", err.kind)
  end)

  it("give kind 'too_large' for a head that is too long", function()
    local server = serve(function(c)
      c:write "HTTP/1.1 200 OK\r\n"
      for i = 1, 1000 do c:write(("X-%d: %s\r\n"):format(i, ("y"):rep(1000))) end
      c:write "Content-Length: 0\r\n\r\n"
    end)
    fails("too_large", client_of(server):get "/")
    local small = serve(function(c) c:respond(200, "", { "X: " .. ("y"):rep(3000) }) end)
    fails("too_large", client_of(small, { max_headers = 2000 }):get "/")
    assert(client_of(small, { max_headers = 4000 }):get "/")
  end)
end)

describe("compression #real", function()
  after_each(http.finish)

  it("asks for what is built in by default, for nothing when false, for what it is told", function()
    local server = http.echo()
    local function asked(opts, request)
      assert(client_of(server, opts):get("/", request))
      return server.requests[#server.requests].headers["accept-encoding"]
    end
    local features = require("neap.core").http_features
    local all = asked {}
    for _, coding in ipairs { "gzip", "deflate", "br", "zstd" } do
      assert.equal(features[coding] or false, all:find(coding, 1, true) ~= nil, coding)
    end
    assert.is_true(features.gzip)
    assert.is_nil(asked { compression = false })
    assert.equal("gzip", asked { compression = "gzip" })
    assert.is_nil(asked({}, { compression = false }))
    assert.equal("deflate", asked({ compression = false }, { compression = "deflate" }))
  end)
end)
