-- SPDX-License-Identifier: MIT
local neap = require "neap"
local telemetry = require "neap.telemetry"
local breakers = require "spec.support.breaker"

local answer, call_times, open = breakers.answer, breakers.call_times, breakers.open
local quick, status = breakers.quick, breakers.status

--- The states that it went through, in on_change's words.
local function changes_of(opts)
  local seen = {}
  opts.on_change = function(event) seen[#seen + 1] = event.from .. " > " .. event.to end
  return seen
end

describe("neap.circuit_breaker", function()
  describe("by hand", function()
    it("refuses everything while isolated, however long, and names the reason", function()
      local breaker = quick()
      breaker:isolate "moving the database"
      neap.sleep(1000)
      local _, err = breaker:call(answer(200))
      assert.equal("circuit_open", err.kind)
      assert.equal("the breaker is isolated: moving the database", err.message)
      assert.is_nil(err.retry_after)
      assert.is_nil(breaker:snapshot().next_change)
    end)

    it("lets calls under way go on when it is isolated, and does not count them", function()
      local breaker = quick()
      local task = neap.spawn(breaker.call, breaker, function()
        neap.sleep(5)
        return status(500)
      end)
      neap.sleep(1)
      breaker:isolate()
      assert.equal(500, task:await().status)
      breaker:reset()
      assert.same({ "closed", 0 }, { breaker:state(), breaker:snapshot().calls })
    end)

    it("closes by reset, whatever it was, and forgets what was", function()
      local breaker = quick { open_duration_factor = 2 }
      open(breaker)
      breaker:reset()
      assert.equal(200, breaker:call(answer(200)).status)
      assert.equal("reset by hand", breaker:snapshot().reason)
      breaker:call(answer(500))
      breaker:reset()
      breaker:call(answer(500))
      assert.equal("closed", breaker:state())
      open(breaker)
      assert.near(10, breaker:snapshot().next_change, 1e-6)
    end)

    it("isolates states that come later, too, until all are reset", function()
      local breaker = quick { key = function(_, host) return host end }
      breaker:isolate "maintenance"
      local function kind_at(host)
        local result, err = breaker:call(answer(200), host)
        return result and "answered" or err.kind
      end
      assert.equal("circuit_open", kind_at "a")
      breaker:reset "a"
      assert.same({ "answered", "circuit_open" }, { kind_at "a", kind_at "b" })
      breaker:reset()
      assert.same({ "answered", "answered" }, { kind_at "b", kind_at "c" })
    end)

    it("says what it wants where it is given something else", function()
      local breaker = quick()
      assert.has_error(function() breaker:isolate {} end,
        "neap.circuit_breaker: isolate: reason must be a string, got table")
      assert.has_error(function() breaker:reset(1) end, "neap.circuit_breaker: reset: key must be a string, got number")
    end)
  end)

  describe("with keys", function()
    local function per_host(opts)
      opts = opts or {}
      opts.key = function(_, host) return host end
      return quick(opts)
    end

    it("has a state for each", function()
      local breaker = per_host()
      for _ = 1, 2 do breaker:call(answer(500), "a") end
      assert.same({ "open", "closed" }, { breaker:state "a", breaker:state "b" })
      local _, err = breaker:call(answer(200), "a")
      assert.equal("the breaker of 'a' is open: 2 failures in a row", err.message)
      assert.equal(200, breaker:call(answer(200), "b").status)
      breaker:isolate("being replaced", "b")
      assert.same({ "open", "isolated" }, { breaker:state "a", breaker:state "b" })
    end)

    it("shows the gravest one on top, and each by its key", function()
      local breaker = per_host()
      assert.same({ "closed" }, { breaker:snapshot().state, breaker:snapshot().keys })
      for _ = 1, 2 do breaker:call(answer(500), "a") end
      breaker:call(answer(200), "b")
      local shown = breaker:snapshot()
      assert.same({ "open", "2 failures in a row" }, { shown.state, shown.reason })
      assert.near(10, shown.next_change, 1e-6)
      assert.equal("open", shown.keys.a.state)
      assert.same({ state = "closed", calls = 1, failed = 0, slow = 0 }, shown.keys.b)
      breaker:isolate("by hand", "b")
      assert.equal("isolated", breaker:snapshot().state)
    end)

    it("has one state for each endpoint of a router, without being told", function()
      local breaker = quick()
      local policy = neap.policy {
        neap.router { endpoints = { { name = "east" }, { name = "west" } }, strategy = "order" }, breaker,
      }
      for _ = 1, 2 do
        policy:call(function(endpoint) return status(endpoint.name == "east" and 500 or 200) end)
      end
      assert.same({ "open", "closed" }, { breaker:state "east", breaker:state "west" })
    end)

    it("raises when the key is no string", function()
      local breaker = quick { key = function() return 7 end }
      local ok, err = pcall(breaker.call, breaker, answer(200))
      assert.is_false(ok)
      assert.matches("option 'key' must return a string, got number", tostring(err))
    end)
  end)

  describe("tells", function()
    it("on_change every change of state, with its reason", function()
      local events = {}
      local breaker = quick { on_change = function(event) events[#events + 1] = event end }
      open(breaker)
      neap.sleep(10)
      breaker:call(answer(200))
      breaker:isolate "by hand"
      breaker:isolate "still" -- no change
      breaker:reset()
      breaker:reset()
      local seen = {}
      for i, event in ipairs(events) do seen[i] = { event.from, event.to, event.reason } end
      assert.same({
        { "closed", "open", "2 failures in a row" }, { "open", "half_open", "the open duration has passed" },
        { "half_open", "closed", "1 trial calls, 0 failed" }, { "closed", "isolated", "by hand" },
        { "isolated", "closed", "reset by hand" },
      }, seen)
      assert.near(10, events[1].next_change, 1e-6)
      assert.is_nil(events[2].next_change)
      assert.equal("", events[1].key)
    end)

    it("notices that the open duration has passed when somebody looks", function()
      local opts = { consecutive_failures = 1, open_duration = 1 }
      local seen = changes_of(opts)
      local breaker = neap.circuit_breaker(opts)
      breaker:call(answer(500))
      neap.sleep(100)
      assert.same({ "closed > open" }, seen)
      breaker:snapshot()
      assert.same({ "closed > open", "open > half_open" }, seen)
    end)

    it("neap.telemetry the same", function()
      local events = {}
      local stop = telemetry.subscribe(function(event)
        if event.kind == "circuit_breaker" then events[#events + 1] = event end
      end)
      local breaker = quick { name = "upstream", key = function() return "k" end }
      call_times(breaker, 2, answer(500))
      stop()
      assert.equal(1, #events)
      local event = events[1]
      assert.same({ "upstream", "open", "closed", "k", "2 failures in a row" },
        { event.source, event.event, event.from, event.key, event.reason })
    end)

    it("lets its listener act on it", function()
      local breaker
      breaker = quick { on_change = function(event)
        if event.to == "open" then breaker:reset() end
      end }
      call_times(breaker, 2, answer(500))
      assert.equal("closed", breaker:state())
      assert.equal(500, breaker:call(answer(500)).status)
    end)

    it("lets the call through that notices the half-open state, when its listener closes it", function()
      local breaker
      breaker = quick { on_change = function(event)
        if event.to == "half_open" then breaker:reset() end
      end }
      open(breaker)
      neap.sleep(10)
      assert.equal(200, breaker:call(answer(200)).status)
      assert.same({ "closed", 1 }, { breaker:state(), breaker:snapshot().calls })
    end)
  end)

  describe("options", function()
    it("name what is accepted where they are wrong", function()
      local cases = {
        { { failure_rate = 0 }, "'failure_rate' must be above 0, got 0" },
        { { failure_rate = 1.5 }, "'failure_rate' must be at most 1, got 1.5" },
        { { consecutive_failures = 0 }, "'consecutive_failures' must be at least 1, got 0" },
        { { window = "counts" }, "'window' must be one of count, time, got counts" },
        { { half_open_calls = 0 }, "'half_open_calls' must be at least 1, got 0" },
        { { open_duration = -1 }, "'open_duration' must be above 0, got %-1" },
        { { slow_call_rat = 1 }, "'slow_call_rat' is unknown; did you mean 'slow_call_rate'?" },
        { { minimum_calls = 30, window_size = 25 },
          "'minimum_calls' must be at most 'window_size' %(25%), got 30" },
        { { max_open_duration = 4 }, "'max_open_duration' must be at least 'open_duration' %(5%), got 4" },
      }
      for _, case in ipairs(cases) do
        local ok, message = pcall(neap.circuit_breaker, case[1])
        assert.is_false(ok)
        assert.matches("neap.circuit_breaker: option " .. case[2], message)
      end
    end)

    it("move defaults out of the way of what was asked for", function()
      local breaker = neap.circuit_breaker { window_size = 4, open_duration = 90 }
      call_times(breaker, 3, answer(500))
      assert.equal("closed", breaker:state())
      breaker:call(answer(500))
      assert.near(90, breaker:snapshot().next_change, 1e-6)
      local by_time = neap.circuit_breaker { window = "time", window_size = 4 }
      call_times(by_time, 19, answer(500))
      assert.equal("closed", by_time:state())
    end)

    it("move a default again when what it made room for changes", function()
      local breaker = neap.circuit_breaker { open_duration = 90 }
      breaker:update { open_duration = 120 }
      assert.equal(120, breaker.options.max_open_duration)
      breaker:update { open_duration = 5 }
      assert.equal(60, breaker.options.max_open_duration)
      breaker:update { max_open_duration = 100 }
      assert.has_error(function() breaker:update { open_duration = 120 } end,
        "neap.circuit_breaker: option 'max_open_duration' must be at least 'open_duration' (120), got 100")
      assert.same({ 5, 100 }, { breaker.options.open_duration, breaker.options.max_open_duration })
    end)

    it("move a default again after an update that was undone", function()
      local policy = neap.policy { neap.circuit_breaker { open_duration = 90 }, neap.fallback { value = 1 } }
      assert.has_error(function()
        policy:update { circuit_breaker = { open_duration = 120 }, fallback = { with = print } }
      end)
      local breaker = policy:layer "circuit_breaker"
      assert.same({ 90, 90 }, { breaker.options.open_duration, breaker.options.max_open_duration })
      policy:update { circuit_breaker = { open_duration = 100 } }
      assert.equal(100, breaker.options.max_open_duration)
    end)

    it("change in use, for every state that there is", function()
      local breaker = neap.circuit_breaker { minimum_calls = 100, key = function(_, host) return host end }
      for _ = 1, 10 do
        breaker:call(answer(500), "a")
        breaker:call(answer(500), "b")
      end
      breaker:update { minimum_calls = 11 }
      breaker:call(answer(500), "a")
      assert.same({ "open", "closed" }, { breaker:state "a", breaker:state "b" })
      assert.has_error(function() breaker:update { window = "time" } end,
        "neap.circuit_breaker: update: option 'window' cannot change while it is in use")
      assert.has_error(function() breaker:update { minimum_calls = 200 } end)
      breaker:call(answer(500), "b")
      assert.equal("open", breaker:state "b") -- what was refused changed nothing
    end)

    it("need fewer trials at once when it is half-open", function()
      local breaker = quick { half_open_calls = 5 }
      open(breaker)
      neap.sleep(10)
      call_times(breaker, 3, answer(200))
      assert.equal("half_open", breaker:state())
      breaker:update { half_open_calls = 2 }
      assert.equal("closed", breaker:state())
    end)

    it("judge slowness only of calls that began when it was asked for", function()
      local breaker = neap.circuit_breaker { minimum_calls = 1 }
      local task = neap.spawn(breaker.call, breaker, neap.sleep, 5)
      neap.sleep(1)
      breaker:update { slow_call_duration = 1 }
      task:await()
      assert.same({ "closed", 0 }, { breaker:state(), breaker:snapshot().slow })
    end)
  end)
end)
