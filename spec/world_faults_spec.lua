-- SPDX-License-Identifier: MIT
-- Outages, ramps, quotas and token laws: pure, at exact times.
local brownouts = require "neap.world.brownout"
local core = require "neap.core"
local headers = require "neap.world.headers"
local limits = require "neap.world.limits"
local quotas = require "neap.world.quota"
local rate_headers = require "neap.rate_headers"
local worlds = require "neap.world"
local measure = require "spec.support.measure"

local near = measure.near

--- An upstream whose time 0 is 1000.
local function upstream_of(opts)
  opts.host = "a"
  local world = worlds.new { opts }
  world:start(1000, 1)
  return world.upstreams[1]
end

describe("an outage", function()
  it("refuses from its first instant to its last, and no longer", function()
    local upstream = upstream_of { latency = 0, outage = { from = 30, to = 60 } }
    for _, case in ipairs { { 1029.999, "answer" }, { 1030, "drop" }, { 1059.999, "drop" }, { 1060, "answer" } } do
      local fate = upstream:arrive(case[1], {})
      assert.equal(case[2], fate.kind)
      assert.equal(case[2] == "drop", upstream:connect(case[1]).refused)
      if fate.state then upstream:leave(case[1], fate, false) end
    end
    assert.same({ ["200"] = 2, drop = 2 }, upstream.stats.statuses)
    assert.equal(0, upstream.stats.open)
  end)

  it("loses what is in work, and in line, when it begins", function()
    local upstream = upstream_of { latency = 5, capacity = 1, over = "queue", outage = { from = 30, to = 60 } }
    local first, second = upstream:arrive(1028, {}), upstream:arrive(1029, {})
    assert.same({ "drop", 1030 }, { first.kind, first.ends })
    upstream:leave(1030, first, false)
    assert.same({ "drop", 1030 }, { second.kind, second.ends })
    upstream:leave(1030, second, false)
    assert.equal(0, upstream.law.capacity.busy)
  end)

  it("that hangs loses the answers which would come out in it, and no others", function()
    local upstream = upstream_of { latency = 5, outage = { from = 30, to = 60, how = "hang" } }
    assert.equal("answer", upstream:arrive(1024, {}).kind)
    local lost = upstream:arrive(1026, {})
    assert.same({ "hang", math.huge }, { lost.kind, lost.ends })
    local inside = upstream:arrive(1040, {})
    assert.same({ "hang", "lost" }, { inside.kind, inside.state })
    assert.is_true(upstream:connect(1040).hang)
    upstream:leave(1050, inside, true)
    upstream:leave(1050, lost, true)
    assert.equal("answer", upstream:arrive(1060, {}).kind)
    assert.same({ hang = 2 }, upstream.stats.statuses)
  end)

  it("with a status answers at once, and lets what is in work end", function()
    local upstream = upstream_of { latency = 5, outage = { from = 30, to = 60, status = 502, retry_after = 9 } }
    local before = upstream:arrive(1029, {})
    assert.same({ "answer", 1034 }, { before.kind, before.ends })
    local fate = upstream:arrive(1031, {})
    assert.is_nil(fate.state)
    local answer = upstream:answer(1031, fate, {})
    assert.same({ 502, "9" }, { answer.status, answer.headers["retry-after"] })
    assert.is_false(upstream:connect(1031).refused)
  end)

  it("may be shared, by hosts or by region", function()
    local world = worlds.new {
      { host = "a", region = "eu", outage = { from = 1, to = 2 } }, { host = "b", region = "eu" }, { host = "c" },
      outages = { { region = "eu", from = 10, to = 20 }, { hosts = { "B", "c" }, from = 30, to = 40, status = 503 } },
      brownouts = { { from = 50, to = 60, error = 1, status = 529 } },
    }
    world:start(1000, 1)
    local function kinds(at)
      local list = {}
      for i, upstream in ipairs(world.upstreams) do
        local fate = upstream:arrive(1000 + at, {})
        list[i] = fate.status or fate.kind
      end
      return list
    end
    assert.same({ "drop", "answer", "answer" }, kinds(1))
    assert.same({ "drop", "drop", "answer" }, kinds(15))
    assert.same({ "answer", 503, 503 }, kinds(30))
    assert.same({ 529, 529, 529 }, kinds(50))
    assert.same({ "answer", "answer", "answer" }, kinds(60))
  end)
end)

describe("a brownout with ramps", function()
  it("grows to its full size, stays, and shrinks", function()
    local brownout = brownouts.new({ from = 10, to = 50, latency = 5, error = 0.4, ramp = 10, ramp_down = 20 }, 0)
    for _, case in ipairs { { 9, 0 }, { 10, 0 }, { 15, 0.5 }, { 20, 1 }, { 30, 1 }, { 40, 0.5 }, { 45, 0.25 },
      { 50, 0 } } do
      near(1 + 4 * case[2], brownout:factor(case[1], 1))
      local p = 0.4 * case[2]
      assert.equal(p > 0 and 503 or nil, (brownout:failure(case[1], p - 1e-9)))
      assert.is_nil((brownout:failure(case[1], p)))
    end
  end)
end)

describe("a quota", function()
  it("is used up by requests or tokens, and there again with the next period", function()
    local quota = quotas.new({ requests = 2, tokens = 100, per = 60 }, 1000)
    assert.equal(0, quota:take(1010, 60))
    local wait, short = quota:take(1015, 60)
    assert.same({ 45, "tokens" }, { wait, short })
    assert.equal(0, quota:take(1020, 40))
    assert.same({ 30, "requests" }, { quota:take(1030, 0) })
    assert.equal(0, quota:take(1060, 100))
    assert.same({ 59, "tokens" }, { quota:take(1061, 1) })
    quota:refund(50)
    assert.equal(0, quota:take(1062, 50))
  end)

  it("is a 429 that says when it is there again", function()
    local upstream = upstream_of { quota = { requests = 1, per = 3600 } }
    upstream:arrive(1100, {})
    local fate = upstream:arrive(1101, {})
    assert.same({ "limit", "quota", 429 }, { fate.kind, fate.dimension, fate.status })
    assert.equal("3499", upstream:answer(1101, fate, {}).headers["retry-after"])
  end)
end)

