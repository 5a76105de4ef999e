-- SPDX-License-Identifier: MIT
-- The rate limiter against a plain model, by random use with a fixed seed in
-- virtual time: 100,000 operations. The model keeps the history of each bucket
-- and plays it again whenever something in the past changes: a refund, or a
-- server's word about a request that was answered.
local core = require "neap.core"
local neap = require "neap"

local function draw(n) return math.floor(core.random() * n) + 1 end

local KINDS = { "requests", "tokens" }
local EPSILON = 1e-6 -- units; the model is of floating point, the limiter exact

-- ---------------------------------------------------------------------------
-- The model of a bucket
-- ---------------------------------------------------------------------------

--- The level at the time `at`, then events {at=, units=} and {at=, rate=, burst=};
--- those that are `paid` are in the level already.
local Bucket = {}
Bucket.__index = Bucket

local function new_bucket(rate, burst)
  return setmetatable({ at = 0, level = burst, rate = rate, burst = burst, events = {} }, Bucket)
end

--- What has come of all events: time of the last one, level then, rate, burst.
function Bucket:replay()
  local at, level, rate, burst = self.at, self.level, self.rate, self.burst
  for _, event in ipairs(self.events) do
    if not event.paid then
      level = math.min(burst, level + rate * (event.at - at))
      at = event.at
      level = level - (event.units or 0)
      rate, burst = event.rate or rate, event.burst or burst
      level = math.min(burst, level)
    end
  end
  return at, level, rate, burst
end

--- Level at `now`, rate and burst.
function Bucket:look(now)
  local last = self.last
  if not last then
    last = { self:replay() }
    self.last = last
  end
  local at, level, rate, burst = unpack(last)
  return math.min(burst, level + rate * (now - at)), rate, burst
end

