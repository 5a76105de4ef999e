-- SPDX-License-Identifier: MIT
-- What a rate limiter makes of response headers.
local core = require "neap.core"
local neap = require "neap"
local limiters = require "spec.support.rate_limiter"

local dates, ns_since, settle, to_ns = limiters.dates, limiters.ns_since, limiters.settle, limiters.to_ns

describe("limiter:observe", function()
  local function llm(learn)
    return neap.rate_limiter { requests_per_minute = 6000, tokens_per_minute = 60000, learn = learn }
  end

  it("without a lease lowers what is left to what the server says, and never raises it", function()
    local limiter = llm()
    limiter:acquire { tokens = 30000 }
    limiter:observe { ["x-ratelimit-remaining-requests"] = "7", ["x-ratelimit-remaining-tokens"] = "59000" }
    assert.equal(7, limiter:available "requests")
    assert.equal(30000, limiter:available "tokens")
    limiter:observe { ["X-RateLimit-Remaining-Tokens"] = "100" }
    assert.equal(100, limiter:available "tokens")
    neap.sleep(1)
    assert.equal(1100, limiter:available "tokens")
  end)

  it("lets nothing of an exhausted kind pass before its reset", function()
    local limiter = llm()
    limiter:observe { ["x-ratelimit-remaining-tokens"] = "0", ["x-ratelimit-reset-tokens"] = "6s" }
    assert.equal(0, limiter:available "tokens")
    assert.equal(0, dates(limiter, 1, { tokens = 0 })[1])
    assert.equal(6000000000, dates(limiter, 1, { tokens = 1 })[1])
    assert.equal(59999, limiter:available "tokens")
  end)

  it("holds everything back for Retry-After, also those who wait already", function()
    local limiter, start = neap.rate_limiter { rate = 10, burst = 1 }, neap.now()
    limiter:acquire()
    neap.scope(function(s)
      s:spawn(function()
        limiter:acquire()
        assert.equal(2500000000, ns_since(start))
      end)
      settle()
      limiter:observe { ["retry-after-ms"] = "2500" }
      limiter:observe { ["retry-after"] = "1" }
      assert.equal(0, limiter:available())
    end)
  end)

  it("holds every kind back for an exhausted unified limit", function()
    local limiter = llm()
    limiter:observe {
      ["anthropic-ratelimit-unified-status"] = "rejected",
      ["anthropic-ratelimit-unified-reset"] = tostring(math.floor(neap.time()) + 10),
    }
    local date = dates(limiter, 1, { tokens = 1 })[1]
    assert.is_true(date > 8.9e9 and date <= 10e9, date)
  end)

  it("asks again after ten minutes whatever the server said", function()
    local limiter = neap.rate_limiter { rate = 1 }
    limiter:observe { ["retry-after"] = "100000000" }
    assert.equal(600000000000, dates(limiter, 1)[1])
    limiter:observe { ["x-ratelimit-remaining"] = "0", ["x-ratelimit-reset"] = "100000000" }
    assert.equal(600000000000, dates(limiter, 1)[1])
  end)

  it("takes garbage, and kinds that it does not limit, for nothing", function()
    local limiter = neap.rate_limiter { rate = 5 }
    limiter:observe {
      ["retry-after"] = "soon", ["x-ratelimit-remaining-requests"] = "-1", ["x-ratelimit-reset-requests"] = "0",
      ["x-ratelimit-remaining-tokens"] = "0", ["x-ratelimit-reset-tokens"] = "60",
    }
    limiter:observe {}
    assert.equal(5, limiter:available())
  end)

  it("raises for a lease of another limiter", function()
    local lease = neap.rate_limiter({ rate = 1 }):acquire()
    assert.has_error(function() llm():observe({ ["x-ratelimit-remaining"] = "1" }, lease) end)
  end)
end)

--- OpenAI's headers for requests.
local function openai(limit, remaining, reset)
  return {
    ["x-ratelimit-limit-requests"] = tostring(limit),
    ["x-ratelimit-remaining-requests"] = tostring(remaining),
    ["x-ratelimit-reset-requests"] = reset,
  }
end

