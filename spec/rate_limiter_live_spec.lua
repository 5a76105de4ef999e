-- SPDX-License-Identifier: MIT
-- A rate limiter in use: its front, dates ahead, live changes, looking in.
local core = require "neap.core"
local neap = require "neap"
local limiters = require "spec.support.rate_limiter"

local dates, ns_since, settle = limiters.dates, limiters.ns_since, limiters.settle

describe("the front of a rate limiter's line", function()
  it("comes before all others, first come, first served among its own", function()
    local limiter, log = neap.rate_limiter { rate = 1, burst = 1 }, {}
    limiter:acquire()
    neap.scope(function(s)
      for _, name in ipairs { "a", "b", "front 1", "front 2" } do
        s:spawn(function()
          limiter:acquire(1, nil, name:find "front" ~= nil)
          log[#log + 1] = name
        end)
      end
    end)
    assert.same({ "front 1", "front 2", "a", "b" }, log)
  end)

  it("moves the next date to its own, and lets the old head go on when it leaves", function()
    local limiter, start, log = neap.rate_limiter { rate = 1, burst = 10 }, neap.now(), {}
    limiter:acquire(10)
    neap.scope(function(s)
      for _, amount in ipairs { 5, 2 } do
        s:spawn(function()
          assert.is_truthy(limiter:acquire(amount, nil, amount == 2))
          log[#log + 1] = ("%d at %d"):format(amount, ns_since(start) / 1e9)
        end)
      end
      local third = s:spawn(function() limiter:acquire(10, nil, true) end)
      neap.sleep(3)
      third:cancel()
    end)
    assert.same({ "2 at 2", "5 at 7" }, log)
  end)

  it("is never refused for a full line, and passes at once what fits while others wait", function()
    local limiter = neap.rate_limiter { rate = 1, burst = 3, max_waiting = 1 }
    limiter:acquire(2)
    neap.scope(function(s)
      s:spawn(function() limiter:acquire(3) end)
      settle()
      local start = neap.now()
      assert.equal("queue_full", select(2, limiter:acquire(1)).kind)
      assert.is_truthy(limiter:acquire(1, 0, true))
      assert.is_nil((limiter:acquire(1, 0, true)))
      assert.is_truthy(limiter:acquire(1, nil, true))
      assert.equal(1000000000, ns_since(start))
    end)
  end)

  it("gives up at its deadline like any other", function()
    local limiter, start = neap.rate_limiter { rate = 1, burst = 2 }, neap.now()
    limiter:acquire(2)
    assert.equal("timeout", select(2, limiter:acquire(2, 1.5, true)).kind)
    assert.equal(1500000000, ns_since(start))
    assert.equal(1, limiter:available())
  end)
end)

describe("a rate limiter's head that held up others for a kind that they do not need", function()
  --- Requests pile up behind one that waits for tokens; how they pass once `free`
  --- was called after 10 s.
  local function dates_after(free)
    local limiter, list = neap.rate_limiter { rate = 2, burst = 3, tokens_per_minute = 60, tokens_burst = 100 }, {}
    limiter:acquire { tokens = 100 }
    local start, lease = neap.now(), nil
    neap.scope(function(s)
      local head = s:spawn(function() lease = limiter:acquire({ tokens = 100 }, 60) end)
      settle()
      for i = 1, 6 do
        s:spawn(function()
          local date = limiter:acquire():date()
          assert.equal(neap.now(), date)
          list[i] = tonumber(("%.6f"):format(date - start))
        end)
      end
      neap.sleep(10)
      free(limiter, head)
    end)
    return list, lease
  end

  it("lets no more than a burst of them pass at once when it is cancelled", function()
    assert.same({ 10, 10, 10, 10.5, 11, 11.5 }, (dates_after(function(_, head) head:cancel() end)))
  end)

  it("lets no more than a burst of them pass at once when its own turn has come by a new rate", function()
    local list, lease = dates_after(function(limiter) limiter:update { tokens_per_minute = 60000 } end)
    assert.equal("10.090000", ("%.6f"):format(lease:waited()))
    assert.same({ 10.09, 10.09, 10.59, 11.09, 11.59, 12.09 }, list)
  end)

  it("lets no more than a burst of them pass at once when it gives up", function()
    assert.same({ 60, 60, 60, 60.5, 61, 61.5 }, (dates_after(function() end)))
  end)
end)

describe("limiter:eta", function()
  it("says exactly when each in line will pass", function()
    local limiter = neap.rate_limiter { rate = 2, burst = 4, tokens_per_minute = 60, tokens_burst = 10 }
    assert.is_nil(limiter:eta())
    limiter:acquire { requests = 4, tokens = 10 }
    neap.scope(function(s)
      local tasks, expected, passed = {}, {}, {}
      for i, tokens in ipairs { 1, 5, 0, 2 } do
        tasks[i] = s:spawn(function()
          limiter:acquire({ tokens = tokens }, nil, i == 4)
          passed[i] = neap.now()
        end)
      end
      settle()
      for i, task in ipairs(tasks) do expected[i] = limiter:eta(task) end
      assert.equal(expected[4], limiter:eta())
      assert.is_nil(limiter:eta(core.current()))
      tasks[2]:await()
      tasks[3]:await()
      assert.same(expected, passed)
    end)
  end)
end)

describe("limiter:update", function()
  it("changes the rate of the one who waits already, to the nanosecond", function()
    local limiter, start = neap.rate_limiter { rate = 1, burst = 10 }, neap.now()
    limiter:acquire(10)
    neap.scope(function(s)
      s:spawn(function()
        limiter:acquire(10)
        assert.equal(6000000000, ns_since(start)) -- 4 at 1/s, 6 at 3/s
      end)
      neap.sleep(4)
      limiter:update { rate = 3 }
    end)
  end)

  it("keeps the level when the burst changes, and debt", function()
    local limiter = neap.rate_limiter { rate = 1, burst = 10 }
    local lease = limiter:acquire(3)
    limiter:update { burst = 100 }
    assert.equal(7, limiter:available())
    limiter:update { burst = 5 }
    assert.equal(5, limiter:available())
    lease:settle(13)
    limiter:update { rate = 10, burst = 20 }
    assert.equal(600000000, dates(limiter, 1)[1])
  end)

  it("keeps fractions of a unit", function()
    local limiter = neap.rate_limiter { rate = 1, burst = 10 }
    limiter:acquire(10)
    neap.sleep(0.75)
    limiter:update { rate = 10 }
    assert.equal(25000000, dates(limiter, 1)[1])
    limiter:update { rate = 3, burst = 1 }
    assert.equal(333333334, dates(limiter, 1)[1])
  end)

  it("makes the default burst anew for a new rate", function()
    local limiter = neap.rate_limiter { rate = 10 }
    limiter:update { rate = 20 }
    neap.sleep(10)
    assert.equal(20, limiter:available())
  end)

  it("tells those in line who are above the new burst that they can never pass", function()
    local limiter, got = neap.rate_limiter { rate = 1, burst = 10 }, {}
    limiter:acquire(10)
    neap.scope(function(s)
      for _, amount in ipairs { 8, 2 } do
        s:spawn(function() got[amount] = { limiter:acquire(amount) } end)
      end
      settle()
      limiter:update { burst = 3 }
    end)
    assert.is_nil(got[8][1])
    assert.equal("invalid", got[8][2].kind)
    assert.equal("8 requests can never pass: the burst is 3", got[8][2].message)
    assert.is_truthy(got[2][1])
  end)

  it("adds a kind and bounds the line", function()
    local limiter = neap.rate_limiter { rate = 1, burst = 1 }
    limiter:update { tokens_per_minute = 600, max_waiting = 1 }
    assert.equal(600, limiter:available "tokens")
    limiter:acquire { tokens = 600 }
    neap.scope(function(s)
      s:spawn(function() limiter:acquire() end)
      settle()
      assert.equal("queue_full", select(2, limiter:acquire()).kind)
    end)
  end)

  it("refuses what the constructor refuses, names the option and changes nothing", function()
    local limiter = neap.rate_limiter { rate = 5, burst = 3 }
    for option, changes in pairs {
      rate = { rate = -1, burst = 100 }, requests_burst = { requests_burst = 5 }, name = { name = "other" },
      learn = { learn = "sometimes" }, rtae = { rtae = 1 },
    } do
      local ok, err = pcall(function() limiter:update(changes) end)
      assert.is_false(ok)
      assert.matches("'" .. option .. "'", err, 1, true)
      assert.matches("rate_limiter_live_spec", err, 1, true)
    end
    assert.has_error(function() limiter:update { rate = 1e12 } end)
    assert.equal(3, limiter:available())
    assert.same({ 0, 0, 0, 200000000 }, dates(limiter, 4))
  end)
end)

describe("limiter:snapshot", function()
  it("says state, limits, line, reason and when that changes", function()
    local limiter = neap.rate_limiter { rate = 2, burst = 1, name = "api" }
    assert.same({
      kind = "rate_limiter", name = "api", state = "ready", waiting = 0,
      kinds = { requests = { available = 1, rate = 2, per = 1, burst = 1 } },
    }, limiter:snapshot())
    limiter:acquire()
    neap.scope(function(s)
      s:spawn(function() limiter:acquire() end)
      settle()
      local seen = limiter:snapshot()
      assert.same({ "pacing", 1 }, { seen.state, seen.waiting })
      assert.near(limiter:eta() - neap.now(), seen.next_change, 1e-9)
      limiter:observe { ["retry-after"] = "4" }
      seen = limiter:snapshot()
      assert.same({ "paused", "a server asked to wait" }, { seen.state, seen.reason })
      assert.equal(4, math.floor(seen.next_change + 0.5))
    end)
  end)

  it("and telemetry tells of pauses, learned limits and updates", function()
    local events = {}
    local unsubscribe = neap.telemetry.subscribe(function(event)
      events[#events + 1] = ("%s %s %s %s"):format(event.source, event.event, event.reason,
        event.seconds or event.limit or "")
    end)
    local limiter = neap.rate_limiter { requests_per_minute = 600, name = "api" }
    for _, limit in ipairs { "60", "60", "30" } do
      limiter:observe { ["x-ratelimit-limit-requests"] = limit, ["retry-after"] = "2" }
    end
    limiter:update { requests_per_minute = 500 }
    unsubscribe()
    assert.same({
      "api pause Retry-After 2", "api limit the server's headers 60", "api limit the server's headers 30",
      "api update manual ",
    }, events)
  end)
end)
