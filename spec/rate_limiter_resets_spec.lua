-- SPDX-License-Identifier: MIT
-- Waits that a server's resets and Retry-After ask for: never longer than they say.
local core = require "neap.core"
local neap = require "neap"
local limiters = require "spec.support.rate_limiter"

local dates = limiters.dates

--- OpenAI's headers for a kind ("requests" by default).
local function told(limit, remaining, reset, kind)
  kind = kind or "requests"
  return {
    ["x-ratelimit-limit-" .. kind] = tostring(limit),
    ["x-ratelimit-remaining-" .. kind] = tostring(remaining),
    ["x-ratelimit-reset-" .. kind] = reset,
  }
end

--- A limiter that heard one answer.
local function heard(headers, options)
  local limiter = neap.rate_limiter(options or { requests_per_minute = 60000, requests_burst = 1000 })
  limiter:observe(headers, limiter:acquire())
  return limiter
end

local function duration(seconds)
  return ("%dh%dm%.3fs"):format(math.floor(seconds / 3600), math.floor(seconds % 3600 / 60), seconds % 60)
end

describe("a bucket learned from a reset", function()
  it("is full no later than the server said, whatever its period", function()
    for _, case in ipairs {
      { 100, 0, "1m30s", 0.6e9 }, { 100, 0, "2m0s", 1.2e9 }, { 10, 0, "2m0s", 12e9 }, { 1, 0, "9m0s", 540e9 },
      { 100, 0, "30m0s", 18e9 }, { 100, 0, "59m0s", 35.4e9 }, { 100, 0, "1h0m0s", 36e9 }, { 60, 0, "15s", 0.25e9 },
      { 1, 0, "15s", 15e9 }, { 100, 0, "23h0m0s", 600e9 }, { 10000, 0, "24h0m0s", 8.64e9 },
    } do
      local list = dates(heard(told(case[1], case[2], case[3])), 3)
      assert.same({ case[4], 2 * case[4], 3 * case[4] }, list, case[3])
    end
  end)

  it("counts what is left: half of the limit in half of its time", function()
    local list = dates(heard(told(100, 50, "3m0s")), 52)
    assert.same({ 0, 3.6e9, 7.2e9 }, { unpack(list, 50, 52) })
  end)

  it("paces a limit a day as such from the first answer on", function()
    local limiter = heard(told(10000, 9999, "8.64s"))
    assert.equal(86400, limiter:snapshot().kinds.requests.learned_per)
    limiter:observe(told(10000, 0, "24h0m0s"), limiter:acquire())
    assert.equal(8640000000, dates(limiter, 1)[1])
  end)

  it("holds for tokens and for Anthropic's times too", function()
    local limiter = heard(told(6000, 0, "10s", "tokens"), { tokens_per_minute = 600000 })
    assert.same({ 5e9, 10e9 }, dates(limiter, 2, { tokens = 3000 }))
    limiter = heard({
      date = "Sun, 26 Apr 2026 12:00:50 GMT", ["anthropic-ratelimit-requests-limit"] = "50",
      ["anthropic-ratelimit-requests-remaining"] = "0",
      ["anthropic-ratelimit-requests-reset"] = "2026-04-26T12:01:00Z",
    })
    assert.same({ 0.2e9, 0.4e9 }, dates(limiter, 2))
  end)

  it("replaces the configured rate with one that keeps to it", function()
    for _, case in ipairs { { 100, "2m0s", 1.2e9 }, { 1, "15s", 15e9 }, { 1, "99999999h", 600e9 } } do
      local limiter = heard(told(case[1], 0, case[2]), { requests_per_minute = 60000, learn = "replace" })
      assert.same({ case[3], 2 * case[3] }, dates(limiter, 2), case[2])
    end
  end)

  it("tells a limit once, though its period is made out a little differently each time", function()
    local events = {}
    local stop = neap.telemetry.subscribe(function(event)
      if event.event == "limit" then events[#events + 1] = event end
    end)
    local limiter = neap.rate_limiter { requests_per_minute = 60000 }
    for _, reset in ipairs { "2m0s", "1m59s", "1m57s" } do limiter:observe(told(100, 0, reset), limiter:acquire()) end
    stop()
    assert.equal(1, #events)
    assert.equal(120, events[1].per)
  end)

  it("of 5,000 random words lets the next request pass by the stated reset", function()
    local function draw(n) return math.floor(core.random() * n) + 1 end
    for _ = 1, 5000 do
      local limit = draw(5) == 1 and draw(5) or draw(20000)
      local remaining, reset = draw(limit) - 1, draw(2) == 1 and draw(86400) or draw(90000) / 1000
      local limiter = heard(told(limit, remaining, duration(reset)), { rate = 1e9, burst = 1e12 })
      if remaining > 0 then limiter:acquire(remaining) end
      local wait = dates(limiter, 1)[1] / 1e9
      local text = ("%d, %d, %g: %g"):format(limit, remaining, reset, wait)
      assert.is_true(wait <= math.min(reset, 600) * (1 + 1e-8), text)
    end
  end)
end)

describe("after ten minutes one request passes", function()
  it("whatever reset was stated, and the next ten minutes later", function()
    for _, case in ipairs { { 1, "99999999h" }, { 10, "999999h" }, { 1, "24h0m0s" } } do
      assert.same({ 600e9, 1200e9 }, dates(heard(told(case[1], 0, case[2])), 2), case[2])
    end
  end)

  it("however much it asks for, and however much was granted since that answer", function()
    local limiter = neap.rate_limiter { requests_per_minute = 60000, requests_burst = 1000 }
    local lease = limiter:acquire()
    for _ = 1, 50 do limiter:acquire() end
    limiter:observe(told(10, 0, "99h0m0s"), lease)
    assert.same({ 600e9 }, dates(limiter, 1, 10))
  end)

  it("as eta says, and its answer tells how to go on", function()
    local limiter, start = heard(told(1, 0, "99h0m0s")), neap.now()
    neap.scope(function(s)
      s:spawn(function()
        local lease = limiter:acquire()
        assert.equal(600e9, limiters.ns_since(start))
        limiter:observe(told(1, 0, "10s"), lease)
      end)
      s:spawn(function()
        limiter:acquire()
        assert.equal(610e9, limiters.ns_since(start))
      end)
      limiters.settle()
      assert.equal(600e9, limiters.to_ns(limiter:eta() - start))
    end)
  end)

  it("counted from the latest answer", function()
    local limiter = heard(told(1, 0, "99h0m0s"))
    neap.sleep(500)
    limiter:observe(told(1, 0, "98h0m0s"))
    assert.same({ 600e9 }, dates(limiter, 1))
  end)

  it("also where the limit alone is next to nothing", function()
    local limiter = heard({ ["x-ratelimit-limit-requests"] = "0.001", ["x-ratelimit-remaining-requests"] = "0" })
    assert.same({ 600e9 }, dates(limiter, 1))
  end)
end)

describe("Retry-After and the status of its answer", function()
  local function wait_of(status, headers)
    local limiter = neap.rate_limiter { rate = 1000 }
    limiter:observe(headers or { ["retry-after"] = "100000" }, limiter:acquire(), status)
    return dates(limiter, 1)[1]
  end

  it("counts for refusals and where the status is not known", function()
    for _, status in ipairs { 400, 429, 503, 529 } do assert.equal(600e9, wait_of(status), status) end
    assert.equal(600e9, wait_of(nil))
    assert.equal(600e9, wait_of("200"))
    assert.equal(2e9, wait_of(429, { ["retry-after-ms"] = "2000" }))
  end)

  it("is not about limits where the request was served", function()
    for _, status in ipairs { 200, 204, 304 } do
      assert.equal(0, wait_of(status), status)
      assert.equal(0, wait_of(status, { ["retry-after-ms"] = "2000" }), status)
    end
  end)

  it("leaves the limits of such an answer in force", function()
    local headers = told(60, 0, "1m0s")
    headers["retry-after"] = "500"
    assert.equal(1e9, wait_of(200, headers))
  end)
end)
