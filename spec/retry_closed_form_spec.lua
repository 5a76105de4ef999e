-- SPDX-License-Identifier: MIT
-- What N retries do when each attempt fails with probability p, whatever the
-- others did: success 1 - p^(N+1), amplification (1 - p^(N+1)) / (1 - p).
local core = require "neap.core"
local neap = require "neap"

local CALLS, SEED = 200000, 7
local FAILED, OK = { status = 503, headers = {} }, { status = 200, headers = {} }

--- Success rate and attempts per call over CALLS calls.
local function measure(p, retries)
  local draw = core.rng(SEED, p * 100 + retries)
  local attempts, successes = 0, 0
  local policy = neap.retry { max_attempts = retries + 1, backoff = { base = 0.01 } }
  local function attempt()
    attempts = attempts + 1
    return draw:double() < p and FAILED or OK
  end
  for _ = 1, CALLS do
    if policy:call(attempt).status == 200 then successes = successes + 1 end
  end
  return successes / CALLS, attempts / CALLS
end

--- Mean and variance of the number of attempts of one call.
local function attempts_law(p, retries)
  local mean, square = 0, 0
  for n = 1, retries + 1 do
    local probability = n <= retries and p ^ (n - 1) * (1 - p) or p ^ retries
    mean, square = mean + n * probability, square + n * n * probability
  end
  return mean, square - mean * mean
end

describe("neap.retry against the closed forms", function()
  for _, p in ipairs { 0.05, 0.1, 0.2, 0.5, 0.75 } do
    for _, retries in ipairs { 1, 3 } do
      it(("has their success and amplification at p = %g with %d retries"):format(p, retries), function()
        local success, amplification = measure(p, retries)
        local expected = 1 - p ^ (retries + 1)
        local mean, variance = attempts_law(p, retries)
        assert.near((1 - p ^ (retries + 1)) / (1 - p), mean, 1e-12)
        assert.near(expected, success, 4 * math.sqrt(expected * (1 - expected) / CALLS))
        assert.near(mean, amplification, 4 * math.sqrt(variance / CALLS))
      end)
    end
  end
end)
