-- SPDX-License-Identifier: MIT
-- What is reached at an instant is reached there, whatever the rounding; and a long
-- line costs each who waits in it the same.
local core = require "neap.core"
local dates = require "neap.world.dates"
local instant = require "neap.world.instant"
local limits = require "neap.world.limits"
local neap = require "neap"
local outages = require "neap.world.outage"
local quotas = require "neap.world.quota"
local upstreams = require "neap.world.upstream"

local rng = core.rng(11, 3)
local function draw() return rng:double() end
local function between(least, most) return math.floor(least + draw() * (most - least + 1)) end

--- A time as the clock tells it.
local function clock(seconds) return math.floor(seconds * 1e9 + 0.5) / 1e9 end

local NAMES = { "rpm", "tpm", "itpm", "otpm", "rpd", "tpd" }

local function random_limits()
  local spec = { window = ({ 1, 5, 60, 0.7 })[between(1, 4)] }
  for _, name in ipairs(NAMES) do
    if draw() < 0.4 then spec[name] = between(1, 10 ^ between(1, 7)) end
  end
  spec.rpm = spec.rpm or between(1, 5000)
  return spec
end

describe("a rate limit", function()
  it("lets through who comes at the very instant that it told, in 20,000 random cases", function()
    local told = 0
    while told < 20000 do
      local spec, now = random_limits(), clock(draw() * 10 ^ between(0, 7))
      local limit = limits.new(spec)
      for _ = 1, 30 do
        local tokens = between(0, 400)
        local wait = limit:take(now, tokens)
        if wait == math.huge then break end
        if wait > 0 then
          told = told + 1
          now = clock(now + wait)
          local again, dimension = limit:take(now, tokens)
          if again ~= 0 then
            error(("at %.17g: %.17g s more for %s, of %s"):format(now, again, dimension, neap.json.encode(spec)))
          end
        end
      end
    end
  end)

  it("lets nobody through before that, in 5,000 random cases", function()
    local told = 0
    while told < 5000 do
      local limit, now = limits.new { rpm = between(1, 1000), window = 1 }, clock(draw() * 1e5)
      for _ = 1, 20 do
        local wait = limit:take(now, 0)
        if wait > 1e-6 then
          told = told + 1
          assert.is_true(limit:take(clock(now + wait) - 1e-7, 0) > 0)
        end
        now = clock(now + wait * (draw() < 0.5 and 1 or draw()))
      end
    end
  end)

  it("gives no more in the long run than its rate, though it rounds", function()
    local limit, now, taken = limits.new { rpm = 7, window = 1 }, 0.1, 0
    while now < 60000 do
      local wait = limit:take(now, 0)
      if wait == 0 then taken = taken + 1 else now = clock(now + wait) end
    end
    assert.is_true(math.abs(taken - 7000) <= 2, taken .. " taken")
  end)

  it("holds as many as it says", function()
    for limit = 1, 2000 do
      local one = limits.new { tpm = limit }
      assert.equal(0, (one:take(0, limit)))
    end
  end)

  it("tells how many are left without losing one to rounding", function()
    local limit, into = limits.new { rpm = 60, window = 60 }, {}
    for _ = 1, 60 do assert.equal(0, (limit:take(0.3, 0))) end
    for i = 1, 59 do
      limit:add_headers(clock(0.3 + i), into)
      assert.equal(tostring(i), into["x-ratelimit-remaining-requests"])
    end
  end)
end)

describe("dates of a world", function()
  it("are instants of the clock: a quota's next period begins when it was told", function()
    for _ = 1, 5000 do
      local start, per = clock(draw() * 1e4), draw() * 100 + 0.001
      local quota, now = quotas.new({ requests = 1, per = per }, start), clock(start + draw() * 1000)
      assert.equal(0, (quota:take(now, 0)))
      local wait = quota:take(now, 0)
      assert.is_true(wait > 0)
      assert.equal(0, (quota:take(clock(now + wait), 0)))
    end
  end)

  it("are instants of the clock: an outage's first one is in it, its last one is not", function()
    for _ = 1, 5000 do
      local start, from = clock(draw() * 1e4), between(0, 1e6) / 1000
      local outage = outages.new({ from = from, to = from + 0.1 }, start)
      assert.truthy(outage:at(clock(start + from)))
      assert.is_nil(outage:at(clock(start + from) - 1e-6))
      assert.is_nil(outage:at(clock(start + (from + 0.1))))
    end
    assert.equal(math.huge, instant.of(math.huge))
  end)

  it("come out in order, whatever the order they came in", function()
    local list, wanted, last = {}, {}, -1
    for i = 1, 3000 do
      local at = between(0, 500)
      wanted[i] = at
      dates.add(list, at)
    end
    table.sort(wanted)
    for i = 1, 1500 do
      last = dates.take(list)
      assert.equal(wanted[i], last)
    end
    dates.add(list, last)
    assert.equal(last, dates.take(list))
    for i = 1501, 3000 do assert.equal(wanted[i], dates.take(list)) end
    assert.same({}, list)
  end)
end)

describe("a line of thousands", function()
  --- Task switches for each of n requests that wait for a few servers, whose number
  --- changes often; those of the clients who leave go on working.
  local function switches_each(n)
    local steps = {}
    for i = 0, 400 do steps[i + 1] = { at = i, slots = 4 + i % 3 } end
    local upstream = upstreams.new { latency = 0.2, capacity = steps, over = "queue", on_disconnect = "continue" }
    local before = core.stats().switches
    neap.scope(function(s)
      for i = 1, n do
        s:spawn(function()
          if i % 4 == 0 then return neap.timeout(i / 100, upstream.request, upstream, { id = i }) end
          return upstream:request { id = i }
        end)
      end
    end)
    assert.equal(0, upstream.stats.open)
    return (core.stats().switches - before) / n
  end

  it("wakes each one a few times, however long it is", function()
    local short, long = switches_each(500), switches_each(4000)
    assert.is_true(long < 1.5 * short and long < 12, ("%.1f and %.1f switches"):format(short, long))
  end)
end)
