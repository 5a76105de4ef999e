-- SPDX-License-Identifier: MIT
local core = require "neap.core"
local neap = require "neap"
local upstreams = require "neap.world.upstream"
local measure = require "spec.support.measure"

local about, timed = measure.about, measure.took

--- Sends `n` requests at once; each's seconds, rounded, and status.
local function burst(upstream, n)
  local list = {}
  for i = 1, n do list[i] = i end
  return neap.map(list, function()
    local seconds, res = timed(upstream.request, upstream)
    return ("%.3f %d"):format(seconds, res.status)
  end)
end

describe("a simulated upstream", function()
  it("answers with a response, after its latency", function()
    local upstream = upstreams.new { latency = 0.25 }
    local seconds, res, err = timed(upstream.request, upstream)
    about(0.25, seconds, 1e-6)
    assert.is_nil(err)
    assert.same({ status = 200, headers = {}, replay_safe = true, sends = 1 }, res)
  end)

  it("fails with the statuses that it was told", function()
    local upstream = upstreams.new { errors = { { status = 429, probability = 1, retry_after = 2.5 } } }
    local res = upstream:request()
    assert.same({ 429, "3" }, { res.status, res.headers["retry-after"] })
  end)

  it("resets connections: an error of kind receive, maybe processed", function()
    local upstream = upstreams.new { drop = 1, latency = 0.1, name = "east" }
    local seconds, res, err = timed(upstream.request, upstream)
    about(0.1, seconds, 1e-6)
    assert.is_nil(res)
    assert.same({ "receive", "maybe", true, 1, true },
      { err.kind, err.sent, err.retryable, err.sends, err.replay_safe })
    assert.truthy(err.message:find "^east ")
    assert.same({ drop = 1 }, upstream.stats.statuses)
  end)

  it("hangs until its client leaves", function()
    local upstream = upstreams.new { hang = 1, capacity = 1 }
    local _, err = neap.timeout(1000, upstream.request, upstream)
    assert.equal("timeout", err.kind)
    assert.same({ hang = 1 }, upstream.stats.statuses)
    assert.same({ 0, 0 }, { upstream.stats.open, upstream.law.capacity.busy })
  end)

  it("limits rates, and says so in OpenAI's headers", function()
    local upstream = upstreams.new { rate_limit = { rpm = 60, tpm = 6000, window = 2 } }
    local res = upstream:request { tokens = 150 }
    assert.same({ 200, "1", "50" },
      { res.status, res.headers["x-ratelimit-remaining-requests"], res.headers["x-ratelimit-remaining-tokens"] })
    res = upstream:request { tokens = 150 }
    assert.same({ 429, "1" }, { res.status, res.headers["retry-after"] })
    neap.sleep(1)
    assert.equal(200, upstream:request({ tokens = 150 }).status)
  end)

  it("turns away what is over its capacity", function()
    local upstream = upstreams.new { capacity = 2, latency = 0.1, retry_after = 1 }
    assert.same({ "0.100 200", "0.100 200", "0.000 429" }, burst(upstream, 3))
    assert.same({ 0, 3, 2 }, { upstream.stats.open, upstream.stats.max_open, upstream.law.capacity.max_busy })
  end)

  it("queues what is over its capacity, in order", function()
    local upstream = upstreams.new { capacity = 2, over = "queue", latency = 0.1 }
    assert.same({ "0.100 200", "0.100 200", "0.200 200", "0.200 200", "0.300 200" }, burst(upstream, 5))
  end)

  it("wakes its line when slots are added by schedule", function()
    local upstream = upstreams.new { capacity = { { at = 0, slots = 0 }, { at = 3, slots = 2 } }, over = "queue",
      latency = 1 }
    assert.same({ "4.000 200", "4.000 200", "5.000 200" }, burst(upstream, 3))
  end)

  it("takes longer under load, by its brownout", function()
    local upstream = upstreams.new { brownout = { knee = 2, slope = 1 }, latency = 1 }
    assert.same({ "1.000 200", "1.000 200", "1.500 200", "2.000 200" }, burst(upstream, 4))
  end)

  it("gives the slot and the place in line of a client who leaves to the next, at once", function()
    local upstream, seconds = upstreams.new { capacity = 1, over = "queue", latency = 10 }, nil
    neap.scope(function(s)
      local first = s:spawn(upstream.request, upstream)
      local second = s:spawn(upstream.request, upstream)
      s:spawn(function() seconds = timed(upstream.request, upstream) end)
      neap.sleep(2)
      second:cancel()
      first:cancel()
    end)
    about(12, seconds, 1e-6)
    assert.same({ ["200"] = 1, disconnect = 2 }, upstream.stats.statuses)
    assert.same({ 0, 0, 0 }, { upstream.stats.open, upstream.law.capacity.busy, upstream.law.capacity.waiting })
  end)

  it("works on for clients who have left when told so: what comes later waits for it", function()
    local upstream = upstreams.new { capacity = 1, over = "queue", latency = 10, on_disconnect = "continue" }
    local seconds
    neap.scope(function(s)
      local first = s:spawn(upstream.request, upstream)
      local second = s:spawn(upstream.request, upstream)
      s:spawn(function() seconds = timed(upstream.request, upstream) end)
      neap.sleep(2)
      first:cancel()
      neap.sleep(3)
      assert.same({ 2, 1 }, { upstream.stats.open, upstream.law.capacity.busy })
      second:cancel()
    end)
    about(30, seconds, 1e-6)
    assert.equal(0, upstream.law.capacity.busy)
  end)

  it("keeps a row of each request when told so", function()
    local upstream = upstreams.new { latency = 1, log = true }
    neap.sleep(1)
    upstream:request { id = "a" }
    neap.timeout(0.5, upstream.request, upstream, { id = "b" })
    local rows = upstream.stats:rows(1, 2, function(text) return '"' .. text .. '"' end)
    assert.truthy(rows:find '"id":"a","path":"/","arrived":1.000000,"duration":1.000000,"status":200')
    assert.truthy(rows:find '"id":"b","path":"/","arrived":2.000000,"duration":0.500000,"status":"disconnect"')
  end)
end)

