-- SPDX-License-Identifier: MIT
-- The layer around the controllers: permits, keys, lines and what it tells.
local neap = require "neap"
local telemetry = require "neap.telemetry"

local function status(code, headers) return { status = code, headers = headers or {} } end

--- A function that answers with `code` after `seconds`.
local function takes(seconds, code)
  return function()
    neap.sleep(seconds)
    return status(code or 200)
  end
end

--- Starts n calls; returns their tasks.
local function start(adaptive, n, fn, ...)
  local tasks = {}
  for i = 1, n do tasks[i] = neap.spawn(adaptive.call, adaptive, fn, ...) end
  neap.sleep(0)
  return tasks
end

local function await_all(tasks)
  for _, task in ipairs(tasks) do task:await() end
end

--- Counts how many run at a time.
local function counted(seconds, code)
  local counter = { now = 0, peak = 0 }
  counter.fn = function()
    counter.now = counter.now + 1
    counter.peak = math.max(counter.peak, counter.now)
    neap.sleep(seconds)
    counter.now = counter.now - 1
    return status(code or 200)
  end
  return counter
end

local function held(adaptive, key)
  local snapshot = adaptive:snapshot()
  if key then snapshot = snapshot.keys[key] end
  return { snapshot.held, snapshot.waiting }
end

