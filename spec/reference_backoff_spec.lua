-- SPDX-License-Identifier: MIT
-- The table of "Exponential Backoff And Jitter" (Brooker, 2015), in small: fewer
-- repetitions than bench/aws_backoff.lua, which has all of it, and so wider bounds.
local core = require "neap.core"
local model = require "spec.support.aws_backoff"

local RUNS, SEED = { [10] = 400, [50] = 60 }, 7

describe("clients that update one row, through neap.retry", function()
  for _, clients in ipairs { 10, 50 } do
    for _, policy in ipairs(model.policies) do
      it(("take the time and the calls of the original: %d clients, %s"):format(clients, policy.name), function()
        core.reseed(SEED)
        local runs, expected = RUNS[clients], model.table[clients][policy.name]
        local measured = model.measure(clients, policy, runs, SEED)
        assert.near(expected[1], measured[1], model.bound(1, measured, expected, runs))
        assert.near(expected[3], measured[3], model.bound(3, measured, expected, runs))
      end)
    end
  end

  it("are told from those whose backoff is half as long", function()
    core.reseed(SEED)
    local expected, runs = model.table[10].Full, RUNS[10]
    local measured = model.measure(10, { backoff = { base = 0.005, max = 2, jitter = "full" } }, runs, SEED)
    assert.is_true(expected[3] < measured[3] - model.bound(3, measured, expected, runs))
  end)
end)