describe("a simulated upstream's draws", function()
  local lognormal = { law = "lognormal", median = 0.1, sigma = 0.8 }

  local function durations(config, ids)
    local upstream, list = upstreams.new(config), {}
    for i, id in ipairs(ids) do list[i] = timed(upstream.request, upstream, { id = id or nil }) end
    return list
  end

  it("repeat for the same seed and differ for another", function()
    local function of(seed) return durations({ latency = lognormal, seed = seed }, { false, false, false }) end
    local function rounded(list) return ("%.6f %.6f %.6f"):format(unpack(list)) end
    assert.equal(rounded(of(1)), rounded(of(1)))
    assert.not_equal(rounded(of(1)), rounded(of(2)))
  end)

  it("are those of the request's id and attempt, whoever else came", function()
    local calm = durations({ latency = lognormal }, { "a", "b", "c", "a" })
    local busy = durations({ latency = lognormal, errors = { { status = 500, probability = 0.5 } } },
      { false, "x", "c", "a", false, "b", "a" })
    assert.is_true(math.abs(calm[4] - calm[1]) > 1e-6)
    about(calm[1], busy[4], 1e-6)
    about(calm[3], busy[3], 1e-6)
    about(calm[4], busy[7], 1e-6)
  end)

  it("take a number for an id", function()
    local list = durations({ latency = lognormal }, { 1, 2 })
    local again = durations({ latency = lognormal }, { 2, 1 })
    about(list[1], again[2], 1e-6)
    about(list[2], again[1], 1e-6)
  end)
end)

describe("a simulated upstream's queue", function()
  --- Erlang's C: the probability that an arrival has to wait, at load a on c slots.
  local function erlang_c(a, c)
    local term, sum = 1, 0
    for k = 0, c - 1 do
      sum = sum + term
      term = term * a / (k + 1)
    end
    local last = term * c / (c - a)
    return last / (sum + last)
  end

  it("has the mean wait of M/M/c", function()
    local c, rate, mean, n = 5, 40, 0.1, 60000 -- 80 % busy
    local upstream = upstreams.new { capacity = c, over = "queue", latency = { law = "exponential", mean = mean } }
    local rng, total = core.rng(11, 50), 0
    neap.scope(function(s)
      for _ = 1, n do
        neap.sleep(-math.log(1 - rng:double()) / rate)
        s:spawn(function()
          local seconds = timed(upstream.request, upstream)
          total = total + seconds
        end)
      end
    end)
    about(mean + erlang_c(rate * mean, c) / (c / mean - rate), total / n, 0.03)
  end)
end)

describe("neap.world.upstream's options", function()
  local wrong = {
    { { latncy = 1 }, "option 'latncy' is unknown; did you mean 'latency'?" },
    { { latency = -1 }, "option 'latency' must be at least 0" },
    { { latency = { law = "gauss" } }, "option 'latency': there is no latency law 'gauss'" },
    { { drop = 1.5 }, "option 'drop' must be at most 1" },
    { { errors = { { status = 200, probability = 1 } } }, "option 'errors': status must be a number from 400 to 599" },
    { { errors = { { status = 500 } } }, "option 'errors': each needs a status and a probability" },
    { { errors = { { status = 500, probability = 0.7 }, { status = 503, probability = 0.7 } } },
      "option 'errors': the probabilities add up to 1.4, more than 1" },
    { { capacity = -1 }, "option 'capacity' must be at least 0" },
    { { capacity = {} }, "option 'capacity': needs a number, or steps" },
    { { capacity = { { at = 1, slots = 2 } } }, "option 'capacity': the first step must be at 0" },
    { { capacity = { { at = 0, slots = 2 }, { at = 0, slots = 3 } } }, "'capacity': the steps must be in order" },
    { { capacity = { { at = 0, slots = 1.5 } } }, "slots (a whole number)" },
    { { capacity = 1, over = "drop" }, "option 'over' must be one of" },
    { { over = "queue" }, "option 'over' needs 'capacity'" },
    { { capacity = 1, over = "queue", retry_after = 1 }, "option 'retry_after' needs 'capacity' with over" },
    { { brownout = {} }, "option 'brownout': needs knee, latency or error" },
    { { brownout = { knee = 0 } }, "option 'brownout': knee must be a number from" },
    { { brownout = { slope = 1, latency = 2 } }, "option 'brownout': slope needs a knee" },
    { { brownout = { { latency = 2, from = 3, to = 3 } } }, "option 'brownout': to must be later than from" },
    { { brownout = { { knees = 3 } } }, "option 'brownout': 'knees' is unknown" },
    { { rate_limit = { window = 3 } }, "option 'rate_limit': needs rpm, tpm or both" },
    { { rate_limit = { rpm = 0 } }, "'rpm' must be above 0" },
    { { on_disconnect = "die" }, "option 'on_disconnect' must be one of" },
  }
  for _, case in ipairs(wrong) do
    it("are refused: " .. case[2], function()
      local ok, message = pcall(function() return (upstreams.new(case[1])) end)
      assert.is_false(ok)
      assert.message(message).truthy(message:find(case[2], 1, true))
      assert.message(message).truthy(message:find "world_upstream_spec%.lua:%d+: neap%.world%.upstream: ")
    end)
  end
end)
