-- SPDX-License-Identifier: MIT
-- The token bucket of "Fixing retries with token buckets and circuit breakers"
-- (Brooker, 2022): full at 5, 0.1 more with each call, a retry costs 1 and needs more
-- than 1. 100 clients, 10 calls a second each (Poisson: an open load), a hop takes
-- Exp(10 ms); a try fails with probability p whatever the load.
local core = require "neap.core"
local neap = require "neap"

local CLIENTS, RATE, HOP, SEED = 100, 10, 0.01, 7

local function exponential(rng, mean) return -mean * math.log(1 - rng:double()) end

local function failed(res) return not res end

--- Attempts by call, and the share of calls that succeed. Waits.
local function measure(p, seconds, budget_of)
  local gaps, hops, luck = core.rng(SEED, 1), core.rng(SEED, 2), core.rng(SEED, 3)
  local calls, attempts, successes = 0, 0, 0
  local function attempt()
    attempts = attempts + 1
    neap.sleep(exponential(hops, HOP))
    local res = luck:double() >= p
    neap.sleep(exponential(hops, HOP))
    return res
  end
  local function call(policy)
    calls = calls + 1
    if policy:call(attempt) then successes = successes + 1 end
  end
  local function client(number)
    local policy = neap.retry { max_attempts = math.huge, backoff = { base = 0 }, retry_on = failed,
      budget = budget_of(number) }
    local stop = neap.now() + seconds
    while true do
      neap.sleep(exponential(gaps, 1 / RATE))
      if neap.now() >= stop then return end
      neap.spawn(call, policy)
    end
  end
  neap.scope(function(scope)
    for number = 1, CLIENTS do scope:spawn(client, number) end
  end)
  return attempts / calls, successes / calls
end

local function own() return neap.retry_budget { per_call = 0.1, cap = 5 } end

local function shared()
  local budget = own()
  return function() return budget end
end

describe("a retry budget of 0.1 a call", function()
  for _, p in ipairs { 0.5, 0.75 } do
    it(("lets a client of 100 calls send 1.14 attempts a call at p = %g"):format(p), function()
      local amplification = measure(p, 10, own)
      assert.near(1.14, amplification, 0.01)
    end)
  end

  for _, p in ipairs { 0.5, 0.75 } do
    it(("lets one of 1,000 calls send 1.10 at p = %g"):format(p), function()
      local amplification = measure(p, 100, own)
      assert.near(1.10, amplification, 0.01)
    end)

    it(("lets 100 clients that share it send 1.10 at p = %g"):format(p), function()
      local amplification = measure(p, 10, shared())
      assert.near(1.10, amplification, 0.01)
    end)
  end

  it("changes nothing while failures are rare: 1.05 attempts a call at p = 0.05, and all succeed", function()
    local amplification, success = measure(0.05, 10, own)
    assert.near(1.052, amplification, 0.01)
    assert.is_true(success > 0.999)
  end)

  it("has the success of the original at p = 0.5: 57 %", function()
    local _, success = measure(0.5, 10, own)
    assert.near(0.570, success, 0.02)
  end)
end)
