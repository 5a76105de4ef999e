-- SPDX-License-Identifier: MIT
local neap = require "neap"
local support = require "spec.support.standard"
local telemetry = require "neap.telemetry"
local upstreams = require "neap.world.upstream"

local standard = neap.policy.standard
local kinds_of, message_of, only = support.kinds_of, support.message_of, support.only
local send_all, status = support.send_all, support.status

--- The most arrivals beyond `burst + rate * T` in any window of T seconds.
local function worst_excess(arrivals, rate, burst)
  local worst = -math.huge
  for first = 1, #arrivals do
    for last = first, #arrivals do
      local count, seconds = last - first + 1, arrivals[last] - arrivals[first]
      worst = math.max(worst, count - burst - rate * seconds)
    end
  end
  return worst
end

describe("neap.policy.standard, with calls going through,", function()
  it("keeps its account for whoever keys by it, also for calls inside its calls", function()
    local seen, told = {}, {}
    local function note(call)
      seen[#seen + 1] = call.account
      return call.account or ""
    end
    local inner = only { breaker = { key = note } }
    local outer = only { breaker = { key = note }, account = "team-a", name = "api" }
    local stop = telemetry.subscribe(function(event)
      if event.event == "call" then told[#told + 1] = { event.source, event.account } end
    end)
    outer:call(function() return inner:call(status, 200) end)
    stop()
    assert.same({ "team-a", "team-a" }, seen)
    assert.same({ { "policy", "team-a" }, { "api", "team-a" } }, told)
    local adaptive = standard { account = "team-b" }
    adaptive:call(status, 200)
    local keys = {}
    for key in pairs(adaptive:layer("adaptive"):snapshot().keys) do keys[#keys + 1] = key end
    assert.same({ "/team-b" }, keys)
  end)

  describe("with an upstream behind it", function()
    it("sends each hedge's copy through the limiter, the breaker and the limit", function()
      local upstream = upstreams.new {
        latency = { law = "lognormal", median = 1, sigma = 1.2 }, log = true, seed = 3,
      }
      local policy = standard {
        hedge = { delay = 2, max_extra_load = 1, burst = 100 }, budget = false, breaker = true, bulkhead = 40,
        limiter = { rate = 10, burst = 4 },
      }
      local answers = send_all(policy, upstream, 120)
      local attempts = 0
      for i = 1, 120 do
        assert.equal(200, answers[i].status)
        attempts = attempts + answers[i].attempts
      end
      local stats, hedges = upstream.stats, policy:layer("hedge"):snapshot().hedges
      assert.is_true(hedges >= 15, hedges)
      -- A copy whose call was answered while it stood in line never left.
      assert.is_true(stats.count > 120 and stats.count <= 120 + hedges, stats.count)
      assert.equal(stats.count, attempts)
      assert.is_true(worst_excess(stats.arrivals, 10, 4) <= 1e-6, worst_excess(stats.arrivals, 10, 4))
      assert.is_true(stats.max_open <= 40)
      assert.is_true(stats.left > 0) -- losers
      assert.same({ 0, 0, 0 }, { stats.open, policy:layer("bulkhead"):snapshot().held,
        policy:layer("bulkhead"):snapshot().waiting })
    end)

    it("sends each retry through the limiter", function()
      local upstream = upstreams.new { latency = 0.05, errors = { { status = 503, probability = 0.4 } }, log = true }
      local policy = standard {
        bulkhead = 20, budget = false, retry = { max_attempts = 6, backoff = { base = 0.01 } },
        limiter = { rate = 20, burst = 5 },
      }
      send_all(policy, upstream, 100)
      assert.is_true(upstream.stats.count > 140, upstream.stats.count)
      assert.is_true(worst_excess(upstream.stats.arrivals, 20, 5) <= 1e-6)
    end)

    it("never has more under way than the limit, and wastes none of it on backoffs", function()
      local upstream = upstreams.new { latency = 1, errors = { { status = 503, probability = 0.5 } }, seed = 5 }
      local policy = standard { bulkhead = 2, budget = false,
        retry = { max_attempts = 8, backoff = { kind = "fixed", base = 3, jitter = "none" } } }
      local began = neap.now()
      send_all(policy, upstream, 100)
      local sends, seconds = upstream.stats.count, neap.now() - began
      assert.equal(2, upstream.stats.max_open)
      assert.is_true(sends > 170, sends)
      -- Two at a time, a second each. Held in the backoffs it would be 150 s more.
      assert.is_true(seconds >= sends / 2 and seconds < sends / 2 + 30, seconds)
      assert.equal(0, policy:layer("bulkhead"):snapshot().held)
    end)

    it("holds no permit in a backoff, and says where it is", function()
      local policy = standard { bulkhead = 2, retry = { backoff = { base = 3, jitter = "none" } } }
      local task = neap.spawn(policy.call, policy, status, 503)
      neap.sleep(0.5)
      assert.same({ "retry", 0 }, { neap.explain(task).policy, policy:layer("bulkhead"):snapshot().held })
      assert.near(2.5, neap.explain(task).wait, 1e-6)
      task:await()
    end)

    it("lets others go while a call backs off, with an adaptive limit too", function()
      for _, limit in ipairs { { bulkhead = 1 }, { adaptive = { start = 1, max = 1 } } } do
        limit.retry = { backoff = { base = 10, jitter = "none" } }
        local policy = standard(limit)
        local n = 0
        local failing = neap.spawn(policy.call, policy, function()
          n = n + 1
          neap.sleep(1)
          return status(n == 1 and 503 or 200)
        end)
        neap.sleep(2)
        local began = neap.now()
        assert.equal(200, policy:call(status, 200).status)
        assert.equal(began, neap.now()) -- at once: the only permit was free
        assert.equal(2, failing:await().attempts)
      end
    end)

    it("parks without a permit", function()
      local policy = standard { bulkhead = 1, retry = { park = true, max_retry_after = 1 } }
      local n = 0
      local parked = neap.spawn(policy.call, policy, function()
        n = n + 1
        return n == 1 and { status = 429, headers = { ["retry-after"] = "30" } } or status(200)
      end)
      neap.sleep(5)
      assert.equal(0, policy:layer("bulkhead"):snapshot().held)
      assert.equal(200, policy:call(status, 200).status)
      assert.equal(200, parked:await().status)
    end)

    it("takes no permit and no turn for what the breaker refuses or the cache answers", function()
      local limiter = neap.rate_limiter { rate = 0.001, burst = 2 }
      local policy = only { cache = { ttl = 100 }, breaker = true, bulkhead = 1, limiter = limiter }
      local began, n = neap.now(), 0
      local function ask(key)
        n = n + 1
        return { status = 200, headers = {}, key = key }
      end
      for _ = 1, 5 do assert.equal(200, policy:call(ask, "a").status) end
      assert.equal(1, n)
      policy:layer("circuit_breaker"):isolate "by hand"
      for i = 1, 5 do assert.equal("circuit_open", select(2, policy:call(ask, i)).kind) end
      policy:layer("circuit_breaker"):reset()
      policy:call(ask, "b")
      assert.same({ 2, began }, { n, neap.now() }) -- the second turn was still there
      assert.equal(0, policy:layer("bulkhead"):snapshot().held)
    end)

    it("answers with the fallback in the deadline, which bounds it too", function()
      local policy = standard { adaptive = false, deadline = 5, retry = { max_attempts = 1 },
        fallback = function(_, err, seconds)
          neap.sleep(seconds)
          return { instead = err and err.kind or "status" }
        end }
      assert.equal("status", policy:call(function() return status(500) end, 1).instead)
      local _, err = policy:call(function() return status(500) end, 9)
      assert.same({ "timeout", "deadline" }, { err.kind, err.timeout })
    end)

    it("gives the function the router's endpoint first, and the breaker a state for each", function()
      local policy = standard { adaptive = false, retry = false, breaker = { consecutive_failures = 1 },
        router = { endpoints = { { name = "east" }, { name = "west" } }, strategy = "order" } }
      local names = {}
      local res = policy:call(function(endpoint, text)
        names[#names + 1] = endpoint.name .. " " .. text
        return endpoint.name == "east" and { status = 500, headers = {}, replay_safe = true } or status(200)
      end, "x")
      assert.same({ 200, { "east x", "west x" } }, { res.status, names })
      local breaker = policy:layer "circuit_breaker"
      assert.same({ "open", "closed" }, { breaker:state "east", breaker:state "west" })
    end)

    it("leaves nothing behind when calls raise or are cancelled anywhere", function()
      local upstream = upstreams.new { latency = { law = "lognormal", median = 1, sigma = 1 }, seed = 2,
        errors = { { status = 503, probability = 0.3 } } }
      local policy = standard {
        deadline = 6, breaker = { minimum_calls = 100, failure_rate = 1 }, bulkhead = 5, hedge = { delay = 1,
          max_extra_load = 1 }, limiter = { rate = 8, burst = 2 }, throttle = true,
      }
      local outcomes = {}
      local function count(what) outcomes[what] = (outcomes[what] or 0) + 1 end
      neap.scope(function(s)
        for i = 1, 200 do
          neap.sleep(0.15)
          s:spawn(function()
            local ok, res, err = pcall(neap.timeout, 0.3 + i % 7, policy.call, policy, function()
              if i % 11 == 0 then error { bug = true } end
              return upstream:request { id = "i" .. i }
            end)
            count(not ok and "raised" or res and "answered" or err.kind)
          end)
        end
      end)
      assert.is_true((outcomes.raised or 0) > 5 and (outcomes.timeout or 0) > 20 and outcomes.answered > 50)
      local bulkhead = policy:layer("bulkhead"):snapshot()
      assert.same({ 0, 0, 0 }, { upstream.stats.open, bulkhead.held, bulkhead.waiting })
    end)
  end)

  describe("in use", function()
    local function full()
      return standard { name = "api", deadline = 30, retry = { max_attempts = 5 }, breaker = { open_duration = 7 },
        bulkhead = 4, limiter = { rate = 5 }, fallback = { value = 1 } }
    end

    it("describes itself, outermost first, with what is not a default", function()
      assert.equal(table.concat({
        "api, outermost first:", "  1. deadline seconds=30", "  2. fallback value=1",
        "  3. retry max_attempts=5 budget=retry_budget(finagle)", "  4. circuit_breaker open_duration=7",
        "  5. bulkhead limit=4", "  6. pace requests=5 per 1 s (burst 5)",
      }, "\n"), full():describe())
    end)

    it("shows the state of each part", function()
      local policy = full()
      policy:layer("circuit_breaker"):isolate "maintenance"
      local shown = policy:snapshot()
      local kinds = {}
      for i, one in ipairs(shown) do
        kinds[i] = one.kind
        assert.equal("string", type(one.state), one.kind)
      end
      assert.same(kinds_of(policy), kinds)
      assert.same({ "isolated", "maintenance" }, { shown[4].state, shown[4].reason })
      assert.same({ 4, 0, 0 }, { shown[5].limit, shown[5].held, shown[5].waiting })
    end)

    it("changes by its options' names, by kinds, and by names", function()
      local policy = full()
      policy:update { breaker = { open_duration = 3 }, retry = { max_attempts = 2 }, bulkhead = { limit = 9 },
        limiter = { timeout = 2 } }
      assert.equal(3, policy:layer("breaker").options.open_duration)
      policy:update { circuit_breaker = { open_duration = 4 }, pace = { timeout = 1 } }
      assert.same({ 4, 1 }, { policy:layer("breaker").options.open_duration, policy:layer("limiter").options.timeout })
      local attempts = 0
      policy:call(function()
        attempts = attempts + 1
        return status(503)
      end)
      assert.equal(2, attempts)
      assert.equal(9, policy:layer("bulkhead"):snapshot().limit)
      local named = only { breaker = { name = "guard" } }
      named:update { guard = { open_duration = 2 } }
      assert.equal(2, named:layer("guard").options.open_duration)
    end)

    it("changes all or nothing, also where options do not fit together", function()
      local policy = full()
      local before = policy:describe()
      local told = {}
      local stop = telemetry.subscribe(function(event)
        told[#told + 1] = event.source .. " " .. event.event .. " " .. event.reason
      end)
      local message = message_of(policy.update, policy,
        { bulkhead = { limit = 9 }, breaker = { open_duration = 2 }, fallback = { with = print } })
      stop()
      assert.matches("neap.fallback: needs one of", message)
      assert.equal(before, policy:describe())
      assert.equal(4, policy:layer("bulkhead"):snapshot().limit)
      -- In order of their names; undone from the last one on.
      assert.same({ "circuit_breaker update manual", "bulkhead update manual", "bulkhead update undone",
        "circuit_breaker update undone" }, told)
    end)

    it("names what it does not have or cannot take", function()
      local policy = full()
      assert.matches("there is no layer 'hedge'; there are deadline, fallback", message_of(policy.update, policy,
        { hedge = { delay = 1 } }))
      assert.matches("neap.policy: update: changes must be a table .* got nil", message_of(policy.update, policy))
      assert.matches("neap.bulkhead: update: changes must be a table, got number",
        message_of(policy.update, policy, { bulkhead = 5 }))
      assert.matches("option 'max_waiting' cannot change", message_of(policy.update, policy,
        { bulkhead = { max_waiting = 5 } }))
    end)
  end)
end)
