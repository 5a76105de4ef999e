-- SPDX-License-Identifier: MIT
local core = require "neap.core"
local errors = require "neap.error"
local layer = require "neap.policy.layer"
local neap = require "neap"

local NO_WAIT = { base = 0 }

local function response(status, fields)
  local res = { status = status, headers = {} }
  for key, value in pairs(fields or {}) do res[key] = value end
  return res
end

--- A layer that takes a permit of a semaphore, as bulkheads do.
local function permits(limit, log)
  local semaphore = neap.semaphore(limit)
  return setmetatable({
    kind = "bulkhead", name = "permits", options = {}, semaphore = semaphore,
    run = function(self, call, next, ...)
      semaphore:acquire()
      call:hold(self)
      local function leave(...)
        if call:release(self) then semaphore:release() end
        return ...
      end
      return leave(next(call, ...))
    end,
    give_back = function() log[#log + 1] = "given back"; semaphore:release() end,
    take_back = function() semaphore:acquire(); log[#log + 1] = "taken back" end,
  }, getmetatable(require("neap.retry").new()))
end

describe("neap.policy", function()
  it("passes arguments in and all results out", function()
    local policy = neap.policy { neap.retry {} }
    local a, b, c = policy:call(function(...) return select("#", ...), nil, (select(2, ...)) end, nil, "x", nil)
    assert.equal(3, a)
    assert.is_nil(b)
    assert.equal("x", c)
  end)

  it("runs the first layer outermost", function()
    local limiter = neap.rate_limiter { rate = 1, burst = 1 }
    local calls, policy = 0, neap.policy { neap.retry { backoff = NO_WAIT }, limiter }
    local began = neap.now()
    policy:call(function()
      calls = calls + 1
      return response(503)
    end)
    assert.equal(3, calls)
    assert.near(2, neap.now() - began, 1e-6) -- each attempt took its turn
  end)

  it("says on the result how often the function ran and where the seconds went", function()
    local policy = neap.policy {
      neap.retry { backoff = { base = 4, jitter = "none" } },
      neap.rate_limiter { rate = 0.1, burst = 1 },
    }
    local n = 0
    local res = policy:call(function()
      n = n + 1
      neap.sleep(1)
      return response(n == 1 and 503 or 200)
    end)
    assert.equal(2, res.attempts)
    assert.near(4, res.spent.backoff, 1e-6)
    assert.near(5, res.spent.pace, 1e-6)
    assert.near(2, res.spent.wire, 1e-6)
    assert.near(11, res.spent.total, 1e-6)
    assert.equal(0, res.spent.queue)
  end)

  it("says so on an error too", function()
    local _, err = neap.policy { neap.retry { backoff = NO_WAIT } }:call(function()
      return nil, errors.new { kind = "connect", message = "refused" }
    end)
    assert.equal(3, err.attempts)
    assert.equal(3, err.spent.attempts)
    assert.equal("attempts", err.gave_up)
  end)

  it("lets raised errors through with their traceback, and gives permits back", function()
    local log = {}
    local held = permits(1, log)
    local policy = neap.policy { held, neap.retry {} }
    local ok, err = pcall(policy.call, policy, function() error { kind = "mine" } end)
    assert.is_false(ok)
    assert.equal("mine", err.kind)
    assert.same({ "given back" }, log)
    assert.equal(0, held.semaphore:held())
  end)

  it("holds no permit during a backoff, wherever the permit's layer stands", function()
    local log = {}
    local held = permits(1, log)
    local policy = neap.policy { held, neap.retry { backoff = { base = 10, jitter = "none" } } }
    local n = 0
    local task = neap.spawn(policy.call, policy, function()
      n = n + 1
      return response(n == 1 and 503 or 200)
    end)
    neap.sleep(5)
    local free = held.semaphore:available()
    task:await()
    assert.equal(1, free)
    assert.same({ "given back", "taken back" }, log)
    assert.equal(0, held.semaphore:held())
  end)

  it("gives permits back once when the call is cancelled in its backoff", function()
    local log = {}
    local held = permits(1, log)
    local policy = neap.policy { held, neap.retry { backoff = { base = 10, jitter = "none" } } }
    local task = neap.spawn(policy.call, policy, function() return response(503) end)
    neap.sleep(5)
    task:cancel()
    task:await()
    assert.equal(0, held.semaphore:held())
    assert.same({ "given back" }, log)
  end)

  it("has one idempotency key a call, the same for every attempt", function()
    local keys = {}
    local policy = neap.policy { neap.retry { backoff = NO_WAIT } }
    for _ = 1, 2 do
      policy:call(function()
        keys[#keys + 1] = require("neap.policy.call").of():idempotency_key()
        return response(503)
      end)
    end
    assert.equal(6, #keys)
    assert.equal(keys[1], keys[2])
    assert.equal(keys[1], keys[3])
    assert.are_not.equal(keys[1], keys[4])
    assert.matches("^neap%-%x+$", keys[1])
    assert.equal(37, #keys[1])
  end)

  it("has keys for calls inside a call that outlive the outer attempt", function()
    local calls, keys = require "neap.policy.call", {}
    neap.retry { backoff = NO_WAIT, max_attempts = 2 }:call(function()
      for _ = 1, 2 do
        neap.policy { neap.rate_limiter { rate = 1e6 } }:call(function()
          keys[#keys + 1] = calls.of():idempotency_key()
        end)
      end
      return response(503)
    end)
    assert.equal(keys[1], keys[3])
    assert.equal(keys[2], keys[4])
    assert.are_not.equal(keys[1], keys[2])
  end)

  it("takes pipelines and rate limiters as parts", function()
    local inner = neap.policy { neap.rate_limiter { rate = 10 } }
    local policy = neap.policy { neap.retry {}, inner }
    assert.equal("pace", policy.layers[2].kind)
  end)

  it("describes itself, outermost first", function()
    local text = neap.policy { neap.retry { max_attempts = 7 }, neap.rate_limiter { rate = 10 } }:describe()
    assert.matches("1%. retry max_attempts=7\n  2%. pace", text)
  end)

  it("tells the state of every layer", function()
    local policy = neap.policy { neap.retry {}, neap.rate_limiter { rate = 1, burst = 1 } }
    neap.scope(function(s)
      for _ = 1, 3 do s:spawn(policy.call, policy, function() end) end
      neap.sleep(0.5)
      local state = policy:snapshot()
      assert.equal("retry", state[1].kind)
      assert.equal(2, state[2].waiting)
      assert.equal("pacing", state[2].state)
    end)
  end)

  describe("refuses", function()
    local function message_of(...)
      local ok, message = pcall(...)
      assert.is_false(ok)
      return message
    end

    it("what is no policy, naming the entry", function()
      assert.matches("entry 2 must be a policy .* got number", message_of(neap.policy, { neap.retry {}, 3 }))
      assert.matches("needs a list", message_of(neap.policy, {}))
      assert.matches("needs a list", message_of(neap.policy, 7))
    end)

    it("a rate limiter that is there twice", function()
      local limiter = neap.rate_limiter { rate = 5 }
      assert.matches("the rate limiter of 'pace' is there twice: it would charge each send twice",
        message_of(neap.policy, { limiter, neap.retry(), neap.pace { limiter = limiter } }))
    end)

    it("a policy that is there twice, also through a pipeline", function()
      local retry = neap.retry { name = "mine" }
      assert.matches("'mine' is there twice", message_of(neap.policy, { retry, neap.policy { retry } }))
    end)

    it("two retry loops", function()
      assert.matches("two retry loops", message_of(neap.policy, { neap.retry {}, neap.retry {} }))
    end)

    it("an update of a layer that is not there, and changes nothing when one value is wrong", function()
      local policy = neap.policy { neap.retry { max_attempts = 5 }, neap.rate_limiter { rate = 1 } }
      assert.matches("no layer 'hedge'; there are retry, pace", message_of(policy.update, policy, { hedge = {} }))
      assert.matches("observe", message_of(policy.update, policy,
        { retry = { max_attempts = 2 }, pace = { observe = 3 } }))
      assert.equal(5, policy:layer("retry").options.max_attempts)
    end)

    it("to change what is fixed while in use", function()
      local policy = neap.policy { neap.rate_limiter { rate = 1 } }
      assert.matches("'limiter' cannot change", message_of(policy.update, policy,
        { pace = { limiter = { rate = 2 } } }))
    end)

    it("to call what is no function", function()
      local policy = neap.policy { neap.retry {} }
      assert.matches("needs a function", message_of(policy.call, policy, 3))
    end)
  end)

  describe("warns", function()
    local function warnings_of(parts)
      local log, said = core.log, {}
      core.log = function(level, text) said[#said + 1] = level .. ": " .. text end
      local ok, policy = pcall(neap.policy, parts)
      core.log = log
      assert(ok, policy)
      return said, policy
    end

    it("about a limiter outside the retry, in the log and in describe", function()
      local said, policy = warnings_of { neap.rate_limiter { rate = 1 }, neap.retry {} }
      assert.equal(1, #said)
      assert.matches("^warning: neap.policy: the rate limiter stands outside the retry", said[1])
      assert.matches("warning: the rate limiter", policy:describe())
    end)

    it("about other orders that nobody wants", function()
      local retry = function() return neap.retry {} end
      for text, parts in pairs {
        ["fallback stands inside the retry"] = { retry(), neap.fallback { value = 1 } },
        ["hedge stands outside the retry"] = { neap.hedge { delay = 1 }, retry() },
        ["breaker stands outside the retry"] = { neap.circuit_breaker {}, retry() },
        ["limiter stands outside the cache"] = { neap.rate_limiter { rate = 1 }, neap.cache { ttl = 1 } },
        ["limiter stands outside the router"] = { neap.rate_limiter { rate = 1 },
          neap.router { endpoints = { { name = "a" } } } },
      } do
        assert.matches(text, table.concat(warnings_of(parts), "\n"))
      end
    end)

    it("about what holds a permit for nothing", function()
      local said = warnings_of { neap.bulkhead { limit = 1 }, neap.cache { ttl = 1 } }
      assert.matches("the cache stands inside the bulkhead", said[1])
    end)

    it("of a retry that an endpoint has of its own", function()
      local router = neap.router { endpoints = { { name = "a", policy = neap.retry {} } } }
      assert.matches("stands outside the retry", table.concat(warnings_of { neap.throttle {}, router }, "\n"))
    end)

    it("about nothing in the recommended order", function()
      assert.same({}, (warnings_of { neap.retry {}, neap.rate_limiter { rate = 1 } }))
    end)
  end)

  describe("update", function()
    it("retunes live, nested options field by field", function()
      local policy = neap.policy { neap.retry { backoff = { base = 3, jitter = "none" }, max_attempts = 2 } }
      policy:update { retry = { backoff = { base = 7 } } }
      local began = neap.now()
      policy:call(function() return response(503) end)
      assert.near(7, neap.now() - began, 1e-6)
    end)

    it("works on a single policy and is told to listeners", function()
      local seen = {}
      local unsubscribe = neap.telemetry.subscribe(function(event) seen[#seen + 1] = event end)
      local retry = neap.retry { name = "r" }
      retry:update { max_attempts = 1 }
      unsubscribe()
      assert.equal(1, retry:call(function() return response(503) end).attempts)
      assert.equal("update", seen[1].event)
      assert.equal("r", seen[1].source)
      assert.equal("manual", seen[1].reason)
    end)
  end)
end)

describe("neap.explain", function()
  it("names the policy that a call waits in, why, and for how long", function()
    local policy = neap.policy {
      neap.retry { backoff = { base = 4, jitter = "none" } },
      neap.rate_limiter { rate = 0.1, burst = 1 },
    }
    local task = neap.spawn(policy.call, policy, function()
      neap.sleep(1)
      return response(503)
    end)
    neap.sleep(0.5)
    assert.equal("in the function", neap.explain(task).reason)
    neap.sleep(1)
    local found = neap.explain(task)
    assert.equal("retry", found.policy)
    assert.equal("backoff", found.reason)
    assert.near(3.5, found.wait, 1e-6)
    assert.equal(1, found.attempts)
    assert.matches("^retry: backoff, for 3%.5 s more %(attempts 1, 1%.5 s so far%)$", tostring(found))
    neap.sleep(4)
    found = neap.explain(task)
    assert.equal("pace", found.policy)
    assert.near(4.5, found.wait, 1e-6) -- the next turn is ten seconds after the first
    task:await()
    assert.is_nil(neap.explain(task))
  end)

  it("finds the outer call again once an inner one has ended", function()
    local outer, inner = neap.retry { name = "outer" }, neap.retry { name = "inner" }
    local task = neap.spawn(outer.call, outer, function()
      inner:call(function() end)
      neap.sleep(1)
    end)
    neap.sleep(0.5)
    assert.equal(1, neap.explain(task).attempts)
    task:await()
  end)
end)

describe("neap.telemetry", function()
  it("tells every attempt and the whole call", function()
    local seen = {}
    local unsubscribe = neap.telemetry.subscribe(function(event) seen[#seen + 1] = event end)
    neap.policy { name = "api", neap.retry { backoff = { base = 2, jitter = "none" }, max_attempts = 2 } }
      :call(function() return response(503) end)
    unsubscribe()
    assert.equal("retry", seen[1].event)
    assert.equal("503", seen[1].reason)
    assert.near(2, seen[1].wait, 1e-9)
    assert.equal("gave_up", seen[2].event)
    assert.equal("attempts", seen[2].reason)
    assert.equal("call", seen[3].event)
    assert.equal("api", seen[3].source)
    assert.equal(2, seen[3].spent.attempts)
  end)

  it("goes on when a listener fails", function()
    local log, said, seen = core.log, nil, 0
    local first = neap.telemetry.subscribe(function() error "broken" end)
    local second = neap.telemetry.subscribe(function() seen = seen + 1 end)
    core.log = function(_, text) said = text end
    neap.retry {}:call(function() end)
    core.log = log
    first()
    second()
    assert.equal(1, seen)
    assert.matches("broken", said)
  end)

  it("is silent after unsubscribing", function()
    neap.telemetry.subscribe(function() end)()
    assert.is_false(neap.telemetry.active)
  end)
end)

describe("a layer", function()
  it("is recognised", function()
    assert.is_true(layer.is(neap.retry {}))
    assert.is_false(layer.is({}))
    assert.is_false(layer.is(3))
  end)

  it("may not release what it does not hold", function()
    local retry = neap.retry {}
    retry:call(function()
      assert.has_error(function() require("neap.policy.call").of():release(retry) end)
    end)
  end)
end)
