local backoff = require "neap.policy.backoff"
local core = require "neap.core"
local neap = require "neap"
local retries = require "spec.support.retry"

local OK, failure, fixed = retries.OK, retries.failure, retries.fixed
local script_of, status = retries.script_of, retries.status

describe("neap.retry", function()
  it("returns the first success, all results of it, with attempts noted", function()
    local res, second, third = fixed {}:call(function(a, b) return { status = 200, a = a }, nil, b end, 1, "x")
    assert.equal(1, res.a)
    assert.equal(1, res.attempts)
    assert.is_nil(second)
    assert.equal("x", third)
  end)

  it("passes its extra arguments to every attempt, nils included", function()
    local fn, calls = script_of { status(503), OK }
    fixed {}:call(fn, nil, "b", nil)
    assert.equal(2, calls.n)
    assert.same({ n = 3, [2] = "b" }, calls.args)
  end)

  it("waits base, then factor times as long each time, up to max", function()
    local fn, calls = script_of { status(503) }
    local began = neap.now()
    local res = fixed { max_attempts = 5, backoff = { base = 1, factor = 3, max = 10, jitter = "none" } }:call(fn)
    assert.equal(503, res.status)
    assert.equal(5, res.attempts)
    local gaps = {}
    for i = 2, 5 do gaps[i - 1] = calls.at[i] - calls.at[i - 1] end
    for i, expected in ipairs { 1, 3, 9, 10 } do assert.near(expected, gaps[i], 1e-6) end
    assert.near(23, neap.now() - began, 1e-6)
  end)

  it("counts the first call in max_attempts", function()
    local fn, calls = script_of { status(503) }
    assert.equal(1, fixed { max_attempts = 1 }:call(fn).attempts)
    assert.equal(1, calls.n)
  end)

  it("returns the last nil, err when it gives up, with attempts on the error", function()
    local fn, calls = script_of { failure { kind = "connect", message = "refused" } }
    local res, err = fixed { max_attempts = 2 }:call(fn)
    assert.is_nil(res)
    assert.equal("connect", err.kind)
    assert.equal(2, err.attempts)
    assert.equal(2, calls.n)
  end)

  it("lets a raised error through at once", function()
    local calls = 0
    assert.has_error(function()
      fixed {}:call(function()
        calls = calls + 1
        error("a bug", 0)
      end)
    end, "a bug")
    assert.equal(1, calls)
  end)

  it("asks retry_on about results, errors and the number of the attempt", function()
    local seen = {}
    local policy = fixed { max_attempts = 9, retry_on = function(result, err, attempt)
      seen[attempt] = { result, err }
      return attempt < 3
    end }
    local result = policy:call(function() return "fine" end)
    assert.equal("fine", result)
    assert.same({ { "fine" }, { "fine" }, { "fine" } }, seen)
  end)

  it("tells on_retry before each wait what happened and how long it waits", function()
    local events = {}
    local fn = script_of { status(503), failure { kind = "dns", message = "no such host" }, OK }
    fixed { on_retry = function(event) events[#events + 1] = event end }:call(fn)
    assert.equal(2, #events)
    assert.equal(1, events[1].attempt)
    assert.equal(503, events[1].result.status)
    assert.equal(1, events[1].wait)
    assert.equal("dns", events[2].err.kind)
    assert.equal(2, events[2].wait)
    assert.is_nil(events[2].hint)
  end)

  it("keeps nothing between calls, so tasks may share a policy", function()
    local policy = fixed { max_attempts = 3 }
    local results = neap.map({ 1, 2, 3 }, function(failing)
      local calls = 0
      return policy:call(function()
        calls = calls + 1
        return { status = calls < failing and 503 or 200, headers = {} }
      end)
    end, { concurrency = 3 })
    for i = 1, 3 do
      assert.equal(200, results[i].status)
      assert.equal(i, results[i].attempts)
    end
  end)

  it("is cancelled in its wait", function()
    local task, calls
    neap.scope(function(s)
      local fn
      fn, calls = script_of { status(503) }
      task = s:spawn(function() return fixed {}:call(fn) end)
      neap.sleep(0.5)
      task:cancel()
    end)
    assert.equal("cancelled", task:status())
    assert.equal(1, calls.n)
  end)

  describe("deadline", function()
    it("gives up at once when the next attempt could not begin in time", function()
      local fn, calls = script_of { status(503) }
      local began = neap.now()
      local res = fixed { max_attempts = 10, deadline = 5 }:call(fn)
      assert.equal(503, res.status)
      assert.equal(3, calls.n) -- at 0, 1 and 3; the next would be at 7
      assert.near(3, neap.now() - began, 1e-6)
    end)

    it("cuts off an attempt that runs past it", function()
      local began = neap.now()
      local res, err = fixed { deadline = 2 }:call(function() neap.sleep(100) end)
      assert.is_nil(res)
      assert.equal("timeout", err.kind)
      assert.equal(1, err.attempts)
      assert.near(2, neap.now() - began, 1e-6)
    end)
  end)

  describe("by default repeats", function()
    local function repeats(entry)
      local fn, calls = script_of { entry, OK }
      fixed {}:call(fn)
      return calls.n == 2
    end

    it("429, 503 and 529 whatever the request", function()
      for _, code in ipairs { 429, 503, 529 } do assert.is_true(repeats(status(code)), code) end
    end)

    it("408, 500, 502 and 504 only when the request was replay-safe", function()
      for _, code in ipairs { 408, 500, 502, 504 } do
        assert.is_false(repeats(status(code)), code)
        assert.is_true(repeats(status(code, {}, { replay_safe = true })), code)
      end
    end)

    it("no success, no redirect and no other error of the client", function()
      for _, code in ipairs { 200, 204, 301, 400, 401, 403, 404, 409, 413, 422, 501 } do
        assert.is_false(repeats(status(code, {}, { replay_safe = true })), code)
      end
    end)

    it("what was never sent", function()
      for _, kind in ipairs { "dns", "connect", "queue_full", "queue_timeout", "circuit_open" } do
        assert.is_true(repeats(failure { kind = kind, message = "x" }), kind)
      end
      assert.is_true(repeats(failure { kind = "timeout", message = "x", sent = "no" }))
    end)

    it("what may have been sent only when the request was replay-safe", function()
      for _, kind in ipairs { "timeout", "send", "receive" } do
        for _, sent in ipairs { "maybe", "yes" } do
          assert.is_false(repeats(failure { kind = kind, message = "x", sent = sent }), kind)
          assert.is_true(repeats(failure { kind = kind, message = "x", sent = sent, replay_safe = true }), kind)
        end
      end
      assert.is_false(repeats(failure { kind = "timeout", message = "of neap.timeout" }))
    end)

    it("no error that is not retryable", function()
      for _, kind in ipairs { "tls", "protocol", "too_large", "invalid", "decode", "closed", "internal" } do
        assert.is_false(repeats(failure { kind = kind, message = "x", sent = "no", replay_safe = true }), kind)
      end
    end)

    it("kind status like the status itself", function()
      assert.is_true(repeats(failure { kind = "status", message = "x", status = 503 }))
      assert.is_false(repeats(failure { kind = "status", message = "x", status = 500 }))
    end)

    it("what the server says in x-should-retry, above all", function()
      assert.is_false(repeats(status(503, { ["x-should-retry"] = "false" })))
      assert.is_true(repeats(status(400, { ["x-should-retry"] = "true" })))
    end)

    it("a foreign error that calls itself retryable", function()
      assert.is_true(repeats { nil, { retryable = true } })
      assert.is_false(repeats { nil, { retryable = false } })
      assert.is_false(repeats { nil, "a string" })
    end)

    it("no plain value", function()
      for _, value in ipairs { true, 5, "text" } do assert.is_false(repeats { value }) end
      assert.is_false(repeats {})
    end)
  end)

  describe("backoff", function()
    local settings = { base = 2, factor = 2, max = 10 }
    local function of(jitter, n, draw, previous)
      settings.jitter = jitter
      return backoff.wait(settings, n, function() return draw end, previous)
    end

    it("with full jitter lies between 0 and the bound", function()
      assert.equal(0, of("full", 3, 0))
      assert.equal(4, of("full", 3, 0.5))
      assert.equal(5, of("full", 9, 0.5))
    end)

    it("with equal jitter lies between half the bound and the bound", function()
      assert.equal(4, of("equal", 3, 0))
      assert.equal(6, of("equal", 3, 0.5))
    end)

    it("with decorrelated jitter lies between base and three times the wait before", function()
      assert.equal(2, of("decorrelated", 1, 0))
      assert.equal(4, of("decorrelated", 1, 0.5))
      assert.equal(5.5, of("decorrelated", 2, 0.5, 3))
      assert.equal(10, of("decorrelated", 3, 0.9, 9))
    end)

    it("stays at max however many attempts have failed", function()
      assert.equal(10, of("none", 5000, 0))
    end)

    it("without a base is 0", function()
      assert.equal(0, backoff.wait({ base = 0, factor = 1000, max = 1, jitter = "none" }, 5000, core.random))
    end)

    it("draws from the runtime's seeded stream", function()
      local function waits()
        core.reseed(42)
        local list = {}
        local fn = script_of { status(503) }
        neap.retry { max_attempts = 4, on_retry = function(event) list[#list + 1] = event.wait end }:call(fn)
        return list
      end
      local first = waits()
      assert.equal(3, #first)
      assert.same(first, waits())
      for i, wait in ipairs(first) do assert.is_true(wait >= 0 and wait <= 0.5 * 2 ^ (i - 1)) end
    end)
  end)

  describe("backoff of another kind", function()
    local function gaps_of(options, count)
      local fn, calls = script_of { status(503) }
      options.max_attempts = count + 1
      neap.retry(options):call(fn)
      local gaps = {}
      for i = 2, calls.n do gaps[i - 1] = math.floor((calls.at[i] - calls.at[i - 1]) * 1e6 + 0.5) / 1e6 end
      return gaps
    end

    it("grows linearly", function()
      assert.same({ 2, 4, 5 }, gaps_of({ backoff = { kind = "linear", base = 2, max = 5, jitter = "none" } }, 3))
    end)

    it("stays fixed", function()
      assert.same({ 3, 3, 3 }, gaps_of({ backoff = { kind = "fixed", base = 3, jitter = "none" } }, 3))
    end)

    it("is what a function says for the attempt that failed", function()
      assert.same({ 10, 20 }, gaps_of({ backoff = function(attempt) return attempt * 10 end }, 2))
    end)

    it("gets the error too", function()
      local seen
      local fn = script_of { failure { kind = "connect", message = "refused" }, OK }
      neap.retry { backoff = function(_, err) seen = err.kind; return 0 end }:call(fn)
      assert.equal("connect", seen)
    end)

    it("must be seconds", function()
      for _, wrong in ipairs { -1, 0 / 0, math.huge, "1" } do
        local ok, message = pcall(gaps_of, { backoff = function() return wrong end }, 1)
        assert.is_false(ok)
        assert.matches("'backoff' must return seconds", message)
      end
    end)
  end)

  describe("another retry around it", function()
    it("is the only loop", function()
      local inner = 0
      local res = fixed { max_attempts = 3 }:call(function()
        return neap.retry { max_attempts = 5, backoff = { base = 0 } }:call(function()
          inner = inner + 1
          return status(503)[1]
        end)
      end)
      assert.equal(3, inner)
      assert.equal(3, res.attempts)
    end)

    it("leaves it a loop of its own where it asks for one", function()
      local inner = 0
      fixed { max_attempts = 3 }:call(function()
        return neap.retry { max_attempts = 5, backoff = { base = 0 }, nested = true }:call(function()
          inner = inner + 1
          return status(503)[1]
        end)
      end)
      assert.equal(15, inner)
    end)

    it("does not count once it has ended", function()
      fixed {}:call(function() end)
      assert.equal(3, fixed {}:call((script_of { status(503) })).attempts)
    end)
  end)

  describe("budget", function()
    it("is asked before every retry, and its no ends the call", function()
      local fn, calls = script_of { status(503) }
      local budget = neap.retry_budget { per_call = 0, initial = 3, cap = 3 } -- a retry needs more than 1
      local res = fixed { max_attempts = 10, budget = budget }:call(fn)
      assert.equal(503, res.status)
      assert.equal("budget", res.gave_up)
      assert.equal(3, calls.n)
    end)

    it("is made of options too", function()
      local fn, calls = script_of { status(503) }
      fixed { max_attempts = 10, budget = { per_call = 0, initial = 0 } }:call(fn)
      assert.equal(1, calls.n)
    end)

    it("hears the end of every attempt, also of one that raised or was cancelled in its backoff", function()
      local budget = neap.retry_budget { form = "envoy", ratio = 0, min_concurrency = 1 }
      local retry = fixed { max_attempts = 3, budget = budget }
      assert.has_error(function() retry:call(function() error "bug" end) end)
      local task = neap.spawn(retry.call, retry, (script_of { status(503) }))
      neap.sleep(0.5)
      task:cancel()
      task:await()
      assert.equal(3, fixed { max_attempts = 3, budget = budget }:call((script_of { status(503) })).attempts)
    end)
  end)

  it("takes math.huge attempts", function()
    local n = 0
    local res = neap.retry { max_attempts = math.huge, backoff = { base = 0 } }:call(function()
      n = n + 1
      return n < 1000 and status(503)[1] or status(200)[1]
    end)
    assert.equal(1000, res.attempts)
  end)

  describe("refuses", function()
    local function message_of(fn, ...)
      local ok, message = pcall(fn, ...)
      assert.is_false(ok)
      return tostring(message)
    end

    it("unknown options, with the nearest known one", function()
      assert.matches("did you mean 'max_attempts'", message_of(neap.retry, { max_attempt = 3 }))
      assert.matches("did you mean 'jitter'", message_of(neap.retry, { backoff = { jiter = "full" } }))
    end)

    it("values out of range", function()
      assert.matches("max_attempts", message_of(neap.retry, { max_attempts = 0 }))
      assert.matches("max_attempts", message_of(neap.retry, { max_attempts = 1.5 }))
      assert.matches("jitter", message_of(neap.retry, { backoff = { jitter = "some" } }))
      assert.matches("deadline", message_of(neap.retry, { deadline = 0 }))
      assert.matches("'jitter' = \"decorrelated\" goes with", message_of(neap.retry,
        { backoff = { kind = "linear", jitter = "decorrelated" } }))
      assert.matches("one of exponential, linear, fixed", message_of(neap.retry, { backoff = { kind = "cubic" } }))
    end)

    it("to call what is no function", function()
      assert.matches("needs a function", message_of(neap.retry {}.call, neap.retry {}, { 1 }))
    end)
  end)
end)
