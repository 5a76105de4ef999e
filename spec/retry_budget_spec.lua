local core = require "neap.core"
local errors = require "neap.error"
local neap = require "neap"
local retry_budget = require "neap.retry_budget"
local telemetry = require "neap.telemetry"

--- Asks `n` times at `now`; how many were granted.
local function granted(budget, n, now, verdict, err)
  local count = 0
  for _ = 1, n do
    if budget:allow(now or 0, verdict or "failed", err) then count = count + 1 end
  end
  return count
end

local function times(n, fn)
  for _ = 1, n do fn() end
end

local function tokens(budget) return budget:snapshot().tokens end

describe("neap.retry_budget, form bucket", function()
  it("starts full and grants while more than one token is there", function()
    assert.equal(4, granted(retry_budget.new {}, 10))
    assert.equal(5, granted(retry_budget.new { needs = "at_least_one" }, 10))
    assert.equal(2, granted(retry_budget.new { initial = 3 }, 10))
    assert.equal(0, granted(retry_budget.new { initial = 1 }, 10))
  end)

  it("earns per call, whatever becomes of the call, up to the cap", function()
    local budget = retry_budget.new { initial = 0, needs = "at_least_one" }
    times(9, function() budget:started(0) end)
    assert.equal(0, granted(budget, 1))
    budget:started(0)
    assert.equal(1, granted(budget, 2), "ten tenths are one")
    times(1000, function() budget:started(0) end)
    assert.equal(5, tokens(budget))
  end)

  it("earns per success, first attempts and retries alike, and per call no longer", function()
    local budget = retry_budget.new { initial = 0, per_success = 0.5, needs = "at_least_one" }
    times(100, function() budget:started(0) end)
    for _, verdict in ipairs { "failed", "throttled", "overloaded", "neutral" } do budget:ended(0, verdict) end
    assert.equal(0, tokens(budget))
    budget:ended(0, "ok")
    budget:ended(0, "ok", true)
    assert.equal(1, granted(budget, 2))
  end)

  it("earns both ways when both are given", function()
    local budget = retry_budget.new { initial = 0, per_call = 0.25, per_success = 0.5 }
    budget:started(0)
    budget:ended(0, "ok")
    assert.equal(0.75, tokens(budget))
  end)

  it("holds what a model in whole millionths holds, over 100,000 random operations", function()
    local budget = retry_budget.new { per_call = 0.1, per_success = 0.03, cap = 7, initial = 2 }
    local model = 2000000
    for i = 1, 100000 do
      local draw = math.floor(core.random() * 4)
      if draw == 0 then
        budget:started(i)
        model = math.min(7000000, model + 100000)
      elseif draw == 1 then
        budget:ended(i, "ok")
        model = math.min(7000000, model + 30000)
      elseif draw == 2 then
        budget:ended(i, "failed")
      else
        local expected = model > 1000000
        if expected then model = model - 1000000 end
        assert.equal(expected, budget:allow(i, "failed"))
      end
    end
    assert.equal(model / 1e6, tokens(budget))
  end)
end)

describe("Brooker's simulation: 100 clients, 10 calls a second each, for 10 s", function()
  local function exponential(mean) return -mean * math.log(1 - core.random()) end

  --- Success rate and attempts per call when each attempt fails with probability p.
  local function run(p)
    local calls, attempts, successes = 0, 0, 0
    local failure = errors.new { kind = "connect", message = "refused" }
    local function attempt()
      attempts = attempts + 1
      neap.sleep(exponential(0.010))
      local ok = core.random() >= p
      neap.sleep(exponential(0.010))
      if ok then return true end
      return nil, failure
    end
    local ends = neap.now() + 10
    local function client()
      local retry = neap.retry { max_attempts = math.huge, backoff = { base = 0 }, budget = {} }
      local function call()
        if retry:call(attempt) then successes = successes + 1 end
      end
      neap.sleep(exponential(0.1))
      while neap.now() < ends do
        calls = calls + 1
        neap.spawn(call)
        neap.sleep(exponential(0.1))
      end
    end
    neap.scope(function(s)
      for _ = 1, 100 do s:spawn(client) end
    end)
    return successes / calls, attempts / calls
  end

  local points = { { 0.05, 1.000, 1.052 }, { 0.2, .905, 1.134 }, { 0.5, .570, 1.143 }, { 0.75, .285, 1.143 } }
  for _, point in ipairs(points) do
    it(("gives his success rate and amplification at p = %g"):format(point[1]), function()
      local success, amplification = run(point[1])
      assert.near(point[2], success, 0.015)
      assert.near(point[3], amplification, 0.01)
    end)
  end
end)

