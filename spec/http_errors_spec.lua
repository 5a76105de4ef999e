local badserver = require "spec.support.badserver"
local http = require "spec.support.http"
local neap = require "neap"

local serve, client_of, fails, eventually = http.serve, http.client, http.fails, http.eventually

describe("a server that cannot be reached #real", function()
  after_each(http.finish)

  it("gives kind 'dns' when its name does not exist", function()
    local err = fails("dns", client_of(nil):get "http://no-such-host.invalid/")
    assert.equal("no", err.sent)
    assert.equal("dns", err.phase)
    assert.equal(0, err.sends)
    assert.is_true(err.retryable)
  end)

  it("gives kind 'connect' when nobody listens", function()
    local port = badserver.free_port()
    local err = fails("connect", client_of(nil):post(("http://user:secret@127.0.0.1:%d/path?key=secret"):format(port)))
    assert.equal("no", err.sent)
    assert.equal("connect", err.phase)
    assert.equal(0, err.sends)
    assert.is_true(err.retryable)
    assert.truthy(err.message:find("127.0.0.1:" .. port, 1, true))
    assert.is_nil(tostring(err):find("secret", 1, true))
  end)

  it("gives kind 'timeout' of connect when it does not answer", function()
    local full = http.keep(badserver.full())
    local before = neap.now()
    local client = client_of("http://127.0.0.1:" .. full.port, { timeout = { connect = 0.15 } })
    local err = fails("timeout", client:post "/")
    assert.equal("connect", err.timeout)
    assert.equal("connect", err.phase)
    assert.equal("no", err.sent)
    local took = neap.now() - before
    assert.is_true(took >= 0.15 and took < 0.6, took)
  end)
end)

