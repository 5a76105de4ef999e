-- The rate limiter against its definition, by random use with a fixed seed.
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
