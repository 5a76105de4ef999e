-- SPDX-License-Identifier: MIT
local neap = require "neap"

local function status(code) return { status = code, headers = {} } end
local NO_JITTER = { base = 4, jitter = "none" }

describe("neap.deadline", function()
  it("leaves the seconds of a wait that it cut off where they were spent", function()
    local function spent_of(inner, before)
      local policy = neap.policy { neap.deadline { seconds = 3 }, inner }
      local holder = before and neap.spawn(inner.call, inner, neap.sleep, 100)
      neap.sleep(0)
      local _, err = policy:call(before and function() end or function() neap.sleep(100) end)
      if holder then holder:cancel() end
      return err.spent
    end
    assert.near(3, spent_of(neap.bulkhead { limit = 1 }, true).queue, 1e-6)
    assert.near(3, spent_of(neap.bulkhead { limit = 1 }, false).wire, 1e-6)
    local pace = neap.pace { limiter = { rate = 0.01, burst = 1 } }
    pace:call(function() end)
    assert.near(3, spent_of(pace).pace, 1e-6)
    local retry = neap.retry { backoff = function() return 50 end }
    local _, err = neap.policy { neap.deadline { seconds = 3 }, retry }
      :call(function() return { status = 503, headers = {} } end)
    assert.near(3, err.spent.backoff, 1e-6)
  end)

  it("passes arguments in and all results out", function()
    local a, b, c = neap.deadline { seconds = 1 }:call(function(...) return select("#", ...), nil, (select(2, ...)) end,
      nil, "x", nil)
    assert.same({ 3, nil, "x" }, { a, b, c })
  end)

  it("cuts off what takes longer, and says so", function()
    local began = neap.now()
    local result, err = neap.deadline { seconds = 2 }:call(neap.sleep, 5)
    assert.is_nil(result)
    assert.near(2, neap.now() - began, 1e-6)
    assert.equal("timeout: the deadline of 2 s has passed", tostring(err))
    assert.same({ "timeout", "deadline", nil, "maybe", 1 },
      { err.kind, err.timeout, err.phase, err.sent, err.attempts })
  end)

  it("holds for the whole call: attempts, backoffs and lines", function()
    local policy = neap.policy { neap.deadline { seconds = 10 }, neap.retry { max_attempts = 9, backoff = NO_JITTER } }
    local began = neap.now()
    local _, err = policy:call(function()
      neap.sleep(1)
      return status(503)
    end)
    assert.near(10, neap.now() - began, 1e-6)
    assert.same({ 2, "retry" }, { err.attempts, err.phase })
    assert.equal("timeout: the deadline of 10 s has passed, in retry", tostring(err))
    assert.near(2, err.spent.wire, 1e-6)
  end)

  it("knows that nothing was sent where the function was not called", function()
    local policy = neap.policy { neap.deadline { seconds = 1 }, neap.bulkhead { limit = 0 } }
    local _, err = policy:call(status, 200)
    assert.same({ "bulkhead", "no", 0 }, { err.phase, err.sent, err.attempts })
    assert.equal(0, policy:layer("bulkhead"):snapshot().waiting)
  end)

  it("cuts off one attempt inside a retry, which may be tried again if it was not sent", function()
    local bulkhead = neap.bulkhead { limit = 0 }
    local policy = neap.policy { neap.retry { max_attempts = 2, backoff = NO_JITTER }, neap.deadline { seconds = 1 },
      bulkhead }
    local task = neap.spawn(policy.call, policy, status, 200)
    neap.sleep(3)
    bulkhead:update { limit = 1 }
    assert.equal(200, task:await().status)
    local calls = 0
    local _, err = policy:call(function()
      calls = calls + 1
      neap.sleep(5)
    end)
    assert.same({ 1, "maybe" }, { calls, err.sent })
  end)

  it("leaves errors from inside as they are, other timeouts too", function()
    local deadline = neap.deadline { seconds = 5 }
    local _, err = deadline:call(neap.timeout, 1, neap.sleep, 3)
    assert.equal("timed out after 1 s", err.message)
    assert.is_nil(err.timeout)
    local _, nothing = deadline:call(function() return nil end)
    assert.is_nil(nothing)
    local value, odd = deadline:call(function() return 1, 0 / 0 end)
    assert.is_true(value == 1 and odd ~= odd)
    local ok, raised = pcall(deadline.call, deadline, error, { mine = true })
    assert.is_false(ok)
    assert.is_true(raised.mine)
  end)

  it("cannot be swallowed by pcall", function()
    local result, err = neap.deadline { seconds = 1 }:call(function()
      pcall(neap.sleep, 5)
      return "as if nothing had been"
    end)
    assert.is_nil(result)
    assert.equal("deadline", err.timeout)
  end)

  it("lets the shorter one of two count, and leaves a cancel from outside alone", function()
    local policy = neap.policy { neap.deadline { seconds = 3, name = "outer" }, neap.deadline { seconds = 5 } }
    local _, err = policy:call(neap.sleep, 9)
    assert.equal("the deadline of 3 s has passed", err.message)
    local _, other = neap.timeout(1, policy.call, policy, neap.sleep, 9)
    assert.is_nil(other.timeout)
    local task = neap.spawn(policy.call, policy, neap.sleep, 9)
    neap.sleep(1)
    task:cancel()
    assert.equal("cancelled", select(2, task:await()).kind)
  end)

  it("gives back what was held inside it, and not what is held outside", function()
    local outside, inside = neap.bulkhead { limit = 1, name = "outside" }, neap.bulkhead { limit = 1, name = "inside" }
    local held
    local policy = neap.policy {
      neap.fallback { with = function()
        held = { outside:snapshot().held, inside:snapshot().held }
        return "instead"
      end },
      outside, neap.deadline { seconds = 1 }, inside,
    }
    local during
    assert.equal("instead", policy:call(function()
      during = { outside:snapshot().held, inside:snapshot().held }
      neap.sleep(5)
    end))
    assert.same({ 1, 1 }, during)
    assert.same({ 0, 0 }, held)
  end)

  it("gives an outer permit back once when it cuts off a backoff; later permits are held", function()
    local first, second = neap.bulkhead { limit = 1 }, neap.bulkhead { limit = 1 }
    local policy = neap.router { strategy = "order", failover_on = function(_, err) return err end, endpoints = {
      { name = "first", policy = neap.policy { first, neap.deadline { seconds = 2 },
        neap.retry { backoff = { base = 100, jitter = "none" } } } },
      { name = "second", policy = second },
    } }
    local held = {}
    local res = policy:call(function(endpoint)
      held[#held + 1] = { first:snapshot().held, second:snapshot().held }
      return status(endpoint.name == "second" and 200 or 503)
    end)
    assert.equal(200, res.status)
    assert.same({ { 1, 0 }, { 0, 1 } }, held)
    assert.same({ 0, 0 }, { first:snapshot().held, second:snapshot().held })
  end)

  it("tells the budget that a retry which it cut off has ended", function()
    local budget = neap.retry_budget { form = "envoy" }
    local policy = neap.policy { neap.deadline { seconds = 1 }, neap.retry { backoff = { base = 0 }, budget = budget } }
    assert.equal(3, budget:snapshot().tokens)
    for _ = 1, 5 do
      local attempt, during = 0, nil
      local _, err = policy:call(function()
        attempt = attempt + 1
        if attempt == 1 then return status(503) end
        during = budget:snapshot().tokens
        neap.sleep(3)
      end)
      assert.same({ 2, "deadline" }, { attempt, err.timeout })
      assert.same({ 2, 3 }, { during, budget:snapshot().tokens })
    end
  end)

  it("leaves no trace of the wait that it cut off", function()
    local policy = neap.policy {
      neap.fallback { with = function()
        neap.sleep(5)
        return "instead"
      end },
      neap.deadline { seconds = 1 }, neap.bulkhead { limit = 0 },
    }
    local task = neap.spawn(policy.call, policy, status, 200)
    neap.sleep(0.5)
    assert.equal("bulkhead", neap.explain(task).policy)
    neap.sleep(2)
    assert.is_nil(neap.explain(task).policy)
    assert.equal("instead", task:await())
  end)

  it("shows its limit and changes it in use, for the calls that come", function()
    local deadline = neap.deadline { seconds = 5 }
    assert.equal(5, deadline:snapshot().limit)
    assert.equal("deadline seconds=5", deadline:describe())
    deadline:update { seconds = 1 }
    local began = neap.now()
    deadline:call(neap.sleep, 9)
    assert.near(1, neap.now() - began, 1e-6)
  end)

  it("names what it accepts where options are wrong", function()
    for _, case in ipairs {
      { {}, "option 'seconds' is required" }, { { seconds = 0 }, "option 'seconds' must be above 0, got 0" },
      { { seconds = "5" }, "option 'seconds' must be number, got string" },
      { { second = 1 }, "option 'second' is unknown; did you mean 'seconds'?" },
    } do
      local ok, message = pcall(neap.deadline, case[1])
      assert.is_false(ok)
      assert.matches("neap.deadline: " .. case[2], message)
    end
  end)
end)
