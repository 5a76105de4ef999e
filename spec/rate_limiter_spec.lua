local neap = require "neap"
local limiters = require "spec.support.rate_limiter"

local dates, ns_since, settle, to_ns = limiters.dates, limiters.ns_since, limiters.settle, limiters.to_ns

describe("a rate limiter", function()
  it("lets a burst pass and then one each interval, to the nanosecond", function()
    local start = neap.now()
    assert.same({ 0, 0, 0, 250000000, 500000000, 750000000 }, dates(neap.rate_limiter { rate = 4, burst = 3 }, 6))
    assert.equal(750000000, ns_since(start))
  end)

  it("adds up no rounding error when the interval is no whole nanosecond", function()
    local list = dates(neap.rate_limiter { rate = 3, burst = 1 }, 3001)
    assert.equal(333333334, list[2])
    assert.equal(666666667, list[3])
    assert.equal(1000000000, list[4])
    assert.equal(1000000000000, list[3001])
  end)

  it("takes rates with decimals exactly", function()
    local list = dates(neap.rate_limiter { rate = 2.5, per = 0.5, burst = 1 }, 51)
    assert.equal(200000000, list[2])
    assert.equal(10000000000, list[51])
    list = dates(neap.rate_limiter { rate = 0.1, burst = 1 }, 3)
    assert.same({ 0, 10000000000, 20000000000 }, list)
  end)

  it("has by default a burst of a second's worth of requests and a minute's worth of tokens", function()
    assert.equal(10, neap.rate_limiter({ rate = 10 }):available())
    assert.equal(1, neap.rate_limiter({ rate = 10, per = 60 }):available())
    assert.equal(5, neap.rate_limiter({ rate = 50, per = 10 }):available())
    assert.equal(9, neap.rate_limiter({ requests_per_minute = 500 }):available())
    local limiter = neap.rate_limiter {
      tokens_per_minute = 30000, input_tokens_per_minute = 20000, requests_per_minute = 6,
    }
    assert.equal(30000, limiter:available "tokens")
    assert.equal(20000, limiter:available "input_tokens")
    assert.equal(1, limiter:available "requests")
    assert.equal(math.huge, limiter:available "output_tokens")
  end)

  it("refills while nobody asks, up to the burst and no further", function()
    local limiter = neap.rate_limiter { rate = 10, burst = 4 }
    limiter:acquire(4)
    assert.equal(0, limiter:available())
    neap.sleep(0.25)
    assert.equal(2, limiter:available())
    neap.sleep(100)
    assert.equal(4, limiter:available())
    assert.same({ 0, 0, 0, 0, 100000000 }, dates(limiter, 5))
  end)

  it("weighs amounts and rounds a fraction up", function()
    local limiter = neap.rate_limiter { rate = 1, burst = 10 }
    assert.same({ 0, 2000000000 }, dates(limiter, 2, 6))
    limiter = neap.rate_limiter { rate = 1, burst = 10 }
    limiter:acquire(0.5)
    assert.equal(9, limiter:available())
    limiter:acquire(0)
    assert.equal(9, limiter:available())
  end)

  it("serves strictly in order: a small request does not pass a big one", function()
    local limiter, log, start = neap.rate_limiter { rate = 1, burst = 10 }, {}, neap.now()
    limiter:acquire(9)
    neap.scope(function(s)
      for _, amount in ipairs { 5, 1, 1 } do
        s:spawn(function()
          limiter:acquire(amount)
          log[#log + 1] = ("%d at %d"):format(amount, ns_since(start))
        end)
      end
      settle()
      assert.equal(3, limiter:waiting())
      assert.is_nil((limiter:acquire(1, 0)))
    end)
    assert.same({ "5 at 4000000000", "1 at 5000000000", "1 at 6000000000" }, log)
  end)

  it("says how long a grant waited", function()
    local limiter = neap.rate_limiter { rate = 2, burst = 1 }
    assert.equal(0, limiter:acquire():waited())
    assert.equal(0.5, limiter:acquire():waited())
  end)

  it("tells an amount above the burst at once that it can never pass", function()
    local limiter, start = neap.rate_limiter { rate = 5, burst = 3 }, neap.now()
    local lease, err = limiter:acquire(4)
    assert.is_nil(lease)
    assert.equal("invalid", err.kind)
    assert.equal("rate_limiter", err.phase)
    assert.equal("4 requests can never pass: the burst is 3", err.message)
    assert.is_false(err.retryable)
    assert.is_nil((limiter:acquire(1e300)))
    assert.equal(3, limiter:available())
    assert.equal(0, ns_since(start))
  end)

  it("tries once with timeout 0", function()
    local limiter = neap.rate_limiter { rate = 1 }
    assert.is_truthy(limiter:acquire(1, 0))
    local lease, err = limiter:acquire(1, 0)
    assert.is_nil(lease)
    assert.equal("timeout", err.kind)
    assert.equal("rate_limiter", err.phase)
    neap.sleep(1)
    assert.is_truthy(limiter:acquire(1, 0))
  end)

  it("gives up at the deadline, not before, and takes nothing then", function()
    local limiter, start = neap.rate_limiter { rate = 1, burst = 2 }, neap.now()
    limiter:acquire(2)
    local lease, err = limiter:acquire(2, 1.5)
    assert.is_nil(lease)
    assert.equal("timeout", err.kind)
    assert.equal(1500000000, ns_since(start))
    assert.equal(1, limiter:available())
    assert.equal(0, limiter:waiting())
  end)

  it("grants what is due at the very deadline", function()
    local limiter = neap.rate_limiter { rate = 1, burst = 1 }
    limiter:acquire()
    assert.is_truthy(limiter:acquire(1, 1))
    assert.is_nil((limiter:acquire(1, 0.999999999)))
  end)

  it("lets the ones behind go when the head times out or is cancelled", function()
    local limiter, log, start = neap.rate_limiter { rate = 1, burst = 10 }, {}, neap.now()
    limiter:acquire(9)
    neap.scope(function(s)
      s:spawn(function() assert.is_nil((limiter:acquire(10, 1))) end)
      local second = s:spawn(function() limiter:acquire(10) end)
      s:spawn(function()
        limiter:acquire(2)
        log[#log + 1] = ns_since(start)
      end)
      neap.sleep(1.25)
      assert.equal(2, limiter:waiting())
      second:cancel()
    end)
    assert.same({ 1250000000 }, log)
    assert.equal(0, limiter:available())
  end)

  it("refuses more waiters than max_waiting at once", function()
    local limiter = neap.rate_limiter { rate = 1, max_waiting = 1 }
    limiter:acquire()
    neap.scope(function(s)
      s:spawn(function() assert.is_truthy(limiter:acquire()) end)
      settle()
      local lease, err = limiter:acquire()
      assert.is_nil(lease)
      assert.equal("queue_full", err.kind)
    end)
  end)
end)

describe("a rate limiter whose loop is held up #real", function()
  --- Keeps the loop busy until `seconds` after `start`.
  local function hold_up(start, seconds)
    repeat until neap.now() - start >= seconds
  end

  it("dates grants by the computed time, so that a late wake-up loses no rate", function()
    local limiter, list = neap.rate_limiter { rate = 100, burst = 1 }, {}
    local first = limiter:acquire():date()
    neap.scope(function(s)
      for i = 1, 5 do
        s:spawn(function() list[i] = to_ns(limiter:acquire():date() - first) end)
      end
      settle()
      hold_up(first, 0.035)
      settle()
      assert.same({ 10000000, 20000000, 30000000 }, { unpack(list, 1, 3) })
    end)
    assert.same({ 10000000, 20000000, 30000000, 40000000, 50000000 }, list)
  end)

  it("takes nothing for the cancelled, even when their turn has come unnoticed", function()
    local limiter = neap.rate_limiter { rate = 100, burst = 2 }
    limiter:acquire(2)
    neap.scope(function(s)
      local task = s:spawn(function() limiter:acquire(2) end)
      settle()
      assert.equal(1, limiter:waiting())
      hold_up(neap.now(), 0.025)
      task:cancel()
      settle()
      assert.equal("cancelled", task:status())
    end)
    assert.equal(2, limiter:available())
    assert.equal(0, limiter:waiting())
  end)
end)

describe("a rate limiter of several kinds", function()
  local function llm()
    return neap.rate_limiter {
      requests_per_minute = 60, requests_burst = 5, tokens_per_minute = 6000, tokens_burst = 1000,
    }
  end

  it("takes all kinds together: the scarcest decides", function()
    local limiter = llm()
    assert.same({ 0, 2000000000, 8000000000 }, dates(limiter, 3, { tokens = 600 }))
    assert.equal(0, limiter:available "tokens")
    assert.equal(4, limiter:available "requests")
  end)

  it("takes nothing of any kind while one does not suffice", function()
    local limiter = llm()
    limiter:acquire { tokens = 1000 }
    assert.is_nil((limiter:acquire({ requests = 2, tokens = 500 }, 1)))
    assert.equal(5, limiter:available "requests")
    assert.equal(100, limiter:available "tokens")
  end)

  it("counts one request unless told otherwise", function()
    local limiter = llm()
    limiter:acquire { tokens = 1 }
    limiter:acquire()
    assert.equal(3, limiter:available "requests")
    limiter:acquire { requests = 0, tokens = 10 }
    assert.equal(3, limiter:available "requests")
    assert.equal(989, limiter:available "tokens")
  end)

  it("takes tokens for input plus output where only these are named", function()
    local limiter = llm()
    local lease = limiter:acquire { input_tokens = 100, output_tokens = 500 }
    assert.equal(400, limiter:available "tokens")
    lease:settle { output_tokens = 50 }
    assert.equal(850, limiter:available "tokens")
  end)

  it("limits input and output tokens apart", function()
    local limiter = neap.rate_limiter { input_tokens_per_minute = 600, output_tokens_per_minute = 60 }
    limiter:acquire { input_tokens = 100, output_tokens = 60 }
    assert.equal(500, limiter:available "input_tokens")
    assert.equal(0, limiter:available "output_tokens")
    assert.equal(2000000000, dates(limiter, 1, { input_tokens = 1, output_tokens = 2 })[1])
  end)

  it("can hold two rates of requests", function()
    local limiter = neap.rate_limiter { rate = 10, burst = 1, requests_per_minute = 60, requests_burst = 3 }
    assert.same({ 0, 100000000, 200000000, 1000000000, 2000000000 }, dates(limiter, 5))
  end)
end)

describe("lease:settle", function()
  local function limiter_of(burst) return neap.rate_limiter { rate = 1, burst = burst } end

  it("gives back what was not used, so that the next passes earlier", function()
    local limiter, start = limiter_of(10), neap.now()
    local lease = limiter:acquire(10)
    neap.scope(function(s)
      s:spawn(function()
        limiter:acquire(5)
        assert.equal(1000000000, ns_since(start))
      end)
      neap.sleep(1)
      lease:settle(4)
    end)
    assert.equal(2, limiter:available())
  end)

  it("charges what was used beyond, even into debt", function()
    local limiter = limiter_of(10)
    local lease = limiter:acquire(8)
    lease:settle(15)
    assert.equal(0, limiter:available())
    assert.equal(6000000000, dates(limiter, 1)[1])
  end)

  it("counts the last word, and the same word once", function()
    local limiter = limiter_of(10)
    local lease = limiter:acquire(10)
    for _ = 1, 3 do
      lease:settle(4)
      assert.equal(6, limiter:available())
    end
    lease:settle(7)
    assert.equal(3, limiter:available())
    lease:settle(5)
    assert.equal(5, limiter:available())
  end)

  it("leaves kinds that are not named as they were reserved", function()
    local limiter = neap.rate_limiter { requests_per_minute = 600, tokens_per_minute = 1000 }
    local lease = limiter:acquire { tokens = 400 }
    lease:settle { tokens = 100 }
    assert.equal(900, limiter:available "tokens")
    assert.equal(9, limiter:available "requests")
  end)

  it("of a lease that was dropped never comes: it counts as used", function()
    local limiter = limiter_of(10)
    limiter:acquire(10)
    collectgarbage()
    collectgarbage()
    assert.equal(0, limiter:available())
  end)

  it("gives back nothing that the full bucket has regained since", function()
    local limiter = limiter_of(10)
    local lease = limiter:acquire(10)
    neap.sleep(10)
    limiter:acquire(10)
    lease:settle(0)
    assert.equal(0, limiter:available())
  end)

  it("gives back only as much as there was room for at every later grant", function()
    local limiter = limiter_of(10)
    local lease = limiter:acquire(10)
    neap.sleep(7)
    limiter:acquire(7) -- 3 short of full when it came
    lease:settle(0)
    assert.equal(3, limiter:available())
  end)

  it("keeps the limiter alive", function()
    local lease = neap.rate_limiter({ rate = 1 }):acquire()
    collectgarbage()
    collectgarbage()
    lease:settle(0)
  end)
end)

describe("lease:settle of requests", function()
  it("charges every send: redirect hops and what was sent again", function()
    local limiter = neap.rate_limiter { requests_per_minute = 60, requests_burst = 5, tokens_per_minute = 1000 }
    local lease = limiter:acquire { tokens = 300 }
    lease:settle { requests = 3 }
    assert.equal(2, limiter:available "requests")
    assert.equal(700, limiter:available "tokens")
    lease:settle { requests = 3, tokens = 0 }
    assert.equal(2, limiter:available "requests")
    assert.equal(1000, limiter:available "tokens")
  end)

  it("works for a call that was cancelled, from its clean-up", function()
    local limiter = neap.rate_limiter { rate = 1, burst = 5 }
    neap.scope(function(s)
      local task = s:spawn(function()
        local lease = limiter:acquire(4)
        pcall(neap.sleep, 100)
        lease:settle(1)
      end)
      settle()
      assert.equal(1, limiter:available())
      task:cancel()
    end)
    assert.equal(4, limiter:available())
  end)
end)

describe("misuse of a rate limiter raises", function()
  it("for options that make no sense", function()
    for _, options in ipairs {
      {}, { per = 5 }, { burst = 3 }, { rate = 0 }, { rate = -1 }, { rate = 0 / 0 }, { rate = 1, burst = 0 },
      { rate = "1" }, { rate = 1, per = 0 }, { rate = 1e-300 }, { rate = 1e12 }, { rate = 1, per = 1e12 },
      { tokens_per_minute = 5, requests_burst = 2 }, { tokens_per_minute = 5, burst = 2 }, { learn = "lower" },
      { rate = 1, learn = "higher" }, { rate = 1, burst = 1e13 }, { learn = "replace", per = 5 },
    } do
      assert.has_error(function() neap.rate_limiter(options) end)
    end
    local _, err = pcall(neap.rate_limiter, { token_per_minute = 5 })
    assert.matches("did you mean 'tokens_per_minute'", err, 1, true)
  end)

  it("for amounts that make no sense", function()
    local limiter = neap.rate_limiter { rate = 5, tokens_per_minute = 5 }
    for _, amounts in ipairs { { token = 5 }, { tokens = -1 }, { tokens = 0 / 0 }, { tokens = "5" }, { 5 }, "5", 5 } do
      assert.has_error(function() limiter:acquire(amounts) end)
    end
    local _, err = pcall(limiter.acquire, limiter, 5)
    assert.matches("name the amounts", tostring(err), 1, true)
    assert.has_error(function() limiter:acquire({}, -1) end)
    assert.has_error(function() limiter:acquire():settle() end)
    assert.has_error(function() limiter:observe({ ["x-ratelimit-remaining"] = "1" }, 5) end)
    assert.has_error(function() limiter:acquire({ tokens = 1 }):settle { tokens = -1 } end)
    assert.has_error(function() limiter:available() end)
  end)

  it("at the script's line, with the method's name and what is accepted", function()
    local limiter = neap.rate_limiter { requests_per_minute = 60 }
    local function refused(text, fn)
      local ok, err = pcall(fn)
      assert.is_false(ok)
      assert.matches("^%S*rate_limiter_spec%.lua:%d+: ", err)
      assert.matches(text, err, 1, true)
      assert.is_nil(err:find("neap/", 1, true), err)
    end
    refused("'rate_limiter:acquire' (unknown amount 'token' (requests,", function() limiter:acquire { token = 5 } end)
    refused("#1 to 'rate_limiter:acquire' (the amount must be", function() return limiter:acquire(-1) end)
    refused("'rate_limiter:acquire' (number or table expected, got string)", function() limiter:acquire "x" end)
    refused("#2 to 'rate_limiter:acquire' (timeout must be", function() limiter:acquire(1, -1) end)
    refused("'lease:settle' (unknown amount 'request'", function() limiter:acquire():settle { request = 1 } end)
    refused("'rate_limiter:eta' (a task expected, got number)", function() return limiter:eta(5) end)
    refused("'rate_limiter:available' (must be one of requests", function() limiter:available "x" end)
    refused("rate_limiter:observe: headers must be a table, got string", function() limiter:observe "x" end)
    refused("a neap.rate_limiter expected", function() limiter.acquire { tokens = 1 } end)
    refused("neap.rate_limiter: needs 'rate'", function() return neap.rate_limiter {} end)
  end)

  it("for numbers beyond what it counts to, naming the option and its bound", function()
    for option, bound in pairs { rate = 1e9, per = 366 * 86400, requests_per_minute = 1e9, tokens_burst = 1e12,
      max_waiting = 2 ^ 31 - 1 } do
      for _, value in ipairs { math.huge, 1e300 } do
        local ok, err = pcall(neap.rate_limiter, { [option] = value, learn = "replace" })
        assert.is_false(ok)
        if option ~= "max_waiting" or value ~= math.huge then
          assert.matches(("option '%s' must be at most %s, got "):format(option, bound), err, 1, true)
        end
      end
    end
    for option, bound in pairs { rate = "1e-06", per = "1e-09", requests_per_minute = "1e-06" } do
      local _, err = pcall(neap.rate_limiter, { [option] = 1e-300, learn = "replace" })
      assert.matches(("option '%s' must be at least %s, got 1e-300"):format(option, bound), err, 1, true)
    end
    assert.is_truthy(neap.rate_limiter { rate = 1e9, per = 1e-9 })
    assert.is_truthy(neap.rate_limiter { rate = 1e-6, per = 366 * 86400, burst = 1e12, max_waiting = 2 ^ 31 - 1 })
  end)
end)
