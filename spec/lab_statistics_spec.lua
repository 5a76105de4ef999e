-- SPDX-License-Identifier: MIT
-- neap.lab's statistics, against closed forms and small examples.
local core = require "neap.core"
local goals = require "neap.lab.goals"
local statistics = require "neap.lab.statistics"

local function stream(seed)
  local rng = core.rng(seed)
  return function() return rng:double() end
end

local function source(seed)
  return statistics.source(function(number) return stream(seed * 1000 + number) end)
end

--- Standard normal numbers (Box and Muller).
local function normals(count, seed)
  local draw, list = stream(seed), {}
  for i = 1, count do list[i] = math.sqrt(-2 * math.log(1 - draw())) * math.cos(2 * math.pi * draw()) end
  return list
end

describe("a percentile of the lab", function()
  it("is the nearest rank", function()
    local sorted = { 10, 20, 30, 40, 50 }
    assert.equal(30, statistics.percentile(sorted, 0.5))
    assert.equal(50, statistics.percentile(sorted, 0.99))
    assert.equal(10, statistics.percentile(sorted, 0))
    assert.equal(20, statistics.percentile(sorted, 0.4))
    assert.is_nil(statistics.percentile({}, 0.5))
  end)

  it("is not one too far where the product is not exact", function()
    local sorted = {}
    for i = 1, 100 do sorted[i] = i end
    assert.equal(29, statistics.percentile(sorted, 0.29))
  end)
end)

describe("the bootstrap of the lab", function()
  it("is as wide as the normal theory says for many values", function()
    local values = normals(200, 5)
    local got = statistics.estimate(values, source(1)(200))
    local variance = 0
    for _, value in ipairs(values) do variance = variance + (value - got.mean) ^ 2 / 199 end
    local half = 1.96 * math.sqrt(variance / 200)
    assert.near(2 * half, got.high - got.low, 0.08 * 2 * half)
    assert.near(got.mean, (got.high + got.low) / 2, 0.1 * half)
  end)

  it("leaves out as much as Student's t and the lost degree of freedom ask for", function()
    -- By hand: the normal share below -sqrt(n / (n - 1)) * t, with t from tables.
    for size, expected in pairs { [6] = 0.002427, [11] = 0.009722, [21] = 0.016281, [101] = 0.023093 } do
      assert.near(expected, statistics.tail(size), 0.015 * expected)
    end
    assert.near(0.025, statistics.tail(1e6), 1e-5)
  end)

  it("contains the true mean in about 95 of 100 experiments, of few values too", function()
    -- The least share: of normal values, and of exponential ones, whose tail few values seldom show.
    for size, least in pairs { [6] = { 0.92, 0.87 }, [10] = { 0.93, 0.9 }, [30] = { 0.94, 0.92 } } do
      local resample, hits = source(2)(size), { 0, 0 }
      for seed = 1, 400 do
        local values = normals(size, 100 + seed)
        local skewed, draw = {}, stream(7000 + seed)
        for i = 1, size do skewed[i] = -math.log(1 - draw()) - 1 end
        for i, list in ipairs { values, skewed } do
          local got = statistics.estimate(list, resample)
          if got.low <= 0 and got.high >= 0 then hits[i] = hits[i] + 1 end
        end
      end
      for i = 1, 2 do
        -- Three standard errors of such a share in 400 experiments are 0.033.
        local share = hits[i] / 400
        assert.is_true(share > least[i] - 0.033 and share < 0.983, ("%d values: %g"):format(size, share))
      end
    end
  end)

  it("of equal values is a point, and of fewer than six has no interval", function()
    local got = statistics.estimate({ 7, 7, 7, 7, 7, 7 }, source(3)(6))
    assert.same({ mean = 7, low = 7, high = 7, count = 6 }, got)
    assert.same({ mean = 3, count = 5 }, statistics.estimate({ 1, 2, 3, 4, 5 }, source(3)(5)))
  end)

  it("gives the same interval whatever was asked for before", function()
    local first, second = source(4), source(4)
    first(10)
    local values = normals(20, 1)
    assert.same(statistics.estimate(values, first(20)), statistics.estimate(values, second(20)))
  end)
end)

