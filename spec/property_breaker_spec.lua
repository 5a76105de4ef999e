-- SPDX-License-Identifier: MIT
-- Random calls, waits and interventions on a breaker beside a model that keeps a
-- list of every call since the last change of state and counts it through each
-- time.
local core = require "neap.core"
local errors = require "neap.error"
local neap = require "neap"

local Model = {}
Model.__index = Model

local function model(opts)
  return setmetatable({ opts = opts, state = "closed", epoch = 0, ended = {}, trials = 0, reopened = 0, changes = {} },
    Model)
end

function Model:turn(state, now)
  if state == "open" then
    self.until_ = now + math.min(self.opts.open_duration * self.opts.open_duration_factor ^ self.reopened,
      self.opts.max_open_duration)
    self.reopened = self.reopened + 1
  elseif state == "closed" then
    self.reopened = 0
  end
  if state ~= self.state then self.changes[#self.changes + 1] = self.state .. " > " .. state end
  self.state, self.epoch, self.ended, self.trials = state, self.epoch + 1, {}, 0
end

function Model:look(now)
  if self.state == "open" and now >= self.until_ then self:turn("half_open", now) end
end

--- What came of those in the window: all of them while it is half-open.
function Model:counts(now)
  local opts, list = self.opts, self.ended
  local all, failed, slow, in_a_row, unbroken = 0, 0, 0, 0, true
  for i = #list, 1, -1 do
    local one = list[i]
    unbroken = unbroken and one.failed
    if unbroken then in_a_row = in_a_row + 1 end
    local inside = self.state == "half_open"
    if opts.window == "count" then
      inside = inside or #list - i < opts.window_size
    else
      local tenth = opts.window_size / 10
      inside = inside or math.floor(one.at / tenth) > math.floor(now / tenth) - 10
    end
    if inside then
      all, failed, slow = all + 1, failed + (one.failed and 1 or 0), slow + (one.slow and 1 or 0)
    elseif not unbroken then
      break
    end
  end
  return all, failed, slow, in_a_row
end

function Model:judge(now)
  local opts, all, failed, slow, in_a_row = self.opts, self:counts(now)
  local base = self.state == "closed" and all or opts.half_open_calls
  local broken = failed / base >= opts.failure_rate
    or opts.slow_call_duration and slow / base >= opts.slow_call_rate
  if self.state == "half_open" then
    if broken then
      self:turn("open", now)
    elseif all >= base then
      self:turn("closed", now)
    end
  elseif opts.consecutive_failures and in_a_row >= opts.consecutive_failures then
    self:turn("open", now)
  elseif all >= opts.minimum_calls and broken then
    self:turn("open", now)
  end
end

function Model:begin(now)
  self:look(now)
  if self.state == "closed" then return self.epoch end
  if self.state ~= "half_open" or self.trials >= self.opts.half_open_calls then return nil end
  self.trials = self.trials + 1
  return self.epoch
end

--- `failed` is nil where nothing is said about the upstream.
function Model:finish(now, epoch, failed, seconds)
  if epoch ~= self.epoch then return end
  if failed == nil then
    if self.state == "half_open" then self.trials = self.trials - 1 end
    return
  end
  local limit = self.opts.slow_call_duration
  self.ended[#self.ended + 1] = { at = now, failed = failed, slow = limit ~= nil and seconds > limit }
  self:judge(now)
end

local function random(n) return math.floor(core.random() * n) + 1 end

-- ---------------------------------------------------------------------------
-- The breaker and the model side by side
-- ---------------------------------------------------------------------------

local OUTCOMES = {
  good = function() return { status = 200 } end,
  bad = function() return { status = 500 } end,
  throttled = function() return { status = 429 } end,
  broken = function() return nil, errors.new { kind = "receive", message = "broken" } end,
  neutral = function() return nil, errors.new { kind = "queue_full", message = "full" } end,
  raised = function() error "raised" end,
}
local JUDGED = { good = false, bad = true, throttled = false, broken = true }

local Pair = {}
Pair.__index = Pair

function Pair:begin()
  local one = { go = neap.event(), began = neap.now() }
  one.epoch = self.model:begin(neap.now())
  one.task = neap.spawn(function()
    local ok, result, err = pcall(self.breaker.call, self.breaker, function()
      one.inside = true
      one.go:wait()
      return OUTCOMES[one.outcome]()
    end)
    one.ok, one.result, one.err = ok, result, err
  end)
  neap.sleep(0)
  assert(one.inside == (one.epoch and true or nil), "let through or not")
  if one.inside then
    self.running[#self.running + 1] = one
    return "let through"
  end
  assert(one.err.kind == "circuit_open")
  local left = self.model.state == "open" and self.model.until_ - one.began or nil
  assert(one.err.retry_after == left, "retry_after")
  return "refused"
end

function Pair:finish(outcome)
  local one = table.remove(self.running, random(#self.running))
  if outcome == "cancelled" then
    one.task:cancel()
  else
    one.outcome = outcome
    one.go:set()
  end
  one.task:await()
  self.model:finish(neap.now(), one.epoch, JUDGED[outcome], neap.now() - one.began)
end

function Pair:update(changes)
  self.breaker:update(changes)
  for key, value in pairs(changes) do self.model.opts[key] = value end
  if self.model.state == "half_open" then self.model:judge(neap.now()) end
end

function Pair:compare()
  local now, shown, expected = neap.now(), self.breaker:snapshot(), self.model
  expected:look(now)
  assert(shown.state == expected.state, ("%s, expected %s"):format(shown.state, expected.state))
  assert(shown.next_change == (expected.state == "open" and expected.until_ - now or nil), "next_change")
  if expected.state == "closed" then
    local all, failed, slow = expected:counts(now)
    assert(shown.calls == all and shown.failed == failed and shown.slow == slow, ("%d calls, %d failed, %d slow; "
      .. "expected %d, %d, %d"):format(shown.calls, shown.failed, shown.slow, all, failed, slow))
  elseif expected.state == "half_open" then
    assert(shown.trials == expected.trials, "trials")
  end
end

--- A random operation; returns what it was.
function Pair:step()
  local dice, running = core.random(), #self.running
  if dice < 0.001 then
    self.breaker:isolate "by hand"
    self.model:turn("isolated", neap.now())
    return "isolated"
  elseif dice < (self.model.state == "isolated" and 0.1 or 0.002) then
    self.breaker:reset()
    self.model:turn("closed", neap.now())
    return "reset"
  elseif dice < 0.11 then
    neap.sleep(core.random() * (core.random() < 0.05 and 40 or 2))
    return "slept"
  elseif dice < 0.12 then
    local changes = {
      { half_open_calls = random(5) }, { failure_rate = random(10) / 10 }, { minimum_calls = random(10) },
      { open_duration = random(4) },
    }
    self:update(changes[random(#changes)])
    return "updated"
  elseif running == 0 or running < 12 and dice < 0.57 then
    return self:begin()
  end
  -- The upstream has good times and bad ones.
  local bad = math.floor(neap.now() / 50) % 3 == 0 and 0.6 or 0.15
  local odd = core.random()
  local outcome = core.random() < bad and (odd < 0.5 and "bad" or "broken") or odd < 0.7 and "good" or odd < 0.8
    and "throttled" or odd < 0.87 and "neutral" or odd < 0.94 and "raised" or "cancelled"
  self:finish(outcome)
  return outcome
end

local CASES = {
  { "a count window", { window_size = 15, minimum_calls = 8, slow_call_duration = 4, slow_call_rate = 0.9 } },
  { "a time window", { window = "time", window_size = 7, minimum_calls = 5, open_duration_factor = 1.5 } },
  { "failures in a row", { consecutive_failures = 4, window_size = 30, minimum_calls = 10, failure_rate = 0.8 } },
  { "slow calls", { window = "time", window_size = 20, minimum_calls = 6, failure_rate = 0.7,
    slow_call_duration = 2.5, slow_call_rate = 0.4 } },
}

local DEFAULTS = {
  window = "count", failure_rate = 0.5, slow_call_rate = 1, open_duration = 2, open_duration_factor = 2,
  max_open_duration = 11, half_open_calls = 3,
}

describe("neap.circuit_breaker beside a model", function()
  for _, case in ipairs(CASES) do
    it("agrees on 25,000 random operations: " .. case[1], function()
      local opts, same = {}, {}
      for _, from in ipairs { DEFAULTS, case[2] } do
        for key, value in pairs(from) do opts[key], same[key] = value, value end
      end
      local seen, counts = {}, {}
      opts.on_change = function(event) seen[#seen + 1] = event.from .. " > " .. event.to end
      local pair = setmetatable({ breaker = neap.circuit_breaker(opts), model = model(same), running = {} }, Pair)
      for step = 1, 25000 do
        local ok, what = pcall(pair.step, pair)
        assert(ok, ("step %d: %s"):format(step, tostring(what)))
        counts[what] = (counts[what] or 0) + 1
        -- Not after each one: looking makes it half-open.
        if core.random() < 0.3 then
          local agrees, why = pcall(pair.compare, pair)
          assert(agrees, ("step %d, %s: %s"):format(step, what, tostring(why)))
        end
      end
      while #pair.running > 0 do pair:finish "good" end
      pair:compare()
      assert.same(pair.model.changes, seen)
      local ways = {}
      for _, change in ipairs(seen) do ways[change] = (ways[change] or 0) + 1 end
      for _, way in ipairs { "closed > open", "open > half_open", "half_open > open", "half_open > closed" } do
        assert.is_true((ways[way] or 0) >= 30, ("%s: %d times"):format(way, ways[way] or 0))
      end
      assert.is_true(counts.refused > 1000 and counts.cancelled > 100 and counts.raised > 100)
    end)
  end
end)
