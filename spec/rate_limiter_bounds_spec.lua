-- SPDX-License-Identifier: MIT
-- The rate limiter against its definition, by random use with a fixed seed, and
-- over sockets.
local core = require "neap.core"
local neap = require "neap"

local function to_ns(seconds) return math.floor(seconds * 1e9 + 0.5) end
local function draw(n) return math.floor(core.random() * n) + 1 end

--- Whether the grants (date in ns, units) keep to burst + rate * W in every
--- window from one of them to another.
local function bound_holds(grants, limit)
  for i = 1, #grants do
    local sum = 0
    for j = i, #grants do
      sum = sum + grants[j].units[limit.kind]
      local allowed = limit.burst * limit.period + limit.count * (grants[j].date - grants[i].date)
      if sum * limit.period > allowed then return false, ("grants %d to %d"):format(i, j) end
    end
  end
  return true
end

describe("a rate limiter under random use", function()
  local limits = {
    { kind = "requests", count = 6, period = 60e9, burst = 3 },
    { kind = "tokens", count = 600, period = 60e9, burst = 150 },
  }

  local function new_limiter()
    return neap.rate_limiter {
      requests_per_minute = 6, requests_burst = 3, tokens_per_minute = 600, tokens_burst = 150,
    }
  end

  --- Whether the last grant could not have come a nanosecond sooner.
  local function is_tight(grants)
    local last, before = grants[#grants], grants[#grants - 1]
    if last.date == last.arrival or (before and before.date == last.date) then return true end
    last.date = last.date - 1
    local held = bound_holds(grants, limits[1]) and bound_holds(grants, limits[2])
    last.date = last.date + 1
    return not held
  end

  it("keeps the bound in every window and grants not a nanosecond later than it must", function()
    local limiter, grants, order, served = new_limiter(), {}, 0, 0
    neap.scope(function(s)
      local waiting = {}
      for _ = 1, 400 do
        local units = { requests = draw(3) - 1, tokens = draw(150) }
        local timeout = draw(4) == 1 and draw(20) or nil
        order = order + 1
        local number, arrival = order, to_ns(neap.now())
        waiting[#waiting + 1] = s:spawn(function()
          local lease = limiter:acquire(units, timeout)
          if not lease then return end
          assert.is_true(number > served, "in order of arrival")
          served = number
          local date = to_ns(lease:date())
          assert.equal(to_ns(neap.now()), date)
          grants[#grants + 1] = { date = date, arrival = arrival, units = units }
          assert.is_true(is_tight(grants), "grant " .. #grants)
        end)
        if draw(3) == 1 then neap.sleep(core.random() * 40) end
        if draw(5) == 1 then table.remove(waiting, draw(#waiting)):cancel() end
      end
    end)
    assert.is_true(#grants > 100)
    for _, limit in ipairs(limits) do assert(bound_holds(grants, limit)) end
    assert.equal(0, limiter:waiting())
  end)

  it("keeps the bound with refunds, counted by what was used", function()
    local limiter, grants = new_limiter(), {}
    neap.scope(function(s)
      for _ = 1, 400 do
        s:spawn(function()
          local units = { requests = 1, tokens = draw(150) }
          local lease = limiter:acquire(units)
          grants[#grants + 1] = { date = to_ns(lease:date()), units = units }
          if draw(4) == 1 then return end
          neap.sleep(core.random() * 60)
          units.tokens = math.floor(core.random() * (units.tokens + 1))
          lease:settle { tokens = units.tokens }
        end)
        if draw(2) == 1 then neap.sleep(core.random() * 30) end
      end
    end)
    assert.equal(400, #grants)
    for _, limit in ipairs(limits) do assert(bound_holds(grants, limit)) end
  end)

  it("gives back as much as the history allows, to the unit", function()
    local limiter = neap.rate_limiter { rate = 10, burst = 40 }
    local events, exact = {}, 0
    --- From the whole history: when the bucket is full again.
    local function available(now)
      local full = now
      for _, event in ipairs(events) do full = math.max(full, event.date) end
      full = -math.huge
      for _, event in ipairs(events) do full = math.max(full, event.date) + event.units * 1e8 end
      return math.max(0, math.floor((40 * 1e8 - math.max(0, full - now)) / 1e8))
    end
    for step = 1, 2000 do
      local amount = draw(8)
      local lease = limiter:acquire(amount, 0)
      if lease then events[#events + 1] = { date = to_ns(lease:date()), units = amount, lease = lease } end
      if draw(2) == 1 then neap.sleep(draw(10) / 10) end
      if draw(3) == 1 and #events > 0 then
        local event = events[math.max(1, #events - draw(12))]
        event.units = math.floor(core.random() * (event.units + 1))
        event.lease:settle(event.units)
      end
      local expected, got = available(to_ns(neap.now())), limiter:available()
      assert.is_true(got <= expected, ("step %d: %d, but only %d are left"):format(step, got, expected))
      if got == expected then exact = exact + 1 end
    end
    assert.is_true(exact >= 1990, exact)
  end)
end)

--- Whether the instants (seconds, ascending) keep to burst + rate * (W + slack) in
--- every window W from one of them to another; else the most that were too many.
local function most_above(times, rate, burst, slack)
  local least, most = math.huge, -math.huge
  for i, time in ipairs(times) do
    least = math.min(least, i - 1 - rate * time)
    most = math.max(most, i - rate * time - least)
  end
  return most - burst - rate * slack
end

describe("a rate limiter of R per second", function()
  for _, rate in ipairs { 5, 50, 1000 } do
    it(("lets exactly burst + R*T pass in virtual time, and in no window more, for R = %d"):format(rate), function()
      for _, burst in ipairs { 1, 7, rate } do
        local limiter, times, start = neap.rate_limiter { rate = rate, burst = burst }, {}, neap.now()
        neap.scope(function(s)
          for _ = 1, 3 do
            s:spawn(function()
              while neap.now() - start < 4 do
                limiter:acquire()
                times[#times + 1] = to_ns(neap.now() - start)
              end
            end)
          end
        end)
        while times[#times] > 4e9 do table.remove(times) end
        assert.equal(burst + rate * 4, #times)
        local ns = rate / 1e9
        assert.is_true(most_above(times, ns, burst, 0) <= 1e-6)
        assert.is_true(most_above(times, ns, burst - 1, 0) > 0.999, "the bound is reached")
      end
    end)
  end

  it("keeps to it whatever is cancelled, times out or comes in at the front", function()
    local limiter = neap.rate_limiter { rate = 5, burst = 4, tokens_per_minute = 60, tokens_burst = 30 }
    local times, start = {}, neap.now()
    neap.scope(function(s)
      local tasks = {}
      for _ = 1, 4000 do
        local tokens = draw(8) == 1 and draw(30) or 0
        tasks[#tasks + 1] = s:spawn(function()
          local lease = limiter:acquire({ tokens = tokens }, draw(3) == 1 and core.random() * 20 or nil, draw(9) == 1)
          if not lease then return end
          assert.equal(neap.now(), lease:date())
          times[#times + 1] = neap.now() - start
          if draw(2) == 1 then lease:settle { tokens = 0 } end
        end)
        if draw(3) == 1 then table.remove(tasks, draw(#tasks)):cancel() end
        neap.sleep(core.random() * 0.4)
      end
    end)
    assert.is_true(#times > 1500, #times)
    assert.is_true(most_above(times, 5, 4, 0) <= 1e-6)
  end)
end)

describe("a rate limiter of R per second over sockets", function()
  local SECONDS, BURSTS = 10, { [5] = 1, [50] = 5, [1000] = 50 }

  --- Sends as fast as the limiter allows for a little more than SECONDS.
  local function drive(s, client, rate)
    local limiter, start = neap.rate_limiter { rate = rate, burst = BURSTS[rate] }, neap.now()
    for _ = 1, math.min(40, rate) do
      s:spawn(function()
        while neap.now() - start < SECONDS + 0.3 do
          limiter:acquire()
          assert(client:get("/r" .. rate))
        end
      end)
    end
  end

  local function arrivals(stats, rate)
    local times = {}
    for _, row in ipairs(stats.full) do
      if row.path == "/r" .. rate then times[#times + 1] = row.arrived end
    end
    table.sort(times)
    return times
  end

  it("stays within burst + R*(T + 0.1 s) and above 98 % of R*T at a mock, for R = 5, 50, 1000 #real", function()
    local child = require "spec.support.child"
    local mock = child.start { "mock", "--port", "0" }
    mock:wait_for "\n"
    local base = assert(mock.out:match "(http://%S+)")
    local client = neap.http.client { base_url = base, max_connections = 100 }
    neap.scope(function(s)
      for rate in pairs(BURSTS) do drive(s, client, rate) end
    end)
    local stats = client:get("/stats?full=1"):json()
    client:close()
    mock:kill "sigterm"
    mock:wait()
    for rate, burst in pairs(BURSTS) do
      local times = arrivals(stats, rate)
      local above = most_above(times, rate, burst, 0.1)
      assert.is_true(above <= 0, ("R = %d: %.1f too many"):format(rate, above))
      local within = 0
      for _, time in ipairs(times) do
        if time < times[1] + SECONDS then within = within + 1 end
      end
      assert.is_true(within >= 0.98 * rate * SECONDS, ("R = %d: %d in %d s"):format(rate, within, SECONDS))
    end
  end)
end)
