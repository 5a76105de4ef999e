-- SPDX-License-Identifier: MIT
-- What neap.hedge may send beyond the calls: its own cap, and a retry budget.
local core = require "neap.core"
local hedge = require "neap.hedge"
local layer = require "neap.policy.layer"
local neap = require "neap"
local retry_budget = require "neap.retry_budget"
local hedges = require "spec.support.hedge"

local failure, generous, sends_of = hedges.failure, hedges.generous, hedges.sends_of

describe("neap.hedge's cap on extra load", function()
  it("never sends more copies than max_extra_load of the calls so far", function()
    local policy, calls, sends = hedge.new { delay = 1, max_extra_load = 0.05 }, 0, 0
    local function slow()
      sends = sends + 1
      neap.sleep(2)
      assert.is_true(sends - calls <= 0.05 * calls + 1e-9)
      return { status = 200 }
    end
    neap.scope(function(s)
      for _ = 1, 2000 do
        calls = calls + 1
        s:spawn(policy.call, policy, slow)
        neap.sleep(core.random())
      end
    end)
    assert.same({ 2100, 100, 1900 }, { sends, policy:snapshot().hedges, policy:snapshot().denied })
  end)

  it("saves up no more than 'burst' copies", function()
    local policy, sends = hedge.new { delay = 1, max_extra_load = 0.5, burst = 3 }, sends_of { { 0.1 } }
    for _ = 1, 100 do policy:call(sends.call) end
    assert.equal(3, policy:snapshot().allowance)
    sends = sends_of { { 10 } }
    neap.scope(function(s)
      for _ = 1, 7 do s:spawn(policy.call, policy, sends.call) end
    end)
    assert.equal(7 + 3, sends.n)
  end)

  it("holds for copies after a failure, too", function()
    local sends = sends_of { { 0.1, failure } }
    local policy = hedge.new { delay = 1, max_extra_load = 0.1 }
    for _ = 1, 100 do policy:call(sends.call) end
    assert.equal(110, sends.n)
  end)
end)

describe("neap.hedge with a budget", function()
  local function envoy() return retry_budget.new { form = "envoy", min_concurrency = 1, ratio = 0 } end

  it("sends only what the budget allows too", function()
    local budget = retry_budget.new { per_call = 0, initial = 1, needs = "at_least_one" }
    local policy, sends = generous { budget = budget }, sends_of { { 3 } }
    for _ = 1, 3 do policy:call(sends.call) end
    assert.same({ 4, 1, 2 }, { sends.n, budget.allowed, budget.denied })
    assert.equal(2, policy:snapshot().denied)
  end)

  it("makes a budget of options", function()
    local policy = generous { budget = { per_call = 0, initial = 0 } }
    local sends = sends_of { { 3 } }
    policy:call(sends.call)
    assert.equal(1, sends.n)
  end)

  it("does not spend from the budget what its own cap forbids", function()
    local budget = retry_budget.new {}
    hedge.new { delay = 1, budget = budget }:call(sends_of { { 3 } }.call)
    assert.equal(0, budget.allowed + budget.denied)
  end)

  it("tells the budget of every copy's end: wins, losses, failures", function()
    for _, list in ipairs { { { 10 }, { 0.5 } }, { { 1.5 }, { 10 } }, { { 0.1, failure }, { 0.1, failure } },
      { { 0.1 } } } do
      local budget = envoy()
      local policy = generous { budget = budget }
      policy:call(sends_of(list).call)
      assert.same({ 0, 0 }, { budget.rule.active, budget.rule.retries })
    end
  end)

  it("tells the budget when a copy raises or the call is cancelled", function()
    local budget = envoy()
    local policy = generous { budget = budget }
    pcall(policy.call, policy, sends_of { { 10 }, { 0.5, function() error("a bug", 0) end } }.call)
    assert.same({ 0, 0, 1 }, { budget.rule.active, budget.rule.retries, budget.allowed })
    neap.timeout(1.5, policy.call, policy, sends_of { { 10 } }.call)
    assert.same({ 0, 0, 2 }, { budget.rule.active, budget.rule.retries, budget.allowed })
  end)

  it("reports failures with their verdict, and losers as nothing", function()
    local budget = retry_budget.new { form = "grpc" }
    local policy = generous { budget = budget }
    policy:call(sends_of { { 0.1, failure }, { 0.1, failure } }.call)
    assert.equal(8, budget:snapshot().tokens)
    policy:call(sends_of { { 10 }, { 0.5 } }.call)
    assert.near(8.1, budget:snapshot().tokens, 1e-9)
  end)

  -- What a retry with the same budget does around each attempt.
  local Loop = layer.class "throttle"
  function Loop:run(call, next, ...)
    call.budget = self.budget
    self.budget:started(neap.now())
    local res, err = next(call, ...)
    self.budget:ended(neap.now(), require("neap.policy.outcome").verdict(res, err), false)
    return res, err
  end

  local function under_a_loop(budget, list)
    local loop = layer.new(Loop)
    loop.kind = "loop"
    loop.budget = budget
    return neap.policy { loop, generous { budget = budget } }:call(sends_of(list).call)
  end

  it("leaves the call itself to a loop around it that has the same budget", function()
    local bucket = retry_budget.new { initial = 0, per_call = 0.5, needs = "at_least_one" }
    under_a_loop(bucket, { { 0.1 } })
    assert.equal(0.5, bucket:snapshot().tokens)
    local balanced = envoy()
    under_a_loop(balanced, { { 10 }, { 0.5 } })
    under_a_loop(balanced, { { 0.1, failure }, { 0.5, failure } })
    assert.same({ 0, 0, 2 }, { balanced.rule.active, balanced.rule.retries, balanced.allowed })
  end)

  it("counts each outcome once even so", function()
    local grpc = retry_budget.new { form = "grpc" }
    under_a_loop(grpc, { { 0.1, failure }, { 0.1, failure } })
    assert.equal(8, grpc:snapshot().tokens)
    under_a_loop(grpc, { { 10 }, { 0.5 } })
    assert.near(8.1, grpc:snapshot().tokens, 1e-9)
    under_a_loop(grpc, { { 0.1, failure }, { 0.5 } })
    assert.near(7.2, grpc:snapshot().tokens, 1e-9)
  end)
end)
