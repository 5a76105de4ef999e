local http = require "spec.support.http"
local neap = require "neap"
local tmp = require "spec.support.tmp"

local serve, client_of, fails, eventually = http.serve, http.client, http.fails, http.eventually

describe("an http request #real", function()
  after_each(http.finish)

  it("gives status, headers, body, version, sends, url and timings", function()
    local server = serve(function(c) c:respond(201, "made", { "X-A: 1", "x-a: 2", "Location: /7" }) end)
    local res = assert(client_of(server):get "/things")
    assert.equal(201, res.status)
    assert.equal("made", res.body)
    assert.equal("1.1", res.version)
    assert.equal(1, res.sends)
    assert.equal(server.url .. "/things", res.url)
    assert.equal("1, 2", res.headers["X-A"])
    assert.same({ "1", "2" }, res:header_values "X-a")
    assert.equal("/7", res.headers.location)
    local phases = { "queue", "pace", "dns", "connect", "tls", "send", "first_byte", "download", "total" }
    for _, phase in ipairs(phases) do assert.is_true(res.timings[phase] >= 0, phase) end
    assert.is_true(res.timings.total > 0)
    assert.equal(0, res.timings.pace)
    assert.equal(0, res.timings.tls)
  end)

  it("is sent by the verb's method", function()
    local server = http.echo()
    local client = client_of(server)
    for _, verb in ipairs { "get", "post", "put", "patch", "delete", "head" } do
      assert(client[verb](client, "/x"))
      assert.equal(verb:upper(), server.requests[#server.requests].method)
    end
    assert(client:request { url = "/x" })
    assert(client:request { url = "/x", method = "post" })
    assert(client:request { url = "/x", method = "PURGE" })
    assert(client:request { url = "/x", method = "lower" })
    local methods = {}
    for i = 7, 10 do methods[#methods + 1] = server.requests[i].method end
    assert.same({ "GET", "POST", "PURGE", "lower" }, methods)
  end)

  it("has no body after HEAD, 204 and 304, whatever length they announce", function()
    local server = serve(function(c, r)
      if r.method == "HEAD" then return c:write "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" end
      c:write(("HTTP/1.1 %s X\r\n\r\n"):format(r.target:sub(2)))
    end)
    local client = client_of(server, { max_connections = 1 })
    local head = assert(client:head "/")
    assert.equal("", head.body)
    assert.equal("5", head.headers["content-length"])
    assert.equal("", assert(client:get "/204").body)
    assert.equal("", assert(client:get "/304").body)
    assert.equal(1, server.connections)
  end)

  it("ignores interim answers before the final one", function()
    local server = serve(function(c)
      c:write "HTTP/1.1 100 Continue\r\nX-Interim: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
      c:respond(200, "ok", { "X-Final: 1" })
    end)
    local res = assert(client_of(server):get "/")
    assert.equal(200, res.status)
    assert.equal("ok", res.body)
    assert.is_nil(res.headers["x-interim"])
    assert.is_nil(res.headers.link)
    assert.equal("1", res.headers["x-final"])
  end)

  it("reads a body that ends with the connection, and a chunked one", function()
    local server = serve(function(c, r)
      if r.target == "/close" then return c:write("HTTP/1.0 200 OK\r\n\r\nuntil the end"):close() end
      c:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: 1\r\n\r\n"
    end)
    local client = client_of(server)
    local res = assert(client:get "/close")
    assert.equal("until the end", res.body)
    assert.equal("1.0", res.version)
    assert.equal("abcde", assert(client:get "/chunked").body)
  end)

  it("passes any bytes both ways", function()
    local bytes = {}
    for i = 0, 255 do bytes[#bytes + 1] = string.char(i) end
    local all = table.concat(bytes):rep(1000)
    local server = http.echo()
    assert.is_true(assert(client_of(server):post("/", { body = all })).body == all)
  end)
end)

describe("a request's url #real", function()
  after_each(http.finish)

  it("is appended to base_url's path and gets the query", function()
    local server = http.echo()
    local client = client_of(server.url .. "/v1")
    assert(client:get("chat"))
    assert(client:get("/chat?a=1", { query = { b = "x y" } }))
    assert(client:get("", { query = "raw=1" }))
    local targets = {}
    for i, request in ipairs(server.requests) do targets[i] = request.target end
    assert.same({ "/v1/chat", "/v1/chat?a=1&b=x%20y", "/v1?raw=1" }, targets)
  end)

  it("stands alone when it is absolute", function()
    local server = http.echo()
    local res = assert(client_of("http://127.0.0.1:1/v1"):get(server.url .. "/x"))
    assert.equal(200, res.status)
    assert.equal("/x", server.requests[1].target)
  end)

  it("that is not one gives kind 'invalid' and sends nothing", function()
    local server = http.echo()
    local client = client_of(nil)
    local port = server.port
    for _, url in ipairs {
      "/relative", "example", "ftp://127.0.0.1:" .. port .. "/", "file:///etc/passwd",
      "http://", "http:///x", "http://127.0.0.1:99999/", "http://[::1/", server.url .. "/a b",
      server.url .. "/a\r\nX: y", server.url .. "/a\0b",
    } do
      local err = fails("invalid", client:get(url))
      assert.equal("no", err.sent, url)
      assert.is_false(err.retryable)
    end
    assert.equal(0, server.connections)
  end)
end)

describe("a request's headers #real", function()
  after_each(http.finish)

  it("are the client's with the request's over them", function()
    local server = http.echo()
    local client = client_of(server, { headers = { ["X-A"] = "1", ["X-B"] = "2", ["X-C"] = "3" } })
    assert(client:get("/", { headers = { ["x-b"] = "9", ["X-c"] = false, ["X-D"] = 4, ["X-E"] = { "5", "6" } } }))
    local got = server.requests[1].headers
    assert.same({ "1", "9", "4", "5, 6" }, { got["x-a"], got["x-b"], got["x-d"], got["x-e"] })
    assert.is_nil(got["x-c"])
    assert(client:get "/")
    assert.equal("3", server.requests[2].headers["x-c"])
  end)

  it("hold what neap sends by itself and nothing else", function()
    local server = http.echo()
    assert(client_of(server, { compression = false }):get "/")
    local names = {}
    for name in pairs(server.requests[1].headers) do names[#names + 1] = name end
    table.sort(names)
    assert.same({ "accept", "host", "user-agent" }, names)
    assert.equal("*/*", server.requests[1].headers.accept)
    assert.truthy(server.requests[1].headers["user-agent"]:find "^neap/")
    assert(client_of(server, { compression = false, headers = { ["user-agent"] = false, accept = "x" } }):get "/")
    assert.is_nil(server.requests[2].headers["user-agent"])
    assert.equal("x", server.requests[2].headers.accept)
  end)

  it("may have an empty value, or replace Host", function()
    local server = http.echo()
    assert(client_of(server):get("/", { headers = { ["X-Empty"] = "", Host = "other.test" } }))
    assert.equal("", server.requests[1].headers["x-empty"])
    assert.equal("other.test", server.requests[1].headers.host)
  end)

  it("that could smuggle lines give kind 'invalid' and send nothing", function()
    local server = http.echo()
    local client = client_of(server)
    for _, headers in ipairs {
      { ["X-A"] = "1\r\nEvil: 1" }, { ["X-A"] = "1\nEvil: 1" }, { ["X-A"] = "1\0" }, { ["X-A"] = "\r" },
      { ["X-A\r\nEvil"] = "1" }, { ["X A"] = "1" }, { ["X-A:"] = "1" }, { [""] = "1" }, { ["X\0"] = "1" },
    } do
      local err = fails("invalid", client:get("/", { headers = headers }))
      assert.equal("no", err.sent)
    end
    fails("invalid", client:request { url = "/", method = "GET / HTTP/1.1\r\nEvil: 1\r\n" })
    fails("invalid", client:request { url = "/", method = "" })
    fails("invalid", client:get("/", { idempotency_key = "a\r\nEvil: 1" }))
    fails("invalid", client:get("/", { idempotency_key = "" }))
    assert.equal(0, server.connections)
  end)

  it("carry the idempotency key as it is", function()
    local server = http.echo()
    assert(client_of(server):post("/", { idempotency_key = "job-1/7" }))
    assert.equal("job-1/7", server.requests[1].headers["idempotency-key"])
  end)
end)

describe("a request's body #real", function()
  after_each(http.finish)

  it("can be JSON, with its content type unless a header gives one", function()
    local server = http.echo()
    local client = client_of(server)
    assert.equal('{"a":[1,2]}', assert(client:post("/", { json = { a = { 1, 2 } } })).body)
    assert.equal("application/json", server.requests[1].headers["content-type"])
    assert.equal("11", server.requests[1].headers["content-length"])
    assert.equal("false", assert(client:post("/", { json = false })).body)
    assert(client:post("/", { json = { 1 }, headers = { ["content-type"] = "application/vnd.x+json" } }))
    assert.equal("application/vnd.x+json", server.requests[3].headers["content-type"])
    assert(client:post("/", { json = { 1 }, headers = { ["Content-Type"] = false } }))
    assert.is_nil(server.requests[4].headers["content-type"])
    local typed = client_of(server, { headers = { ["content-type"] = "application/x-thing" } })
    assert(typed:post("/", { json = { 1 } }))
    assert.equal("application/x-thing", server.requests[5].headers["content-type"])
  end)

  it("that cannot be JSON gives kind 'invalid' and sends nothing", function()
    local server = http.echo()
    local client = client_of(server)
    fails("invalid", client:post("/", { json = { f = print } }))
    fails("invalid", client:post("/", { json = { f = print }, headers = { a = "b" } }))
    assert.equal(0, server.connections)
  end)

  it("can be a form", function()
    local server = http.echo()
    assert.equal("a=x+y&b=1", assert(client_of(server):post("/", { form = { b = 1, a = "x y" } })).body)
    assert.equal("a=%20", assert(client_of(server):post("/", { form = "a=%20" })).body)
    assert.equal("application/x-www-form-urlencoded", server.requests[1].headers["content-type"])
  end)

  it("names the header that cannot be sent", function()
    local client = client_of(http.echo())
    for name, value in pairs { ["X A"] = "1", ["X-A"] = "a\nb", ["Content-Length"] = "5" } do
      local _, err = client:get("/", { headers = { [name] = value } })
      assert.equal("invalid", err.kind)
      assert.matches("the header '" .. name .. "' cannot be sent", err.message, 1, true)
    end
  end)

  it("can be raw bytes, for which no content type is made up", function()
    local server = http.echo()
    local client = client_of(server)
    assert.equal("a\0b", assert(client:post("/", { body = "a\0b" })).body)
    assert.is_nil(server.requests[1].headers["content-type"])
    assert.is_nil(server.requests[1].headers.expect)
    assert.equal("", assert(client:post("/", { body = "" })).body)
    assert.equal("0", server.requests[2].headers["content-length"])
    assert(client:post "/")
    assert.equal("0", server.requests[3].headers["content-length"])
    assert(client:put("/", { body = ("x"):rep(2000000) }))
    assert.equal(2000000, #server.requests[4].body)
    assert.is_nil(server.requests[4].headers.expect)
  end)

  it("goes with any method, GET included", function()
    local server = http.echo()
    assert.equal("q", assert(client_of(server):get("/", { body = "q" })).body)
    assert.equal("GET", server.requests[1].method)
    assert.equal("q", assert(client_of(server):delete("/", { body = "q" })).body)
  end)

  it("can be multipart", function()
    local server = http.echo()
    local parts = { name = "x", { name = "f", value = "DATA", filename = "f.txt" } }
    assert(client_of(server):post("/", { multipart = parts }))
    local request = server.requests[1]
    local boundary = request.headers["content-type"]:match "^multipart/form%-data; boundary=(.+)$"
    assert.truthy(request.body:find("--" .. boundary .. "--\r\n", 1, true))
    local file_head = 'name="f"; filename="f.txt"\r\nContent-Type: application/octet-stream\r\n\r\nDATA'
    assert.truthy(request.body:find(file_head, 1, true))
    assert.truthy(request.body:find('name="name"\r\n\r\nx\r\n', 1, true))
  end)

  it("can be made while it is sent, by a function that may wait", function()
    local server = http.echo()
    local n = 0
    local res = assert(client_of(server):post("/", {
      body = function()
        n = n + 1
        neap.sleep(0.005)
        if n <= 3 then return ("chunk %d\n"):format(n) end
      end,
    }))
    assert.equal("chunk 1\nchunk 2\nchunk 3\n", res.body)
    assert.equal("chunked", server.requests[1].headers["transfer-encoding"])
    assert.equal(1, res.sends)
  end)

  it("of known length is sent with it", function()
    local server = http.echo()
    local function open()
      local left = 3
      return function()
        left = left - 1
        if left >= 0 then return ("x"):rep(100000) end
      end
    end
    local res = assert(client_of(server):put("/", { body = { open = open, length = 300000 } }))
    assert.equal(300000, #res.body)
    assert.equal("300000", server.requests[1].headers["content-length"])
    assert.is_nil(server.requests[1].headers["transfer-encoding"])
  end)

  it("can be a file, also as a part", function()
    local dir = tmp.dir()
    finally(function() tmp.remove(dir) end)
    local content = ("0123456789"):rep(30000)
    local path = tmp.write(dir .. "/data.bin", content)
    local server = http.echo()
    local client = client_of(server)
    assert.is_true(assert(client:post("/", { body = { file = path } })).body == content)
    assert.equal("300000", server.requests[1].headers["content-length"])
    assert(client:post("/", { multipart = { { name = "f", file = path }, x = "1" } }))
    local request = server.requests[2]
    assert.equal(#request.body, tonumber(request.headers["content-length"]))
    assert.truthy(request.body:find('filename="data.bin"', 1, true))
    assert.truthy(request.body:find(content, 1, true))
  end)

  it("from a file that is not there gives an error and sends nothing", function()
    local server = http.echo()
    local client = client_of(server)
    local res, err = client:post("/", { body = { file = "/nonexistent/file" } })
    assert.is_nil(res)
    assert.truthy(tostring(err.message):find("/nonexistent/file", 1, true))
    assert.is_nil(client:post("/", { multipart = { { name = "f", file = "/nonexistent/file" } } }))
    assert.equal(0, server.connections)
  end)

  it("that breaks off ends the request with its error", function()
    local server = http.echo()
    local client = client_of(server)
    local chunks = { "a", "b" }
    local err = fails("internal", client:post("/", {
      body = function()
        local chunk = table.remove(chunks, 1)
        if chunk then return chunk end
        return nil, "out of ink"
      end,
    }))
    assert.equal("out of ink", err.message)
    fails("invalid", client:post("/", { body = { open = function() return function() end end, length = 5 } }))
    assert.error_matches(function()
      client:post("/", { body = function() error("boom", 0) end })
    end, "boom")
    eventually(function() return server:open_count() == 0 end)
    assert.equal(0, #server.requests)
  end)

  it("is given up when the server answers before its end", function()
    local server = serve {
      head = function(c) c:respond(413, "too much", { "Connection: close" }):close() end,
    }
    local sent = 0
    local res = assert(client_of(server):post("/", {
      body = function()
        sent = sent + 1
        neap.sleep(0.001)
        if sent < 5000 then return ("x"):rep(1000) end
      end,
    }))
    assert.equal(413, res.status)
    assert.is_true(sent < 5000)
  end)

  it("waits for the server: memory stays flat", function()
    local server = serve { deaf = true }
    local produced = 0
    local client = client_of(server)
    local result, err = neap.timeout(0.3, function()
      return client:post("/", {
        body = function()
          produced = produced + 1
          return ("x"):rep(65536)
        end,
      })
    end)
    assert.is_nil(result)
    assert.equal("timeout", err.kind)
    assert.is_true(produced > 1)
    assert.is_true(produced * 65536 < 32 * 1024 * 1024, produced .. " chunks")
  end)
end)

describe("a response's body #real", function()
  after_each(http.finish)

  it("is decoded as JSON on demand", function()
    local server = serve(function(c, r) c:respond(200, r.target == "/good" and '{"a":[1]}' or "{nope") end)
    local client = client_of(server)
    assert.same({ a = { 1 } }, client:get("/good"):json())
    fails("decode", client:get("/bad"):json())
  end)

  it("that is streamed has no json before it was read", function()
    local server = serve(function(c) c:respond(200, '{"a":1}') end)
    local res = assert(client_of(server):get("/", { stream = true }))
    assert.error_matches(function() res:json() end, "read_all")
    assert.equal('{"a":1}', res:read_all())
    assert.same({ a = 1 }, res:json())
  end)

  it("says what it is when printed", function()
    local server = serve(function(c) c:respond(404, "gone") end)
    assert.equal("http response 404 (4 bytes)", tostring(client_of(server):get "/"))
  end)
end)

describe("misuse of http raises #real", function()
  after_each(http.finish)

  it("at the caller's line, with a hint, for an unknown option", function()
    local client = client_of "http://127.0.0.1:1"
    local ok, message = pcall(function()
      local res = client:post("/", { jsn = {} })
      return res
    end)
    assert.is_false(ok)
    assert.matches("http_client_spec%.lua:%d+: client:post: option 'jsn' is unknown; did you mean 'json'", message)
    ok, message = pcall(function()
      local made = neap.http.client { base_uri = "x" }
      return made
    end)
    assert.is_false(ok)
    assert.matches("http_client_spec%.lua:%d+: neap%.http%.client: option 'base_uri' is unknown; "
      .. "did you mean 'base_url'", message)
    assert.error_matches(function() client:get("/", { timeout = { conect = 1 } }) end, "did you mean 'connect'")
    assert.error_matches(function()
      neap.http.client { tls = { ca = "x" } }
    end, "neap%.http%.client.*tls.*'ca' is unknown")
  end)

  it("for values of the wrong type", function()
    local client = client_of "http://127.0.0.1:1"
    for message, opts in pairs {
      ["'headers' must be table"] = { headers = "x" },
      ["'timeout' must be"] = { timeout = "1" },
      ["'timeout' must be seconds"] = { timeout = -1 },
      ["'timeout.total' must be seconds"] = { timeout = { total = true } },
      ["'idle' must"] = { timeout = { idle = 0 / 0 } },
      ["'stream' must be boolean"] = { stream = 1 },
      ["'max_body' must be a number of bytes"] = { max_body = -1 },
      ["'redirects' must be a whole number"] = { redirects = 1.5 },
      ["'http_version' must be one of 1.1, 2"] = { http_version = "3" },
      ["'body' must be string or function or table"] = { body = 5 },
      ["only one of"] = { json = {}, body = "x" },
      ["header 'a' must be"] = { headers = { a = print } },
      ["query: value of 'a' must be"] = { query = { a = print } },
      ["cannot decode compression 'snappy'"] = { compression = "gzip, snappy" },
      ["are options of client:request"] = { method = "PUT" },
    } do
      assert.error_matches(function() client:post("/", opts) end, message)
    end
    assert.error_matches(function() client:get() end, "url must be a string, got nil")
    assert.error_matches(function() client:get("/", "x") end, "options must be a table, got string")
    assert.error_matches(function() client:request {} end, "'url' must be a string")
    assert.error_matches(function() client:request { url = "/", method = 1 } end, "'method' must be a string")
  end)

  it("for client options of the wrong type or out of range", function()
    for message, opts in pairs {
      ["'base_url' must be string"] = { base_url = 1 },
      ["'max_connections' must be integer"] = { max_connections = 1.5 },
      ["'max_connections' must be at least 1"] = { max_connections = 0 },
      ["'max_waiting' must be at least 0"] = { max_waiting = -1 },
      ["'proxy' must be"] = { proxy = true },
      ["'http_version' must be one of"] = { http_version = "1.2" },
      ["'keepalive_timeout' must be at least 0"] = { keepalive_timeout = -1 },
      ["'secret_headers' must be"] = { secret_headers = { 1 } },
      ["'timeout' must be seconds"] = { timeout = true },
      ["option 'verify' must be boolean"] = { tls = { verify = "no" } },
      ["cannot decode compression 'lzw'"] = { compression = "lzw" },
    } do
      assert.error_matches(function() neap.http.client(opts) end, message)
    end
  end)

  it("but a base_url from data that is no address gives kind 'invalid'", function()
    fails("invalid", neap.http.client { base_url = "not an address" })
    fails("invalid", neap.http.client { base_url = "ftp://host" })
  end)
end)
