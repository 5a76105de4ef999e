local http = require "spec.support.http"
local neap = require "neap"

local serve, client_of, fails = http.serve, http.client, http.fails

--- Answers "/<status>/<n>" with the status and a Location one smaller, "/…/0" and
--- anything else with what it received.
local function hopper()
  return serve(function(c, r)
    local status, n = r.target:match "^/(%d+)/(%d+)$"
    if n and tonumber(n) > 0 then
      return c:respond(tonumber(status), "moved", { ("Location: /%s/%d"):format(status, n - 1) })
    end
    c:respond(200, r.method .. " " .. r.body)
  end)
end

--- Answers with `status` and this Location.
local function sends_to(location, status)
  return serve(function(c) c:respond(status or 302, "", { "Location: " .. location }) end)
end

describe("a redirect #real", function()
  after_each(http.finish)

  it("is followed for GET and HEAD, and sends and timings add up", function()
    local server = hopper()
    local client = client_of(server)
    for _, status in ipairs { 301, 302, 303, 307, 308 } do
      local res = assert(client:get(("/%d/3"):format(status)))
      assert.equal(200, res.status)
      assert.equal("GET ", res.body)
      assert.equal(4, res.sends)
      assert.equal(("%s/%d/0"):format(server.url, status), res.url)
      assert.is_true(res.timings.total > 0)
      assert.equal(200, assert(client:head(("/%d/3"):format(status))).status)
    end
    assert.equal(1, server.connections)
  end)

  it("is not followed for other methods unless asked", function()
    local server = hopper()
    local client = client_of(server)
    for _, verb in ipairs { "post", "put", "patch", "delete" } do
      assert.equal(302, assert(client[verb](client, "/302/1")).status)
      assert.equal(307, assert(client[verb](client, "/307/1", { body = "x" })).status)
    end
  end)

  it("is not followed when there is no limit left: 0 or false", function()
    local server = hopper()
    assert.equal(302, assert(client_of(server, { redirects = false }):get "/302/1").status)
    assert.equal(302, assert(client_of(server, { redirects = 0 }):get "/302/1").status)
    assert.equal(302, assert(client_of(server):get("/302/1", { redirects = 0 })).status)
    assert.equal(200, assert(client_of(server, { redirects = 0 }):get("/302/1", { redirects = 1 })).status)
  end)

  it("beyond the limit gives kind 'redirect'", function()
    local server = hopper()
    assert.equal(200, assert(client_of(server):get "/302/10").status)
    local err = fails("redirect", client_of(server):get "/302/11")
    assert.equal(11, err.sends)
    assert.equal("yes", err.sent)
    assert.is_false(err.retryable)
    assert.truthy(err.message:find("more than 10 redirects", 1, true))
    fails("redirect", client_of(server, { redirects = 2 }):get "/302/3")
    local loop = serve(function(c) c:respond(302, "", { "Location: /loop" }) end)
    fails("redirect", client_of(loop):get "/loop")
    assert.equal(11, #loop.requests)
  end)

  it("turns POST into GET for 301, 302 and 303, and drops what described the body", function()
    for _, status in ipairs { 301, 302, 303 } do
      local server = hopper()
      local res = assert(client_of(server):post(("/%d/1"):format(status), {
        json = { 1 }, redirects = 5, idempotency_key = "k", headers = { ["X-Keep"] = "1" },
      }))
      assert.equal("GET ", res.body)
      local last = server.requests[2].headers
      assert.is_nil(last["content-type"])
      assert.is_nil(last["content-length"])
      assert.is_nil(last["idempotency-key"])
      assert.equal("1", last["x-keep"])
    end
  end)

  it("repeats other methods for 301 and 302, and turns them into GET for 303", function()
    local client = client_of(hopper(), { redirects = 5 })
    assert.equal("PUT x", assert(client:put("/302/1", { body = "x" })).body)
    assert.equal("GET ", assert(client:put("/303/1", { body = "x" })).body)
  end)

  it("of 307 and 308 repeats a POST only when it is replay-safe", function()
    for _, status in ipairs { 307, 308 } do
      local url = ("/%d/2"):format(status)
      local client = client_of(hopper(), { redirects = 5 })
      assert.equal(status, assert(client:post(url, { body = "x" })).status)
      assert.equal("POST x", assert(client:post(url, { body = "x", idempotent = true })).body)
      local res = assert(client:post(url, { json = { 1 }, idempotency_key = "k" }))
      assert.equal("POST [1]", res.body)
      assert.equal(3, res.sends)
    end
  end)

  it("of 307 repeats a streamed body only when it can be started again", function()
    local client = client_of(hopper(), { redirects = 5 })
    local function open()
      local left = 2
      return function()
        left = left - 1
        if left >= 0 then return "x" end
      end
    end
    assert.equal("PUT xx", assert(client:put("/307/1", { body = { open = open } })).body)
    assert.equal(307, assert(client:put("/307/1", { body = open() })).status)
    assert.equal("GET ", assert(client:post("/303/1", { body = open() })).body)
  end)

  it("may be relative to the address it comes from", function()
    local server = serve(function(c, r)
      if r.target == "/a/b?q" then return c:respond(302, "", { "Location: ../c?d#e" }) end
      c:respond(200, r.target)
    end)
    local res = assert(client_of(server):get "/a/b?q")
    assert.equal("/c?d", res.body)
    local other = http.echo()
    local from = sends_to("//127.0.0.1:" .. other.port .. "/x")
    assert.equal(other.url .. "/x", assert(client_of(from):get "/").url)
  end)

  it("without a Location, or of another status, is a plain answer", function()
    local server = serve(function(c, r) c:respond(tonumber(r.target:sub(2)), "x", { "X: Location: /" }) end)
    local client = client_of(server)
    assert.equal(302, assert(client:get "/302").status)
    local other = serve(function(c, r) c:respond(tonumber(r.target:sub(2)), "", { "Location: /200" }) end)
    for _, status in ipairs { 300, 305, 306 } do
      assert.equal(status, assert(client_of(other):get("/" .. status)).status)
    end
  end)

  it("to another scheme or to nonsense gives kind 'redirect'", function()
    for _, location in ipairs { "ftp://127.0.0.1/x", "file:///etc/passwd", "gopher://x/", "http://", "http://[::1/" } do
      local err = fails("redirect", client_of(sends_to(location)):get "/")
      assert.equal("yes", err.sent)
      assert.equal(1, err.sends, location)
    end
  end)

  it("to a place that fails gives that error, with the sends of all hops", function()
    local port = require("spec.support.badserver").free_port()
    local err = fails("connect", client_of(sends_to("http://127.0.0.1:" .. port .. "/")):get "/")
    assert.equal(1, err.sends)
    assert.equal("yes", err.sent)
  end)

  it("shares the total timeout among its hops", function()
    local server = serve(function(c)
      c:after(0.08, function() c:respond(302, "", { "Location: /again" }) end)
    end)
    local before = neap.now()
    local err = fails("timeout", client_of(server, { timeout = 0.3 }):get "/")
    local took = neap.now() - before
    assert.equal("total", err.timeout)
    assert.is_true(took > 0.25 and took < 0.6, took)
    assert.equal(#server.requests, err.sends)
  end)

  it("works for streams", function()
    local server = hopper()
    local client = client_of(server)
    local res = assert(client:get("/302/2", { stream = true }))
    assert.equal(200, res.status)
    assert.equal(3, res.sends)
    assert.equal("GET ", res:read_all())
    assert.equal(0, client:stats().in_flight)
  end)

  it("carries cookies that were set on the way", function()
    local server = serve(function(c, r)
      if r.target == "/" then return c:respond(302, "", { "Location: /in", "Set-Cookie: s=1; Path=/" }) end
      c:respond(200, r.headers.cookie or "none")
    end)
    assert.equal("s=1", assert(client_of(server, { cookies = true }):get "/").body)
  end)
end)

describe("a redirect to another origin #real", function()
  after_each(http.finish)

  local SECRETS = {
    Authorization = "Bearer s", ["Proxy-Authorization"] = "s", Cookie = "s=1", ["X-Api-Key"] = "s", ["api-key"] = "s",
  }

  local function received(from, to, opts, request)
    assert(client_of(from, opts):get("/", request))
    return to.requests[#to.requests].headers
  end

  local function check_dropped(headers)
    for name in pairs(SECRETS) do assert.is_nil(headers[name:lower()], name) end
    assert.equal("kept", headers["x-other"])
  end

  it("drops secret headers, of the request and of the client", function()
    local to = http.echo()
    local from = sends_to(to.url .. "/")
    local headers = { ["X-Other"] = "kept" }
    for name, value in pairs(SECRETS) do headers[name] = value end
    check_dropped(received(from, to, { headers = headers }))
    check_dropped(received(from, to, {}, { headers = headers }))
    assert.equal("Bearer s", from.requests[1].headers.authorization)
  end)

  it("counts another host name of the same machine as another origin", function()
    local to = http.echo()
    local from = sends_to("http://localhost:" .. to.port .. "/")
    check_dropped(received(from, to, { headers = { Authorization = "s", ["X-Other"] = "kept" } }))
  end)

  it("drops the headers that secret_headers names, and a Host of the request's own", function()
    local to = http.echo()
    local from = sends_to(to.url .. "/")
    local got = received(from, to, { secret_headers = { "X-Tenant" } },
      { headers = { ["x-tenant"] = "7", Host = "inner.test", ["X-Other"] = "kept" } })
    assert.is_nil(got["x-tenant"])
    assert.equal("127.0.0.1:" .. to.port, got.host)
    assert.equal("kept", got["x-other"])
  end)

  it("does not bring the secrets back when it returns", function()
    local first
    local second = serve(function(c) c:respond(302, "", { "Location: " .. first.url .. "/back" }) end)
    first = serve(function(c, r)
      if r.target == "/" then return c:respond(302, "", { "Location: " .. second.url }) end
      c:respond(200, r.headers.authorization or "none")
    end)
    assert.equal("none", assert(client_of(first, { headers = { Authorization = "s" } }):get "/").body)
  end)

  it("keeps them within the same origin", function()
    local server = serve(function(c, r)
      if r.target == "/" then return c:respond(302, "", { "Location: http://127.0.0.1:" .. c.server.port .. "/in" }) end
      c:respond(200, r.headers.authorization or "none")
    end)
    assert.equal("Bearer s", assert(client_of(server, { headers = { Authorization = "Bearer s" } }):get "/").body)
  end)
end)
