-- SPDX-License-Identifier: MIT
-- Laws fitted to cassettes whose laws are known.
local cassette = require "neap.cassette"
local core = require "neap.core"
local latencies = require "neap.world.latency"
local laws = require "neap.cassette.laws"
local limits = require "neap.world.limits"
local worlds = require "neap.world"
local child = require "spec.support.child"
local made = require "spec.support.cassette"
local tmp = require "spec.support.tmp"

local N = 2000

local function uniform(stream)
  local generator = core.rng(11, stream)
  return function() return generator:double() end
end

local function sample(spec, count)
  local draw, random, values = latencies.sampler(spec), uniform(1), {}
  for i = 1, count or N do values[i] = draw(random) end
  return values
end

local function fit(values) return laws.fit(values, uniform(2)) end

local function within(expected, tolerance, got, what)
  assert.message(("%s: expected %g within %g, got %g"):format(what, expected, tolerance, got))
    .is_true(math.abs(got - expected) <= tolerance)
end

describe("of 2,000 values the fit finds", function()
  -- Tolerances are four standard errors of the maximum-likelihood estimators.
  local function finds(spec, parameters)
    it(spec.law, function()
      local found = fit(sample(spec))
      assert.equal(spec.law, found.spec.law)
      for name, tolerance in pairs(parameters) do within(spec[name], tolerance, found.spec[name], name) end
      assert.is_true(found.p >= 0.01)
      within(0, 1.63 / math.sqrt(N), found.distance, "distance") -- Kolmogorov's 1 % point
      for _, p in ipairs { "p50", "p90" } do
        within(found.recorded[p], 0.1 * found.recorded[p], found.fitted[p], p)
      end
    end)
  end

  local root = math.sqrt(N)
  finds({ law = "lognormal", median = 0.1, sigma = 0.8 },
    { median = 0.1 * 4 * 0.8 / root, sigma = 4 * 0.8 / root / 1.4 })
  finds({ law = "exponential", mean = 0.3 }, { mean = 4 * 0.3 / root })
  finds({ law = "pareto", min = 0.05, alpha = 2.5 }, { alpha = 4 * 2.5 / root, min = 0.05 * 4 / 2.5 / N })
  finds({ law = "uniform", min = 0.1, max = 0.2 }, { min = 4 * 0.1 / N, max = 4 * 0.1 / N })

  it("constant, of values that hardly differ", function()
    local found = fit(sample({ law = "uniform", min = 0.1200, max = 0.1201 }))
    assert.equal("constant", found.spec.law)
    within(0.12005, 5e-5, found.spec.seconds, "seconds")
  end)

  it("none of these, of two bumps: the values themselves, and says what it refused", function()
    local values = {}
    for i, value in ipairs(sample { law = "uniform", min = 0, max = 0.1 }) do
      values[i] = i % 2 == 0 and 0.1 + value or 5 + value
    end
    local found = fit(values)
    assert.equal("empirical", found.spec.law)
    assert.equal(200, #found.spec.samples)
    assert.is_true(found.rejected.distance > 0.05 and found.rejected.p < 0.05)
    within(0, 0.01, found.distance, "distance")
    within(found.recorded.p90, 0.01, found.fitted.p90, "p90")
    assert.is_nil(latencies.problem(found.spec))
  end)

  it("nothing in fewer than 30: the values themselves", function()
    local found = fit(sample({ law = "lognormal", median = 0.1, sigma = 0.8 }, 29))
    assert.same({ "empirical", 29, 0 }, { found.spec.law, #found.spec.samples, found.distance })
    assert.equal("constant", fit({ 0.5 }).spec.law)
    assert.equal("constant", fit({ 0, 0 }).spec.law)
  end)

  it("a law for values of which some are zero", function()
    local values = sample { law = "exponential", mean = 1 }
    values[1] = 0
    assert.equal("exponential", fit(values).spec.law)
  end)
end)

describe("the p-value", function()
  it("is small for no more samples of the law than it says", function()
    local random, draw = uniform(3), latencies.sampler { law = "lognormal", median = 1, sigma = 0.5 }
    local count, small = 0, 0
    for _ = 1, 150 do
      local values = {}
      for i = 1, 60 do values[i] = draw(random) end
      local found = laws.fit(values, random)
      if found.spec.law == "lognormal" then
        count = count + 1
        if found.p < 0.25 then small = small + 1 end
      end
    end
    within(0.25, 4 * math.sqrt(0.25 * 0.75 / count), small / count, "share below 0.25")
  end)
end)

describe("a fitted world", function()
  local dir
  before_each(function() dir = tmp.dir() end)
  after_each(function() tmp.remove(dir) end)

  --- The one upstream's options after a round through a file.
  local function loaded(fitted)
    local world = worlds.load(tmp.write(dir .. "/world.lua", fitted:world()))
    return world.upstreams[1].options, world
  end

  it("is a file that loads, says where it is from, and has the laws", function()
    local rows = {}
    for i, seconds in ipairs(sample { law = "lognormal", median = 0.1, sigma = 0.8 }) do
      rows[i] = { url = "https://api.test/items/" .. i, seconds = seconds, start = i / 10 }
      if i % 20 == 0 then rows[i].status = 503 end
      if i % 50 == 1 then rows[i].status, rows[i].headers = 500, { ["retry-after"] = "3" } end
      if i % 100 == 7 then rows[i].error = { kind = "receive", phase = "first_byte", sent = "maybe", after = 0.1 } end
      if i % 200 == 9 then rows[i].error = { kind = "timeout", phase = "first_byte", sent = "maybe", after = 9 } end
      if i % 40 == 0 then rows[i].connect, rows[i].tls = 0.03, 0.02 end
    end
    local fitted = cassette.fit(made.tape(rows))
    local options, world = loaded(fitted)
    assert.equal("fitted from cassette.jsonl, 2,000 requests, 2026-11-23", world:source())
    assert.same({ "api.test", "lognormal" }, { options.host, options.latency.law })
    within(0.1, 0.1 * 4 * 0.8 / math.sqrt(1840), options.latency.median, "median")
    within(10 / 2000, 1e-6, options.hang, "hang")
    within(20 / 1990, 1e-6, options.drop, "drop")
    assert.same({ 500, 3, 503 }, { options.errors[1].status, options.errors[1].retry_after, options.errors[2].status })
    assert.is_nil(options.errors[2].retry_after)
    assert.equal("lognormal", options.errors[2].latency.law)
    within(40 / 1970, 1e-6, options.errors[1].probability, "500")
    within(100 / 1970, 1e-6, options.errors[2].probability, "503")
    assert.same({ law = "constant", seconds = 0.05 }, options.connect.latency)
    assert.is_nil(options.rate_limit)
    assert.is_truthy(fitted:world():find("GET /items/{n}, 2,000 requests; lognormal: KS distance 0.", 1, true))
    assert.is_truthy(fitted:report():find("p50 ", 1, true))
  end)

  it("is the same text for the same cassette", function()
    local rows = {}
    for i, seconds in ipairs(sample({ law = "pareto", min = 0.1, alpha = 3 }, 300)) do
      rows[i] = { seconds = seconds }
    end
    assert.equal(cassette.fit(made.tape(rows)):world(), cassette.fit(made.tape(rows)):world())
  end)

  it("has each host, with its port where that is not its scheme's", function()
    local fitted = cassette.fit(made.tape {
      { url = "https://b.test/" }, { url = "http://a.test:8080/" }, { url = "http://b.test/" },
      { url = "http://[::1]/" },
    })
    local names = {}
    for i, host in ipairs(fitted.hosts) do names[i] = host.host .. " " .. host.requests end
    assert.same({ "b.test 2", "a.test:8080 1", "::1 1" }, names)
    assert.equal(3, #select(2, loaded(fitted)).upstreams)
  end)

  it("has connections that are refused and that hang", function()
    local rows = {}
    for i = 1, 8 do rows[i] = { connect = 0.01 } end
    rows[9] = { error = { kind = "connect", phase = "connect", sent = "no", after = 0 } }
    rows[10] = { error = { kind = "timeout", phase = "connect", sent = "no", after = 10 } }
    local options = loaded(cassette.fit(made.tape(rows)))
    assert.same({ 0.1, 0.1, nil, nil }, { options.connect.refuse, options.connect.hang, options.drop, options.hang })
  end)

  it("leaves out what the client gave up", function()
    local fitted = cassette.fit(made.tape {
      {}, { error = { kind = "cancelled", after = 1 } }, { error = { kind = "queue_timeout", sent = "no", after = 1 } },
    })
    assert.same({ 2, 0, 0 }, { fitted.hosts[1].left, fitted.hosts[1].hang, fitted.hosts[1].drop })
  end)

  --- Rows of a service with these limits, which tells them.
  local function limited(spec, count, every, tokens)
    local buckets, rows = limits.new(spec), {}
    for i = 1, count do
      local now, headers = i * every, {}
      local wait = buckets:take(now, tokens or 0)
      buckets:add_headers(now, headers, 1795413600)
      if wait > 0 then headers["retry-after"] = ("%d"):format(math.ceil(wait)) end
      rows[i] = { start = now, seconds = 0, status = wait > 0 and 429 or 200, headers = headers }
    end
    return rows
  end

  for _, case in ipairs {
    { "by the minute", { rpm = 600, tpm = 90000 }, 200, 0.01, 100 },
    { "by the day", { rpd = 10000, tpm = 40000 }, 200, 0.1, 50 },
    { "in Anthropic's words", { rpm = 50, itpm = 40000, headers = "anthropic" }, 100, 0.2, 500 },
    { "in Azure's words", { rpm = 600, tpm = 60000, headers = "azure" }, 200, 0.02, 100 },
    { "in Anthropic's words, far from them", { rpm = 50, itpm = 30000, otpm = 8000, headers = "anthropic" }, 20, 0.5,
      50 },
    { "in Anthropic's words, of a large quota", { rpm = 2000, itpm = 800000, headers = "anthropic" }, 100, 0.1, 100 },
    { "in the IETF's words", { rpm = 100, headers = "ratelimit" }, 50, 0.5 },
    { "in the IETF's words, of two dimensions", { rpm = 600, tpm = 9000, headers = "ratelimit" }, 400, 0.05, 30 },
  } do
    it("has the limits that answers told " .. case[1], function()
      local fitted = cassette.fit(made.tape(limited(case[2], case[3], case[4], case[5])))
      local options = loaded(fitted)
      local expected = { headers = case[2].headers or "openai" }
      for name, value in pairs(case[2]) do expected[name] = value end
      assert.same(expected, options.rate_limit)
      assert.is_nil(options.errors) -- 429s are the limit's
    end)
  end

  it("takes 429s for errors where nobody told the limit, and says so", function()
    local rows = {}
    for i = 1, 100 do rows[i] = i % 10 == 0 and { status = 429, headers = { ["retry-after"] = "2" } } or {} end
    local fitted = cassette.fit(made.tape(rows))
    assert.same({ { status = 429, probability = 0.1, retry_after = 2, latency = { law = "constant", seconds = 0.1 } } },
      loaded(fitted).errors)
    assert.is_truthy(fitted.hosts[1].notes[1]:find "^10 answers 429 without headers")
  end)

  it("has errors that fail faster than answers come", function()
    local rows = {}
    for i = 1, 100 do rows[i] = i % 2 == 0 and { status = 503, seconds = 0 } or { seconds = 1 } end
    local options = loaded(cassette.fit(made.tape(rows)))
    assert.same({ 1, 0 }, { options.latency.seconds, options.errors[1].latency.seconds })
  end)

  it("counts sends that were lost and made again unseen", function()
    local rows = {}
    for i = 1, 95 do rows[i] = { sends = i <= 4 and 2 or 1 } end
    rows[96] = { sends = 2, error = { kind = "receive", phase = "first_byte", sent = "maybe", after = 0.2 } }
    local host = cassette.fit(made.tape(rows)).hosts[1]
    assert.same({ 6, 6 / 101 }, { host.dropped, host.drop })
  end)

  it("leaves out names that were not found and certificates that were not trusted, and says so", function()
    local host = cassette.fit(made.tape { {}, { error = { kind = "dns", phase = "dns", sent = "no", after = 0 } },
      { error = { kind = "tls", phase = "tls", sent = "no", after = 0 } } }).hosts[1]
    assert.same({ 0, 0 }, { host.refuse, host.drop })
    assert.is_truthy(host.notes[1]:find "^2 requests found no address or failed in TLS")
  end)

  it("finds the window that explains the 429s, and says when no limit does", function()
    local fitted = cassette.fit(made.tape(limited({ rpm = 600, window = 1 }, 400, 0.01)))
    assert.same({ rpm = 600, window = 1, headers = "openai" }, loaded(fitted).rate_limit)
    assert.is_truthy(fitted:world():find("window = 1 explains the 429s best", 1, true))
    local rows = limited({ rpm = 6000 }, 40, 1)
    for i = 1, 20 do rows[i].status = 429 end
    assert.is_truthy(cassette.fit(made.tape(rows)):world():find("there were 20 x 429, these limits give 0", 1, true))
  end)

  it("says that a host told several limits", function()
    local rows = {}
    for i = 1, 20 do rows[i] = { headers = { ["x-ratelimit-limit-requests"] = i % 2 == 0 and "500" or "5000" } } end
    assert.is_truthy(cassette.fit(made.tape(rows)):world():find("several limits of requests (500, 5000)", 1, true))
  end)

  it("has steps that do not count as distance, and a constant that tells its spread", function()
    local rows = {}
    for i = 1, 2000 do rows[i] = { seconds = i % 2 == 0 and 0.05 or 0.5 } end
    local latency = cassette.fit(made.tape(rows)).hosts[1].latency
    assert.equal("empirical", latency.spec.law)
    assert.is_true(latency.distance < 0.01)
    local text = cassette.fit(made.tape { { seconds = 0.1 }, { seconds = 0.1001 } }):report()
    assert.is_truthy(text:find("constant: 100 ms, the 2 values differ by at most 0.1 ms", 1, true))
  end)

  it("cannot be had of nothing", function()
    assert.has_error(function() cassette.fit(made.tape {}) end, "cassette.jsonl: has no requests to fit a world to")
    assert.has_error(function() cassette.fit "/no/such.jsonl" end,
      "cannot read /no/such.jsonl: No such file or directory")
  end)

  it("comes out of neap lab fit, and goes into neap sim #real", function()
    local path = tmp.write(dir .. "/c.jsonl", made.text { { seconds = 0.25 }, { seconds = 0.25 } })
    local run = child.run { "lab", "fit", path }
    assert.same({ 0, true }, { run.code, run.err:find("^fitted from c.jsonl, 2 requests") ~= nil })
    local world = tmp.write(dir .. "/world.lua", run.out)
    local script = tmp.write(dir .. "/script.lua", [[
      local neap = require "neap"
      assert(neap.http.client():get "https://api.test/x")
      print(neap.now())
    ]])
    assert.equal("0.25\n", child.run({ "sim", "--world", world, script }).out)
    run = child.run { "lab", "fit", world }
    assert.same({ 2, "", "neap: lab: " .. world .. ":1: is no cassette of neap run --record\n" },
      { run.code, run.out, run.err })
    assert.equal(2, child.run({ "lab", "fit" }).code)
  end)
end)
