-- SPDX-License-Identifier: MIT
local core = require "neap.core"
local neap = require "neap"
local profiles = require "neap.world.profiles"
local worlds = require "neap.world"
local repository = require "spec.support.repository"
local tmp = require "spec.support.tmp"

local root = repository.root
local dir

local function write(name, text)
  local path = dir .. "/" .. name
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

local function load(text) return worlds.load(write("world.lua", text)) end

--- Seconds that the n-th request to an upstream takes, at the key of `operation`.
local function seconds(upstream, operation, attempt)
  local fate = upstream:arrive(core.now(), { operation = operation, attempt = attempt })
  local result = fate.ends - core.now()
  upstream:leave(core.now(), fate, true)
  return result
end

describe("a world file", function()
  before_each(function() dir = tmp.dir() end)
  after_each(function() tmp.remove(dir) end)

  it("has upstreams by host name, with a port or for the rest", function()
    local world = load [[
      upstream { host = "API.example.com", latency = 1 }
      upstream { host = "api.example.com:8080", latency = 2 }
      upstream { host = "*", latency = 3 }
    ]]
    local function at(host, port) return seconds(world:upstream("http", host, port)) end
    assert.same({ 1, 1, 2, 3 }, { at("api.example.com", 80), at("api.EXAMPLE.com"), at("api.example.com", 8080),
      at("other", 80) })
    assert.equal(3, #world.upstreams)
    assert.equal("api.example.com", world.upstreams[1].host)
  end)

  it("has nobody for a host that it does not name", function()
    assert.is_nil(load([[upstream { host = "a" }]]):upstream("https", "b", 443))
  end)

  it("may compute, and may draw at the seed's will", function()
    local text = [[
      for i = 1, 3 do upstream { host = "h" .. i, latency = math.sqrt(i * i) } end
      upstream { host = "r", handler = function() return { status = 200, body = tostring(math.random()) } end }
    ]]
    local world = load(text)
    assert.equal(3, seconds(world.upstreams[3]))
    local function first(seed)
      world:start(core.now(), seed)
      return world.upstreams[4].handler {}.body
    end
    assert.equal(first(1), first(1))
    assert.not_equal(first(1), first(2))
  end)

  it("reads measured latencies from a file beside it", function()
    write("measured.txt", "# seconds\n0.5\n\n0.5\n")
    local world = load [[upstream { host = "a", latency = { law = "empirical", file = "measured.txt", scale = 2 } }]]
    assert.equal(1, seconds(world.upstreams[1]))
  end)

  it("says where its figures come from", function()
    assert.equal("guessed", load([[upstream { host = "a" }]]):source())
    assert.equal("fitted from x", load([[source = "fitted from x" upstream { host = "a" }]]):source())
    assert.equal("profile openai-tier1 (undated, read 2026-11-23); guessed",
      load([[upstream { host = "a", profile = "openai-tier1" } upstream { host = "b" }]]):source())
  end)

  local BAD = {
    { "\n\nupstream { host = 'api.x', latency = { law = 'gauss' } }",
      "world.lua:3: upstream 'api.x': option 'latency': "
      .. "there is no latency law 'gauss'; write fixed" },
    { "upstream { host = 'api.x', latency = -1 }",
      "world.lua:1: upstream 'api.x': option 'latency' must be at least 0" },
    { "upstream { host = 'a', latency = { law = 'fixed', seconds = -1 } }",
      "option 'latency': seconds must be at least 0" },
    { "upstream { host = 'a', latncy = 1 }", "option 'latncy' is unknown; did you mean 'latency'?" },
    { "upstream { latency = 1 }", "world.lua:1: upstream: option 'host' is required" },
    { "upstream(5)", "world.lua:1: upstream: needs a table of options, got number" },
    { "upstream { host = 'a', seed = 1 }", "option 'seed' is the run's" },
    { "upstream { host = 'a' }\nupstream { host = 'A' }",
      "world.lua:2: upstream 'A': there is one of that host already" },
    { "upstream { host = 'a', profile = 'openai-teir1' }", "did you mean 'openai-tier1'?" },
    { "upstream { host = 'a', connect = { refuse = 2 } }", "connect: option 'refuse' must be at most 1" },
    { "upstream { host = 'a', connect = { latency = { law = 'x' } } }",
      "option 'connect': there is no latency law 'x'" },
    { "upstream { host = 'a', handler = function() end, latency = 1 }", "option 'latency' does not go with a handler" },
    { "upstream { host = 'a', latency = { law = 'empirical', file = 'none.txt' } }", "option 'latency': cannot read" },
    { "upstream { host = 'a', tokens = { output = { law = 'lognormal', median = -1, sigma = 0 } } }",
      "option 'tokens': output: median must be above 0" },
    { "upstream { host = 'a', rate_limit = { rpm = 1, headers = 'opnai' } }",
      "option 'headers' must be one of openai" },
    { "upstream { host = 'a', rate_limit = { window = 1 } }", "option 'rate_limit': needs rpm, tpm or both" },
    { "upstream { host = 'a', quota = {} }", "option 'quota': needs requests, tokens or both" },
    { "upstream { host = 'a', outage = { from = 2, to = 1 } }", "option 'outage': to must be later than from" },
    { "upstream { host = 'a', outage = { from = 2, how = 'slow' } }",
      "how must be one of refuse, hang, status, got slow" },
    { "upstream { host = 'a', outage = { from = 2, status = 503, how = 'hang' } }", "status goes with how" },
    { "upstream { host = 'a', brownout = { latency = 2, ramp_down = 1 } }", "ramp_down needs to" },
    { "upstream { host = 'a', max_waiting = 1 }", "option 'max_waiting' needs over" },
    { "upstream { host = 'a', errors = { status = 503, probability = 1 } }",
      "option 'errors': needs an array of rules" },
    { "upstream { host = 'a' }\noutage { hosts = { 'b' }, from = 1 }",
      "world.lua:2: outage: there is no upstream 'b'" },
    { "upstream { host = 'a' }\noutage { region = 'b', from = 1 }",
      "world.lua:2: outage: there is no upstream in region" },
    { "upstream { host = 'a' } outage { hosts = { 'a' }, region = 'b', from = 1 }",
      "give 'hosts' or 'region', not both" },
    { "upstream { host = 'a' } brownout { form = 1, latency = 2 }",
      "brownout: 'form' is unknown; did you mean 'from'?" },
    { "os.exit()", "world.lua:1: 'os' is not available in a world file" },
    { "upstraem { host = 'a' }", "'upstraem' is not available" },
    { "upstream { host = 'a'", "world.lua:1: '}' expected" },
    { "local x = nil + 1", "world.lua:1: attempt to perform arithmetic" },
    { "upstream { host = 'http://a' }", "option 'host' must be a host's name" },
    { "upstream { host = 'a/path' }", "option 'host' must be a host's name" },
    { "upstream { host = 'a:99999' }", "option 'host' must be a host's name" },
    { "upstream { host = '*.a' }", "option 'host' must be a host's name" },
    { "upstream { host = 'a', latency = { law = 'empirical', file = '.' } }", "Is a directory" },
    { "upstream { host = '' }", "option 'host' must be a host's name" },
    { "upstream { host = 'a', latency = 1e300 }", "world.lua:1: upstream 'a': option 'latency' must be at most" },
    { "upstream { host = 'a', latency = { law = 'exponential', mean = 1e12 } }", "mean must be at most 1e+09" },
    { "upstream { host = 'a', errors = { { status = 503, probability = 1, latency = { law = 'x' } } } }",
      "option 'errors': latency: there is no latency law 'x'" },
    { "upstream { host = 'a', errors = { { status = 503, probability = 1, latency = 'slow' } } }",
      "option 'errors': latency must be seconds or a law" },
    { "upstream { host = 'a', brownout = { from = 1, to = 10, latency = 2, ramp = 20 } }",
      "ramp and ramp_down take 20 s, and the window has 9" },
    { "sorce = 'x' upstream { host = 'a' }", "'sorce' is no setting of a world file; did you mean 'source'?" },
    { "source = 5 upstream { host = 'a' }", "source must be a text" },
    { "\27LJ", "not bytecode" },
    { "", "world.lua: there is no upstream in it" },
  }

  it("that is wrong is told in one line, with the file, the line and the key", function()
    for _, case in ipairs(BAD) do
      local ok, message = pcall(load, case[1])
      assert.message(case[1]).is_false(ok)
      assert.equal("string", type(message))
      assert.message(message).truthy(message:find(case[2], 1, true))
      assert.message(message).is_nil(message:find "\n")
      assert.message(message).truthy(message:find("world.lua", 1, true))
    end
  end)

  it("may name addresses, with and without a port", function()
    for _, host in ipairs { "127.0.0.1", "127.0.0.1:8080", "::1", "[::1]:8080", "api-1.example.com:443", "*" } do
      assert.message(host).is_truthy(load(("upstream { host = %q }"):format(host)))
    end
  end)

  it("may have errors that fail faster than answers come", function()
    local upstream = load([[upstream { host = "a", latency = 2,
      errors = { { status = 503, probability = 1, latency = 0.01 } } }]]).upstreams[1]
    assert.near(0.01, seconds(upstream, 1), 1e-9)
  end)

  it("may speak in Groq's words: a day's requests, a minute's tokens", function()
    local upstream, headers = load([[upstream { host = "a", profile = "groq-free" }]]).upstreams[1], {}
    upstream.law.limits:add_headers(core.now(), headers)
    assert.same({ "1000", "12000" }, { headers["x-ratelimit-limit-requests"], headers["x-ratelimit-limit-tokens"] })
  end)

  it("that is not there is told in one line", function()
    local _, message = pcall(worlds.load, dir .. "/none.lua")
    assert.truthy(message:find "^neap.world: cannot read .*none.lua: No such file or directory$")
    _, message = pcall(worlds.load, "openai-teir1")
    assert.truthy(message:find("did you mean 'openai-tier1'?", 1, true))
  end)

  it("of each laboratory stands", function()
    for _, name in ipairs { "brownout", "rate_limited", "regions" } do
      assert.is_true(#worlds.load(root .. "scripts/labs/worlds/" .. name .. ".lua").upstreams > 0)
    end
  end)
end)

describe("a world of tables", function()
  it("is what a file would be, shared outages included", function()
    local world = worlds.new {
      { host = "a", region = "eu", latency = 1 }, { host = "b", region = "eu", latency = 1 },
      { host = "c", latency = 1 },
      outages = { { region = "eu", from = 5, to = 10, status = 503 } }, source = "made up",
    }
    assert.equal("made up", world:source())
    world:start(100, 1)
    for host, status in pairs { a = 503, b = 503, c = false } do
      local fate = world:upstream("http", host):arrive(105, {})
      assert.equal(status or nil, fate.status)
    end
  end)

  it("raises at the line of the script that made it", function()
    local _, message = pcall(worlds.new, { { host = "a", latncy = 1 } })
    assert.truthy(message:find "world_file_spec.lua:%d+: upstream 'a': option 'latncy' is unknown")
    _, message = pcall(worlds.new, { { host = "a" }, outage = {} })
    assert.truthy(message:find("neap.world.new: option 'outage' is unknown; did you mean 'outages'?", 1, true))
  end)

  it("draws the same for an operation's attempt, whatever the order, and differs by seed and host", function()
    local law = { law = "exponential", mean = 1 }
    local function draws(seed, order)
      local w = worlds.new { { host = "a", latency = law }, { host = "b", latency = law } }
      w:start(core.now(), seed)
      local values = {}
      for _, key in ipairs(order) do
        values[key[1] .. key[2] .. key[3]] = seconds(w:upstream("http", key[1]), key[2], key[3])
      end
      return values
    end
    local forward = draws(7, { { "a", 1, 1 }, { "a", 1, 2 }, { "a", 2, 1 }, { "b", 1, 1 } })
    assert.same(forward, draws(7, { { "b", 1, 1 }, { "a", 2, 1 }, { "a", 1, 2 }, { "a", 1, 1 } }))
    assert.not_equal(forward.a11, forward.b11)
    assert.not_equal(forward.a11, draws(8, { { "a", 1, 1 } }).a11)
  end)

  it("begins anew with each start", function()
    local world = worlds.new { { host = "a", latency = { law = "exponential", mean = 1 },
      rate_limit = { rpm = 60, window = 1 } } }
    local function run()
      world:start(core.now(), 3)
      local upstream = world.upstreams[1]
      return { seconds(upstream), upstream:arrive(core.now(), {}).kind, upstream.stats.count }
    end
    assert.same(run(), run())
    neap.sleep(7)
    local fresh = run()
    assert.same({ "limit", 2 }, { fresh[2], fresh[3] })
  end)

  it("can be had with its figures multiplied", function()
    local world = worlds.new { { host = "a", latency = 2, capacity = 10, drop = 0.1,
      errors = { { status = 503, probability = 0.4 } }, rate_limit = { rpm = 60 }, quota = { requests = 100 },
      tokens = { output = 100, per_second = 10 } } }
    local scaled = world:scaled { latency = 1.25, capacity = 0.75, errors = 3, quota = 0.5, output = 2 }
    local spec = scaled.upstreams[1].spec
    assert.same({ 2.5, 8, 1, 0.1 * 3, 30, 50, 200, 8 }, { spec.latency, spec.capacity,
      spec.errors[1].probability, spec.drop, spec.rate_limit.rpm, spec.quota.requests, spec.tokens.output,
      spec.tokens.per_second })
    assert.equal(2, world.upstreams[1].spec.latency)
    assert.has_error(function() world:scaled { latancy = 1 } end)
  end)
end)

describe("a profile", function()
  it("has a date and a source for each of its figures", function()
    assert.is_true(#profiles.names() >= 6)
    for _, name in ipairs(profiles.names()) do
      local profile = assert(profiles.find(name))
      for _, figure in ipairs(profile.figures) do
        assert.truthy(figure.date:find "20%d%d%-%d%d%-%d%d$")
        assert.truthy(figure.source:find "https://")
        assert.equal("number", type(figure.value))
      end
    end
  end)

  it("is a world of its own for every host", function()
    local world = worlds.load "groq-free"
    local upstream = world:upstream("https", "api.groq.com", 443)
    assert.equal("limit", (function()
      local fate
      for _ = 1, 31 do fate = upstream:arrive(core.now(), {}) end
      return fate.kind
    end)())
  end)

  it("gives way to what the upstream says", function()
    local world = worlds.new { { host = "a", profile = "openai-tier1", latency = 9 } }
    assert.equal(9, world.upstreams[1].spec.latency)
    assert.equal(500, world.upstreams[1].spec.rate_limit.rpm)
  end)
end)