describe("rate limits", function()
  it("count input and output apart, and give back what was not used", function()
    local l = limits.new { itpm = 600, otpm = 600, window = 60 }
    assert.equal(0, l:take(0, 900, 400, 500))
    assert.same({ 20, "input" }, { l:take(0, 300, 400, 0) })
    assert.same({ 40, "output" }, { l:take(0, 500, 0, 500) })
    l:settle(450)
    assert.equal(0, l:take(0, 500, 0, 500))
  end)

  it("count the day as well", function()
    local l = limits.new { rpm = 6000, rpd = 3 }
    for _ = 1, 3 do assert.equal(0, l:take(0, 0)) end
    local wait, dimension = l:take(0, 0)
    assert.same({ 28800, "requests" }, { wait, dimension })
  end)

  local function headers_of(spec, wall)
    local l, into = limits.new(spec), {}
    l:take(0, 300, 200, 100)
    l:add_headers(0, into, wall)
    return into
  end

  it("tell OpenAI's headers: durations, and a day's limit in the place of a minute's", function()
    assert.same({ ["x-ratelimit-limit-requests"] = "10000", ["x-ratelimit-remaining-requests"] = "9999",
      ["x-ratelimit-reset-requests"] = "8.64s", ["x-ratelimit-limit-tokens"] = "6000",
      ["x-ratelimit-remaining-tokens"] = "5700", ["x-ratelimit-reset-tokens"] = "3s" },
      headers_of { rpm = 500, rpd = 10000, tpm = 6000 })
  end)

  it("tell Azure's: whole seconds", function()
    local into = headers_of { rpm = 6, tpm = 6000, headers = "azure" }
    assert.same({ "10", "3" }, { into["x-ratelimit-reset-requests"], into["x-ratelimit-reset-tokens"] })
  end)

  it("tell Anthropic's: dates, and the most restrictive token limit", function()
    local into = headers_of({ rpm = 60, itpm = 6000, otpm = 600, headers = "anthropic" }, 1767225600)
    assert.same({ "60", "59", "2026-01-01T00:00:01Z" }, { into["anthropic-ratelimit-requests-limit"],
      into["anthropic-ratelimit-requests-remaining"], into["anthropic-ratelimit-requests-reset"] })
    assert.same({ "6000", "5800", "2026-01-01T00:00:02Z" }, { into["anthropic-ratelimit-input-tokens-limit"],
      into["anthropic-ratelimit-input-tokens-remaining"], into["anthropic-ratelimit-input-tokens-reset"] })
    assert.same({ "600", "500" }, { into["anthropic-ratelimit-output-tokens-limit"],
      into["anthropic-ratelimit-tokens-remaining"] })
  end)

  it("tell the IETF draft's", function()
    assert.same({ ["ratelimit-policy"] = '"requests";q=60;w=60, "tokens-day";q=1000;w=86400',
      ratelimit = '"requests";r=59;t=1, "tokens-day";r=700;t=25920' },
      headers_of { rpm = 60, tpd = 1000, headers = "ratelimit" })
  end)

  it("tell nothing when they are told so", function()
    assert.same({}, headers_of { rpm = 60, headers = "none" })
  end)

  it("tell dates that read back as the same instant", function()
    local rng = core.rng(4, 1)
    for _ = 1, 2000 do
      local unix = math.floor(rng:double() * 4e9)
      assert.equal(unix, rate_headers.rfc3339(headers.rfc3339(unix)))
    end
  end)
end)

describe("a token law", function()
  local function work(fields)
    local asked = { input = 100, max_tokens = 1000 }
    for key, value in pairs(fields or {}) do asked[key] = value end
    return asked
  end

  it("takes the first token's time, and then so many a second", function()
    local upstream = upstream_of { latency = 0.5, tokens = { output = 101, per_second = 50 } }
    local fate = upstream:arrive(1000, work())
    assert.equal(101, fate.output)
    near(1002.5, fate.ends)
  end)

  it("is cut at max_tokens", function()
    local upstream = upstream_of { latency = 0.5, tokens = { output = 101, per_second = 50 } }
    local fate = upstream:arrive(1000, work { max_tokens = 11 })
    assert.same({ 11, 101 }, { fate.output, fate.drawn })
    near(1000.7, fate.ends)
    upstream:leave(fate.ends, fate, false)
    assert.same({ 100, 11 }, { upstream.law.input, upstream.law.output })
  end)

  it("charges what max_tokens allows and settles what was used, in requests of this process too", function()
    local upstream = upstream_of { latency = 1, tokens = { output = 10 }, rate_limit = { otpm = 60, window = 60 } }
    upstream:start(core.now(), 1)
    local res = upstream:request { input = 5, max_tokens = 60 }
    assert.same({ input = 5, output = 10 }, res.usage)
    local bucket = upstream.law.limits.buckets[1]
    bucket:refill(core.now())
    near(51, bucket.level) -- 50 back, and a second's worth
    assert.equal(429, upstream:request({ input = 5, max_tokens = 60 }).status)
  end)

  it("gives a failure no tokens", function()
    local upstream = upstream_of { latency = 0.5, tokens = { output = 100, per_second = 10 },
      errors = { { status = 500, probability = 1 } } }
    near(1000.5, upstream:arrive(1000, work()).ends)
  end)
end)