function Bucket:add(event)
  self.events[#self.events + 1] = event
  self.last = nil
  if #self.events <= 40 then return end
  -- Nothing before the latest events will change any more.
  local first = table.remove(self.events, 1)
  if first.paid then return end
  local rest = self.events
  self.events = { first }
  self.at, self.level, self.rate, self.burst = self:replay()
  self.events = rest
end

--- When units pass, at the earliest from `now` on; a learned bucket need not hold
--- more than it can.
function Bucket:date(units, now, learned)
  if units == 0 then return now end
  local level, rate, burst = self:look(now)
  local missing = (learned and math.min(units, burst) or units) - level
  return missing <= EPSILON and now or now + missing / rate
end

--- A server's word: so much was left once `event` was in. What was taken later is
--- taken again; refills count from the first word on.
function Bucket:rebase(event, left, now)
  self.heard, self.last = self.heard or now, nil
  while self.events[1] ~= event do assert(table.remove(self.events, 1)) end
  table.remove(self.events, 1)
  self.at, self.level = math.max(event.at, self.heard), math.min(left, self.burst)
  for _, later in ipairs(self.events) do
    later.paid = later.at < self.at
    if later.paid then self.level = self.level - later.units end
  end
end

-- ---------------------------------------------------------------------------
-- The model of a limiter
-- ---------------------------------------------------------------------------

local Model = {}
Model.__index = Model

function Model:date(op)
  local at = math.max(op.began, self.last, self.hold)
  repeat
    local before = at
    for _, kind in ipairs(KINDS) do
      at = math.max(at, self.own[kind]:date(op[kind], at), self:date_learned(kind, op[kind], at))
    end
  until at <= before
  return at
end

function Model:date_learned(kind, units, at)
  return self.learned[kind].heard and self.learned[kind]:date(units, at, true) or at
end

function Model:grant(op, at)
  self.serial = self.serial + 1
  op.expected, op.expected_date, op.serial, self.last = "granted", at, self.serial, at
  op.own, op.learned = {}, {}
  for _, kind in ipairs(KINDS) do
    op.own[kind], op.learned[kind] = { at = at, units = op[kind] }, { at = at, units = op[kind] }
    self.own[kind]:add(op.own[kind])
    self.learned[kind]:add(op.learned[kind])
  end
end

--- Whoever passes now because of a change does not do so as of before.
function Model:changed(now) self.last = math.max(self.last, now) end

function Model:remove(op, outcome, now)
  if self.line[1] == op then self:changed(now) end
  for i, candidate in ipairs(self.line) do
    if candidate == op then table.remove(self.line, i) end
  end
  op.expected = outcome
end

--- Lets happen what happens by itself until `now`, in order.
function Model:pass_time(now)
  while #self.line > 0 do
    local head, first_to_leave = self.line[1], nil
    local date = self:date(head)
    for _, op in ipairs(self.line) do
      if op.deadline < (first_to_leave and first_to_leave.deadline or math.huge) then first_to_leave = op end
    end
    if first_to_leave and first_to_leave.deadline < math.min(date, now + EPSILON) then
      self:remove(first_to_leave, "timeout", first_to_leave.deadline)
    elseif date <= now + 1e-9 then
      table.remove(self.line, 1)
      self:grant(head, date)
    else
      return
    end
  end
end

function Model:is_above_burst(op)
  for _, kind in ipairs(KINDS) do
    local _, _, burst = self.own[kind]:look(op.began)
    if op[kind] > burst then return true end
  end
end

function Model:acquire(op)
  local place = #self.line + 1
  while op.front and self.line[place - 1] and not self.line[place - 1].front do place = place - 1 end
  if self:is_above_burst(op) then
    op.expected = "invalid"
  elseif place == 1 and self:date(op) <= op.began + 1e-9 then
    self:grant(op, op.began)
  elseif op.deadline == op.began then
    op.expected = "timeout"
  elseif not op.front and #self.line >= self.max_waiting then
    op.expected = "queue_full"
  else
    table.insert(self.line, place, op)
  end
end

function Model:settle(op, kind, units, now)
  self:changed(now)
  local more = units - op.used[kind]
  if more > 0 then
    self.own[kind]:add { at = now, units = more }
  else
    op.own[kind].units = op.own[kind].units + more
    self.own[kind].last = nil
  end
  if units > op.learned_used[kind] then
    self.learned[kind]:add { at = now, units = units - op.learned_used[kind] }
    op.learned_used[kind] = units
  end
  op.used[kind] = units
end

function Model:set(kind, rate, burst, now)
  self:changed(now)
  self.own[kind]:add { at = now, rate = rate, burst = burst }
  for i = #self.line, 1, -1 do
    if self:is_above_burst(self.line[i]) then self:remove(self.line[i], "invalid", now) end
  end
end

function Model:available(kind, now)
  if now < self.hold then return 0 end
  local left = self.own[kind]:look(now)
  if self.learned[kind].heard then left = math.min(left, (self.learned[kind]:look(now))) end
  return math.max(0, left)
end

-- ---------------------------------------------------------------------------
-- Random use
-- ---------------------------------------------------------------------------

local RATES, BURSTS = { requests = { 2, 8 }, tokens = { 8, 30 } }, { requests = { 3, 6 }, tokens = { 20, 50 } }
local LEARNED = { requests = 240, tokens = 900 } -- a minute

local function acquire(limiter, op)
  local lease, err = limiter:acquire({ requests = op.requests, tokens = op.tokens }, op.timeout, op.front)
  op.lease, op.got = lease, lease and "granted" or err.kind
  if lease then assert.equal(neap.now(), lease:date()) end
end

local Run = {}
Run.__index = Run

function Run:acquire(now)
  local op = { began = now, requests = draw(3) - 1, tokens = draw(40) - 1, front = draw(5) == 1, deadline = math.huge }
  if draw(40) == 1 then op.tokens = 60 end
  if draw(3) == 1 then
    op.timeout = draw(3) == 1 and 0 or core.random() * 8
    op.deadline = now + op.timeout
  end
  op.used = { requests = op.requests, tokens = op.tokens }
  op.learned_used = { requests = op.requests, tokens = op.tokens }
  self.ops[#self.ops + 1] = op
  self.model:acquire(op)
  op.task = self.scope:spawn(acquire, self.limiter, op)
  neap.sleep(0)
end

--- One of the latest that were granted.
function Run:recent()
  for _ = 1, 6 do
    local op = self.ops[#self.ops - draw(14) + 1]
    if op and op.lease and op.expected == "granted" and self.model.serial - op.serial < 15 then return op end
  end
end

function Run:settle(now)
  local op, kind = self:recent(), KINDS[draw(2)]
  if not op then return end
  local units = draw(3) == 1 and op.used[kind] + draw(4) or draw(op.used[kind] + 1) - 1
  self.model:settle(op, kind, units, now)
  op.lease:settle { [kind] = units }
  self.settled = self.settled + 1
end

function Run:observe(now)
  local op, kind = self:recent(), KINDS[draw(2)]
  local based = self.based[kind]
  if not op or op == based then return end
  local left = draw(LEARNED[kind] / 8)
  self.limiter:observe({
    ["x-ratelimit-limit-" .. kind] = tostring(LEARNED[kind]), ["x-ratelimit-remaining-" .. kind] = tostring(left),
    ["x-ratelimit-reset-" .. kind] = ("%.6fs"):format((LEARNED[kind] - left) / LEARNED[kind] * 60),
  }, op.lease)
  if based and op.serial < based.serial then return end
  self.model:changed(now)
  self.model.learned[kind]:rebase(op.learned[kind], left, now)
  self.based[kind] = op
  self.rebased = self.rebased + 1
end

function Run:set(now)
  local kind = KINDS[draw(2)]
  local rate, burst = RATES[kind][draw(2)], BURSTS[kind][draw(2)]
  self.limiter:update { [kind .. "_per_minute"] = rate * 60, [kind .. "_burst"] = burst }
  self.model:set(kind, rate, burst, now)
end

function Run:hold(now)
  local seconds = draw(1000) / 1000
  self.limiter:observe { ["retry-after-ms"] = tostring(seconds * 1000) }
  self.model.hold = math.max(self.model.hold, now + seconds)
end

function Run:cancel(now)
  local op = self.model.line[draw(math.max(1, #self.model.line))]
  if not op then return end
  op.task:cancel()
  self.model:remove(op, "cancelled", now)
end

function Run:step()
  local action, now = draw(100), neap.now()
  if action <= 40 then
    self:acquire(now)
  elseif action <= 55 then
    self:settle(now)
  elseif action <= 70 then
    self:observe(now)
  elseif action <= 73 then
    self:set(now)
  elseif action <= 75 then
    self:hold(now)
  elseif action <= 80 then
    self:cancel(now)
  else
    neap.sleep(core.random() * 1.2)
  end
end

function Run:compare(step)
  local now = neap.now()
  assert.equal(#self.model.line, self.limiter:waiting(), "step " .. step)
  for _, kind in ipairs(KINDS) do
    local expected, got = self.model:available(kind, now), self.limiter:available(kind)
    if got ~= math.floor(expected + EPSILON) and got ~= math.floor(expected - EPSILON) then
      assert.equal(expected, got, ("step %d: %s"):format(step, kind))
    end
  end
end

describe("a rate limiter under random acquires, settles, words of servers, new rates, cancels and timeouts", function()
  it("does what the plain model does", function()
    local run = setmetatable({ ops = {}, settled = 0, rebased = 0, based = {} }, Run)
    run.limiter = neap.rate_limiter {
      requests_per_minute = 120, requests_burst = 3, tokens_per_minute = 480, tokens_burst = 20, max_waiting = 9,
    }
    run.model = setmetatable({ line = {}, last = 0, hold = 0, serial = 0, max_waiting = 9,
      own = { requests = new_bucket(2, 3), tokens = new_bucket(8, 20) },
      learned = { requests = new_bucket(LEARNED.requests / 60, LEARNED.requests),
        tokens = new_bucket(LEARNED.tokens / 60, LEARNED.tokens) } }, Model)
    neap.scope(function(s)
      run.scope = s
      for step = 1, 100000 do
        run.model:pass_time(neap.now())
        run:step()
        run.model:pass_time(neap.now())
        neap.sleep(1e-5 * core.random()) -- where both have done what is due
        run.model:pass_time(neap.now())
        run:compare(step)
      end
      for i = #run.model.line, 1, -1 do -- the last one first: nobody passes for that
        run.model.line[i].task:cancel()
        run.model.line[i].expected = "cancelled"
      end
    end)
    local seen = {}
    for i, op in ipairs(run.ops) do
      local got = op.got or op.task:status()
      if got ~= op.expected then assert.equal(op.expected, got, "operation " .. i) end
      if op.lease and math.abs(op.lease:date() - op.expected_date) > 1e-6 then
        assert.equal(op.expected_date, op.lease:date(), "operation " .. i)
      end
      seen[got] = (seen[got] or 0) + 1
    end
    for _, outcome in ipairs { "granted", "timeout", "cancelled", "queue_full", "invalid" } do
      assert.is_true((seen[outcome] or 0) > 200, outcome)
    end
    assert.is_true(run.settled > 3000 and run.rebased > 3000)
  end)
end)
