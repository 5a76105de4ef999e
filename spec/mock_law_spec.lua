-- SPDX-License-Identifier: MIT
local core = require "neap.core"
local laws = require "neap.mock.law"
local limits = require "neap.mock.limits"
local syntax = require "neap.mock.syntax"

--- Independent streams for a seed, as the mock makes them.
local function streams(seed)
  local numbers = { latency = 1, error = 2, drop = 3, hang = 4 }
  return function(name)
    local rng = core.rng(seed, numbers[name])
    return function() return rng:double() end
  end
end

local function sorted_samples(text, n)
  local sample = laws.sampler(assert(syntax.latency(text)))
  local rng = core.rng(7, 1)
  local function draw() return rng:double() end
  local values = {}
  for i = 1, n do values[i] = sample(draw) end
  table.sort(values)
  return values
end

local function mean(values)
  local sum = 0
  for _, value in ipairs(values) do sum = sum + value end
  return sum / #values
end

local function near(expected, actual, tolerance)
  assert.message(("expected about %g, got %g"):format(expected, actual))
    .is_true(math.abs(actual - expected) <= tolerance * expected)
end

describe("a latency law", function()
  it("is constant when fixed", function()
    assert.same({ 0.12, 0.12, 0.12 }, sorted_samples("fixed:0.12", 3))
  end)

  it("stays within the bounds of uniform", function()
    local values = sorted_samples("uniform:min=0.05,max=0.2", 10000)
    assert.is_true(values[1] >= 0.05 and values[#values] < 0.2)
    near(0.125, mean(values), 0.02)
  end)

  it("has the median and the spread of lognormal", function()
    local values = sorted_samples("lognormal:median=0.1,sigma=0.8", 20000)
    near(0.1, values[10000], 0.03)
    near(0.1 * math.exp(0.8), values[math.floor(20000 * 0.8413)], 0.05)
    near(0.1 * math.exp(0.32), mean(values), 0.05)
  end)

  it("has the mean of exponential", function()
    near(0.3, mean(sorted_samples("exponential:0.3", 20000)), 0.05)
  end)

  it("is fixed at the median when sigma is 0", function()
    assert.same({ 0.1, 0.1 }, sorted_samples("lognormal:median=0.1,sigma=0", 2))
  end)
end)

describe("the mock's flags", function()
  it("are read as written", function()
    assert.same({ law = "fixed", seconds = 0.12 }, syntax.latency "fixed:0.12")
    assert.same({ law = "uniform", min = 0, max = 2 }, syntax.latency "uniform:0,2")
    assert.same({ law = "lognormal", median = 0.1, sigma = 0.8 }, syntax.latency "lognormal:sigma=0.8,median=0.1")
    assert.same({ status = 503, probability = 0.02 }, syntax.error_rule "503:0.02")
    assert.same({ status = 429, probability = 1, retry_after = 2.5 }, syntax.error_rule "429:1,retry_after=2.5")
    assert.same({ rpm = 600, tpm = 90000 }, syntax.rate_limit "rpm=600,tpm=90000")
    assert.same({ rpm = 600, window = 1 }, syntax.rate_limit "rpm=600, window=1")
    assert.equal(0.001, syntax.probability "1e-3")
  end)

  local wrong = {
    { "latency", "0.1", "'0.1' is no latency; write fixed:0.12" },
    { "latency", "fixed:fast", "seconds needs a number, got 'fast'" },
    { "latency", "fixed:", "fixed needs seconds" },
    { "latency", "fixed:-1", "seconds must be at least 0" },
    { "latency", "lognorml:median=1,sigma=1", "no latency law 'lognorml'; did you mean 'lognormal'?" },
    { "latency", "lognormal:median=0.1", "lognormal needs sigma" },
    { "latency", "lognormal:median=0.1,sgma=1", "'sgma=1' is not understood; did you mean 'sigma'?" },
    { "latency", "lognormal:median=0,sigma=1", "median must be above 0" },
    { "latency", "uniform:min=2,max=1", "max to be at least min" },
    { "latency", "fixed:1,2", "'2' is not understood" },
    { "error_rule", "503", "no STATUS:PROBABILITY" },
    { "error_rule", "503:2", "'2' is no probability from 0 to 1" },
    { "error_rule", "200:0.1", "status 200 is not an error" },
    { "error_rule", "503:0.1,retry=1", "'retry=1' is not understood" },
    { "probability", "nan", "no probability" },
    { "probability", "-0.1", "no probability" },
    { "probability", "1%", "no probability" },
    { "rate_limit", "600", "'600' is not understood" },
    { "rate_limit", "rpn=600", "did you mean 'rpm'?" },
    { "rate_limit", "window=5", "limits nothing" },
    { "rate_limit", "rpm=0", "rpm must be above 0" },
  }
  for _, case in ipairs(wrong) do
    it(("refuse %s %s with one clear sentence"):format(case[1], case[2]), function()
      local value, message = syntax[case[1]](case[2])
      assert.is_nil(value)
      assert.message(message).truthy(message:find(case[3], 1, true))
      assert.falsy(message:find "\n")
    end)
  end
end)

describe("a law", function()
  local function decide(spec, seed, n, tokens)
    local law, fates = laws.new(spec, streams(seed)), {}
    for i = 1, n do fates[i] = law:decide(i, tokens or 0) end
    return fates
  end

  local function count(fates, kind, status)
    local n = 0
    for _, fate in ipairs(fates) do
      if fate.kind == kind and (not status or fate.status == status) then n = n + 1 end
    end
    return n
  end

  local lognormal = { law = "lognormal", median = 0.1, sigma = 0.8 }
  local flaky = { latency = lognormal, drop = 0.1, hang = 0.05,
    errors = { { status = 503, probability = 0.2 }, { status = 429, probability = 0.1 } } }

  it("answers everything, at once, when it is told nothing", function()
    assert.same({ { kind = "answer", latency = 0 } }, decide({}, 1, 1))
  end)

  it("repeats itself for the same seed and differs for another", function()
    assert.same(decide(flaky, 5, 200), decide(flaky, 5, 200))
    assert.not_same(decide(flaky, 5, 200), decide(flaky, 6, 200))
  end)

  it("keeps everybody's latency when failures are switched on", function()
    local calm, rough = decide({ latency = lognormal }, 3, 300), decide(flaky, 3, 300)
    for i = 1, 300 do assert.equal(calm[i].latency, rough[i].latency) end
  end)

  it("hits the probabilities that it was given", function()
    local fates = decide(flaky, 11, 20000)
    near(0.05 * 20000, count(fates, "hang"), 0.1)
    near(0.95 * 0.1 * 20000, count(fates, "drop"), 0.1)
    near(0.95 * 0.9 * 0.2 * 20000, count(fates, "error", 503), 0.1)
    near(0.95 * 0.9 * 0.1 * 20000, count(fates, "error", 429), 0.1)
  end)

  it("gives a 429 a Retry-After, a 503 only when told to", function()
    local function of(rule) return decide({ errors = { rule } }, 1, 1)[1].retry_after end
    assert.equal(1, of { status = 429, probability = 1 })
    assert.equal(7, of { status = 429, probability = 1, retry_after = 7 })
    assert.is_nil(of { status = 503, probability = 1 })
    assert.equal(2, of { status = 503, probability = 1, retry_after = 2 })
  end)

  it("turns away what is over the rate limit, before anything else, and says for how long", function()
    local law = laws.new({ rate_limit = { rpm = 60, window = 2 }, hang = 1, latency = lognormal }, streams(1))
    assert.equal("hang", law:decide(10, 0).kind)
    assert.equal("hang", law:decide(10, 0).kind)
    local fate = law:decide(10.25, 0)
    assert.same({ kind = "limit", latency = 0, status = 429, dimension = "requests", retry_after = 0.75 }, fate)
    assert.equal("hang", law:decide(11, 0).kind)
  end)

  it("has no Retry-After for what can never pass", function()
    local fate = decide({ rate_limit = { tpm = 60, window = 1 } }, 1, 1, 2)[1]
    assert.same({ "limit", "tokens" }, { fate.kind, fate.dimension })
    assert.is_nil(fate.retry_after)
  end)
end)

describe("the mock's rate limits", function()
  it("take from requests and tokens together or not at all", function()
    local l = limits.new { rpm = 60, tpm = 600, window = 10 }
    assert.equal(0, (l:take(0, 100)))
    local wait, dimension = l:take(0, 50)
    assert.same({ 5, "tokens" }, { wait, dimension })
    assert.equal(9, l.requests.level)
    assert.equal(0, (l:take(5, 50)))
  end)

  it("fill up again with time, and not beyond their capacity", function()
    local l = limits.new { rpm = 60, window = 3 }
    for _ = 1, 3 do assert.equal(0, (l:take(0, 0))) end
    assert.equal(1, (l:take(0, 0)))
    for _ = 1, 3 do assert.equal(0, (l:take(1000, 0))) end
    assert.equal(1, (l:take(1000, 0)))
  end)

  it("let one request pass even when a window holds less than one", function()
    local l = limits.new { rpm = 1, window = 1 }
    assert.equal(0, (l:take(0, 0)))
    assert.equal(60, (l:take(0, 0)))
  end)

  it("tell limit, remaining and reset as OpenAI does", function()
    local l, headers = limits.new { rpm = 600, tpm = 60000 }, {}
    l:take(0, 1500)
    l:add_headers(0, headers)
    assert.same({
      ["x-ratelimit-limit-requests"] = "600", ["x-ratelimit-remaining-requests"] = "599",
      ["x-ratelimit-reset-requests"] = "100ms", ["x-ratelimit-limit-tokens"] = "60000",
      ["x-ratelimit-remaining-tokens"] = "58500", ["x-ratelimit-reset-tokens"] = "1.5s",
    }, headers)
  end)

  it("write durations as OpenAI does", function()
    local cases = { [0] = "0ms", [0.0121] = "13ms", [1] = "1s", [8.64] = "8.64s", [59.9999] = "1m0s", [360] = "6m0s",
      [90.5] = "1m30.5s", [3600] = "1h0m0s" }
    for seconds, text in pairs(cases) do assert.equal(text, limits.duration(seconds)) end
  end)
end)
