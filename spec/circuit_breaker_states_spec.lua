-- SPDX-License-Identifier: MIT
local errors = require "neap.error"
local neap = require "neap"
local windows = require "neap.circuit_breaker.windows"
local breakers = require "spec.support.breaker"

local answer, call_times, open = breakers.answer, breakers.call_times, breakers.open
local quick, status = breakers.quick, breakers.status

local function refused() return nil, errors.new { kind = "connect", message = "refused" } end
local function returns(...)
  local results = { n = select("#", ...), ... }
  return function() return unpack(results, 1, results.n) end
end

describe("circuit_breaker.windows", function()
  it("counts the last calls", function()
    local window = windows.new("count", 3)
    window:add(0, true, true)
    window:add(0, true, false)
    window:add(0, false, false)
    assert.same({ 3, 2, 1 }, { window.total, window.failed, window.slow })
    window:add(0, false, true)
    assert.same({ 3, 1, 1 }, { window.total, window.failed, window.slow })
    window:add(0, false, false)
    assert.same({ 3, 0, 1 }, { window.total, window.failed, window.slow })
  end)

  it("counts the calls of the last seconds, by tenths of the window", function()
    local window = windows.new("time", 10)
    window:add(0.5, true, false)
    window:add(5, true, true)
    window:look(9.9)
    assert.same({ 2, 2, 1 }, { window.total, window.failed, window.slow })
    window:look(10)
    assert.same({ 1, 1, 1 }, { window.total, window.failed, window.slow })
    window:look(15)
    assert.same({ 0, 0, 0 }, { window.total, window.failed, window.slow })
    for second = 21, 30 do window:add(second, true, true) end
    window:add(40, false, false) -- the oldest is just out, the others too
    assert.same({ 1, 0, 0 }, { window.total, window.failed, window.slow })
    for second = 41, 49 do window:add(second, true, true) end
    window:look(1e6)
    assert.same({ 0, 0, 0 }, { window.total, window.failed, window.slow })
  end)
end)

