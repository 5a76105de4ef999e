local core = require "neap.core"
local errors = require "neap.error"
local hedge = require "neap.hedge"
local layer = require "neap.policy.layer"
local neap = require "neap"
local retry_budget = require "neap.retry_budget"
local rolling = require "neap.hedge.rolling"
local telemetry = require "neap.telemetry"

local failure = { kind = "connect", message = "refused" }

--- A function whose n-th send takes the n-th time and returns the n-th outcome: a
--- status, or fields of an error.
local function sends_of(list)
  local sends = { n = 0, at = {}, cancelled = 0 }
  function sends.call(...)
    sends.n = sends.n + 1
    local n = sends.n
    local entry = list[math.min(n, #list)]
    sends.at[n] = neap.now() - sends.began
    sends.args = { n = select("#", ...), ... }
    local ok, err = pcall(neap.sleep, entry[1])
    if not ok then
      sends.cancelled = sends.cancelled + 1
      error(err, 0)
    end
    local what = entry[2] or 200
    if type(what) == "function" then return what() end
    if type(what) == "table" then return nil, errors.new { kind = what.kind, message = what.message, send = n } end
    return { status = what, send = n, replay_safe = true }
  end
  sends.began = neap.now()
  return sends
end

--- A hedge that may double every call.
local function generous(opts)
  opts.max_extra_load, opts.burst = opts.max_extra_load or 10, opts.burst or 1e6
  if not opts.percentile then opts.delay = opts.delay or 1 end
  return hedge.new(opts)
end

local function near(expected, got)
  assert.equal(#expected, #got)
  for i, value in ipairs(expected) do assert.near(value, got[i], 1e-6) end
end

local function elapsed_in(sends) return neap.now() - sends.began end

describe("hedge.rolling", function()
  it("is the percentile of the last one to one and a half windows, or up to 1.1 % more", function()
    local live, all, now = rolling.new(10, 100), {}, 0
    for i = 1, 20000 do
      now = now + 0.003
      local value = math.exp(core.random() * 6 - 5)
      live:add(now, value)
      all[i] = { at = now, value = value }
      if i % 2500 == 0 then
        local count, recent = live:count(now), {}
        for k = i - count + 1, i do recent[#recent + 1] = all[k].value end
        local age = now - all[i - count + 1].at
        if now > 15 then assert.is_true(age >= 10 - 0.01 and age <= 15 + 0.01, "age " .. age) end
        table.sort(recent)
        for _, share in ipairs { 0.5, 0.9, 0.99 } do
          -- Another share is never answered from what was computed for the last one.
          local ratio = live:percentile(now, share) / recent[math.ceil(share * count)]
          assert.is_true(ratio >= 1 and ratio <= 1.011, "ratio " .. ratio)
        end
      end
    end
  end)

  it("follows within a sixteenth of the values without being computed each time", function()
    local live = rolling.new(1000, 10)
    for _ = 1, 100 do live:add(0, 1) end
    assert.near(1, live:percentile(0, 0.9), 0.012)
    for _ = 1, 60 do live:add(0, 8) end
    assert.near(8, live:percentile(0, 0.9), 0.1)
  end)

  it("is unknown below the least number of values, and looks back at so many however slowly they come", function()
    local live = rolling.new(10, 10)
    for i = 1, 9 do live:add(i * 60, 0.5) end
    assert.is_nil(live:percentile(600, 0.99))
    for i = 10, 100 do
      live:add(i * 60, 0.5)
      assert.near(0.5, live:percentile(i * 60, 0.99), 0.0056)
      assert.is_true(live:count(i * 60) >= 10 and live:count(i * 60) <= 30)
    end
  end)

  it("takes zero and absurd values for its least and greatest", function()
    local live = rolling.new(10, 1)
    live:add(1, 0)
    live:add(1, 1e12)
    assert.near(1e-6, live:percentile(1, 0.5), 1e-7)
    assert.near(1e6, live:percentile(1, 1), 2e4)
  end)
end)

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

describe("neap.hedge at the live percentile", function()
  it("hedges nothing until 'warmup' calls were measured", function()
    local policy, sends = generous { percentile = 0.9, warmup = 20 }, sends_of { { 1 } }
    for _ = 1, 19 do policy:call(sends.call) end
    assert.is_nil(policy:delay())
    assert.equal("measuring", policy:snapshot().state)
    policy:call(sends.call)
    assert.near(1, policy:delay(), 0.012)
    assert.equal(20, sends.n)
  end)

  --- Log-normal latency around the median.
  local function lognormal(median, sigma)
    return function()
      local normal = math.sqrt(-2 * math.log(1 - core.random())) * math.cos(2 * math.pi * core.random())
      return median * math.exp((sigma or 0.5) * normal)
    end
  end

  --- n calls one after the other; how long each took, sorted.
  local function run(policy, n, latency)
    local took = {}
    local function send()
      neap.sleep(latency())
      return { status = 200 }
    end
    for i = 1, n do
      local began = neap.now()
      policy:call(send)
      took[i] = neap.now() - began
    end
    table.sort(took)
    return took
  end

  it("sends nothing twice where all calls take the same time", function()
    local policy = generous { percentile = 0.9, warmup = 10 }
    local sends = sends_of { { 0.1 } }
    for _ = 1, 500 do policy:call(sends.call) end
    assert.equal(500, sends.n)
  end)

  it("sends at the p95 of the calls, and stays there although what it cuts off is never seen", function()
    -- exp(1.5 * 1.6449) of the median: 11.79. Nearly all of the slowest 5 % are cut off.
    local policy = hedge.new { percentile = 0.95, max_extra_load = 0.2, window = 300 }
    run(policy, 20000, lognormal(0.1, 1.5))
    assert.near(1.179, policy:delay(), 0.4)
    assert.near(0.05, policy:snapshot().extra_load, 0.015)
  end)

  it("cuts the tail: where 2 % of the sends stall, the p99 falls to a tenth for at most 5 % more load", function()
    local function stalling() return core.random() < 0.02 and 5 or 0.1 + 0.1 * core.random() end
    local plain = run(hedge.new { warmup = 1e6 }, 5000, stalling)
    local policy = hedge.new { max_extra_load = 0.05 }
    local hedged = run(policy, 5000, stalling)
    assert.equal(5, plain[4950])
    assert.is_true(hedged[4950] < 0.5, "p99 " .. hedged[4950])
    assert.is_true(policy:snapshot().extra_load <= 0.05)
  end)

  it("takes the percentile from max_extra_load: a share above it, and no more", function()
    local policy = hedge.new { max_extra_load = 0.05 }
    run(policy, 5000, lognormal(0.1))
    assert.is_true(policy:snapshot().extra_load <= 0.05)
    assert.is_true(policy:snapshot().extra_load > 0.03)
    assert.matches("^p95 of %d+ calls$", policy:snapshot().reason)
  end)

  it("follows the upstream, and loads it no more meanwhile", function()
    local policy = hedge.new { max_extra_load = 0.02, window = 30 }
    run(policy, 600, lognormal(0.1))
    local before = policy:delay()
    run(policy, 300, lognormal(1))
    assert.near(10, policy:delay() / before, 2.5)
    assert.is_true(policy:snapshot().extra_load <= 0.02)
    run(policy, 900, lognormal(0.1))
    assert.near(1, policy:delay() / before, 0.25)
  end)

  it("knows a slow upstream, too: fewer calls in a window than it wants to have seen", function()
    local policy = hedge.new { max_extra_load = 0.1, window = 30 }
    run(policy, 400, lognormal(10))
    assert.near(19, policy:delay(), 4)
    assert.is_true(policy:snapshot().hedges > 15)
  end)

  it("is never shorter than min_delay", function()
    local policy = generous { percentile = 0.9, warmup = 10, min_delay = 0.5 }
    local sends = sends_of { { 0.001 } }
    for _ = 1, 10 do policy:call(sends.call) end
    assert.equal(0.5, policy:delay())
  end)

  it("does not take quick failures for quick calls", function()
    local policy = generous { percentile = 0.9, warmup = 10 }
    for _ = 1, 20 do policy:call(function() return { status = 503 } end) end
    assert.is_nil(policy:delay())
    for _ = 1, 10 do
      policy:call(function()
        neap.sleep(3)
        return nil, errors.new { kind = "timeout", message = "late" }
      end)
    end
    assert.near(3, policy:delay(), 0.04)
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