describe("a difference paired by seed", function()
  local function runs(values)
    local list = {}
    for seed, value in pairs(values) do list[#list + 1] = { seed = seed, p99 = value } end
    return list
  end

  it("sees what spread between seeds would hide", function()
    local a, b = {}, {}
    for seed, value in ipairs(normals(30, 9)) do a[seed], b[seed] = 100 * value + 1, 100 * value end
    local got = statistics.difference(runs(a), runs(b), "p99", source(1))
    assert.near(1, got.mean, 1e-9)
    assert.near(1, got.low, 1e-9)
    assert.is_false(statistics.may_be_none(got))
  end)

  it("leaves out seeds that one side has no value of", function()
    local a, b = runs { [1] = 5, [2] = 6, [3] = 7 }, runs { [1] = 4, [3] = 5, [4] = 1 }
    local got = statistics.difference(a, b, "p99", source(1))
    assert.equal(2, got.count)
    assert.equal(1.5, got.mean)
    assert.is_nil(statistics.difference(a, runs {}, "p99", source(1)))
  end)

  it("may be none where the interval has 0, or there is none", function()
    assert.is_true(statistics.may_be_none { mean = 1, low = -0.1, high = 2 })
    assert.is_true(statistics.may_be_none { mean = 0, low = 0, high = 0 })
    assert.is_true(statistics.may_be_none { mean = 3 })
    assert.is_true(statistics.may_be_none(nil))
    assert.is_false(statistics.may_be_none { mean = -1, low = -2, high = -0.1 })
  end)
end)

describe("goals and constraints of the lab", function()
  it("are read from a text", function()
    local list = assert(goals.goals "max success, min completion")
    assert.same({ "max", "success", "min", "completion_time" },
      { list[1].way, list[1].metric.key, list[2].way, list[2].metric.key })
    local bounds = assert(goals.constraints "amplification<1.2, success >= 99 %")
    assert.same({ "<", 1.2, ">=", 0.99 }, { bounds[1].sign, bounds[1].bound, bounds[2].sign, bounds[2].bound })
    assert.same({}, goals.constraints(nil))
  end)

  it("are refused in one sentence", function()
    local function refused(parse, text, wanted)
      local list, message = parse(text)
      assert.is_nil(list)
      assert.matches(wanted, message)
    end
    refused(goals.goals, "fast", "goal 'fast' must be 'min' or 'max'")
    refused(goals.goals, "min sucess", "did you mean 'success'")
    refused(goals.goals, "", "a goal is needed")
    refused(goals.constraints, "success=1", "constraint 'success=1' must be")
    refused(goals.constraints, "succes>1", "did you mean 'success'")
    refused(goals.constraints, "p99<x", "must be a measure")
    refused(goals.constraints, "success>99", "success is a share, from 0 to 1; or write it in per cent")
    refused(goals.constraints, "success>101%", "success is a share")
  end)

  it("measure how far off a value is", function()
    local bound = assert(goals.constraints "p99<2")[1]
    assert.equal(0, goals.miss(bound, 1.9))
    assert.near(0.5, goals.miss(bound, 3), 1e-12)
    assert.is_true(goals.miss(bound, 2) > 0)
    assert.equal(math.huge, goals.miss(bound, nil))
  end)

  it("are not decided by the rounding of a mean", function()
    local function miss(text, value) return goals.miss(assert(goals.constraints(text))[1], value) end
    local mean = (0.1 + 0.2) / 3 -- a little more than 0.1
    assert.is_true(mean > 0.1)
    assert.equal(0, miss("p99<=0.1", mean))
    assert.is_true(miss("p99<0.1", 0.1 - 1e-17) > 0)
    assert.is_true(miss("p99<0.1", 0.1 * (1 - 1e-15)) > 0)
    assert.equal(0, miss("p99<0.1", 0.1 * (1 - 1e-9)))
  end)

  it("put feasibility before any goal", function()
    local want, bounds = goals.goals "min p99, max success", goals.constraints "success>0.9"
    local fast, good = { p99 = 1, success = 0.5 }, { p99 = 9, success = 0.95 }
    assert.is_true(goals.is_better(want, bounds, good, fast))
    assert.is_false(goals.is_better(want, bounds, fast, good))
    assert.is_true(goals.is_better(want, {}, fast, good))
    assert.is_true(goals.is_better(want, {}, { p99 = 1, success = 0.6 }, fast))
    assert.is_false(goals.is_better(want, {}, { success = 1 }, fast))
  end)
end)
