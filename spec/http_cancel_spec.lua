local badserver = require "spec.support.badserver"
local http = require "spec.support.http"
local neap = require "neap"

local serve, client_of, eventually = http.serve, http.client, http.eventually

--- Runs `fn` in a task, cancels it once `when()` holds and checks that it ended by
--- the cancel, and at once.
local function cancelled(fn, when)
  neap.scope(function(s)
    local raised
    local task = s:spawn(function()
      local ok, err = pcall(fn)
      raised = not ok and err
      error(err, 0)
    end)
    if when then eventually(when) else neap.sleep(0.03) end
    local before = neap.now()
    task:cancel()
    local result, err = task:await()
    assert.is_nil(result)
    assert.equal("cancelled", err.kind)
    assert.equal("cancelled", raised and raised.kind)
    assert.is_true(neap.now() - before < 0.1)
  end)
end

describe("a cancelled request #real", function()
  after_each(http.finish)

  it("leaves the queue", function()
    local server = serve(function(c) c:after(0.1, function() c:respond(200, "x") end) end)
    local client = client_of(server, { max_connections = 1 })
    neap.scope(function(s)
      s:spawn(function() assert(client:get "/") end)
      neap.sleep(0.01)
      cancelled(function() client:get "/waits" end, function() return client:stats().waiting == 1 end)
      assert.equal(0, client:stats().waiting)
      assert.equal(1, client:stats().in_flight)
    end)
    assert.equal(1, #server.requests)
  end)

  it("stops connecting", function()
    local full = http.keep(badserver.full())
    local client = client_of("http://127.0.0.1:" .. full.port)
    cancelled(function() client:get "/" end)
    assert.equal(0, client:stats().in_flight)
  end)

  it("stops the TLS handshake", function()
    local server = serve { deaf = true }
    local client = client_of("https://127.0.0.1:" .. server.port)
    cancelled(function() client:get "/" end, function() return server.connections == 1 end)
    assert.equal(0, client:stats().in_flight)
  end)

  it("stops sending", function()
    local server = serve { deaf = true }
    local client = client_of(server)
    cancelled(function() client:post("/", { body = ("x"):rep(50 * 1024 * 1024) }) end)
    assert.equal(0, client:stats().in_flight)
  end)

  it("stops waiting for the head, and the server sees the connection go", function()
    local server = serve(function() end)
    local client = client_of(server)
    cancelled(function() client:post("/", { json = {} }) end, function() return #server.requests == 1 end)
    assert.equal(0, client:stats().in_flight)
    eventually(function() return server:open_count() == 0 end)
  end)

  it("stops reading the body", function()
    local server = serve(function(c) c:write "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf" end)
    local client = client_of(server)
    cancelled(function() client:get "/" end)
    assert.equal(0, client:stats().in_flight)
    eventually(function() return server:open_count() == 0 end)
  end)

  it("stops an upload while it waits for room and while its producer waits", function()
    local deaf = serve { deaf = true }
    local client = client_of(deaf)
    cancelled(function()
      client:post("/", { body = function() return ("x"):rep(65536) end })
    end)
    assert.equal(0, client:stats().in_flight)
    local closed = false
    cancelled(function()
      client:post("/", {
        body = function()
          local ok, err = pcall(neap.sleep, 100)
          closed = true
          if not ok then error(err, 0) end
        end,
      })
    end)
    assert.is_true(closed)
    assert.equal(0, client:stats().in_flight)
  end)

  it("stops a stream at its head and in each of its iterators", function()
    local silent = serve(function() end)
    local client = client_of(silent)
    cancelled(function() client:get("/", { stream = true }) end)
    assert.equal(0, client:stats().in_flight)

    local server = serve(function(c)
      c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: x\n\n\r\n"
    end)
    client = client_of(server)
    for _, kind in ipairs { "chunks", "lines", "events" } do
      local got = 0
      cancelled(function()
        local res = assert(client:get("/", { stream = true }))
        for _ in res[kind](res) do got = got + 1 end
      end, function() return got > 0 end)
      assert.equal(0, client:stats().in_flight, kind)
    end
    eventually(function() return server:open_count() == 0 end)
  end)

  it("while it reads by hand leaves the stream usable for another task", function()
    local server = serve(function(c)
      c:write "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
      c:after(0.08, function() c:write "late" end)
    end)
    local res = assert(client_of(server):get("/", { stream = true }))
    cancelled(function() res:read() end)
    assert.equal("late", res:read_all())
  end)

  it("stops between two hops of a redirect", function()
    local server = serve(function(c, r)
      if r.target == "/" then return c:respond(302, "", { "Location: /silence" }) end
    end)
    local client = client_of(server)
    cancelled(function() client:get "/" end, function() return #server.requests == 2 end)
    assert.equal(0, client:stats().in_flight)
  end)

  it("gives its place to the next one before it is told", function()
    local server = serve(function(c, r)
      if r.target == "/next" then c:respond(200, "next") end
    end)
    local client = client_of(server, { max_connections = 1 })
    neap.scope(function(s)
      local stuck = s:spawn(function() client:get "/stuck" end)
      local next_one = s:spawn(function() return assert(client:get "/next").body end)
      eventually(function() return client:stats().waiting == 1 end)
      stuck:cancel()
      assert.equal("next", next_one:await())
    end)
  end)

  it("by the hundred leaves nothing behind", function()
    local server = serve(function() end)
    local client = client_of(server, { max_connections = 50 })
    neap.timeout(0.1, function()
      neap.scope(function(s)
        for _ = 1, 200 do s:spawn(function() client:post("/", { json = {} }) end) end
      end)
    end)
    local stats = client:stats()
    assert.same({ 0, 0 }, { stats.in_flight, stats.waiting })
    eventually(function() return server:open_count() == 0 end)
  end)
end)