describe("neap.retry_budget, form finagle", function()
  it("grants the reserve at once: min_per_second for the whole ttl", function()
    assert.equal(100, granted(retry_budget.new { form = "finagle" }, 200))
    assert.equal(30, granted(retry_budget.new { form = "finagle", min_per_second = 6, ttl = 5 }, 200))
  end)

  it("adds a fifth of the calls to it, and forgets them after the ttl", function()
    local budget = retry_budget.new { form = "finagle", min_per_second = 0 }
    times(50, function() budget:started(0) end)
    assert.equal(4, granted(budget, 4, 5))
    assert.equal(6, granted(budget, 100, 5))
    times(50, function() budget:started(6) end)
    assert.equal(0, granted(budget, 1, 100))
  end)

  it("forgets what was spent after the ttl, too", function()
    local budget = retry_budget.new { form = "finagle", ratio = 0, min_per_second = 2, ttl = 10 }
    assert.equal(20, granted(budget, 100, 0))
    assert.equal(0, granted(budget, 100, 9.9))
    assert.equal(20, granted(budget, 100, 10.1))
  end)

  it("grants nothing with a ratio and a minimum of 0", function()
    local budget = retry_budget.new { form = "finagle", ratio = 0, min_per_second = 0 }
    times(100, function() budget:started(0) end)
    assert.equal(0, granted(budget, 1))
    assert.equal(0, tokens(budget))
  end)

  it("keeps extra load at the ratio over a long time", function()
    local budget = retry_budget.new { form = "finagle", min_per_second = 0, ratio = 0.1 }
    local sent = 0
    for i = 1, 100000 do
      budget:started(i / 100)
      sent = sent + granted(budget, 1, i / 100)
    end
    assert.near(10000, sent, 1)
  end)

  it("holds what a model that keeps every entry holds, over 100,000 random operations", function()
    local budget = retry_budget.new { form = "finagle", ttl = 5, min_per_second = 3, ratio = 0.25 }
    local entries, first, last, now = {}, 1, 0, 0
    local function balance()
      local sum = 0
      while first <= last and entries[first].slice <= math.floor(now / 0.5) - 10 do first = first + 1 end
      for i = first, last do sum = sum + entries[i].amount end
      return sum
    end
    local function enter(amount)
      last = last + 1
      entries[last] = { slice = math.floor(now / 0.5), amount = amount }
    end
    for i = 1, 100000 do
      now = now + core.random() ^ 8 * (i % 997 == 0 and 40 or 1)
      if core.random() < 0.6 then
        budget:started(now)
        enter(1000)
      else
        local expected = balance() + 3 * 5 * 4000 >= 4000
        assert.equal(expected, budget:allow(now, "failed"))
        if expected then enter(-4000) end
      end
      if last - first > 400 then now = now + 6 end
    end
  end)
end)

describe("neap.retry_budget, form envoy", function()
  it("allows min_concurrency retries at once however little is under way", function()
    local budget = retry_budget.new { form = "envoy" }
    budget:started(0)
    assert.equal(3, granted(budget, 10))
    budget:ended(0, "failed", true)
    assert.equal(1, granted(budget, 10))
  end)

  it("allows a share of the attempts under way when that is more", function()
    local budget = retry_budget.new { form = "envoy" }
    times(100, function() budget:started(0) end)
    -- The retries under way count, too: with 24 there are 124 attempts, a fifth of which is 24.8.
    assert.equal(24, granted(budget, 100))
    times(100, function() budget:ended(0, "ok") end)
    times(24, function() budget:ended(0, "failed", true) end)
    assert.equal(3, granted(budget, 100))
  end)

  it("counts nothing twice and nothing below zero", function()
    local budget = retry_budget.new { form = "envoy", min_concurrency = 0 }
    times(3, function() budget:ended(0, "ok", true) end)
    times(5, function() budget:started(0) end)
    assert.equal(1, granted(budget, 5))
  end)
end)