describe("neap.adaptive", function()
  describe("as a limit", function()
    it("lets no more calls through at a time than its limit", function()
      local adaptive, counter = neap.adaptive { start = 3 }, counted(1)
      local tasks = start(adaptive, 7, counter.fn)
      assert.same({ 3, 4 }, held(adaptive))
      assert.equal("full", adaptive:snapshot().state)
      await_all(tasks)
      assert.equal(3, counter.peak)
      assert.same({ 0, 0 }, held(adaptive))
      assert.equal("open", adaptive:snapshot().state)
    end)

    it("passes results and arguments on as they are", function()
      local adaptive = neap.adaptive {}
      local a, b = adaptive:call(function(...) return select("#", ...), ... end, nil, "x")
      assert.same({ 2, nil }, { a, b })
      local result, err = adaptive:call(function() return nil, "no" end)
      assert.same({ nil, "no" }, { result, err })
    end)

    it("counts the seconds in line as the call's queue", function()
      local adaptive = neap.adaptive { start = 1 }
      local tasks = start(adaptive, 2, takes(2))
      assert.equal(0, tasks[1]:await().spent.queue)
      assert.near(2, tasks[2]:await().spent.queue, 1e-9)
    end)

    it("grows while its calls are answered", function()
      local adaptive = neap.adaptive { start = 4 }
      local tasks = start(adaptive, 300, takes(0.1))
      await_all(tasks)
      assert.is_true(adaptive:limit() > 4)
    end)

    it("does not grow when it is not used", function()
      local adaptive = neap.adaptive { start = 20 }
      for _ = 1, 300 do adaptive:call(takes(0.1)) end
      assert.equal(20, adaptive:limit())
    end)

    it("cuts once for all calls that were in flight together", function()
      local adaptive, changes = neap.adaptive { start = 20 }, 0
      adaptive:update { on_change = function() changes = changes + 1 end }
      await_all(start(adaptive, 20, takes(1, 429)))
      assert.equal(1, changes)
      assert.is_true(adaptive:limit() < 20)
    end)

    it("holds a lower limit before the next in line goes", function()
      local adaptive, running, seen = neap.adaptive { start = 10, decrease = 0.5 }, 0, {}
      local function ask(i)
        running = running + 1
        if i > 10 then seen[#seen + 1] = running end
        neap.sleep(i == 1 and 1 or 2)
        running = running - 1
        return status(i == 1 and 429 or 200)
      end
      local tasks = {}
      for i = 1, 14 do tasks[i] = neap.spawn(adaptive.call, adaptive, ask, i) end
      neap.sleep(1.5) -- the first was refused: its place is not for the next in line
      local limit = adaptive:limit()
      assert.is_true(limit < 9)
      assert.same({}, seen)
      assert.same({ 9, 4 }, held(adaptive))
      await_all(tasks)
      assert.equal(4, #seen)
      for _, number in ipairs(seen) do assert.is_true(number <= limit) end
    end)

    it("learns nothing from what was our own doing", function()
      local adaptive = neap.adaptive { start = 5 }
      local budget = require("neap.error").new { kind = "budget", message = "none left" }
      await_all(start(adaptive, 200, function()
        neap.sleep(0.1)
        return nil, budget
      end))
      assert.equal(5, adaptive:limit())
    end)
  end)

  describe("gives its permit back", function()
    it("when the call raises", function()
      local adaptive = neap.adaptive { start = 1 }
      for _ = 1, 3 do
        assert.is_false((pcall(adaptive.call, adaptive, function() error "broken" end)))
      end
      assert.same({ 0, 0 }, held(adaptive))
      assert.equal(200, adaptive:call(takes(0)).status)
    end)

    it("when the call is cancelled, at work or in line", function()
      local adaptive = neap.adaptive { start = 1 }
      local tasks = start(adaptive, 3, takes(10))
      tasks[2]:cancel()
      neap.sleep(0)
      assert.same({ 1, 1 }, held(adaptive))
      tasks[1]:cancel()
      neap.sleep(0)
      assert.same({ 1, 0 }, held(adaptive))
      tasks[3]:await()
      assert.same({ 0, 0 }, held(adaptive))
    end)

    it("when a timeout ends the call", function()
      local adaptive = neap.adaptive { start = 1 }
      local result, err = neap.timeout(1, adaptive.call, adaptive, takes(10))
      assert.same({ nil, "timeout" }, { result, err.kind })
      assert.same({ 0, 0 }, held(adaptive))
    end)

    it("during a backoff inside, and takes it again before those in line", function()
      local adaptive = neap.adaptive { start = 1 }
      local policy = neap.policy {
        adaptive, neap.retry { backoff = { base = 5, jitter = "none" }, max_attempts = 2 },
      }
      local order, tries = {}, 0
      local retried = neap.spawn(policy.call, policy, function()
        tries = tries + 1
        order[#order + 1] = "retried " .. tries
        neap.sleep(1)
        return status(tries == 1 and 503 or 200)
      end)
      neap.sleep(0.5)
      local others = {}
      for i = 1, 3 do
        others[i] = neap.spawn(policy.call, policy, function()
          order[#order + 1] = "other " .. i
          neap.sleep(3)
          return status(200)
        end)
      end
      neap.sleep(2)
      assert.same({ 1, 2 }, held(adaptive)) -- the first waits outside
      assert.equal(200, retried:await().status)
      await_all(others)
      assert.same({ "retried 1", "other 1", "other 2", "retried 2", "other 3" }, order)
      assert.same({ 0, 0 }, held(adaptive))
    end)
  end)

  describe("with a bounded line", function()
    it("refuses what finds it full", function()
      local adaptive = neap.adaptive { start = 1, max_waiting = 1 }
      local tasks = start(adaptive, 2, takes(1))
      local result, err = adaptive:call(takes(1))
      assert.is_nil(result)
      assert.same({ "queue_full", "adaptive", "no" }, { err.kind, err.phase, err.sent })
      assert.equal("no room in the adaptive limit's line: 1 calls in flight, the limit is 1, 1 in line", err.message)
      await_all(tasks)
      assert.equal(200, adaptive:call(takes(1)).status)
    end)

    it("lets nobody wait longer than its timeout", function()
      local adaptive = neap.adaptive { start = 1, timeout = 2 }
      local tasks = start(adaptive, 1, takes(10))
      local began = neap.now()
      local result, err = adaptive:call(takes(1))
      assert.is_nil(result)
      assert.same({ "queue_timeout", "adaptive", "no" }, { err.kind, err.phase, err.sent })
      assert.matches("after 2 s: 1 calls in flight", err.message, 1, true)
      assert.near(2, neap.now() - began, 1e-9)
      assert.same({ 1, 0 }, held(adaptive))
      await_all(tasks)
    end)

    it("can be waited out by a retry around it", function()
      local adaptive = neap.adaptive { start = 1, timeout = 1 }
      local policy = neap.policy { neap.retry { backoff = { base = 5, jitter = "none" } }, adaptive }
      local tasks = start(adaptive, 1, takes(3))
      local res = policy:call(takes(1))
      assert.equal(200, res.status)
      assert.equal(1, res.attempts) -- it was sent only once
      await_all(tasks)
    end)
  end)

  describe("with keys", function()
    local function per_host(opts)
      opts.key = function(_, host) return host end
      return neap.adaptive(opts)
    end

    it("has a limit and a line for each", function()
      local adaptive = per_host { start = 2 }
      local tasks = start(adaptive, 3, takes(1), "a")
      tasks[4] = start(adaptive, 1, takes(1, 429), "b")[1]
      assert.same({ { 2, 1 }, { 1, 0 } }, { held(adaptive, "a"), held(adaptive, "b") })
      await_all(tasks)
      assert.equal(2, adaptive:limit "a")
      assert.equal(1, adaptive:limit "b")
    end)

    it("has one for each endpoint of a router, without being told", function()
      local adaptive = neap.adaptive { start = 10 }
      local policy = neap.policy {
        neap.router { endpoints = { { name = "east" }, { name = "west" } }, strategy = "order" }, adaptive,
      }
      local tasks = start(policy, 10, function(endpoint)
        neap.sleep(1)
        return status(endpoint.name == "east" and 429 or 200)
      end)
      await_all(tasks)
      assert.is_true(adaptive:limit "east" < 10)
      assert.equal(10, adaptive:limit "west")
    end)

    it("has one for each account", function()
      local adaptive = neap.adaptive { start = 5 }
      local counter = counted(1)
      local function of(account) return neap.policy.standard { account = account, adaptive = adaptive } end
      local tasks = start(of "acme", 8, counter.fn)
      for _, task in ipairs(start(of "other", 8, counter.fn)) do tasks[#tasks + 1] = task end
      await_all(tasks)
      assert.equal(10, counter.peak)
      local names = {}
      for name in pairs(adaptive:snapshot().keys) do names[#names + 1] = name end
      table.sort(names)
      assert.equal(2, #names)
      assert.matches("acme", names[1], 1, true)
      assert.matches("other", names[2], 1, true)
    end)

    it("forgets the one unused for longest, never one in use", function()
      local adaptive = per_host { start = 5, max_keys = 2 }
      adaptive:set_limit(7, "old")
      neap.sleep(1)
      local tasks = start(adaptive, 1, takes(10), "busy")
      neap.sleep(1)
      adaptive:call(takes(1), "new")
      assert.equal(5, adaptive:limit "old") -- as if never seen
      adaptive:set_limit(9, "new")
      local more = start(adaptive, 1, takes(5), "newer")
      local keys = adaptive:snapshot().keys
      assert.is_nil(keys.new)
      assert.same({ 1, 1 }, { keys.busy.held, keys.newer.held })
      await_all(more)
      await_all(tasks)
    end)

    it("goes on when all of them are in use", function()
      local adaptive = per_host { max_keys = 1 }
      local tasks = start(adaptive, 1, takes(1), "a")
      assert.equal(200, adaptive:call(takes(1), "b").status)
      await_all(tasks)
    end)

    it("raises when the key is no string", function()
      local adaptive = neap.adaptive { key = function() return 7 end }
      local ok, err = pcall(adaptive.call, adaptive, takes(0))
      assert.is_false(ok)
      assert.matches("option 'key' must return a string, got number", tostring(err), 1, true)
    end)
  end)

  describe("by hand", function()
    it("takes a limit, at once and for those in line", function()
      local adaptive = neap.adaptive { start = 1 }
      local tasks = start(adaptive, 4, takes(1))
      adaptive:set_limit(3)
      neap.sleep(0)
      assert.same({ 3, 1 }, held(adaptive))
      assert.same({ 3, 3, "manual" }, { adaptive:limit(), adaptive:snapshot().limit, adaptive:snapshot().reason })
      await_all(tasks)
    end)

    it("goes on adapting from there", function()
      local adaptive = neap.adaptive {}
      adaptive:set_limit(10)
      await_all(start(adaptive, 10, takes(1, 429)))
      assert.is_true(adaptive:limit() < 10)
    end)

    it("refuses a limit outside its bounds", function()
      local adaptive = neap.adaptive { min = 2, max = 30 }
      for _, wrong in ipairs { 1, 31, 2.5, "3" } do
        assert.error_matches(function() adaptive:set_limit(wrong) end,
          "adaptive:set_limit: the limit must be a whole number from 2 to 30, got " .. tostring(wrong), 1, true)
      end
      assert.equal(20, adaptive:limit())
    end)

    it("brings the limit within new bounds", function()
      local adaptive, changes = neap.adaptive { start = 20 }, {}
      adaptive:call(takes(0.1))
      adaptive:update { on_change = function(event) changes[#changes + 1] = event end }
      adaptive:update { max = 8 }
      assert.equal(8, adaptive:limit())
      assert.same({ { key = "", from = 20, to = 8, reason = "manual" } }, changes)
      adaptive:update { min = 10, max = 40 }
      assert.equal(10, adaptive:limit())
    end)

    it("brings the first limit within new bounds before there was a call", function()
      local adaptive = neap.adaptive {}
      adaptive:update { max = 8 }
      assert.same({ 8, 8 }, { adaptive:limit(), adaptive:snapshot().limit })
      adaptive:update { max = 100, min = 30 }
      assert.same({ 30, 30 }, { adaptive:limit(), adaptive:snapshot().limit })
      adaptive:call(takes(0))
      assert.equal(30, adaptive:limit())
    end)

    it("takes a limit for any algorithm, and forgets what was good before", function()
      for _, algorithm in ipairs { "gates", "vegas", "gradient2" } do
        local adaptive = neap.adaptive { algorithm = algorithm }
        await_all(start(adaptive, 20, takes(1, 429)))
        adaptive:set_limit(7)
        assert.same({ 7, "manual" }, { adaptive:limit(), adaptive:snapshot().reason })
        assert.is_nil(adaptive:snapshot().next_change)
      end
    end)

    it("keeps what it had when an update is wrong", function()
      local adaptive = neap.adaptive { start = 10, max = 20 }
      adaptive:call(takes(0.1))
      assert.error_matches(function() adaptive:update { min = 30 } end,
        "neap.adaptive: option 'min' must be at most 'max' (20), got 30", 1, true)
      assert.error_matches(function() adaptive:update { algorithm = "vegas" } end, "algorithm", 1, true)
      assert.same({ 10, 1 }, { adaptive:limit(), adaptive.options.min })
    end)

    it("says at construction what it wants", function()
      local function refused(opts, message)
        assert.error_matches(function() neap.adaptive(opts) end, message, 1, true)
      end
      refused({ min = 0 }, "option 'min' must be at least 1, got 0")
      refused({ min = 50, start = 60, max = 40 }, "neap.adaptive: option 'min' must be at most 'max' (40), got 50")
      refused({ start = 60, max = 40 }, "neap.adaptive: option 'start' must be at most 'max' (40), got 60")
      refused({ min = 30 }, "neap.adaptive: option 'start' must be at least 'min' (30), got 20")
      refused({ algorithm = "aimd" }, "option 'algorithm'")
      refused({ decrease = 1.5 }, "option 'decrease'")
      refused({ latency_tolerance = 1 }, "option 'latency_tolerance' must be above 1, got 1")
      refused({ colour = "red" }, "colour")
    end)
  end)

  describe("tells", function()
    it("on_change and neap.telemetry every change, with its reason", function()
      local changes, told = {}, {}
      local unsubscribe = telemetry.subscribe(function(event)
        if event.event == "limit" then told[#told + 1] = event end
      end)
      local adaptive = neap.adaptive {
        name = "api", start = 10, on_change = function(event) changes[#changes + 1] = event end,
      }
      await_all(start(adaptive, 60, takes(0.1)))
      await_all(start(adaptive, 20, takes(0.1, 429)))
      adaptive:set_limit(5)
      unsubscribe()
      assert.equal(#changes, #told)
      assert.same({ 10, 20, "slow_start" }, { changes[1].from, changes[1].to, changes[1].reason })
      assert.equal("rate_limit", changes[#changes - 1].reason)
      assert.same({ 5, "manual" }, { changes[#changes].to, changes[#changes].reason })
      for i = 2, #changes do assert.equal(changes[i - 1].to, changes[i].from) end
      for i, event in ipairs(told) do
        assert.same({ "api", "adaptive", changes[i].to, changes[i].reason },
          { event.source, event.kind, event.to, event.reason })
      end
    end)

    it("neap.explain how many are in flight and in line", function()
      local adaptive = neap.adaptive { start = 2 }
      local tasks = start(adaptive, 5, takes(1))
      local found = neap.explain(tasks[4])
      assert.equal("adaptive", found.policy)
      assert.equal("2 calls in flight, the limit is 2, 3 in line", found.reason)
      await_all(tasks)
    end)

    it("in a snapshot when it may try a higher limit", function()
      local adaptive = neap.adaptive { start = 10, cooldown = 2, probe_interval = 10 }
      assert.same({ 10, "start" }, { adaptive:snapshot().limit, adaptive:snapshot().reason })
      assert.is_nil(adaptive:snapshot().next_change)
      local running = 0
      local function five_slots()
        running = running + 1
        if running > 5 then
          running = running - 1
          return status(429)
        end
        neap.sleep(0.1)
        running = running - 1
        return status(200)
      end
      local stop = neap.now() + 9 -- cut, cooled down and back, and not yet tried a sixth
      local tasks = {}
      for i = 1, 8 do
        tasks[i] = neap.spawn(function()
          while neap.now() < stop do
            if adaptive:call(five_slots).status == 429 then neap.sleep(0.05) end
          end
        end)
      end
      await_all(tasks)
      assert.equal(5, adaptive:limit())
      local next_change = adaptive:snapshot().next_change
      assert.is_true(next_change > 0 and next_change < 10)
    end)

    it("only what is not the default in describe", function()
      assert.equal("adaptive algorithm=\"vegas\" max=50", neap.adaptive { algorithm = "vegas", max = 50 }:describe())
    end)
  end)

  it("takes the seconds in a limiter further in for no latency of the upstream", function()
    local reasons = {}
    local adaptive = neap.adaptive { start = 10, on_change = function(event) reasons[event.reason] = true end }
    local policy = neap.policy { adaptive, neap.rate_limiter { rate = 20, burst = 1 } }
    -- A higher limit makes the line in the limiter longer, and nothing else.
    await_all(start(policy, 1000, takes(0.1)))
    assert.same({ slow_start = true }, reasons)
  end)

  it("holds nothing and keeps its bounds after two thousand calls of all kinds", function()
    local adaptive, law = neap.adaptive { start = 20, max = 40 }, 0
    local function ask()
      law = (law * 1103515245 + 12345) % 2147483648
      neap.sleep(0.5 + law / 2147483648)
      local draw = law % 100
      if draw < 3 then return status(429) end
      if draw < 6 then return status(503) end
      if draw < 8 then error "broken" end
      return status(200)
    end
    local tasks = {}
    for i = 1, 50 do
      tasks[i] = neap.spawn(function()
        for _ = 1, 40 do pcall(adaptive.call, adaptive, ask) end
      end)
    end
    await_all(tasks)
    assert.same({ 0, 0 }, held(adaptive))
    assert.is_true(adaptive:limit() >= 1 and adaptive:limit() <= 40)
  end)
end)