describe("limiter:observe with the lease of the request that was answered", function()
  it("sets what is left to the server's word, less what was granted since, up and down", function()
    local limiter = neap.rate_limiter { requests_per_minute = 6000, requests_burst = 100 }
    local leases = {}
    for i = 1, 5 do leases[i] = limiter:acquire() end
    limiter:observe(openai(60, 9, "51s"), leases[2])
    assert.equal(6, limiter:available()) -- three were granted later
    limiter:observe(openai(60, 40, "20s"), leases[4])
    assert.equal(39, limiter:available())
    limiter:observe(openai(60, 3, "57s"), leases[5])
    assert.equal(3, limiter:available())
  end)

  it("counts the refill since that request was sent", function()
    local limiter = neap.rate_limiter { requests_per_minute = 6000, requests_burst = 100 }
    local first = limiter:acquire()
    limiter:observe(openai(60, 50, "10s"), first)
    local second = limiter:acquire()
    neap.sleep(4)
    limiter:acquire(10)
    neap.sleep(3)
    limiter:observe(openai(60, 20, "40s"), second)
    assert.equal(20 - 10 + 7, limiter:available())
  end)

  it("counts no refill into a bucket that was full", function()
    local limiter = neap.rate_limiter { requests_per_minute = 6000, requests_burst = 100 }
    limiter:observe(openai(60, 50, "10s"), limiter:acquire())
    local lease = limiter:acquire()
    neap.sleep(100)
    limiter:acquire(30)
    limiter:observe(openai(60, 59, "1s"), lease)
    assert.equal(30, limiter:available())
  end)

  it("gives its first word no credit for time that nobody watched", function()
    local limiter = neap.rate_limiter { requests_per_minute = 6000, requests_burst = 100 }
    local lease = limiter:acquire()
    neap.sleep(30)
    limiter:acquire(10)
    limiter:observe(openai(60, 20, "40s"), lease)
    assert.equal(10, limiter:available())
  end)

  it("never lets more pass than configured, whatever the server says", function()
    local limiter = neap.rate_limiter { rate = 10, burst = 3 }
    local list, start = {}, neap.now()
    for i = 1, 50 do
      local lease = limiter:acquire()
      list[i] = to_ns(lease:date() - start)
      limiter:observe(openai(1000000, 999999, "1ms"), lease)
    end
    assert.equal(4700000000, list[50])
    assert.equal(0, limiter:available())
  end)

  it("paces by the server's limit where that is lower", function()
    local limiter = neap.rate_limiter { requests_per_minute = 6000, requests_burst = 100 }
    limiter:observe(openai(30, 2, "56s"), limiter:acquire())
    assert.same({ 0, 0, 2000000000, 4000000000 }, dates(limiter, 4))
  end)

  it("paces by a limit a day that comes with OpenAI's headers", function()
    local limiter = neap.rate_limiter { requests_per_minute = 500 }
    limiter:observe(openai(10000, 0, "24h0m0s"), limiter:acquire())
    assert.equal(8640000000, dates(limiter, 1)[1])
  end)

  it("does not listen to an answer older than the latest heard", function()
    local limiter = neap.rate_limiter { requests_per_minute = 6000, requests_burst = 100 }
    local older, newer = limiter:acquire(), limiter:acquire()
    limiter:observe(openai(60, 20, "40s"), newer)
    limiter:observe(openai(60, 50, "10s"), older)
    assert.equal(20, limiter:available())
    limiter:observe(openai(60, 1, "59s"), older)
    assert.equal(20, limiter:available())
    limiter:observe(openai(60, 21, "39s"), newer)
    assert.equal(21, limiter:available())
  end)

  it("gives back nothing that the server has not: its next word says it", function()
    local limiter = neap.rate_limiter { tokens_per_minute = 60000 }
    local function tokens(remaining)
      return {
        ["anthropic-ratelimit-tokens-limit"] = "6000",
        ["anthropic-ratelimit-tokens-remaining"] = tostring(remaining),
        ["anthropic-ratelimit-tokens-reset"] = "2999-01-01T00:00:00Z",
      }
    end
    limiter:observe(tokens(5000), limiter:acquire { tokens = 0 })
    local lease = limiter:acquire { tokens = 3000 }
    lease:settle { tokens = 100 }
    assert.equal(2000, limiter:available "tokens")
    lease:settle { tokens = 2000 }
    assert.equal(2000, limiter:available "tokens")
    lease:settle { tokens = 3500 }
    assert.equal(1500, limiter:available "tokens")
    limiter:observe(tokens(4900), limiter:acquire { tokens = 0 })
    assert.equal(4900, limiter:available "tokens")
  end)

  it("charges refunds and sends by the configured rates all the same", function()
    local limiter = neap.rate_limiter { requests_per_minute = 600, requests_burst = 10, tokens_per_minute = 1000 }
    local lease = limiter:acquire { tokens = 900 }
    limiter:observe(openai(6000, 5999, "10ms"), lease)
    lease:settle { requests = 4, tokens = 300 }
    assert.equal(6, limiter:available "requests")
    assert.equal(700, limiter:available "tokens")
  end)

  it("knows all kinds before anybody passes", function()
    local limiter, start = neap.rate_limiter { requests_per_minute = 60000, tokens_per_minute = 60000 }, neap.now()
    local lease = limiter:acquire { tokens = 1 }
    limiter:observe(openai(60, 0, "60s"), lease)
    neap.scope(function(s)
      s:spawn(function()
        limiter:acquire { tokens = 600 }
        assert.equal(6000000000, ns_since(start))
      end)
      settle()
      local headers = openai(60, 30, "30s")
      headers["x-ratelimit-limit-tokens"], headers["x-ratelimit-remaining-tokens"] = "6000", "0"
      headers["x-ratelimit-reset-tokens"] = "1m0s"
      limiter:observe(headers, lease)
    end)
  end)

  it("lets a request that is above the server's whole limit pass when that is full", function()
    local limiter = neap.rate_limiter { requests_per_minute = 6000, requests_burst = 100 }
    limiter:observe(openai(60, 30, "30s"), limiter:acquire())
    assert.same({ 30000000000, 61000000000 }, { dates(limiter, 1, 90)[1], 30e9 + dates(limiter, 1)[1] })
  end)
end)

