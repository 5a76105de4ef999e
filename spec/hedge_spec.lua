-- SPDX-License-Identifier: MIT
local hedge = require "neap.hedge"
local layer = require "neap.policy.layer"
local neap = require "neap"
local telemetry = require "neap.telemetry"
local hedges = require "spec.support.hedge"

local elapsed_in, failure, generous = hedges.elapsed_in, hedges.failure, hedges.generous
local near, sends_of = hedges.near, hedges.sends_of

describe("neap.hedge at a fixed delay", function()
  it("sends once when the answer comes before the delay", function()
    local sends = sends_of { { 0.9 } }
    local res = generous {}:call(sends.call)
    assert.same({ 1, 1 }, { res.attempts, sends.n })
    assert.near(0.9, elapsed_in(sends), 1e-6)
  end)

  it("sends a copy at the delay; the first success wins and the loser is cancelled", function()
    local sends = sends_of { { 10 }, { 0.5 } }
    local res = generous {}:call(sends.call)
    assert.same({ 2, 2, 1 }, { res.send, res.attempts, sends.cancelled })
    near({ 0, 1 }, sends.at)
    assert.near(1.5, elapsed_in(sends), 1e-6)
  end)

  it("returns the first copy's answer when that comes first after all", function()
    local sends = sends_of { { 1.2 }, { 10 } }
    local policy = generous {}
    local res = policy:call(sends.call)
    assert.same({ 1, 2, 1 }, { res.send, res.attempts, sends.cancelled })
    assert.same({ 1, 0 }, { policy:snapshot().hedges, policy:snapshot().won })
  end)

  it("passes all arguments to every copy and returns all results, nils included", function()
    local sends = sends_of { { 10 }, { 0, function() return true, nil, "x" end } }
    local a, b, c = generous {}:call(sends.call, nil, "b", nil)
    assert.same({ n = 3, [2] = "b" }, sends.args)
    assert.same({ true, "x" }, { a, c })
    assert.is_nil(b)
  end)

  it("sends up to max_hedges copies, a delay apart", function()
    local sends = sends_of { { 10 }, { 10 }, { 10 }, { 0.5 }, { 0 } }
    local res = generous { max_hedges = 3 }:call(sends.call)
    near({ 0, 1, 2, 3 }, sends.at)
    assert.same({ 4, 4, 3 }, { res.send, res.attempts, sends.cancelled })
  end)

  it("stops at max_hedges and waits for what is under way", function()
    local sends = sends_of { { 7 }, { 10 }, { 10 } }
    local res = generous { max_hedges = 2 }:call(sends.call)
    assert.same({ 1, 3 }, { res.send, sends.n })
    assert.near(7, elapsed_in(sends), 1e-6)
  end)

  it("sends all copies at once with a delay of 0", function()
    local sends = sends_of { { 3 }, { 1 }, { 2 } }
    local res = generous { delay = 0, max_hedges = 2 }:call(sends.call)
    near({ 0, 0, 0 }, sends.at)
    assert.equal(2, res.send)
    assert.near(1, elapsed_in(sends), 1e-6)
  end)

  it("gives every copy the same idempotency key", function()
    local keys, policy = {}, generous {}
    local Key = layer.class "throttle"
    function Key:run(call, next, ...)
      keys[#keys + 1] = call:idempotency_key()
      return next(call, ...)
    end
    local sends = sends_of { { 10 }, { 0 } }
    neap.policy { policy, layer.new(Key) }:call(sends.call)
    assert.equal(2, #keys)
    assert.equal(keys[1], keys[2])
  end)
end)

describe("neap.hedge after a failure", function()
  it("sends the next copy at once", function()
    local sends = sends_of { { 0.2, failure }, { 0.3 } }
    local res = generous {}:call(sends.call)
    near({ 0, 0.2 }, sends.at)
    assert.same({ 2, 2 }, { res.send, res.attempts })
    assert.near(0.5, elapsed_in(sends), 1e-6)
  end)

  it("counts the delay of the next copy from there", function()
    local sends = sends_of { { 0.2, failure }, { 10 }, { 0.5 } }
    generous { max_hedges = 2 }:call(sends.call)
    near({ 0, 0.2, 1.2 }, sends.at)
  end)

  it("returns the last failure when all copies have failed", function()
    local sends = sends_of { { 0.2, failure }, { 0.3, failure } }
    local res, err = generous {}:call(sends.call)
    assert.is_nil(res)
    assert.same({ "connect", 2, 2 }, { err.kind, err.send, err.attempts })
  end)

  it("waits for the copies under way: a later success still wins", function()
    local sends = sends_of { { 1.2, failure }, { 1 } }
    local res = generous {}:call(sends.call)
    assert.equal(2, res.send)
    assert.near(2, elapsed_in(sends), 1e-6)
  end)

  it("sends no further copy when the server refused or the request cannot be repeated", function()
    for _, what in ipairs { 429, 503, 529, { kind = "invalid", message = "bad" }, { kind = "tls", message = "no" } } do
      local sends = sends_of { { 0.2, what }, { 0 } }
      local res, err = generous {}:call(sends.call)
      assert.equal(1, (res or err).attempts)
      assert.near(0.2, elapsed_in(sends), 1e-6)
    end
    local calls = 0
    generous {}:call(function()
      calls = calls + 1
      return { status = 500, replay_safe = false }
    end)
    assert.equal(1, calls)
  end)

  it("returns such a refusal only if it is the last", function()
    local sends = sends_of { { 1.2, 429 }, { 3 }, { 0 } }
    assert.equal(2, generous { max_hedges = 2 }:call(sends.call).send)
    assert.equal(2, sends.n, "and none is sent after it")
    sends = sends_of { { 1.2, 429 }, { 0.5, 429 } }
    assert.same({ 429, 2 }, { generous {}:call(sends.call).status, sends.n })
  end)

  it("takes an answer that blames the request for final: it wins", function()
    local sends = sends_of { { 1.2, 404 }, { 10 } }
    local res = generous {}:call(sends.call)
    assert.same({ 404, 1 }, { res.status, sends.cancelled })
  end)

  it("asks 'hedge_on' where it is given", function()
    local sends = sends_of { { 0.2, 429 }, { 0.3 } }
    local res = generous { hedge_on = function(result) return result and result.status == 429 end }:call(sends.call)
    assert.same({ 200, 2 }, { res.status, res.attempts })
    near({ 0, 0.2 }, sends.at)
  end)
end)

describe("neap.hedge in a pipeline", function()
  -- A bulkhead in few words.
  local Permits = layer.class "throttle"

  local function permits(limit)
    local one = layer.new(Permits)
    one.semaphore = neap.semaphore(limit)
    return one
  end

  function Permits:run(call, next, ...)
    local began = neap.now()
    call:waiting(self, "permit")
    self.semaphore:acquire()
    call:waiting(nil)
    call.queue = call.queue + neap.now() - began
    call:hold(self)
    return self:after(call, next(call, ...))
  end

  function Permits:after(call, ...)
    call:release(self)
    self:give_back(call)
    return ...
  end

  function Permits:give_back() self.semaphore:release() end

  it("gives back a loser's permit before the call returns", function()
    local inner, sends = permits(2), sends_of { { 10 }, { 0.5 } }
    local policy = neap.policy { generous {}, inner }
    assert.equal(2, policy:call(sends.call).send)
    assert.equal(2, inner.semaphore:available())
  end)

  it("sends no copy while the call stands in a line of our own", function()
    local inner, sends = permits(1), sends_of { { 0.5 } }
    local outer = generous {}
    local policy = neap.policy { outer, inner }
    neap.scope(function(s)
      for _ = 1, 6 do s:spawn(policy.call, policy, sends.call) end
    end)
    assert.same({ 6, 0 }, { sends.n, outer:snapshot().hedges })
    assert.near(3, elapsed_in(sends), 1e-6)
  end)

  it("counts the delay from when it was under way", function()
    local inner, sends = permits(2), sends_of { { 5 }, { 5 }, { 3 }, { 0.5 } }
    local policy = neap.policy { generous { eligible = function(_, first) return first ~= "blocks" end }, inner }
    neap.scope(function(s)
      for _ = 1, 2 do s:spawn(policy.call, policy, sends.call, "blocks") end
      neap.sleep(1)
      local res = policy:call(sends.call)
      assert.equal(4, res.send)
    end)
    assert.equal(5, sends.at[3])
    -- Looks grow apart while it waits: 4 s in the line, so at most 2 s late.
    assert.is_true(sends.at[4] >= 6 and sends.at[4] <= 8, "at " .. sends.at[4])
  end)

  it("measures the time under way only", function()
    local inner, sends = permits(1), sends_of { { 1 } }
    local outer = generous { percentile = 0.9, warmup = 5 }
    local policy = neap.policy { outer, inner }
    neap.scope(function(s)
      for _ = 1, 5 do s:spawn(policy.call, policy, sends.call) end
    end)
    assert.near(1, outer:delay(), 0.012)
    for _ = 1, 20 do assert.equal(1, policy:call(sends.call).attempts) end
    assert.near(1, outer:delay(), 0.012)
  end)

  it("adds up what the copies took", function()
    local sends = sends_of { { 10 }, { 0.5 } }
    local res = generous {}:call(sends.call)
    assert.equal(2, res.spent.attempts)
    assert.near(1.5, res.spent.total, 1e-6)
  end)

  it("takes over from the winner whose endpoint it was, and whether others share the result", function()
    local n, seen = 0, nil
    local Mark = layer.class "throttle"
    function Mark:run(call, next, ...)
      n = n + 1
      call.endpoint, call.shared = "endpoint " .. n, n == 2
      return next(call, ...)
    end
    local Look = layer.class "throttle"
    function Look:run(call, next, ...)
      local res, err = next(call, ...)
      seen = { call.endpoint, call.shared }
      return res, err
    end
    local look = layer.new(Look)
    look.kind = "look"
    local res = neap.policy { look, generous {}, layer.new(Mark) }:call(sends_of { { 10 }, { 0.5 } }.call)
    assert.same({ "endpoint 2", true }, seen)
    assert.is_nil(res.attempts, "not ours to write into")
  end)

  it("says which copies are under way to neap.explain", function()
    local sends, policy = sends_of { { 10 }, { 10 } }, generous { max_hedges = 2 }
    neap.scope(function(s)
      local task = s:spawn(policy.call, policy, sends.call)
      neap.sleep(0.5)
      local found = neap.policy.explain(task)
      assert.same({ "hedge", "1 of 1 copies under way" }, { found.policy, found.reason })
      assert.near(0.5, found.wait, 1e-6)
      neap.sleep(1)
      found = neap.policy.explain(task)
      assert.equal("2 of 2 copies under way", found.reason)
      assert.equal(2, #found.copies)
      task:cancel()
    end)
  end)

  it("hedges each attempt of a retry", function()
    local sends = sends_of { { 1.5, 503 }, { 0.5, 503 }, { 10 }, { 0.5 } }
    local res = neap.policy { neap.retry { backoff = { base = 0 } }, generous {} }:call(sends.call)
    assert.same({ 4, 4 }, { res.send, res.attempts })
    near({ 0, 1, 1.5, 2.5 }, sends.at)
  end)
end)

describe("neap.hedge", function()
  it("lets an error raised in a copy through, after the others have ended", function()
    local function bug() error("a bug", 0) end
    local sends = sends_of { { 10 }, { 0.5, bug } }
    assert.error_matches(function() generous {}:call(sends.call) end, "a bug")
    assert.equal(1, sends.cancelled)
    sends = sends_of { { 1.5, bug }, { 10 } }
    assert.error_matches(function() generous {}:call(sends.call) end, "a bug")
    assert.equal(1, sends.cancelled)
  end)

  it("is cancelled with all its copies", function()
    local sends = sends_of { { 10 }, { 10 } }
    local policy = generous {}
    local res, err = neap.timeout(1.5, policy.call, policy, sends.call)
    assert.is_nil(res)
    assert.equal("timeout", err.kind)
    assert.same({ 2, 2 }, { sends.n, sends.cancelled })
    neap.scope(function(s)
      local task = s:spawn(policy.call, policy, sends.call)
      neap.sleep(1.5)
      task:cancel()
      assert.equal("cancelled", select(2, task:await()).kind)
    end)
    assert.equal(4, sends.cancelled)
  end)

  it("hedges only what is eligible", function()
    local policy = generous { eligible = function(_, method) return method == "GET" end }
    local sends = sends_of { { 2 } }
    assert.equal(1, policy:call(sends.call, "POST").attempts)
    assert.equal(2, policy:call(sends.call, "GET").attempts)
  end)

  it("tells telemetry what it sends, what won and what was denied", function()
    local events = {}
    local unsubscribe = telemetry.subscribe(function(event)
      if event.kind == "hedge" then events[#events + 1] = event.event .. " " .. event.reason end
    end)
    local policy = generous {}
    policy:call(sends_of { { 10 }, { 0.5 } }.call)
    policy:call(sends_of { { 0.1, failure }, { 0.5, 404 } }.call)
    hedge.new { delay = 1 }:call(sends_of { { 2 } }.call)
    hedge.new { delay = 1, max_extra_load = 1, budget = { initial = 0 } }:call(sends_of { { 2 } }.call)
    unsubscribe()
    assert.same({ "hedge delay", "won first success", "hedge connect", "won first success", "denied max_extra_load",
      "denied budget" }, events)
  end)

  it("says what it has sent and won", function()
    local policy = generous { max_hedges = 2 }
    policy:call(sends_of { { 10 }, { 0.5 } }.call)
    policy:call(sends_of { { 0.5 } }.call)
    local found = policy:snapshot()
    assert.same({ "ready", 1, 2, 2, 1, 1, 0, 0.5, "fixed delay" }, { found.state, found.delay, found.limit, found.calls,
      found.hedges, found.won, found.denied, found.extra_load, found.reason })
    assert.equal("hedge delay=2", hedge.new { delay = 2 }:describe())
  end)

  it("retunes live with the constructor's checks", function()
    local policy = generous {}
    policy:update { delay = 0.2, max_hedges = 2 }
    local sends = sends_of { { 10 }, { 10 }, { 0.1 } }
    policy:call(sends.call)
    near({ 0, 0.2, 0.4 }, sends.at)
    assert.error_matches(function() policy:update { max_hedges = 0 } end, "option 'max_hedges' must be at least 1")
    assert.error_matches(function() policy:update { percentile = 0.9 } end, "'delay' and 'percentile' exclude")
    assert.same({ 2, nil }, { policy.options.max_hedges, policy.options.percentile })
  end)

  it("refuses bad options with the option's name and what it accepts", function()
    local function refused(pattern, opts)
      assert.error_matches(function()
        local policy = hedge.new(opts)
        return policy
      end, pattern)
    end
    refused("neap.hedge: options 'delay' and 'percentile' exclude each other", { delay = 1, percentile = 0.9 })
    refused("neap.hedge: option 'delay' must be at least 0, got %-1", { delay = -1 })
    refused("option 'percentile' must be at most 0.9999, got 99", { percentile = 99 })
    refused("option 'max_extra_load' must be above 0, got 0", { max_extra_load = 0 })
    refused("option 'max_hedges' must be integer, got 1.5", { max_hedges = 1.5 })
    refused("option 'budget' must be table, got boolean", { budget = true })
    refused("neap.retry_budget: option 'cap' must be at least 1", { budget = { cap = 0 } })
    refused("option 'maxhedges' is unknown; did you mean 'max_hedges'?", { maxhedges = 2 })
  end)
end)
