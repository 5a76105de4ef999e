-- SPDX-License-Identifier: MIT
-- The delay of neap.hedge as the live percentile of what the calls took.
local core = require "neap.core"
local errors = require "neap.error"
local hedge = require "neap.hedge"
local neap = require "neap"
local rolling = require "neap.hedge.rolling"
local hedges = require "spec.support.hedge"

local generous, sends_of = hedges.generous, hedges.sends_of

describe("hedge.rolling", function()
  it("is the percentile of the last one to one and a half windows, or up to 1.1 % more", function()
    local live, all, now = rolling.new(10, 100), {}, 0
    for i = 1, 20000 do
      now = now + 0.003
      local value = math.exp(core.random() * 6 - 5)
      live:add(now, value)
      all[i] = { at = now, value = value }
      if i % 2500 == 0 then
        local count, recent = live:count(now), {}
        for k = i - count + 1, i do recent[#recent + 1] = all[k].value end
        local age = now - all[i - count + 1].at
        if now > 15 then assert.is_true(age >= 10 - 0.01 and age <= 15 + 0.01, "age " .. age) end
        table.sort(recent)
        for _, share in ipairs { 0.5, 0.9, 0.99 } do
          -- Another share is never answered from what was computed for the last one.
          local ratio = live:percentile(now, share) / recent[math.ceil(share * count)]
          assert.is_true(ratio >= 1 and ratio <= 1.011, "ratio " .. ratio)
        end
      end
    end
  end)

  it("follows within a sixteenth of the values without being computed each time", function()
    local live = rolling.new(1000, 10)
    for _ = 1, 100 do live:add(0, 1) end
    assert.near(1, live:percentile(0, 0.9), 0.012)
    for _ = 1, 60 do live:add(0, 8) end
    assert.near(8, live:percentile(0, 0.9), 0.1)
  end)

  it("is unknown below the least number of values, and looks back at so many however slowly they come", function()
    local live = rolling.new(10, 10)
    for i = 1, 9 do live:add(i * 60, 0.5) end
    assert.is_nil(live:percentile(600, 0.99))
    for i = 10, 100 do
      live:add(i * 60, 0.5)
      assert.near(0.5, live:percentile(i * 60, 0.99), 0.0056)
      assert.is_true(live:count(i * 60) >= 10 and live:count(i * 60) <= 30)
    end
  end)

  it("takes zero and absurd values for its least and greatest", function()
    local live = rolling.new(10, 1)
    live:add(1, 0)
    live:add(1, 1e12)
    assert.near(1e-6, live:percentile(1, 0.5), 1e-7)
    assert.near(1e6, live:percentile(1, 1), 2e4)
  end)
end)

describe("neap.hedge at the live percentile", function()
  it("hedges nothing until 'warmup' calls were measured", function()
    local policy, sends = generous { percentile = 0.9, warmup = 20 }, sends_of { { 1 } }
    for _ = 1, 19 do policy:call(sends.call) end
    assert.is_nil(policy:delay())
    assert.equal("measuring", policy:snapshot().state)
    policy:call(sends.call)
    assert.near(1, policy:delay(), 0.012)
    assert.equal(20, sends.n)
  end)

  --- Log-normal latency around the median.
  local function lognormal(median, sigma)
    return function()
      local normal = math.sqrt(-2 * math.log(1 - core.random())) * math.cos(2 * math.pi * core.random())
      return median * math.exp((sigma or 0.5) * normal)
    end
  end

  --- n calls one after the other; how long each took, sorted.
  local function run(policy, n, latency)
    local took = {}
    local function send()
      neap.sleep(latency())
      return { status = 200 }
    end
    for i = 1, n do
      local began = neap.now()
      policy:call(send)
      took[i] = neap.now() - began
    end
    table.sort(took)
    return took
  end

  it("sends nothing twice where all calls take the same time", function()
    local policy = generous { percentile = 0.9, warmup = 10 }
    local sends = sends_of { { 0.1 } }
    for _ = 1, 500 do policy:call(sends.call) end
    assert.equal(500, sends.n)
  end)

  it("sends at the p95 of the calls, and stays there although what it cuts off is never seen", function()
    -- exp(1.5 * 1.6449) of the median: 11.79. Nearly all of the slowest 5 % are cut off.
    local policy = hedge.new { percentile = 0.95, max_extra_load = 0.2, window = 300 }
    run(policy, 20000, lognormal(0.1, 1.5))
    assert.near(1.179, policy:delay(), 0.4)
    assert.near(0.05, policy:snapshot().extra_load, 0.015)
  end)

  it("cuts the tail: where 2 % of the sends stall, the p99 falls to a tenth for at most 5 % more load", function()
    local function stalling() return core.random() < 0.02 and 5 or 0.1 + 0.1 * core.random() end
    local plain = run(hedge.new { warmup = 1e6 }, 5000, stalling)
    local policy = hedge.new { max_extra_load = 0.05 }
    local hedged = run(policy, 5000, stalling)
    assert.equal(5, plain[4950])
    assert.is_true(hedged[4950] < 0.5, "p99 " .. hedged[4950])
    assert.is_true(policy:snapshot().extra_load <= 0.05)
  end)

  it("takes the percentile from max_extra_load: a share above it, and no more", function()
    local policy = hedge.new { max_extra_load = 0.05 }
    run(policy, 5000, lognormal(0.1))
    assert.is_true(policy:snapshot().extra_load <= 0.05)
    assert.is_true(policy:snapshot().extra_load > 0.03)
    assert.matches("^p95 of %d+ calls$", policy:snapshot().reason)
  end)

  it("follows the upstream, and loads it no more meanwhile", function()
    local policy = hedge.new { max_extra_load = 0.02, window = 30 }
    run(policy, 600, lognormal(0.1))
    local before = policy:delay()
    run(policy, 300, lognormal(1))
    assert.near(10, policy:delay() / before, 2.5)
    assert.is_true(policy:snapshot().extra_load <= 0.02)
    run(policy, 900, lognormal(0.1))
    assert.near(1, policy:delay() / before, 0.25)
  end)

  it("knows a slow upstream, too: fewer calls in a window than it wants to have seen", function()
    local policy = hedge.new { max_extra_load = 0.1, window = 30 }
    run(policy, 400, lognormal(10))
    assert.near(19, policy:delay(), 4)
    assert.is_true(policy:snapshot().hedges > 15)
  end)

  it("is never shorter than min_delay", function()
    local policy = generous { percentile = 0.9, warmup = 10, min_delay = 0.5 }
    local sends = sends_of { { 0.001 } }
    for _ = 1, 10 do policy:call(sends.call) end
    assert.equal(0.5, policy:delay())
  end)

  it("does not take quick failures for quick calls", function()
    local policy = generous { percentile = 0.9, warmup = 10 }
    for _ = 1, 20 do policy:call(function() return { status = 503 } end) end
    assert.is_nil(policy:delay())
    for _ = 1, 10 do
      policy:call(function()
        neap.sleep(3)
        return nil, errors.new { kind = "timeout", message = "late" }
      end)
    end
    assert.near(3, policy:delay(), 0.04)
  end)
end)