describe("a server's window", function()
  local function ietf(remaining, reset)
    return { ratelimit = ('"a";r=%d;t=%d'):format(remaining, reset), ["ratelimit-policy"] = '"a";q=10;w=60' }
  end

  it("lets pass what is left, the rest at its reset and the same again each window", function()
    local limiter = neap.rate_limiter { rate = 1000 }
    limiter:observe(ietf(2, 20), limiter:acquire())
    local list = dates(limiter, 33)
    assert.same({ 0, 0, 20e9 }, { unpack(list, 1, 3) })
    assert.same({ 20e9, 80e9 }, { unpack(list, 12, 13) })
    assert.same({ 80e9, 140e9 }, { unpack(list, 22, 23) })
  end)

  it("of unknown size is limited by what is configured after the reset", function()
    local limiter = neap.rate_limiter { rate = 2, burst = 1 }
    limiter:observe({ ["x-ratelimit-remaining"] = "1", ["x-ratelimit-reset"] = "30" }, limiter:acquire())
    assert.same({ 500000000, 30e9, 30.5e9 }, dates(limiter, 3))
  end)

  it("is what Azure's whole seconds mean", function()
    local limiter = neap.rate_limiter { tokens_per_minute = 6000 }
    local lease = limiter:acquire { tokens = 500 }
    limiter:observe({ ["x-ratelimit-limit-tokens"] = "1000", ["x-ratelimit-remaining-tokens"] = "500",
      ["x-ratelimit-reset-tokens"] = "42" }, lease)
    assert.same({ 0, 42e9, 42e9 }, dates(limiter, 3, { tokens = 500 }))
    limiter:observe({ ["x-ratelimit-remaining-tokens"] = "-1", ["x-ratelimit-reset-tokens"] = "0" }, lease)
    assert.same({ 60e9 }, dates(limiter, 1, { tokens = 500 }))
  end)

  it("is re-based by each answer", function()
    local limiter = neap.rate_limiter { rate = 1000 }
    limiter:observe(ietf(0, 20), limiter:acquire())
    local lease = limiter:acquire()
    limiter:observe(ietf(9, 60), lease)
    assert.equal(9, limiter:available())
    neap.sleep(59)
    assert.equal(9, limiter:available())
    limiter:acquire(9)
    assert.equal(1e9, dates(limiter, 1)[1])
  end)
end)

