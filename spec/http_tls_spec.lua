local badserver = require "spec.support.badserver"
local certs_module = require "spec.support.certs"
local core = require "neap.core"
local http = require "spec.support.http"
local neap = require "neap"
local nginx_module = require "spec.support.nginx"
local tmp = require "spec.support.tmp"

local client_of, fails = http.client, http.fails

describe("against nginx #real", function()
  local dir, certs, nginx
  local text = ("the quick brown fox jumps over the lazy dog\n"):rep(2000)

  setup(function()
    dir = tmp.dir()
    certs = certs_module.make(dir)
    local large = {}
    for i = 1, 300000 do large[i] = ("line %08d\n"):format(i) end
    nginx = nginx_module.start {
      certs = certs,
      www = { ["text.txt"] = text, ["large.txt"] = table.concat(large), ["bomb.txt"] = ("\0"):rep(20 * 1024 * 1024) },
    }
  end)

  teardown(function()
    if nginx then nginx:stop() end
    if dir then tmp.remove(dir) end
  end)

  after_each(http.finish)

  local function secure(opts)
    opts = opts or {}
    opts.tls = opts.tls or { ca_file = certs.ca }
    return client_of(nginx.https, opts)
  end

  describe("HTTP/1.1", function()
    it("carries json, statuses and redirects", function()
      local client = client_of(nginx.http)
      assert.same({ a = { 1, 2 }, b = "x" }, assert(client:get "/json"):json())
      assert.equal(404, assert(client:get "/404").status)
      assert.equal(500, assert(client:post("/500", { json = {} })).status)
      assert.equal("ok", assert(client:get "/301").body)
      assert.equal("POST", assert(client:post("/method", { body = "x" })).body)
      assert.equal("HTTP/1.1", assert(client:get "/protocol").body)
    end)

    it("uses one connection for requests in a row", function()
      local client = client_of(nginx.http)
      local first = assert(client:get "/connection").body:match "^%d+"
      for n = 2, 5 do assert.equal(("%s %d"):format(first, n), assert(client:get "/connection").body) end
    end)

    it("brings large bodies, whole and streamed, both ways", function()
      local client = client_of(nginx.http)
      local whole = assert(client:get "/large.txt").body
      assert.equal(14 * 300000, #whole)
      local lines = 0
      for line in assert(client:get("/large.txt", { stream = true })):lines() do
        lines = lines + 1
        if line ~= ("line %08d"):format(lines) then error("line " .. lines .. " is wrong: " .. line) end
      end
      assert.equal(300000, lines)
      assert.equal(200, assert(client:post("/ok", { body = whole })).status)
      assert.equal(200, assert(client:post("/read/ok", { body = whole })).status)
    end)

    it("waits for slow bodies, within the limits", function()
      local client = client_of(nginx.http, { timeout = { idle = 3 } })
      local res = assert(client:get("/slow/text.txt", { compression = false, timeout = { total = 20 } }))
      assert.equal(#text, #res.body)
      assert.is_true(res.timings.download > 1)
      assert.equal("total", fails("timeout", client:get("/slow/text.txt", { timeout = 0.3 })).timeout)
    end)
  end)

  describe("compression", function()
    it("is decoded: gzip, and br where it is built in", function()
      local client = client_of(nginx.http)
      local gzip = assert(client:get("/gzip/text.txt", { compression = "gzip" }))
      assert.equal("gzip", gzip.headers["content-encoding"])
      assert.is_true(gzip.body == text)
      if core.http_features.br then
        local br = assert(client:get("/br/text.txt", { compression = "br" }))
        assert.equal("br", br.headers["content-encoding"])
        assert.is_true(br.body == text)
        assert.is_true(assert(client:get "/br/text.txt").body == text)
      else
        assert.error_matches(function() client:get("/br/text.txt", { compression = "br" }) end, "cannot decode")
      end
    end)

    it("is not asked for, nor decoded, when it is off", function()
      local res = assert(client_of(nginx.http, { compression = false }):get "/gzip/text.txt")
      assert.is_nil(res.headers["content-encoding"])
      assert.is_true(res.body == text)
    end)

    it("of deflate and zstd is decoded too", function()
      local bodies = {
        deflate = "\120\156\75\73\77\203\73\44\73\77\81\40\73\173\40\1\0\35\158\5\31",
        -- "zstandard text" by zstd
        zstd = "\40\181\47\253\32\14\113\0\0\122\115\116\97\110\100\97\114\100\32\116\101\120\116",
      }
      local expected = { deflate = "deflated text", zstd = "zstandard text" }
      local server = http.serve(function(c, r)
        local coding = r.target:sub(2)
        c:respond(200, bodies[coding], { "Content-Encoding: " .. coding })
      end)
      for coding, plain in pairs(expected) do
        if core.http_features[coding] then
          assert.equal(plain, assert(client_of(server):get("/" .. coding)).body)
        else
          assert.error_matches(function() client_of(server, { compression = coding }) end, "cannot decode")
        end
      end
    end)

    it("counts decoded bytes against max_body", function()
      local client = client_of(nginx.http, { max_body = 1024 * 1024 })
      fails("too_large", client:get "/gzip/bomb.txt")
      local res = assert(client:get("/gzip/bomb.txt", { stream = true, max_body = false }))
      local size = 0
      for chunk in res:chunks() do size = size + #chunk end
      assert.equal(20 * 1024 * 1024, size)
    end)
  end)

  describe("TLS", function()
    it("refuses a certificate of an unknown authority by default", function()
      local err = fails("tls", client_of(nginx.https):post("/ok", { json = {} }))
      assert.equal("no", err.sent)
      assert.equal("tls", err.phase)
      assert.equal(0, err.sends)
      assert.is_false(err.retryable)
    end)

    it("accepts the authority it is given, and times the handshake", function()
      local res = assert(secure():get "/ok")
      assert.equal("ok", res.body)
      assert.is_true(res.timings.tls > 0)
    end)

    it("refuses a certificate for another name", function()
      local server = nginx.https:gsub("localhost", "127.0.0.1")
      fails("tls", client_of(server, { tls = { ca_file = certs.ca } }):get "/ok")
    end)

    it("accepts anything when verify is false, for that client only", function()
      assert.equal("ok", assert(secure { tls = { verify = false } }:get "/ok").body)
      fails("tls", client_of(nginx.https):get "/ok")
    end)

    it("shows the client certificate to a server that asks", function()
      local with = { ca_file = certs.ca, cert = certs.client, key = certs.client_key }
      assert.equal("CN=neap test client", assert(client_of(nginx.mtls, { tls = with }):get "/").body)
      local without = client_of(nginx.mtls, { tls = { ca_file = certs.ca } })
      local res, err = without:get "/"
      assert.is_true(res and res.status == 400 or err.kind == "tls" or err.kind == "receive")
    end)

    it("says which file is wrong", function()
      for name, path in pairs { ca_file = dir .. "/missing.pem", cert = dir .. "/missing.pem", key = dir } do
        local client, err = neap.http.client { tls = { [name] = path } }
        assert.is_nil(client)
        assert.equal("invalid", err.kind)
        assert.matches("option 'tls." .. name .. "': cannot read " .. path, err.message, 1, true)
      end
      local empty = dir .. "/empty.pem"
      assert(io.open(empty, "w")):close()
      fails("tls", secure { tls = { ca_file = empty } }:get "/ok")
    end)

    it("against a server that does not speak it gives kind 'tls'", function()
      local server = http.serve { connect = function(c) c:write "HTTP/1.1 200 OK\r\n\r\n" end }
      local url = "https://127.0.0.1:" .. server.port .. "/"
      assert.equal("no", fails("tls", client_of(nil):get(url)).sent)
    end)

    it("that never finishes its handshake runs into timeout.connect", function()
      local server = http.serve { deaf = true }
      local client = client_of("https://127.0.0.1:" .. server.port, { timeout = { connect = 0.15 } })
      local err = fails("timeout", client:get "/")
      assert.equal("connect", err.timeout)
      assert.equal("tls", err.phase)
      assert.equal("no", err.sent)
    end)
  end)

  describe("HTTP/2", function()
    it("is negotiated over TLS unless the version is set", function()
      assert.equal("2", assert(secure():get "/ok").version)
      assert.equal("HTTP/2.0", assert(secure():get "/protocol").body)
      assert.equal("1.1", assert(secure { http_version = "1.1" }:get "/ok").version)
      assert.equal("2", assert(secure { http_version = "2" }:get "/ok").version)
      assert.equal("1.1", assert(secure():get("/ok", { http_version = "1.1" })).version)
    end)

    it("carries many requests on one connection at once", function()
      local client = secure()
      local list = {}
      for i = 1, 100 do list[i] = i end
      local results = neap.map(list, function() return assert(client:get "/connection").body:match "^%d+" end,
        { concurrency = 100 })
      local connections, count = {}, 0
      for _, connection in ipairs(results) do
        if not connections[connection] then count = count + 1 end
        connections[connection] = true
      end
      assert.equal(100, #results)
      assert.is_true(count <= 2, count .. " connections")
    end)

    it("carries bodies both ways, streams and decodes them", function()
      local client = secure()
      local whole = assert(client:get "/large.txt").body
      assert.equal(14 * 300000, #whole)
      assert.equal(200, assert(client:post("/read/ok", { body = whole })).status)
      local sent = 0
      local res = assert(client:post("/read/method", {
        body = function()
          sent = sent + 1
          if sent <= 100 then return ("x"):rep(10000) end
        end,
      }))
      assert.equal("POST", res.body)
      assert.is_true(assert(client:get("/gzip/text.txt")).body == text)
      local lines = 0
      for _ in assert(client:get("/large.txt", { stream = true })):lines() do lines = lines + 1 end
      assert.equal(300000, lines)
    end)

    it("takes an answer that comes before the end of the upload", function()
      local client = secure { timeout = { total = 5 } }
      assert.equal("ok", assert(client:post("/ok", { body = ("x"):rep(4 * 1024 * 1024) })).body)
      assert.equal("ok", assert(client:post("/ok", { body = function() return ("x"):rep(65536) end })).body)
      assert.equal("ok", assert(client:get "/ok").body)
    end)

    it("cancels one stream and leaves the others alone", function()
      local client = secure { max_connections = 10 }
      assert(client:get "/ok") -- the connection stands
      neap.scope(function(s)
        local slow = s:spawn(function() client:get("/slow/large.txt", { compression = false }) end)
        local other = s:spawn(function() return #assert(client:get "/large.txt").body end)
        neap.sleep(0.05)
        slow:cancel()
        assert.equal(14 * 300000, other:await())
      end)
      assert.equal("ok", assert(client:get "/ok").body)
    end)
  end)

  describe("a restart under load", function()
    it("fails some requests, doubles none and leaves the client working", function()
      local client = client_of(nginx.http, { max_connections = 50 })
      local list, failures, answered = {}, {}, 0
      for i = 1, 3000 do list[i] = i end
      neap.scope(function(s)
        s:spawn(function()
          neap.sleep(0.05)
          nginx:restart()
        end)
        neap.map(list, function()
          local res, err = client:post("/ok", { json = { a = 1 } })
          if res then
            answered = answered + 1
            assert.equal(1, res.sends)
          else
            failures[err.kind] = (failures[err.kind] or 0) + 1
            assert.is_true(err.sends <= 1)
            neap.sleep(0.01)
          end
          return true
        end, { concurrency = 50 })
      end)
      for kind in pairs(failures) do
        assert.is_true(kind == "connect" or kind == "receive" or kind == "send", kind)
      end
      assert.is_true(answered > 0)
      assert.equal("ok", assert(client:get "/ok").body)
      assert.equal(0, client:stats().in_flight)
    end)
  end)

  it("ten thousand requests leave nothing behind", function()
    local client = client_of(nginx.http, { max_connections = 64 })
    local done = 0
    neap.scope(function(s)
      for _ = 1, 64 do
        s:spawn(function()
          for _ = 1, 157 do
            assert.equal("ok", assert(client:post("/ok", { json = { n = 1 } })).body)
            done = done + 1
          end
        end)
      end
    end)
    assert.equal(64 * 157, done)
    local stats = client:stats()
    assert.equal(64 * 157, stats.sends)
    assert.equal(0, stats.in_flight)
    assert.is_true(stats.connections <= 64)
  end)

  it("a port of nobody beside it is still refused", function()
    fails("connect", client_of("https://127.0.0.1:" .. badserver.free_port()):get "/")
  end)
end)