describe("neap.retry_budget, form grpc", function()
  it("stops at half of the tokens: each failure takes one, a success earns token_ratio", function()
    local budget = retry_budget.new { form = "grpc" }
    for failures = 1, 6 do
      budget:ended(0, "failed")
      assert.equal(failures < 5, budget:allow(0, "failed"), failures .. " failures")
    end
    times(10, function() budget:ended(0, "ok") end)
    assert.is_false(budget:allow(0, "failed"), "5 of 10 is not above half")
    budget:ended(0, "ok")
    assert.is_true(budget:allow(0, "failed"))
  end)

  it("takes 429, 503 and failures for failures, and nothing that was our own doing", function()
    local budget = retry_budget.new { form = "grpc" }
    for _, verdict in ipairs { "throttled", "overloaded", "failed", "neutral" } do budget:ended(0, verdict) end
    assert.equal(7, tokens(budget))
  end)

  it("counts failed retries and hedges too, stays within 0 and max_tokens, and keeps three decimals", function()
    local budget = retry_budget.new { form = "grpc", max_tokens = 3, token_ratio = 0.0014 }
    budget:ended(0, "failed", true)
    assert.equal(2, tokens(budget))
    times(5, function() budget:ended(0, "failed") end)
    assert.equal(0, tokens(budget))
    times(1000, function() budget:ended(0, "ok") end)
    assert.equal(1, tokens(budget))
    times(5000, function() budget:ended(0, "ok") end)
    assert.equal(3, tokens(budget))
  end)
end)

describe("neap.retry_budget, form aws", function()
  local timeout = errors.new { kind = "timeout", message = "too late" }

  it("charges 5 for a retry, 10 after a timeout, until the quota is used up", function()
    assert.equal(100, granted(retry_budget.new { form = "aws" }, 200))
    assert.equal(50, granted(retry_budget.new { form = "aws" }, 200, 0, "failed", timeout))
  end)

  it("charges by kind as its later mode does: 14, and 5 after a 429", function()
    local budget = retry_budget.new { form = "aws", retry_cost = 14, timeout_cost = 14 }
    budget:allow(0, "failed")
    assert.equal(486, tokens(budget))
    budget:allow(0, "throttled")
    assert.equal(481, tokens(budget))
  end)

  it("gives a retry that succeeds its price back, and 1 for a first attempt that does", function()
    local budget = retry_budget.new { form = "aws" }
    local cheap, dear = budget:allow(0, "failed"), budget:allow(0, "failed", timeout)
    assert.equal(485, tokens(budget))
    budget:ended(0, "ok", dear)
    assert.equal(495, tokens(budget))
    budget:ended(0, "failed", cheap)
    assert.equal(495, tokens(budget))
    budget:ended(0, "ok")
    assert.equal(496, tokens(budget))
    budget:ended(0, "ok", true)
    assert.equal(500, tokens(budget), "true stands for the common price, and the quota is the most")
  end)
end)