describe("the option learn of a rate limiter", function()
  it("'never' takes in nothing but Retry-After", function()
    local limiter = neap.rate_limiter { rate = 10, learn = "never" }
    local lease = limiter:acquire()
    limiter:observe(openai(6, 0, "60s"), lease)
    assert.equal(9, limiter:available())
    limiter:observe({ ["retry-after"] = "3" }, lease)
    assert.equal(3000000000, dates(limiter, 1)[1])
  end)

  it("'replace' puts the server's limit in the place of the configured one, higher or lower", function()
    local limiter = neap.rate_limiter { requests_per_minute = 60, learn = "replace" }
    local lease = limiter:acquire()
    limiter:observe(openai(6000, 5999, "10ms"), lease)
    assert.equal(6000, limiter:snapshot().kinds.requests.rate)
    neap.sleep(10)
    assert.equal(100, limiter:available())
    assert.equal(10000000, dates(limiter, 101)[101])
    limiter:observe(openai(30, 29, "2s"), limiter:acquire())
    assert.equal(30, limiter:snapshot().kinds.requests.rate)
    local list = dates(limiter, 2)
    assert.equal(2000000000, list[2] - list[1])
  end)

  it("'replace' needs no rates: nothing is limited until a server tells", function()
    local limiter = neap.rate_limiter { learn = "replace" }
    assert.equal(math.huge, limiter:available "tokens")
    local lease = limiter:acquire { tokens = 1000000 }
    local headers = openai(60, 59, "1s")
    headers["x-ratelimit-limit-tokens"], headers["x-ratelimit-remaining-tokens"] = "6000", "1000"
    headers["x-ratelimit-reset-tokens"] = "50s"
    limiter:observe(headers, lease)
    assert.same({ 59, 1000, math.huge },
      { limiter:available "requests", limiter:available "tokens", limiter:available "output_tokens" })
    assert.same({ 0, 10e9 }, dates(limiter, 2, { tokens = 1000 }))
    assert.is_truthy(limiter:acquire(1))
  end)

  it("can be changed in use: 'never' forgets what was learned", function()
    local limiter = neap.rate_limiter { rate = 10 }
    local lease = limiter:acquire()
    limiter:observe(openai(6, 0, "60s"), lease)
    assert.equal(0, limiter:available())
    limiter:update { learn = "never" }
    assert.equal(9, limiter:available())
    limiter:update { learn = "lower" }
    limiter:observe(openai(6, 5, "10s"), lease)
    assert.equal(5, limiter:available())
  end)
end)

describe("headers of any kind", function()
  it("never make observe raise, nor stop the limiter for longer than ten minutes", function()
    local names = {
      "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests",
      "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", "ratelimit",
      "ratelimit-policy", "ratelimit-limit", "ratelimit-reset", "retry-after", "retry-after-ms", "date",
      "anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset",
      "anthropic-ratelimit-unified-status", "anthropic-ratelimit-unified-reset",
    }
    local values = {
      "0", "1", "-1", "7", "60", "1e9", ("9"):rep(400), "0.0000001", "nan", "inf", "", " ", "1s", "6m0s", "0s",
      "999999999h", "2999-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "Sun, 06 Nov 1994 08:49:37 GMT", "rejected",
      '"a";r=5;t=9', '"a";q=100;w=60', '"a";q=0;w=0', '"a";r=99999999999999999999;t=0', '"a', "100, 100;w=60",
      "limit=10, remaining=3, reset=99999999", "1000000000000", "4102444800",
    }
    local function draw(list) return list[math.floor(core.random() * #list) + 1] end
    for _, learn in ipairs { "lower", "replace" } do
      local limiter = neap.rate_limiter { requests_per_minute = 600, tokens_per_minute = 60000, learn = learn }
      for _ = 1, 4000 do
        local headers, lease = {}, limiter:acquire({ tokens = 5 }, 600)
        assert.is_truthy(lease)
        for _ = 1, 6 do headers[draw(names)] = draw(values) end
        limiter:observe(headers, core.random() < 0.8 and lease or nil)
        if core.random() < 0.01 then limiter:update { learn = "never" } end
        limiter:update { learn = learn, requests_per_minute = 600, tokens_per_minute = 60000 }
      end
    end
  end)
end)
