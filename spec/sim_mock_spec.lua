-- SPDX-License-Identifier: MIT
-- neap.sim: mocks and worlds for users' specs.
local core = require "neap.core"
local neap = require "neap"
local network = require "neap.sim.network"
local child = require "spec.support.child"

local client, mock

local function took(fn, ...)
  local began = core.now()
  local res, err = fn(...)
  return core.now() - began, res, err
end

describe("a mock", function()
  before_each(function()
    mock = neap.sim.mock()
    client = neap.http.client { timeout = 10 }
  end)
  after_each(function() client:close() end)

  it("answers by its rules, and retries of an hour take no time", function()
    mock:on { method = "GET", url = "https://api.test/items/*" }:reply(503):reply(200, { name = "tide" }):times(2)
      :delay(0.05)
    local retry = neap.retry { max_attempts = 3, backoff = { base = 3600, max = 3600, jitter = "none" } }
    local seconds, res = took(retry.call, retry, client.get, client, "https://api.test/items/1")
    assert.same({ name = "tide" }, res:json())
    assert.near(3600.1, seconds, 1e-6)
    assert.same({ "https://api.test/items/1", "GET" }, { mock.requests[1].url, mock.requests[1].method })
    assert.near(3600.05, mock.requests[2].at - mock.requests[1].at, 1e-6)
  end)

  it("answers 200 where a rule has no reply, with tables, functions that wait, and pieces", function()
    mock:on { url = "/none" }
    mock:on { url = "/table" }:reply { status = 201, headers = { ["X-A"] = "1" }, json = { a = 1 } }
    mock:on { url = "/function" }:reply(function(request)
      neap.sleep(2)
      return 200, request.method .. request.query.x .. request:json().y
    end)
    mock:on { url = "/pieces" }:reply { chunks = { { after = 0, data = "a" }, { after = 1, data = "b" } } }
    assert.equal(200, client:get("http://a.test/none").status)
    local res = client:get "http://b.test:81/table"
    assert.same({ 201, "1", '{"a":1}' }, { res.status, res.headers["x-a"], res.body })
    local seconds, answer = took(client.post, client, "http://a.test/function?x=1", { json = { y = 2 } })
    assert.same({ "POST12", 2 }, { answer.body, seconds })
    seconds, answer = took(client.get, client, "http://a.test/pieces")
    assert.same({ "ab", 1 }, { answer.body, seconds })
  end)

  it("takes the first rule that fits and is not used up", function()
    mock:on { url = "/a" }:reply(201):times(2)
    mock:on { url = "/a" }:reply(202)
    mock:on():reply(203)
    local seen = {}
    for i, path in ipairs { "/a", "/a", "/a", "/b" } do seen[i] = client:get("http://x.test" .. path).status end
    assert.same({ 201, 201, 202, 203 }, seen)
  end)

  it("tells requests apart by method, host, port, path, query, headers and body", function()
    local function rule(status, given) mock:on(given):reply(status):optional() end
    rule(201, { method = "put" })
    rule(202, { url = "https://*.example.com" })
    rule(203, { url = "http://port.test:8080/*" })
    rule(204, { url = "/q?b=2&a=1" })
    rule(205, { url = "/h", headers = { Authorization = "Bearer *", ["X-None"] = false, ["x-any"] = true } })
    rule(206, { url = "/j", body = { list = { 1, 2 }, name = "x" } })
    rule(207, { url = "/t", body = "exactly" })
    rule(208, { url = "/f", body = function(body) return #body > 3 end })
    rule(210, { url = "/m", match = function(request) return request.query.n == "7" and request.host == "m.test" end })
    rule(211, { query = { page = 2, size = function(size) return tonumber(size) > 10 end } })
    rule(212, { url = "p.test", path = "/p/*" })
    rule(213, { url = "http://[::1]:81/six" })
    rule(214, { url = "/empty", body = { list = {} } })
    rule(299)
    local function status(method, url, opts)
      opts = opts or {}
      opts.method, opts.url = method, url
      return assert(client:request(opts)).status
    end
    assert.equal(201, status("PUT", "http://x.test/"))
    assert.equal(202, status("GET", "https://API.example.com/any?x=1"))
    assert.equal(299, status("GET", "http://api.example.com/any"))
    assert.equal(203, status("GET", "http://port.test:8080/x"))
    assert.equal(299, status("GET", "http://port.test:8081/x"))
    assert.equal(204, status("GET", "http://x.test/q?a=1&b=2&c=3"))
    assert.equal(299, status("GET", "http://x.test/q?a=1"))
    assert.equal(205, status("GET", "http://x.test/h", { headers = { authorization = "Bearer x", ["X-Any"] = "" } }))
    assert.equal(299, status("GET", "http://x.test/h", { headers = { authorization = "Basic x", ["X-Any"] = "1" } }))
    assert.equal(206, status("POST", "http://x.test/j", { body = '{ "name":"x", "list":[1,2] }' }))
    assert.equal(299, status("POST", "http://x.test/j", { json = { name = "x", list = { 2, 1 } } }))
    assert.equal(207, status("POST", "http://x.test/t", { body = "exactly" }))
    assert.equal(299, status("POST", "http://x.test/t", { body = "exactly not" }))
    assert.equal(208, status("POST", "http://x.test/f", { body = "long" }))
    assert.equal(299, status("POST", "http://x.test/f", { body = "abc" }))
    assert.equal(210, status("GET", "http://m.test/m?n=7"))
    assert.equal(212, status("GET", "http://p.test/p/1"))
    assert.equal(299, status("GET", "http://q.test/p/1"))
    assert.equal(213, status("GET", "http://[::1]:81/six"))
    assert.equal(214, status("POST", "http://x.test/empty", { body = '{"list":[]}' }))
    assert.equal(299, status("POST", "http://x.test/empty", { body = '{"list":[[]]}' }))
    assert.equal(211, status("GET", "http://x.test/?page=2&size=11"))
    assert.equal(299, status("GET", "http://x.test/?page=2&size=9"))
  end)

  it("fails as networks do, after its delay", function()
    local kinds = { connect = { "connect", "no" }, dns = { "dns", "no" }, tls = { "tls", "no" },
      reset = { "receive", "maybe" }, receive = { "receive", "maybe" }, hang = { "timeout", "maybe" },
      timeout = { "timeout", "maybe" } }
    for kind, expected in neap.sorted_pairs(kinds) do
      local url = ("%s://%s.test/"):format(kind == "tls" and "https" or "http", kind)
      mock:on { url = url }:fail(kind):delay(1):reply(200)
      local seconds, res, err = took(client.get, client, url)
      assert.is_nil(res)
      assert.same({ expected[1], expected[2], expected[1] == "timeout" and 10 or 1 }, { err.kind, err.sent, seconds })
      assert.equal(200, client:get(url).status)
    end
    assert.equal(14, #mock.requests)
  end)

  it("gives a request that no rule is for an error, and says what the nearest rule wanted", function()
    mock:on { method = "POST", url = "https://api.test/a", body = { a = 1 } }:reply(200):optional()
    local _, err = client:post("https://api.test/a", { json = { a = 2 } })
    assert.same({ "invalid", false }, { err.kind, err.retryable })
    assert.matches("^no rule of the mock is for POST https://api%.test/a; the nearest: [^;]*sim_mock_spec%.lua:%d+ "
      .. "%(POST https://api%.test/a with body%): body%.a is 2, not 1$", err.message)
    local ok, message = pcall(mock.verify, mock)
    assert.is_false(ok)
    assert.is_truthy(message:find([[(POST https://api.test/a with body): body.a is 2, not 1]], 1, true))
    mock:reset()
    client:get "https://api.test/b"
    assert.is_truthy(mock:problem():find("it has no rule", 1, true))
    mock:reset()
    mock:on { url = "/once" }:times(1)
    client:get "http://a.test/once"
    client:get "http://a.test/once"
    assert.is_truthy(mock:problem():find("it was for 1 request only", 1, true))
    mock:reset()
  end)

  it("names the three nearest rules and each difference, and no secret", function()
    for _, url in ipairs { "https://far.test/z", "/z", "/y", "/x" } do
      mock:on({ method = "POST", url = url, headers = { Authorization = "Bearer right" } }):optional()
    end
    client:get("https://near.test/x?api_key=sk-7d3f01", { headers = { authorization = "Bearer sk-7d3f02" } })
    local lines = {}
    for line in mock:problem():gmatch "[^\n]+" do lines[#lines + 1] = line:gsub("^%s+[^(]*", "") end
    local why = "method is 'GET', not POST; %sheader Authorization is something else, not as wanted"
    assert.same({
      "no rule of the mock is for GET https://near.test/x?api_key=REDACTED",
      "(POST /x with headers): " .. why:format "",
      "(POST /z with headers): " .. why:format "path is '/x', not /z; ",
      "(POST /y with headers): " .. why:format "path is '/x', not /y; ",
    }, lines)
    mock:reset()
  end)

  it("chooses the rule as the request connects, so that the first that fits counts for refusals too", function()
    mock:on { url = "/a", body = "good" }:reply(201)
    mock:on { url = "/a", body = "bad" }:fail "dns"
    mock:on { url = "/a" }:fail "connect"
    mock:on { url = "/b" }:reply(200):fail("connect"):reply(202)
    assert.equal(201, client:post("http://x.test/a", { body = "good" }).status)
    for body, kind in neap.sorted_pairs { bad = "dns", other = "connect" } do
      local _, err = client:post("http://x.test/a", { body = body })
      assert.same({ kind, "no" }, { err.kind, err.sent })
    end
    local seen = neap.map({ 1, 2, 3 }, function()
      local res, err = client:get "http://x.test/b"
      return res and res.status or err.kind .. ", sent: " .. err.sent
    end)
    assert.same({ 200, "connect, sent: no", 202 }, seen)
  end)

  it("looks at a body that is streamed once it is there", function()
    local function pieces(...)
      local list, i = { ... }, 0
      return function()
        i = i + 1
        if i > 1 and list[i] then neap.sleep(1) end
        return list[i]
      end
    end
    mock:on { url = "/a", body = "abcd" }:reply(201)
    mock:on { url = "/a", body = "wxyz" }:delay(2):fail "connect"
    mock:on { url = "/a" }:reply(202)
    mock:on { url = "/b" }:fail "connect"
    local seconds, res = took(client.post, client, "http://x.test/a", { body = pieces("ab", "cd") })
    assert.same({ 1, 201, "abcd" }, { seconds, res.status, mock.requests[1].body })
    local err
    seconds, res, err = took(client.post, client, "http://x.test/a", { body = pieces("wx", "yz") })
    assert.same({ 3, nil, "connect" }, { seconds, res, err.kind })
    assert.equal(202, client:post("http://x.test/a", { body = pieces("e", "f") }).status)
    assert.equal(202, client:post("http://x.test/a", { body = "" }).status)
    seconds, res, err = took(client.post, client, "http://x.test/b", { body = pieces "g" })
    assert.same({ 0, nil, "connect", "no" }, { seconds, res, err.kind, err.sent })
  end)

  it("complains of an answer that cannot be sent, and of a function of a rule that raises", function()
    mock:on { url = "/line" }:reply(function() return 200, "x", { a = "1\r\nb: 2" } end)
    mock:on { url = "/match", match = function(request) return request.nothing.there end }
    client:get "http://a.test/line"
    local _, err = client:get "http://a.test/match"
    assert.equal("internal", err.kind)
    local problem = mock:problem(true)
    assert.matches("the reply of /line raised: [^\n]*header 'a' has a line break", problem)
    assert.matches("sim_mock_spec%.lua:%d+: the mock of /match with match: its match raised: "
      .. "[^\n]*sim_mock_spec%.lua:%d+: attempt to index", problem)
    mock:reset()
  end)

  it("complains of a reply that raises, and answers 500", function()
    mock:on { url = "/r" }:reply(function() error("oops", 0) end)
    assert.equal(500, client:get("http://a.test/r").status)
    assert.matches("sim_mock_spec.lua:%d+: the reply of /r raised: oops$", mock:problem())
    mock:reset()
  end)

  it("complains of rules that were used less often than they should be", function()
    mock:on { url = "/never" }
    mock:on({ url = "/twice" }):times(2)
    mock:on({ url = "/maybe" }):optional()
    mock:on({ url = "/maybe-twice" }):times(2):optional()
    client:get "http://a.test/twice"
    local lines = {}
    for line in mock:problem():gmatch "[^\n]+" do lines[#lines + 1] = line:match "the mock of .*$" end
    assert.same({ "the mock of /never was not used", "the mock of /twice was used once, not 2 times" }, lines)
    client:get "http://a.test/maybe-twice"
    client:get "http://a.test/never"
    client:get "http://a.test/twice"
    assert.is_truthy(mock:problem():find("/maybe-twice was used once, not 2 times", 1, true))
    mock:reset()
  end)

  it("says at the line of the spec what it does not understand", function()
    local function refused(text, fn, ...)
      local ok, message = pcall(fn, ...)
      assert.is_false(ok)
      assert.is_truthy(message:find(text, 1, true), message)
      assert.matches("sim_mock_spec%.lua:%d+: ", message)
    end
    refused("mock:on: option 'ulr' is unknown; did you mean 'url'?", mock.on, mock, { ulr = "x" })
    refused("option 'url': the scheme must be http or https", mock.on, mock, { url = "ftp://x/" })
    refused("option 'url': it is empty", mock.on, mock, { url = "" })
    local rule = mock:on():optional()
    refused("rule:reply: the status must be", rule.reply, rule, 99)
    refused("rule:reply: needs a status", rule.reply, rule, "ok")
    refused("rule:fail: needs connect, dns, tls, reset (receive) or hang (timeout), got conect; did you mean "
      .. "'connect'?", rule.fail, rule, "conect")
    refused("rule:times: needs a whole number", rule.times, rule, 0)
    refused("rule:delay: needs seconds", rule.delay, rule, -1)
    refused("option 'path': the url has a path", mock.on, mock, { url = "a.test/b", path = "/c" })
    refused("option 'path': needs '/' in front", mock.on, mock, { path = "c" })
  end)

  it("shows no secret of a rule, in its address nor in what it wanted", function()
    mock:on { url = "https://api.test/q?api_key=sk-RULE", headers = { Authorization = "Bearer sk-WANTED" } }
    client:get "https://api.test/q"
    local problem = mock:problem()
    assert.is_truthy(problem:find("query api_key is nothing, not as wanted", 1, true), problem)
    assert.is_nil(problem:find("sk-", 1, true))
    mock:reset()
  end)

  it("takes no arguments: rules are added", function()
    local ok, message = pcall(neap.sim.mock, { url = "/a" })
    assert.is_false(ok)
    assert.is_truthy(message:find("takes no arguments; mock:on{...} adds a rule", 1, true))
  end)

  it("goes when it is closed, and with the next network", function()
    mock:close()
    assert.is_nil(network.current())
    mock = neap.sim.mock()
    local second = neap.sim.mock()
    mock:close()
    assert.is_not_nil(network.current())
    second:close()
  end)
end)

describe("neap.sim.world", function()
  it("puts up a file, a profile, options or a world, at the seed that is given", function()
    local http = neap.http.client {}
    local world = neap.sim.world({ { host = "a.test", latency = { law = "uniform", min = 0, max = 1 } } }, { seed = 5 })
    local first = took(http.get, http, "http://a.test/")
    assert.equal(1, world.upstreams[1].stats.count)
    neap.sim.world(world, { seed = 5 })
    assert.near(first, took(http.get, http, "http://a.test/"), 1e-9)
    neap.sim.world "openai-tier1"
    assert.equal(200, http:get("https://anything.test/").status)
    http:close()
    assert.has_error(function() neap.sim.world(5) end)
    assert.has_error(function() neap.sim.world "/no/such/world.lua" end)
    assert.has_error(function() neap.sim.world({ { host = "a" } }, { sede = 1 }) end)
  end)

  it("is gone in the next test", function() assert.is_nil(network.current()) end)
end)

describe("neap.sim in real time #real", function()
  it("raises one line", function()
    for name, arguments in pairs { mock = {}, world = { { { host = "a" } } } } do
      local ok, message = pcall(neap.sim[name], unpack(arguments))
      assert.is_false(ok)
      assert.is_truthy(message:find("neap.sim." .. name .. ": needs virtual time", 1, true))
    end
  end)

  --- Runs a user's spec.
  local function run(text)
    local path, folder = child.file("user_spec.lua", 'local neap = require "neap"\n' .. text)
    local result = child.run { "test", path }
    child.remove(folder)
    return result
  end

  it("fails a test whose mock was not used, or was asked for something else, and names the line", function()
    local result = run [[
      local client = neap.http.client {}
      it("is well", function()
        neap.sim.mock():on { url = "/a" }
        assert(client:get "http://a.test/a")
      end)
      it("does not use it", function() neap.sim.mock():on { url = "/b" } end)
      it("asks for something else", function()
        neap.sim.mock():on { url = "/c" }:optional()
        client:get "http://a.test/d"
      end)
      it("has nobody to ask", function()
        local _, err = client:get "http://a.test/"
        assert.matches("neap%.sim%.mock%(%)", err.message)
      end)
      it("fails itself", function()
        neap.sim.mock():on { url = "/e" }
        error "first"
      end)
      it("asserts in a reply", function()
        neap.sim.mock():on { url = "/f" }:reply(function(request) assert.equal("body", request.body) return 200 end)
        assert.equal(500, client:get("http://a.test/f").status)
      end)
      describe("with a hook", function()
        before_each(function() neap.sim.mock():on { url = "/g" } end)
        it("uses its mock", function() assert(client:get "http://a.test/g") end)
        it("does not", function() end)
      end)]]
    assert.matches("3 passed, 5 failed, 0 skipped\n$", result.out)
    assert.matches("user_spec.lua:7: the mock of /b was not used", result.out)
    assert.matches("user_spec.lua:8: no rule of the mock is for GET http://a.test/d\n [^\n]*user_spec.lua:9 %(/c%): "
      .. "path is", result.out)
    assert.matches("user_spec.lua:21: the reply of /f raised: [^\n]*user_spec.lua:21: Expected objects to be equal",
      result.out)
    assert.matches("user_spec.lua:25: the mock of /g was not used", result.out)
    assert.equal("", result.err)
    assert.is_nil(result.out:find("/e was not used", 1, true))
  end)

  it("verifies what was made in a setup at the end of its describe", function()
    local result = run [[
      describe("several tests", function()
        local mock, client
        setup(function()
          mock, client = neap.sim.mock(), neap.http.client {}
          mock:on { url = "/a" }:times(2)
          mock:on { url = "/late" }
        end)
        it("asks once", function() assert(client:get "http://a.test/a") end)
        it("asks twice", function() assert(client:get "http://a.test/a") end)
      end)
      it("comes after it", function() assert.is_nil(require("neap.sim.network").current()) end)]]
    assert.matches("3 passed, 1 failed, 0 skipped\n$", result.out)
    assert.matches("user_spec.lua:7: the mock of /late was not used", result.out)
    assert.is_nil(result.out:find("the mock of /a", 1, true))
  end)
end)
