-- SPDX-License-Identifier: MIT
-- The laws against their closed forms, 200,000 draws each, and draws at keys.
local core = require "neap.core"
local latencies = require "neap.world.latency"
local streams = require "neap.world.streams"

local N = 200000

--- Draws at the keys 1 to n, and in order.
local function keyed(spec, seed, n)
  local source, sample = streams.new(seed, core.rng), latencies.sampler(spec)
  local draw, values = source:stream "latency", {}
  for i = 1, n do
    source:seek(i, 1)
    values[i] = sample(draw)
  end
  return values
end

local function ordered(spec, seed, n)
  local draw, sample, values = streams.new(seed, core.rng):stream "latency", latencies.sampler(spec), {}
  for i = 1, n do values[i] = sample(draw) end
  return values
end

local function mean(values)
  local sum = 0
  for i = 1, #values do sum = sum + values[i] end
  return sum / #values
end

local function within(expected, actual, bound, what)
  assert.message(("%s: expected %g +- %g, got %g"):format(what, expected, bound, actual))
    .is_true(math.abs(actual - expected) <= bound)
end

--- Mean within 4 standard errors, and the share of values below each quantile too.
local function check(values, law)
  within(law.mean, mean(values), 4 * law.deviation / math.sqrt(#values), "mean")
  for p, quantile in pairs(law.quantiles) do
    local below = 0
    for i = 1, #values do if values[i] <= quantile then below = below + 1 end end
    within(p, below / #values, 4 * math.sqrt(p * (1 - p) / #values), ("share below %g"):format(quantile))
  end
end

local e = math.exp
local LAWS = {
  uniform = { spec = { law = "uniform", min = 0.05, max = 0.25 }, mean = 0.15, deviation = 0.2 / math.sqrt(12),
    quantiles = { [0.5] = 0.15, [0.99] = 0.248 } },
  exponential = { spec = { law = "exponential", mean = 0.3 }, mean = 0.3, deviation = 0.3,
    quantiles = { [0.5] = 0.3 * math.log(2), [0.99] = 0.3 * math.log(100) } },
  lognormal = { spec = { law = "lognormal", median = 0.1, sigma = 0.8 }, mean = 0.1 * e(0.32),
    deviation = 0.1 * e(0.32) * math.sqrt(e(0.64) - 1),
    quantiles = { [0.5] = 0.1, [0.841344746] = 0.1 * e(0.8), [0.99] = 0.1 * e(0.8 * 2.326347874) } },
  pareto = { spec = { law = "pareto", min = 0.1, alpha = 5 }, mean = 0.125, deviation = 0.125 / math.sqrt(15),
    quantiles = { [0.5] = 0.1 * 2 ^ 0.2, [0.99] = 0.1 * 100 ^ 0.2 } },
  empirical = { spec = { law = "empirical", samples = { 4, 1, 2, 3 }, scale = 0.1 }, mean = 0.25,
    deviation = math.sqrt(0.0125), quantiles = { [0.25] = 0.15, [0.5] = 0.25, [0.75] = 0.35 } },
}

describe("a law's draws", function()
  for name, law in pairs(LAWS) do
    it("have the mean and the quantiles of " .. name .. ", in order and at keys", function()
      check(ordered(law.spec, 5, N), law)
      check(keyed(law.spec, 5, N), law)
    end)
  end

  it("at keys are those of the operation and the attempt, whoever came before", function()
    local spec = LAWS.lognormal.spec
    local sample = latencies.sampler(spec)
    local function table_of(order)
      local source = streams.new(9, core.rng)
      local draw, values = source:stream "latency", {}
      for _, key in ipairs(order) do
        source:seek(key[1], key[2])
        values[key[1] .. "/" .. key[2]] = sample(draw)
        source:seek(nil)
      end
      return values
    end
    local forward = table_of { { 1, 1 }, { 1, 2 }, { 2, 1 }, { "a", 1 }, { "a", 2 } }
    local backward = table_of { { "a", 2 }, { "a", 1 }, { 2, 1 }, { 1, 2 }, { 1, 1 } }
    assert.same(forward, backward)
    assert.not_equal(forward["1/1"], forward["1/2"])
    assert.not_equal(forward["1/1"], forward["2/1"])
  end)

  it("of an operation's attempts are not related", function()
    local source = streams.new(3, core.rng)
    local draw, products, n = source:stream "error", 0, 50000
    for i = 1, n do
      source:seek(i, 1)
      local first = draw()
      source:seek(i, 2)
      products = products + (first - 0.5) * (draw() - 0.5)
    end
    within(0, products / n, 4 / 12 / math.sqrt(n), "covariance")
  end)

  it("of a purpose do not move those of another", function()
    local source = streams.new(3, core.rng)
    local latency, other = source:stream "latency", source:stream "error"
    source:seek(7, 1)
    local first, second = latency(), latency()
    source:seek(7, 1)
    assert.equal(first, latency())
    other()
    assert.equal(second, latency())
  end)

  it("differ by seed and by host", function()
    local seen = {}
    for _, host in ipairs { "a.example.com", "b.example.com" } do
      for seed = 1, 3 do
        local value = keyed({ law = "uniform", min = 0, max = 1 }, streams.host_seed(seed, host), 1)[1]
        assert.is_nil(seen[value])
        seen[value] = true
      end
    end
    assert.equal(streams.host_seed(4, "x"), streams.host_seed(4, "x"))
  end)
end)

describe("an empirical law", function()
  it("is refused with one sentence when it is wrong", function()
    local cases = {
      { {}, "needs samples, an array of numbers, or a file" },
      { { samples = {} }, "needs samples" },
      { { samples = { 1, -1 } }, "sample 2 must be at least 0" },
      { { samples = { 1, "x" } }, "sample 2 must be a number" },
      { { samples = { 1 }, scale = -1 }, "scale must be a number of at least 0" },
      { { samples = { 1 }, sampels = 1 }, "did you mean 'samples'?" },
    }
    for _, case in ipairs(cases) do
      case[1].law = "empirical"
      local message = latencies.problem(case[1])
      assert.message(tostring(message)).truthy(message:find(case[2], 1, true))
    end
  end)
end)