describe("a server that breaks off #real", function()
  after_each(http.finish)

  it("before the head, by a reset or an end, gives kind 'receive' and may have seen the request", function()
    for _, way in ipairs { "reset", "close" } do
      local server = serve(function(c) c[way](c) end)
      local err = fails("receive", client_of(server):post("/", { json = {} }))
      assert.equal(1, err.sends, way)
      assert.not_equal("no", err.sent)
      assert.is_true(err.retryable)
      assert.equal(1, #server.requests)
    end
  end)

  it("at once after the connect gives 'connect', 'send' or 'receive', depending on who was first", function()
    local server = serve { connect = function(c) c:reset() end }
    local res, err = client_of(server):post "/"
    assert.is_nil(res)
    assert.truthy(err.kind == "connect" or err.kind == "send" or err.kind == "receive", tostring(err))
    assert.equal(err.sends == 0, err.sent == "no")
    assert.is_true(err.sends <= 1)
    assert.equal(0, #server.requests)
  end)

  it("during the upload gives kind 'send', or 'receive' when the reset is read first", function()
    local seen = {}
    for _ = 1, 10 do
      local server = serve { head = function(c) c:reset() end }
      local res, err = client_of(server):post("/", { body = ("x"):rep(20 * 1024 * 1024) })
      assert.is_nil(res)
      assert.truthy(err.kind == "send" or err.kind == "receive", tostring(err))
      assert.equal("maybe", err.sent)
      assert.equal("send", err.phase)
      assert.equal(1, err.sends)
      seen[err.kind] = true
    end
    assert.is_true(seen.send)
  end)

  it("during a streamed upload ends it at once, by a reset or an end", function()
    for _, how in ipairs { "reset", "close" } do
      for _ = 1, 3 do
        local server = serve { head = function(c) c[how](c) end }
        local n = 0
        local res, err = client_of(server):post("/", { timeout = 20, body = function()
          n = n + 1
          if n <= 500 then return ("x"):rep(100000) end
        end })
        assert.is_nil(res)
        assert.truthy(err.kind == "send" or err.kind == "receive", tostring(err))
      end
    end
  end)

  it("inside the head gives kind 'receive'", function()
    for _, way in ipairs { "reset", "close" } do
      local server = serve(function(c)
        c:write "HTTP/1.1 200 OK\r\nContent-Le"
        c:after(0.02, function() c[way](c) end)
      end)
      fails("receive", client_of(server):get("/", { idempotent = false }))
    end
  end)

  it("inside the body gives kind 'receive', for a length and for half a chunk", function()
    for _, head in ipairs { "Content-Length: 100\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n64\r\nhalf" } do
      for _, way in ipairs { "reset", "close" } do
        local server = serve(function(c)
          c:write("HTTP/1.1 200 OK\r\n" .. head)
          c:after(0.02, function() c[way](c) end)
        end)
        local err = fails("receive", client_of(server):post "/")
        assert.equal("yes", err.sent)
        assert.equal("download", err.phase)
        assert.equal(1, #server.requests)
      end
    end
  end)

  it("inside a streamed body gives what came, then kind 'receive'", function()
    local server = serve(function(c)
      c:write "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
      c:after(0.02, function() c:close() end)
    end)
    local res = assert(client_of(server):get("/", { stream = true }))
    assert.equal("half", res:read())
    fails("receive", res:read())
    fails("receive", res:read())
  end)
end)

describe("a server that talks nonsense #real", function()
  after_each(http.finish)

  local function answers(bytes)
    return serve(function(c) c:write(bytes):close() end)
  end

  it("gives kind 'protocol'", function()
    for name, bytes in pairs {
      garbage = "\1\2\3 this is no HTTP\r\n\r\n",
      ["a bad chunk size"] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
      ["a bad status"] = "HTTP/1.1 abc OK\r\n\r\n",
      ["an unknown version"] = "HTTP/7.3 200 OK\r\n\r\n",
      ["a line without colon"] = "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
      ["a bad length"] = "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    } do
      local res, err = client_of(answers(bytes)):get "/"
      assert.is_nil(res, name)
      assert.equal("protocol", err.kind, name .. ": " .. tostring(err))
      assert.is_false(err.retryable)
    end
  end)

  it("gives kind 'decode' for a body that is not in the coding it claims", function()
    local server = serve(function(c) c:respond(200, "this is not gzip", { "Content-Encoding: gzip" }) end)
    fails("decode", client_of(server):get "/")
  end)

  it("does not get away with an endless head of interim answers", function()
    local server = serve(function(c)
      local function more()
        for _ = 1, 200 do c:write("HTTP/1.1 103 Early Hints\r\nLink: " .. ("x"):rep(200) .. "\r\n\r\n") end
        c:after(0.001, more)
      end
      more()
    end)
    local before = neap.now()
    local res, err = client_of(server, { timeout = { total = 2 } }):get "/"
    assert.is_nil(res)
    assert.truthy(err.kind == "too_large" or err.kind == "protocol" or err.kind == "timeout", tostring(err))
    assert.is_true(neap.now() - before < 3)
  end)

  it("cannot answer requests that were not made", function()
    local server = serve(function(c, r)
      c:respond(200, "mine " .. r.target):write "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
    end)
    local client = client_of(server)
    for i = 1, 3 do
      local res = client:get("/" .. i)
      if res then assert.equal("mine /" .. i, res.body) end
      neap.sleep(0.01)
    end
  end)
end)

describe("a timeout #real", function()
  after_each(http.finish)

  local function took(fn)
    local before = neap.now()
    fn()
    return neap.now() - before
  end

  it("of first_byte fires when the head does not come", function()
    local server = serve(function() end)
    local seconds = took(function()
      local err = fails("timeout", client_of(server, { timeout = { first_byte = 0.1 } }):post "/")
      assert.equal("first_byte", err.timeout)
      assert.equal("first_byte", err.phase)
      assert.not_equal("no", err.sent)
      assert.equal(1, err.sends)
    end)
    assert.is_true(seconds >= 0.1 and seconds < 0.5, seconds)
    eventually(function() return server:open_count() == 0 end)
  end)

  it("of first_byte is not put off by interim answers or half a head", function()
    local server = serve(function(c)
      local function more()
        c:write "HTTP/1.1 103 Early Hints\r\n\r\n"
        c:after(0.02, more)
      end
      more()
    end)
    local err = fails("timeout", client_of(server, { timeout = { first_byte = 0.15 } }):get "/")
    assert.equal("first_byte", err.timeout)
    local half = serve(function(c) c:write "HTTP/1.1 200 OK\r\nX-" end)
    assert.equal("first_byte", fails("timeout", client_of(half, { timeout = { first_byte = 0.1 } }):get "/").timeout)
  end)

  it("of idle fires between two bytes only", function()
    local server = serve(function(c, r)
      local left = 10
      c:write(("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"))
      local function more()
        if left == 0 or (r.target == "/stalls" and left == 5) then return end
        left = left - 1
        c:write "x"
        c:after(0.03, more)
      end
      more()
    end)
    local client = client_of(server, { timeout = { idle = 0.15 } })
    assert.equal(("x"):rep(10), assert(client:get "/").body)
    local err = fails("timeout", client:get "/stalls")
    assert.equal("idle", err.timeout)
    assert.equal("download", err.phase)
    assert.equal("yes", err.sent)
  end)

  it("of idle does not tick while a stream is not read", function()
    local server = serve(function(c) c:respond(200, ("x"):rep(4 * 1024 * 1024)) end)
    local res = assert(client_of(server, { timeout = { idle = 0.1 } }):get("/", { stream = true }))
    neap.sleep(0.3)
    assert.equal(4 * 1024 * 1024, #assert(res:read_all()))
  end)

  it("of total covers everything", function()
    local server = serve(function(c)
      c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      local function more()
        c:write "1\r\nx\r\n"
        c:after(0.02, more)
      end
      more()
    end)
    local seconds = took(function()
      local err = fails("timeout", client_of(server, { timeout = 0.2 }):get "/")
      assert.equal("total", err.timeout)
      assert.equal("download", err.phase)
    end)
    assert.is_true(seconds >= 0.2 and seconds < 0.6, seconds)
  end)

  it("is the request's own when it has one", function()
    local server = serve(function() end)
    local client = client_of(server, { timeout = { total = 10, first_byte = 9 } })
    assert.equal("total", fails("timeout", client:get("/", { timeout = 0.05 })).timeout)
    assert.equal("first_byte", fails("timeout", client:get("/", { timeout = { first_byte = 0.05 } })).timeout)
  end)

  it("can be switched off", function()
    local server = serve(function(c) c:after(0.15, function() c:respond(200, "late") end) end)
    local client = client_of(server, { timeout = { total = 0.05 } })
    assert.equal("late", assert(client:get("/", { timeout = { total = false } })).body)
    assert.equal("late", assert(client:get("/", { timeout = false })).body)
  end)

  it("of the scope around a request aborts it at once", function()
    local server = serve(function() end)
    local client = client_of(server)
    local res, err = neap.timeout(0.05, function() return client:get "/" end)
    assert.is_nil(res)
    assert.equal("timeout", err.kind)
    assert.equal(0, client:stats().in_flight)
    eventually(function() return server:open_count() == 0 end)
  end)
end)

describe("a request that may have been processed #real", function()
  after_each(http.finish)

  --- Answers the first request of a connection; the second kills it, processed.
  local function dies_on_second()
    return serve(function(c, r)
      if r.n == 1 then return c:respond(200, "fine") end
      c:reset()
    end)
  end

  it("is not sent a second time when it is a POST, and the connection was reused", function()
    local server = dies_on_second()
    local client = client_of(server)
    assert(client:post("/", { json = { n = 1 } }))
    local err = fails("receive", client:post("/", { json = { n = 2 } }))
    assert.equal(1, err.sends)
    assert.equal("maybe", err.sent)
    neap.sleep(0.05)
    assert.equal(2, #server.requests)
    local seen = 0
    for _, request in ipairs(server.requests) do
      if request.body == '{"n":2}' then seen = seen + 1 end
    end
    assert.equal(1, seen)
  end)

  it("is sent again when it is idempotent by method, by option or by key", function()
    local cases = {
      { "get", {} }, { "put", { body = "x" } }, { "delete", {} },
      { "post", { json = {}, idempotent = true } }, { "post", { body = "x", idempotency_key = "k" } },
    }
    for _, case in ipairs(cases) do
      local verb, opts = case[1], case[2]
      local server = dies_on_second()
      local client = client_of(server)
      assert(client:post "/")
      local res = assert(client[verb](client, "/", opts))
      assert.equal("fine", res.body)
      assert.equal(2, res.sends, verb)
      assert.equal(3, #server.requests)
      if opts.idempotency_key then
        assert.equal(server.requests[2].headers["idempotency-key"], server.requests[3].headers["idempotency-key"])
      end
    end
  end)

  it("is not sent again when the caller says it is not idempotent", function()
    local server = dies_on_second()
    local client = client_of(server)
    assert(client:get "/")
    local err = fails("receive", client:get("/", { idempotent = false }))
    assert.equal(1, err.sends)
    assert.equal(2, #server.requests)
  end)

  it("is not sent again when its body was streamed", function()
    local server = dies_on_second()
    local client = client_of(server)
    assert(client:post "/")
    local done = false
    local res, err = client:put("/", {
      body = function()
        if done then return nil end
        done = true
        return "x"
      end,
    })
    assert.is_nil(res)
    assert.equal(1, err.sends)
    assert.equal(2, #server.requests)
  end)

  it("is sent once when an idle connection was closed by the server meanwhile", function()
    local server = serve(function(c)
      c:respond(200, "fine")
      c:after(0.02, function() c:close() end)
    end)
    local client = client_of(server)
    for i = 1, 4 do
      local res = assert(client:post("/", { json = { i = i } }))
      assert.equal(1, res.sends)
      neap.sleep(0.06)
    end
    assert.equal(4, #server.requests)
  end)

  it("never doubles under load on connections that die at random", function()
    local server = serve(function(c, r)
      if (r.connection * 7 + r.n * 13) % 5 == 0 then return c:reset() end
      c:respond(200, "fine")
    end)
    local client = client_of(server, { max_connections = 20 })
    local ids = {}
    for i = 1, 400 do ids[i] = i end
    local failed = 0
    neap.map(ids, function(i)
      local res = client:post("/", { body = tostring(i) })
      if not res then failed = failed + 1 end
      return true
    end, { concurrency = 40 })
    local seen = {}
    for _, request in ipairs(server.requests) do
      assert.is_nil(seen[request.body], request.body .. " came twice")
      seen[request.body] = true
    end
    assert.is_true(failed > 0)
    assert.is_true(failed < 400)
  end)

  it("says on results and errors whether it is replay-safe", function()
    local server = dies_on_second()
    local client = client_of(server, { force_close = true })
    assert.is_nil(assert(client:post "/").replay_safe)
    assert.is_true(assert(client:get "/").replay_safe)
    assert.is_true(assert(client:post("/", { idempotent = true })).replay_safe)
    assert.is_true(assert(client:post("/", { idempotency_key = "x" })).replay_safe)
    local dead = client_of("http://127.0.0.1:" .. badserver.free_port())
    assert.is_nil(select(2, dead:post "/").replay_safe)
    assert.is_true(select(2, dead:get "/").replay_safe)
    assert.is_nil(select(2, dead:get("/", { idempotent = false })).replay_safe)
  end)
end)

describe("in simulated time", function()
  it("a request fails at once: there is no network", function()
    local client = assert(neap.http.client { base_url = "http://127.0.0.1:1" })
    local err = fails("connect", client:get "/")
    assert.equal("no", err.sent)
    assert.truthy(err.message:find "simulated")
    client:close()
  end)
end)