describe("neap.circuit_breaker, as calls go through it,", function()
  describe("closed", function()
    it("passes arguments in and all results out", function()
      local a, b, c = quick():call(function(...) return select("#", ...), nil, (select(2, ...)) end, nil, "x", nil)
      assert.same({ 3, nil, "x" }, { a, b, c })
    end)

    it("opens after so many failures in a row", function()
      local breaker = neap.circuit_breaker { consecutive_failures = 3 }
      call_times(breaker, 2, answer(500))
      breaker:call(answer(200))
      call_times(breaker, 2, refused)
      assert.equal("closed", breaker:state())
      breaker:call(answer(502))
      assert.equal("open", breaker:state())
      assert.equal("3 failures in a row", breaker:snapshot().reason)
    end)

    it("opens when the failure rate of the last calls is reached, and not before there are enough", function()
      local breaker = neap.circuit_breaker { minimum_calls = 10, failure_rate = 0.5 }
      call_times(breaker, 5, answer(200))
      call_times(breaker, 4, answer(500))
      assert.equal("closed", breaker:state())
      breaker:call(answer(500))
      assert.equal("open", breaker:state())
      assert.equal("5 of 10 calls failed", breaker:snapshot().reason)
    end)

    it("opens on the call with which there are enough, even if that one succeeds", function()
      local breaker = neap.circuit_breaker { minimum_calls = 10 }
      call_times(breaker, 9, answer(500))
      assert.equal("closed", breaker:state())
      breaker:call(answer(200))
      assert.equal("open", breaker:state())
    end)

    it("takes a rate at its word where multiplying would be off by a bit", function()
      local breaker = neap.circuit_breaker { minimum_calls = 100, failure_rate = 0.55 }
      assert.is_true(0.55 * 100 > 55) -- why it divides
      call_times(breaker, 45, answer(200))
      call_times(breaker, 55, answer(500))
      assert.equal("open", breaker:state())
    end)

    it("forgets calls that have left a count window", function()
      local breaker = neap.circuit_breaker { window_size = 10, minimum_calls = 10 }
      call_times(breaker, 4, answer(500))
      call_times(breaker, 10, answer(200))
      call_times(breaker, 4, answer(500))
      assert.equal("closed", breaker:state())
      assert.equal(4, breaker:snapshot().failed)
    end)

    it("forgets calls that have left a time window", function()
      local breaker = neap.circuit_breaker { window = "time", window_size = 10, minimum_calls = 4 }
      call_times(breaker, 3, answer(500))
      neap.sleep(10)
      call_times(breaker, 3, answer(500))
      assert.equal("closed", breaker:state())
      breaker:call(answer(500))
      assert.equal("open", breaker:state())
    end)

    it("opens when too many calls are slow, even though they succeed", function()
      local breaker = neap.circuit_breaker { minimum_calls = 4, slow_call_duration = 2, slow_call_rate = 0.5 }
      for _, seconds in ipairs { 2, 1, 2.1 } do
        breaker:call(function()
          neap.sleep(seconds)
          return status(200)
        end)
      end
      assert.equal(1, breaker:snapshot().slow)
      breaker:call(function()
        neap.sleep(3)
        return status(200)
      end)
      assert.equal("open", breaker:state())
      assert.equal("2 of 4 calls were slow", breaker:snapshot().reason)
    end)

    it("does not take waiting in a line of our own for slowness", function()
      local breaker = neap.circuit_breaker { minimum_calls = 2, slow_call_duration = 2, slow_call_rate = 0.5 }
      local policy = neap.policy { breaker, neap.bulkhead { limit = 1 } }
      neap.map({ 1, 2, 3, 4 }, function()
        return policy:call(function()
          neap.sleep(1.5)
          return status(200)
        end)
      end)
      assert.same({ 4, 0 }, { breaker:snapshot().calls, breaker:snapshot().slow })
    end)

    it("does not blame the upstream for 429, for other 4xx, and for what was our own doing", function()
      local breaker = quick()
      call_times(breaker, 5, answer(429))
      call_times(breaker, 5, answer(404))
      assert.equal(10, breaker:snapshot().calls)
      for _, kind in ipairs { "queue_full", "queue_timeout", "invalid", "budget" } do
        call_times(breaker, 3, returns(nil, errors.new { kind = kind, message = "ours" }))
      end
      assert.equal("closed", breaker:state())
      assert.equal(10, breaker:snapshot().calls)
    end)

    it("counts 503, 529, 408, 5xx, errors and timeouts as failures", function()
      for _, code in ipairs { 503, 529, 408, 500, 504 } do
        local breaker = quick()
        call_times(breaker, 2, answer(code))
        assert.equal("open", breaker:state(), code)
      end
      for _, kind in ipairs { "connect", "dns", "tls", "send", "receive", "timeout", "protocol" } do
        local breaker = quick()
        call_times(breaker, 2, returns(nil, errors.new { kind = kind, message = "broken" }))
        assert.equal("open", breaker:state(), kind)
      end
    end)

    it("asks failure_on what a failure is; what is our own doing and none does not count", function()
      local breaker = quick { failure_on = function(result, err)
        return err and err.kind == "too_large" or result and result.status == 429
      end }
      call_times(breaker, 5, answer(500))
      assert.equal("closed", breaker:state())
      breaker:call(answer(429))
      breaker:call(returns(nil, errors.new { kind = "queue_full", message = "ours" }))
      assert.equal("closed", breaker:state())
      breaker:call(returns(nil, errors.new { kind = "too_large", message = "too large" }))
      assert.equal("open", breaker:state())
    end)

    it("does not count calls that raise or are cancelled", function()
      local breaker = quick()
      for _ = 1, 5 do
        assert.is_false(pcall(breaker.call, breaker, function() error "a bug" end))
        local _, err = neap.timeout(1, breaker.call, breaker, neap.sleep, 5)
        assert.equal("timeout", err.kind)
      end
      assert.equal("closed", breaker:state())
      assert.equal(0, breaker:snapshot().calls)
    end)
  end)

  describe("open", function()
    it("refuses at once, without calling, and says until when", function()
      local breaker = quick()
      open(breaker)
      neap.sleep(4)
      local began, called = neap.now(), false
      local result, err = breaker:call(function() called = true end)
      assert.is_nil(result)
      assert.equal("circuit_open", err.kind)
      assert.near(6, err.retry_after, 1e-6)
      assert.equal("no", err.sent)
      assert.equal(0, err.attempts)
      assert.equal("circuit_open: the breaker is open: 2 failures in a row", tostring(err))
      assert.equal(began, neap.now())
      assert.is_false(called)
    end)

    it("lets a retry around it wait until it tries again", function()
      local breaker = quick()
      open(breaker)
      local began = neap.now()
      local res = neap.policy { neap.retry { backoff = { base = 0 } }, breaker }:call(answer(200))
      assert.equal(200, res.status)
      assert.is_true(neap.now() - began >= 10)
      assert.equal("closed", breaker:state())
    end)

    it("does not count calls that began before", function()
      local breaker = quick()
      local late = neap.spawn(breaker.call, breaker, function()
        neap.sleep(5)
        return status(500)
      end)
      local later = neap.spawn(breaker.call, breaker, function()
        neap.sleep(12)
        return status(500)
      end)
      neap.sleep(1)
      open(breaker)
      late:await()
      assert.near(6, breaker:snapshot().next_change, 1e-6) -- ten from the opening
      neap.sleep(6)
      assert.equal("half_open", breaker:state())
      later:await()
      assert.equal("half_open", breaker:state())
      breaker:call(answer(200))
      assert.equal("closed", breaker:state())
    end)

    it("stays open longer each time that it opens again, up to the longest", function()
      local breaker = quick { open_duration_factor = 2, max_open_duration = 35 }
      open(breaker)
      for _, seconds in ipairs { 10, 20, 35, 35 } do
        assert.near(seconds, breaker:snapshot().next_change, 1e-6)
        neap.sleep(seconds)
        breaker:call(answer(500))
      end
      neap.sleep(35)
      breaker:call(answer(200))
      open(breaker) -- having been closed, it begins anew
      assert.near(10, breaker:snapshot().next_change, 1e-6)
    end)
  end)

  describe("half-open", function()
    it("lets no more trial calls through than asked for", function()
      local breaker = quick { half_open_calls = 2 }
      open(breaker)
      neap.sleep(10)
      local kinds = {}
      neap.map({ 1, 2, 3, 4 }, function(i)
        local _, err = breaker:call(function()
          neap.sleep(1)
          return status(200)
        end)
        kinds[i] = err and err.kind or "answered"
        if err then
          assert.is_nil(err.retry_after)
          assert.matches("is half%-open: all trial calls are under way", err.message)
        end
        return true
      end)
      assert.same({ "answered", "answered", "circuit_open", "circuit_open" }, kinds)
      assert.equal("closed", breaker:state())
    end)

    it("opens again as soon as the failure rate of the trials is certain", function()
      local breaker = quick { half_open_calls = 4, failure_rate = 0.5 }
      open(breaker)
      neap.sleep(10)
      breaker:call(answer(500))
      breaker:call(answer(200))
      assert.equal("half_open", breaker:state())
      breaker:call(answer(500))
      assert.equal("open", breaker:state())
      assert.equal("2 of 4 trial calls failed", breaker:snapshot().reason)
    end)

    it("closes when all trials have ended and few enough failed", function()
      local breaker = quick { half_open_calls = 4, failure_rate = 0.5 }
      open(breaker)
      neap.sleep(10)
      breaker:call(answer(500))
      call_times(breaker, 2, answer(200))
      assert.equal("half_open", breaker:state())
      breaker:call(answer(429))
      assert.equal("closed", breaker:state())
      assert.equal("4 trial calls, 1 failed", breaker:snapshot().reason)
      assert.equal(0, breaker:snapshot().calls)
    end)

    it("opens again when the trials are slow", function()
      local breaker = quick { slow_call_duration = 1, slow_call_rate = 1 }
      open(breaker)
      neap.sleep(10)
      breaker:call(neap.sleep, 1.5)
      assert.equal("open", breaker:state())
      assert.equal("1 of 1 trial calls were slow", breaker:snapshot().reason)
    end)

    it("gives a trial's place to another when it is cancelled, cut off, raises, or says nothing", function()
      local breaker = quick()
      local raises = quick()
      local function unjudged(one, fn)
        neap.sleep(10)
        fn(one)
        assert.equal("half_open", one:state())
        assert.equal(0, one:snapshot().trials)
      end
      open(breaker)
      unjudged(breaker, function()
        local task = neap.spawn(breaker.call, breaker, neap.sleep, 5)
        neap.sleep(1)
        assert.equal(1, breaker:snapshot().trials)
        task:cancel()
        task:await()
      end)
      unjudged(breaker, function() neap.timeout(1, breaker.call, breaker, neap.sleep, 5) end)
      unjudged(breaker, function() neap.policy { neap.deadline { seconds = 1 }, breaker }:call(neap.sleep, 5) end)
      unjudged(breaker, function() assert.is_false(pcall(breaker.call, breaker, error, "a bug")) end)
      unjudged(breaker, function()
        breaker:call(returns(nil, errors.new { kind = "queue_full", message = "ours" }))
      end)
      open(raises)
      raises:update { failure_on = function() error "in failure_on" end }
      unjudged(raises, function() assert.is_false(pcall(raises.call, raises, answer(200))) end)
      breaker:call(answer(200))
      assert.equal("closed", breaker:state())
    end)

    it("does not count a trial of an earlier time that it was half-open", function()
      local breaker = quick { half_open_calls = 2, failure_rate = 0.5 }
      open(breaker)
      neap.sleep(10)
      local late = neap.spawn(breaker.call, breaker, function()
        neap.sleep(11)
        return status(500)
      end)
      neap.sleep(0)
      breaker:call(answer(500)) -- one of two: opens
      neap.sleep(10)
      assert.equal("half_open", breaker:state())
      late:await()
      assert.equal("half_open", breaker:state())
      assert.equal(0, breaker:snapshot().trials)
      call_times(breaker, 2, answer(200))
      assert.equal("closed", breaker:state())
    end)
  end)
end)
