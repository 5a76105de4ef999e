-- SPDX-License-Identifier: MIT
-- A spike of five seconds, and retries that keep the service down for good. Five
-- seeds here; bench/collapse.lua has a hundred.
local model = require "spec.support.collapse"

local SEEDS = 5

local summaries = {}

local function summary(name)
  for _, policy in ipairs(model.policies) do
    if policy.name == name and not summaries[name] then summaries[name] = model.summary(policy.make, SEEDS) end
  end
  return summaries[name]
end

describe("a service whose latency grows with its load, after a spike", function()
  it("stays down where timeouts are retried at once", function()
    local got = summary "no backoff"
    assert.is_true(got.collapsed > SEEDS / 2)
    assert.equal(math.huge, got.recovery)
  end)

  it("stays down as often with a backoff of 0.1 to 1 s", function()
    assert.is_true(summary("full jitter, 0.1 to 1 s").collapsed >= summary("no backoff").collapsed - 1)
    assert.equal(math.huge, summary("full jitter, 0.1 to 1 s").recovery)
  end)

  for _, name in ipairs { "full jitter, 20 then 40 s", "budget of 0.1 a call" } do
    it("recovers in less than 10 s: " .. name, function()
      local got = summary(name)
      assert.equal(0, got.collapsed)
      assert.is_true(got.recovery < 10)
    end)
  end

  it("is sent fewer attempts with a budget than with any backoff", function()
    local least = summary("budget of 0.1 a call").amplification
    assert.is_true(least < summary("full jitter, 20 then 40 s").amplification)
    assert.is_true(least < 1.02)
  end)
end)
