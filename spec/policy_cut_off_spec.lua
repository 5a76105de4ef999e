-- Pauses that are cut off: what was given back for them, and who goes on afterwards.
local neap = require "neap"

local PAUSES = { backoff = { kind = "fixed", base = 5, jitter = "none" } }

local function unavailable() return { status = 503, headers = {} } end

local function cut_in_a_pause()
  return neap.policy { neap.deadline { seconds = 1 }, neap.retry(PAUSES) }
end

local function answer() return { status = 200, headers = {} } end

describe("a pause that a deadline cuts off", function()
  it("leaves the permit outside to be taken again before a fallback runs", function()
    local bulkhead, running, most = neap.bulkhead { limit = 1 }, 0, 0
    local policy = neap.policy { bulkhead, neap.fallback { with = function()
      running = running + 1
      most = math.max(most, running)
      neap.sleep(10)
      running = running - 1
      return answer()
    end }, neap.deadline { seconds = 1 }, neap.retry(PAUSES) }
    local results = neap.map({ 1, 2, 3 }, function() return policy:call(unavailable) end)
    assert.equal(3, #results)
    assert.equal(1, most)
    assert.equal(0, bulkhead.semaphore:held())
  end)

  it("gives no permit of others back", function()
    local bulkhead = neap.bulkhead { limit = 2 }
    local policy = neap.policy { bulkhead, neap.router { failover_on = function() return true end, endpoints = {
      { name = "a", policy = cut_in_a_pause() }, { name = "b", policy = cut_in_a_pause() } } } }
    neap.scope(function(s)
      s:spawn(function() bulkhead:call(neap.sleep, 100) end)
      s:spawn(function() assert.is_nil((policy:call(unavailable))) end)
      for _ = 1, 20 do
        neap.sleep(0.25)
        assert.is_true(bulkhead.semaphore:held() >= 1)
      end
      assert.equal(1, bulkhead.semaphore:held())
    end)
    assert.equal(0, bulkhead.semaphore:held())
  end)

  it("leaves nothing held in what the call enters afterwards", function()
    local inner, outer = neap.bulkhead { limit = 2 }, neap.bulkhead { limit = 10 }
    local function failed(res) return not res or res.status ~= 200 end
    local router = neap.router { strategy = "order", failover_on = failed,
      endpoints = { { name = "a", policy = cut_in_a_pause() }, { name = "b", policy = inner } } }
    local policy = neap.policy { outer, router }
    for _ = 1, 3 do
      local res = neap.timeout(60, policy.call, policy, function(endpoint)
        neap.sleep(0.1)
        return endpoint.name == "b" and answer() or unavailable()
      end)
      assert.equal(200, res.status)
      assert.equal(0, inner.semaphore:held())
      assert.equal(0, outer.semaphore:held())
      for _, endpoint in ipairs(router:snapshot().endpoints) do assert.equal(0, endpoint.busy) end
    end
  end)

  it("counts a router's call once, also when the router stands outside it", function()
    local router = neap.router { endpoints = { { name = "a", policy = cut_in_a_pause() } } }
    assert.is_nil((router:call(unavailable)))
    assert.equal(0, router:snapshot().endpoints[1].busy)
  end)
end)

describe("a deadline of retry's own", function()
  it("says so when it cuts an attempt off", function()
    local retry = neap.retry { deadline = 1, max_attempts = 5 }
    local res, err = retry:call(neap.sleep, 10)
    assert.is_nil(res)
    assert.equal("timeout", err.kind)
    assert.equal("deadline", err.gave_up)
    assert.equal(1, err.attempts)
  end)
end)

describe("a reservation at a rate limiter", function()
  local function tokens_left(limiter) return limiter:snapshot().kinds.tokens.available end

  local function cut(inner, fn)
    local limiter = neap.rate_limiter { tokens_per_minute = 600 }
    local pace = neap.policy { neap.deadline { seconds = 1 },
      require("neap.pace").new { limiter = limiter, amounts = function() return { tokens = 400 } end }, inner }
    assert.is_nil((pace:call(fn)))
    return tokens_left(limiter)
  end

  it("is refunded when the call is cut off in a line behind it", function()
    local full = neap.bulkhead { limit = 1 }
    neap.scope(function(s)
      s:spawn(function() full:call(neap.sleep, 2) end)
      neap.sleep(0)
      assert.equal(600, cut(full, answer))
    end)
  end)

  it("stands when the call is cut off on its way", function()
    assert.is_near(210, cut(neap.bulkhead { limit = 1 }, function() neap.sleep(5) end), 1)
  end)
end)

describe("a loop of retries within another one", function()
  it("leaves the outer one's budget as it was", function()
    local outer, inner = neap.retry { budget = { initial = 5 }, backoff = { base = 0.1 } },
      neap.retry { nested = true, max_attempts = 2, budget = { initial = 5 }, backoff = { base = 0.1 } }
    local policy = neap.policy { outer, neap.router { endpoints = { { name = "a", policy = inner } } } }
    local calls = 0
    local res = policy:call(function()
      calls = calls + 1
      return unavailable()
    end)
    assert.equal(503, res.status)
    assert.equal(6, calls)
  end)
end)

describe("a streamed answer that nobody gets", function()
  local function stream(status, closed)
    local res = { status = status, headers = {} }
    function res:close() closed[#closed + 1] = self.status end
    return res
  end

  it("is closed before a retry", function()
    local closed, statuses = {}, { 503, 429, 200 }
    local res = neap.retry { backoff = { base = 0.1 } }:call(function()
      return stream(table.remove(statuses, 1), closed)
    end)
    assert.equal(200, res.status)
    assert.same({ 503, 429 }, closed)
  end)

  it("is closed when a fallback stands in for it", function()
    local closed = {}
    assert.equal("cached", neap.fallback { value = "cached" }:call(stream, 503, closed))
    assert.equal("made", neap.fallback { with = function() return "made" end }:call(stream, 500, closed))
    assert.equal(502, neap.fallback { with = function(res) return res end }:call(stream, 502, closed).status)
    assert.same({ 503, 500 }, closed)
  end)

  it("is closed when another copy's takes its place", function()
    local closed, number = {}, 0
    local hedge = neap.hedge { delay = 1, max_extra_load = 1, burst = 2, hedge_on = function() return false end }
    local res = hedge:call(function()
      number = number + 1
      if number == 1 then
        neap.sleep(2)
        return stream(503, closed)
      end
      neap.sleep(3)
      return stream(200, closed)
    end)
    assert.equal(200, res.status)
    assert.same({ 503 }, closed)
  end)
end)

describe("a call that was parked", function()
  it("enters lines at the head for the next attempt only", function()
    local fronts = {}
    local spy = neap.bulkhead { limit = 5 }
    local run = spy.run
    spy.run = function(self, call, next, ...)
      fronts[#fronts + 1] = call.front or false
      return run(self, call, next, ...)
    end
    local policy = neap.policy { neap.retry { park = true, max_retry_after = 1, max_attempts = 3,
      backoff = { base = 0.1 } }, spy }
    local number = 0
    policy:call(function()
      number = number + 1
      return { status = 503, headers = {}, retry_after = number == 1 and 60 or nil }
    end)
    assert.same({ false, true, false }, fronts)
  end)
end)
