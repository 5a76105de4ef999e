-- SPDX-License-Identifier: MIT
local brownouts = require "neap.world.brownout"
local core = require "neap.core"
local latencies = require "neap.world.latency"
local laws = require "neap.world.law"
local limits = require "neap.world.limits"
local streams = require "neap.world.streams"
local measure = require "spec.support.measure"

local about = measure.about

--- Independent streams for a seed, as a mock and an upstream make them.
local function stream_of(seed)
  local source = streams.new(seed, core.rng)
  return function(name) return source:stream(name) end
end

local function sorted_samples(spec, n)
  local sample = latencies.sampler(spec)
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

describe("a latency law", function()
  it("is constant when fixed", function()
    assert.same({ 0.12, 0.12, 0.12 }, sorted_samples({ law = "fixed", seconds = 0.12 }, 3))
  end)

  it("stays within the bounds of uniform", function()
    local values = sorted_samples({ law = "uniform", min = 0.05, max = 0.2 }, 10000)
    assert.is_true(values[1] >= 0.05 and values[#values] < 0.2)
    about(0.125, mean(values), 0.02)
  end)

  it("has the median and the spread of lognormal", function()
    local values = sorted_samples({ law = "lognormal", median = 0.1, sigma = 0.8 }, 20000)
    about(0.1, values[10000], 0.03)
    about(0.1 * math.exp(0.8), values[math.floor(20000 * 0.8413)], 0.05)
    about(0.1 * math.exp(0.32), mean(values), 0.05)
  end)

  it("has the mean of exponential", function()
    about(0.3, mean(sorted_samples({ law = "exponential", mean = 0.3 }, 20000)), 0.05)
  end)

  it("has the least value and the tail of pareto", function()
    local values = sorted_samples({ law = "pareto", min = 0.1, alpha = 3 }, 20000)
    assert.is_true(values[1] >= 0.1)
    about(0.1 * 2 ^ (1 / 3), values[10000], 0.02)
    about(0.1 * 100 ^ (1 / 3), values[19800], 0.1)
    about(0.15, mean(values), 0.03)
  end)

  it("may be written as a number, or as constant", function()
    assert.same({ 2, 2 }, sorted_samples(2, 2))
    assert.same({ 2, 2 }, sorted_samples({ law = "constant", seconds = 2 }, 2))
  end)

  it("is refused with one sentence when it is wrong", function()
    local cases = {
      { { law = "gauss" }, "there is no latency law 'gauss'; write fixed, constant" },
      { { law = "fixed" }, "fixed needs seconds, a number" },
      { { law = "uniform", min = 2, max = 1 }, "uniform needs max to be at least min" },
      { { law = "pareto", min = 0.1, alpha = 0.001 }, "alpha must be at least 0.1" },
      { { law = "lognormal", median = 1, sigma = 1000 }, "sigma must be at most 10" },
      { { law = "fixed", seconds = 0 / 0 }, "seconds must be finite" },
      { { law = "lognormal", median = 1, sgma = 1 }, "lognormal has no 'sgma'; did you mean 'sigma'?" },
      { "fixed", "needs a law" },
    }
    for _, case in ipairs(cases) do
      local ok, message = pcall(latencies.sampler, case[1])
      assert.is_false(ok)
      assert.message(message).truthy(message:find(case[2], 1, true))
    end
  end)

  it("draws nothing longer than thirty years", function()
    local heavy = { { law = "pareto", min = 1, alpha = 0.1 }, { law = "lognormal", median = 1e8, sigma = 10 } }
    for _, law in ipairs(heavy) do
      local samples = sorted_samples(law, 1000)
      assert.equal(1e9, samples[#samples])
    end
  end)

  it("is fixed at the median when sigma is 0", function()
    assert.same({ 0.1, 0.1 }, sorted_samples({ law = "lognormal", median = 0.1, sigma = 0 }, 2))
  end)
end)

describe("a law", function()
  local function decide(spec, seed, n, tokens)
    local law, fates = laws.new(spec, stream_of(seed)), {}
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
    local fate = decide({}, 1, 1)[1]
    assert.same({ "answer", 0, nil }, { fate.kind, fate.latency, fate.status })
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
    about(0.05 * 20000, count(fates, "hang"), 0.1)
    about(0.95 * 0.1 * 20000, count(fates, "drop"), 0.1)
    about(0.95 * 0.9 * 0.2 * 20000, count(fates, "error", 503), 0.1)
    about(0.95 * 0.9 * 0.1 * 20000, count(fates, "error", 429), 0.1)
  end)

  it("gives a 429 a Retry-After, a 503 only when told to", function()
    local function of(rule) return decide({ errors = { rule } }, 1, 1)[1].retry_after end
    assert.equal(1, of { status = 429, probability = 1 })
    assert.equal(7, of { status = 429, probability = 1, retry_after = 7 })
    assert.is_nil(of { status = 503, probability = 1 })
    assert.equal(2, of { status = 503, probability = 1, retry_after = 2 })
  end)

  it("turns away what is over the rate limit, before anything else, and says for how long", function()
    local law = laws.new({ rate_limit = { rpm = 60, window = 2 }, hang = 1, latency = lognormal }, stream_of(1))
    assert.equal("hang", law:decide(10, 0).kind)
    assert.equal("hang", law:decide(10, 0).kind)
    local fate = law:decide(10.25, 0)
    assert.same({ kind = "limit", latency = 0, status = 429, dimension = "requests", retry_after = 0.75 }, fate)
    assert.equal("hang", law:decide(11, 0).kind)
  end)

  it("turns away with 429 what finds no slot, and says for how long if it was told", function()
    local law = laws.new({ capacity = 1, retry_after = 3, latency = 2 }, stream_of(1))
    local first = law:arrive(10, 0)
    assert.same({ "answer", "serving", 12 }, { first.kind, first.state, first.ends })
    assert.same({ kind = "over", latency = 0, status = 429, retry_after = 3 }, law:arrive(11, 0))
    law:leave(12, first)
    assert.equal("serving", law:arrive(12, 0).state)
  end)

  it("takes no slot for what is over the rate limit", function()
    local law = laws.new({ capacity = 5, rate_limit = { rpm = 60, window = 1 } }, stream_of(1))
    law:arrive(0, 0)
    assert.equal("limit", law:arrive(0, 0).kind)
    assert.equal(1, law.capacity.busy)
  end)

  it("keeps a slot for what hangs, until the client leaves, also when work goes on without one", function()
    local law = laws.new({ capacity = 1, hang = 1, on_disconnect = "continue" }, stream_of(1))
    local fate = law:arrive(0, 0)
    assert.same({ "hang", math.huge }, { fate.kind, fate.ends })
    assert.equal("over", law:arrive(100, 0).kind)
    law:leave(100, fate, true)
    assert.equal(0, law.capacity.busy)
  end)

  it("draws the same for everybody whether there is a capacity and a brownout or not", function()
    local plain = decide(flaky, 8, 300)
    local law = laws.new({ latency = lognormal, drop = 0.1, hang = 0.05, errors = flaky.errors, capacity = 3,
      over = "queue", brownout = { latency = 2, error = 1 } }, stream_of(8))
    for i = 1, 300 do
      local fate = law:arrive(i, 0)
      assert.equal(plain[i].latency, fate.latency)
      law:leave(i + 0.5, fate)
    end
  end)

  it("settles a brownout when work begins: by the load then, not at arrival", function()
    local law = laws.new({ capacity = 2, over = "queue", latency = 1, brownout = { knee = 1, slope = 3 } },
      stream_of(1))
    local a, b, c = law:arrive(0, 0), law:arrive(0, 0), law:arrive(0, 0)
    assert.same({ 1, 4, "queued" }, { a.ends, b.ends, c.state })
    law:leave(1, a)
    assert.same({ 1, 5 }, { c.began, c.ends })
    law:leave(5, b)
    law:leave(5, c)
    assert.equal(6, law:arrive(5, 0).ends)
  end)

  it("fails in a brownout what would have been answered, for its share and its time", function()
    local law = laws.new({ brownout = { error = 0.25, status = 529, from = 10, to = 20 } }, stream_of(2), 100)
    local failed = 0
    for i = 1, 4000 do
      assert.equal("answer", law:arrive(109, 0).kind)
      assert.equal("answer", law:arrive(120, 0).kind)
      local fate = law:arrive(110 + i / 401, 0)
      if fate.kind == "error" then
        assert.equal(529, fate.status)
        failed = failed + 1
      end
    end
    about(1000, failed, 0.1)
  end)

  it("has no Retry-After for what can never pass", function()
    local fate = decide({ rate_limit = { tpm = 60, window = 1 } }, 1, 1, 2)[1]
    assert.same({ "limit", "tokens" }, { fate.kind, fate.dimension })
    assert.is_nil(fate.retry_after)
  end)
end)

describe("rate limits", function()
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

describe("a brownout", function()
  it("is linear in the load beyond the knee", function()
    local b = brownouts.new({ knee = 50, slope = 2 }, 0)
    assert.same({ 1, 1, 2, 3 }, { b:factor(0, 1), b:factor(0, 50), b:factor(0, 75), b:factor(0, 100) })
  end)

  it("multiplies the rules that are in force", function()
    local b = brownouts.new({ { knee = 10 }, { latency = 3, from = 5, to = 6 }, { latency = 2 } }, 100)
    assert.same({ 4, 12, 4, 2 }, { b:factor(104, 20), b:factor(105, 20), b:factor(106, 20), b:factor(106, 10) })
  end)

  it("fails with the probabilities of its rules, one after the other", function()
    local b = brownouts.new({ { error = 0.5, status = 500 }, { error = 0.5 } }, 0)
    assert.same({ 500, 503 }, { b:failure(0, 0.49), b:failure(0, 0.51) })
    assert.is_nil(b:failure(0, 0.76))
  end)
end)

describe("a world's randomness", function()
  local function draws(source, name, n)
    local draw, list = source:stream(name), {}
    for i = 1, n do list[i] = draw() end
    return list
  end

  it("has streams that are as they were when others are read more or less", function()
    local a, b = streams.new(5, core.rng), streams.new(5, core.rng)
    draws(b, "error", 100)
    assert.same(draws(a, "latency", 50), draws(b, "latency", 50))
    assert.not_same(draws(a, "latency", 5), draws(a, "drop", 5))
  end)

  it("depends at a key on seed, purpose, id and visit alone", function()
    local function at(seed, noise)
      local source = streams.new(seed, core.rng)
      local latency, luck, list = source:stream "latency", source:stream "drop", {}
      for _, id in ipairs { "a", "b", "a" } do
        source:seek(id)
        for _ = 1, noise do luck() end
        list[#list + 1], list[#list + 2] = latency(), latency()
        source:seek(nil)
        for _ = 1, noise do latency() end
      end
      return list
    end
    local list = at(1, 0)
    assert.same(list, at(1, 3))
    assert.not_same(list, at(2, 0))
    for i = 1, 6 do
      for j = i + 1, 6 do assert.not_equal(list[i], list[j]) end
    end
  end)

  it("is uniform at keys, and its purposes, draws and neighbours are independent", function()
    local source = streams.new(3, core.rng)
    local latency, luck = source:stream "latency", source:stream "drop"
    local n, buckets, products, previous = 40000, {}, { 0, 0, 0 }, 0.5
    for i = 1, n do
      source:seek(i)
      local x, y, z = latency(), latency(), luck()
      assert.is_true(x >= 0 and x < 1)
      local bucket = math.floor(x * 20)
      buckets[bucket] = (buckets[bucket] or 0) + 1
      for k, other in ipairs { y, z, previous } do products[k] = products[k] + (x - 0.5) * (other - 0.5) end
      previous = x
    end
    local chi = 0
    for bucket = 0, 19 do chi = chi + (buckets[bucket] - n / 20) ^ 2 / (n / 20) end
    assert.is_true(chi < 43.8) -- 19 degrees of freedom, 0.1 %
    -- A product of two centred uniform numbers has variance 1/144.
    for _, sum in ipairs(products) do assert.is_true(math.abs(sum) < 4 * math.sqrt(n / 144)) end
  end)
end)