describe("neap.retry_budget", function()
  local number = 0
  local function fresh_name()
    number = number + 1
    return "budget " .. number
  end

  it("is one object for all who give the same name", function()
    local name = fresh_name()
    local one = retry_budget.new { name = name, cap = 8 }
    assert.equal(one, retry_budget.new { name = name, cap = 8 })
    assert.equal(one, retry_budget.new { name = name })
    assert.not_equal(one, retry_budget.new { name = fresh_name(), cap = 8 })
    assert.not_equal(retry_budget.new {}, retry_budget.new {})
  end)

  it("refuses other options for a name that is taken, and says both", function()
    local name = fresh_name()
    retry_budget.new { name = name, cap = 8 }
    assert.error_matches(function()
      local budget = retry_budget.new { name = name, cap = 9 }
      return budget
    end, "neap.retry_budget: '" .. name .. "' is there already with cap = 8, got cap = 9")
    assert.error_matches(function()
      local budget = retry_budget.new { name = name, form = "grpc" }
      return budget
    end, "with form = bucket, got form = grpc")
  end)

  it("still knows the options it was made with after an update", function()
    local name = fresh_name()
    local one = retry_budget.new { name = name, cap = 8 }
    one:update { cap = 3 }
    assert.equal(one, retry_budget.new { name = name, cap = 8 })
  end)

  it("bounds the retries of all who share it, retry policies here", function()
    local name, attempts = fresh_name(), 0
    local failure = errors.new { kind = "connect", message = "refused" }
    local function attempt()
      attempts = attempts + 1
      return nil, failure
    end
    for _ = 1, 2 do
      neap.retry { max_attempts = 10, backoff = { base = 0 }, budget = { name = name, per_call = 0 } }:call(attempt)
    end
    assert.equal(6, attempts, "two first attempts and four retries")
  end)

  local function refused(pattern, opts)
    assert.error_matches(function()
      local budget = retry_budget.new(opts)
      return budget
    end, pattern)
  end

  it("refuses bad options with the option's name and what it accepts", function()
    refused("option 'form' must be one of bucket, finagle, envoy, grpc, aws, got leaky", { form = "leaky" })
    refused("option 'cap' must be at least 1, got 0", { cap = 0 })
    refused("option 'per_call' must be at least 0, got %-1", { per_call = -1 })
    refused("option 'needs' must be one of more_than_one, at_least_one, got two", { needs = "two" })
    refused("option 'initial' must be at most 'cap' %(5%), got 6", { initial = 6 })
    refused("option 'ttl' must be at most 60, got 61", { form = "finagle", ttl = 61 })
    refused("option 'max_tokens' must be at most 1000, got 1001", { form = "grpc", max_tokens = 1001 })
    refused("option 'percall' is unknown; did you mean 'per_call'?", { percall = 1 })
  end)

  it("refuses an option of another form rather than leaving it without effect", function()
    refused("option 'cap' is for form = \"bucket\", got form = \"grpc\"", { form = "grpc", cap = 7 })
    refused("option 'ratio' is for form = \"finagle\" or \"envoy\", got form = \"bucket\"", { ratio = 0.1 })
    assert.error_matches(function() retry_budget.new {}:update { quota = 7 } end,
      "option 'quota' is for form = \"aws\"")
  end)

  it("changes while in use, keeps what was earned, and refuses what the constructor refuses", function()
    local budget = retry_budget.new {}
    budget:update { cap = 3, per_call = 1 }
    assert.equal(3, tokens(budget))
    budget:allow(0, "failed")
    budget:started(0)
    assert.equal(3, tokens(budget))
    assert.error_matches(function() budget:update { cap = 0 } end, "update: option 'cap' must be at least 1")
    assert.error_matches(function() budget:update { form = "grpc" } end, "option 'form' cannot change")
    assert.equal(3, budget.options.cap)
  end)

  it("changes every form's options while in use", function()
    local finagle = retry_budget.new { form = "finagle", min_per_second = 0 }
    times(10, function() finagle:started(0) end)
    finagle:update { ttl = 20 }
    assert.equal(2, tokens(finagle))
    finagle:update { ratio = 0.5 }
    assert.equal(5, granted(finagle, 100, 0))
    local envoy = retry_budget.new { form = "envoy" }
    envoy:update { min_concurrency = 1 }
    assert.equal(1, granted(envoy, 10))
    local grpc = retry_budget.new { form = "grpc" }
    grpc:update { max_tokens = 4 }
    assert.equal(4, tokens(grpc))
    local aws = retry_budget.new { form = "aws" }
    aws:update { quota = 12, retry_cost = 6 }
    assert.equal(2, granted(aws, 10))
  end)

  it("tells telemetry when it runs dry and when it grants again, with the reason", function()
    local events = {}
    local unsubscribe = telemetry.subscribe(function(event) events[#events + 1] = event end)
    local budget = retry_budget.new { initial = 2 }
    granted(budget, 3)
    times(10, function() budget:started(0) end)
    granted(budget, 1)
    unsubscribe()
    assert.equal(2, #events)
    assert.same({ "exhausted", "retry_budget", "1 of the more than 1 that a retry needs" },
      { events[1].event, events[1].kind, events[1].reason })
    assert.equal("available", events[2].event)
  end)

  it("says what it has, granted and denied", function()
    local budget = retry_budget.new { form = "grpc" }
    granted(budget, 2)
    times(6, function() budget:ended(0, "failed") end)
    granted(budget, 3)
    assert.same({
      kind = "retry_budget", name = "retry_budget", form = "grpc", state = "exhausted", tokens = 4, limit = 10,
      allowed = 2, denied = 3, reason = "4 there, a retry needs more than 5",
    }, budget:snapshot())
    assert.equal("retry_budget grpc max_tokens=20", retry_budget.new { form = "grpc", max_tokens = 20 }:describe())
    assert.is_true(retry_budget.is(budget))
    assert.is_false(retry_budget.is {})
  end)
end)
