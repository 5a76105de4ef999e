-- SPDX-License-Identifier: MIT
-- `neap mock --world`: the same worlds over real sockets.
local json = require "neap.json"
local neap = require "neap"
local world_mock = require "neap.mock.world"
local worlds = require "neap.world"
local child = require "spec.support.child"
local raw = require "spec.support.raw_http"
local repository = require "spec.support.repository"

local function served(upstreams, body, config)
  return function()
    config = config or {}
    config.world = worlds.new(upstreams)
    local mock = assert(world_mock.start(config))
    local ok, err = pcall(body, mock.server:port(), mock)
    mock:stop(0)
    if not ok then error(err, 0) end
  end
end

local function ask(port, host, opts)
  opts = opts or {}
  local lines = { ("%s %s HTTP/1.1"):format(opts.body and "POST" or "GET", opts.path or "/"), "Host: " .. host }
  if opts.key then lines[#lines + 1] = "Idempotency-Key: " .. opts.key end
  if opts.body then lines[#lines + 1] = "Content-Length: " .. #opts.body end
  local connection = raw.connect(port)
  local res = connection:send(table.concat(lines, "\r\n") .. "\r\n\r\n" .. (opts.body or "")):response()
  connection:close()
  return res
end

describe("a world over real sockets #real", function()
  it("answers by the Host header", served({ { host = "a.test", body = "A" }, { host = "b.test:81", body = "B" } },
    function(port)
      assert.equal("A", ask(port, "A.test").body)
      assert.equal("A", ask(port, "a.test:80").body)
      assert.equal("B", ask(port, "b.test:81").body)
      local res = ask(port, "c.test")
      assert.equal(421, res.status)
      assert.truthy(res.body:find("the world serves no host 'c.test'", 1, true))
    end))

  it("answers as one of them whatever the Host header says, when told to",
    served({ { host = "a.test", body = "A" }, { host = "b.test", body = "B" } }, function(port)
      assert.equal("B", ask(port, "anything").body)
    end, { upstream = "b.test" }))

  it("takes the same time for an operation as the world says", served(
    { { host = "a.test", latency = { law = "uniform", min = 0.02, max = 0.2 } } }, function(port, mock)
      local twin = worlds.new { { host = "a.test", latency = { law = "uniform", min = 0.02, max = 0.2 } } }
      twin:start(0, 1)
      for i = 1, 3 do
        local expected = twin.upstreams[1]:arrive(0, { operation = "key-" .. i }).ends
        local began = neap.now()
        assert.equal(200, ask(port, "a.test", { key = "key-" .. i }).status)
        local took = neap.now() - began
        assert.is_true(took >= expected - 0.002 and took < expected + 0.1)
      end
      assert.equal(3, mock.world.upstreams[1].stats.count)
    end))

  it("limits, fails, resets and streams", served({
    { host = "limit.test", rate_limit = { rpm = 60, window = 1, headers = "azure" } },
    { host = "fail.test", errors = { { status = 503, probability = 1, retry_after = 3 } } },
    { host = "drop.test", outage = { from = 0 } },
    { host = "llm.test", latency = 0.05, tokens = { output = 5, per_second = 100 } },
  }, function(port, mock)
    assert.equal(200, ask(port, "limit.test").status)
    local res = ask(port, "limit.test")
    assert.same({ 429, "60" }, { res.status, res.headers["x-ratelimit-limit-requests"] })
    res = ask(port, "fail.test")
    assert.same({ 503, "3" }, { res.status, res.headers["retry-after"] })
    assert.is_nil((ask(port, "drop.test")))
    local began = neap.now()
    res = ask(port, "llm.test", { path = "/v1/chat/completions",
      body = '{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}' })
    assert.is_true(neap.now() - began >= 0.088)
    local events = select(2, res.body:gsub("data: ", ""))
    assert.equal(5 + 2, events)
    for _, upstream in ipairs(mock.world.upstreams) do assert.equal(0, upstream.stats.open) end
  end))

  it("goes on with the work of those who have left", served({ { host = "a.test", latency = 0.3, capacity = 1,
    over = "queue" } }, function(port, mock)
      local client = neap.http.client {}
      local _, err = client:get(("http://127.0.0.1:%d/"):format(port), { timeout = 0.1 })
      assert.equal("timeout", err.kind)
      neap.sleep(0.05)
      local law = mock.world.upstreams[1].law
      assert.equal(1, law.capacity.busy)
      assert.is_true(math.abs(law.wasted - 0.3) < 1e-6)
      neap.sleep(0.3)
      law:advance(neap.now())
      assert.equal(0, law.capacity.busy)
      client:close()
    end, { upstream = "a.test" }))

  it("answers 500 for a handler that raises, and counts it", served({ { host = "h.test", handler = function()
    error "bad"
  end } }, function(port, mock)
    assert.equal(500, ask(port, "h.test").status)
    assert.same({ ["500"] = 1 }, mock.world.upstreams[1].stats.statuses)
    assert.equal(0, mock.world.upstreams[1].stats.open)
  end))

  it("has handlers that an outage meets as it meets laws", served({
    { host = "refuse.test", region = "x", handler = function() return 200, "x" end },
    { host = "status.test", region = "y", handler = function() return 200, "y" end },
    outages = { { region = "x", from = 0 }, { region = "y", from = 0, status = 503, retry_after = 7 } },
  }, function(port, mock)
    assert.is_nil((ask(port, "refuse.test")))
    local res = ask(port, "status.test")
    assert.same({ 503, "7" }, { res.status, res.headers["retry-after"] })
    assert.equal(1, mock.world.upstreams[1].stats.statuses.drop)
  end))

  it("has handlers", served({ { host = "h.test", handler = function(request)
    neap.sleep(0.01)
    return 201, request.method .. " " .. request.path
  end } }, function(port, mock)
    local res = ask(port, "h.test", { path = "/x" })
    assert.same({ 201, "GET /x" }, { res.status, res.body })
    assert.equal(1, mock.world.upstreams[1].stats.statuses["201"])
  end))

  it("tells what arrived, by host", served({ { host = "a.test", capacity = 3 }, { host = "b.test" } }, function(port)
    ask(port, "a.test")
    local stats = json.decode(ask(port, "a.test", { path = "/stats" }).body)
    assert.same({ 1, 3, 0 }, { stats.hosts["a.test"].requests, stats.hosts["a.test"].slots.limit,
      stats.hosts["b.test"].requests })
  end))

  it("is what `neap mock --world` serves, and what is wrong is told in one line", function()
    local path = repository.root .. "scripts/labs/worlds/regions.lua"
    local function refused(message, ...)
      local result = child.run { "mock", "--port", "0", ... }
      assert.equal(2, result.code)
      assert.matches("^neap: [^\n]+\n$", result.err)
      assert.message(result.err).truthy(result.err:find(message, 1, true))
    end
    refused("neap.world: cannot read none.lua: No such file or directory", "--world", "none.lua")
    refused("--latency does not go with --world", "--world", path, "--latency", "fixed:1")
    refused("there is no upstream 'nobody'", "--world", path, "--upstream", "nobody")
    refused("--upstream needs --world FILE", "--upstream", "a")
    local served_world = child.start { "mock", "--port", "0", "--world", path, "--upstream", "us.example.com" }
    served_world:wait_for "listening on "
    local port = tonumber(served_world.out:match ":(%d+)")
    assert.equal("us.example.com", json.decode(ask(port, "eu-1.example.com").body).host)
    served_world:kill "sigterm"
    served_world:wait()
    assert.equal(0, served_world.code)
    assert.truthy(served_world.out:find("us.example.com: 1 request: 1 x 200", 1, true))
  end)
end)
