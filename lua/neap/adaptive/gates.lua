--- The default controller: slow start, then a level known to be good, and rare
--- small tries beyond it. Pure: the time is an argument.
---
--- Three things stop growth. *Refusals*: a 429 tells, by how many calls were in
--- flight when it was sent, how many the upstream takes: one cut an episode, that
--- is, only calls sent after the last cut count. *Saturation*: a round in which
--- the limit was not used says nothing about a higher one. *Latency*: when calls
--- take `latency_tolerance` times as long as unloaded ones, a higher limit only
--- makes a queue longer.
---
--- The gates of saturation and of one cut an episode are Inspect AI's; resting at
--- the good level and trying by single steps is ours: a multiplicative cut for
--- every try costs a tenth of the throughput.
local M = {}

local max, min = math.max, math.min

local LEAST_SAMPLES = 40 -- calls in a round, or its mean latency says little
local SMOOTHING = 0.3 -- of the rounds' mean latency
local BASE_WEIGHT = 0.1 -- of a round in the unloaded latency
local BASE_REACH = 1.15 -- rounds above it are not unloaded ones
local QUEUE_TARGET = 1.3 -- of the unloaded latency: where a latency cut aims
local JUMP = 1.2
local DIP_INTERVAL, FIRST_DIP = 60, 3 -- seconds between looks at the unloaded latency
local MOST_STEP = 0.1 -- of the limit, of a try
local PROBE_GROWTH = 1.5

---@class neap.adaptive.Gates
---@field limit number fractions count up; the layer floors it
---@field reason string of the last change
---@field good number? the level that was accepted when the next one was refused
local Gates = {}
Gates.__index = Gates

--- A controller at `opts.start`.
---@param opts table checked options of neap.adaptive
---@return neap.adaptive.Gates
function M.new(opts)
  local self = setmetatable({
    opts = opts, limit = max(opts.min, min(opts.max, opts.start)), reason = "start", slow_start = true,
    cut_at = -math.huge, hold_until = -math.huge, probe_interval = opts.probe_interval, step = 1,
    next_dip = math.huge,
    discard = opts.start, -- the first answers are the quick ones

  }, Gates)
  self:begin_round()
  return self
end

function Gates:begin_round()
  self.done, self.peak = 0, 0
  self.answers, self.latency_sum, self.clean = 0, 0, true
end

local function set(self, limit, reason)
  limit = max(self.opts.min, min(self.opts.max, limit))
  if limit == self.limit then return end
  -- What is in flight at a jump belongs to the old limit, its latency too.
  if limit > JUMP * self.limit or limit < self.limit / JUMP then
    self.latency, self.discard = nil, max(self.peak, self.discard)
  end
  self.limit, self.reason = limit, reason
end

local function rest_before_probe(self, now)
  self.probe_at = now + self.probe_interval
end

--- A call was refused; `in_flight` counts it.
local function refused(self, now, in_flight, hint)
  local opts, accepted = self.opts, max(self.opts.min, in_flight - 1)
  self.cut_at, self.slow_start, self.step = now, false, 1
  local probing = self.good and self.limit > self.good and accepted >= self.good
  if probing then
    self.probe_interval = min(opts.max_probe_interval, self.probe_interval * PROBE_GROWTH)
    set(self, self.good, "probe_refused")
  else
    self.good = accepted
    self.probe_interval = opts.probe_interval
    set(self, min(self.limit, accepted) * opts.decrease, "rate_limit")
    self.hold_until = now + max(opts.cooldown, hint or 0)
  end
  rest_before_probe(self, max(now, self.hold_until))
  self:begin_round()
end

--- Growth at the end of a clean, saturated round.
local function grow(self, now)
  local opts, limit, good = self.opts, self.limit, self.good
  if self.slow_start then return set(self, limit * 2, "slow_start") end
  if good and limit < good then
    set(self, min(good, limit + max(1, limit * opts.increase)), "steady_up")
    return rest_before_probe(self, now)
  end
  if good and limit > good then -- a try that went well
    self.good, self.probe_interval = limit, opts.probe_interval
    self.step = min(self.step * 2, max(1, limit * MOST_STEP))
    return set(self, limit + self.step, "probe")
  end
  if now >= (self.probe_at or now) then
    self.good = limit
    set(self, limit + self.step, "probe")
  end
end

local function look_at_latency(self, now)
  local mean = self.latency_sum / self.answers
  self.latency = self.latency and self.latency + SMOOTHING * (mean - self.latency) or mean
  if not self.base then
    self.base = mean
  elseif self.dipping then
    if mean < self.base * 0.9 then self.next_dip = now + FIRST_DIP end -- there may be more to learn
    self.base = mean < self.base and mean or (self.base + mean) / 2
  elseif mean <= self.base * BASE_REACH then
    self.base = self.base + BASE_WEIGHT * (mean - self.base)
  end
end

--- Half the limit for a round: what do calls take when nothing queues?
local function dip(self, now)
  self.dipping = self.limit
  self.next_dip = now + DIP_INTERVAL
  set(self, self.limit / 2, "latency_dip")
end

local function end_dip(self)
  set(self, self.dipping, "latency_dip_end")
  self.dipping = nil
end

local function latency_cut(self, now)
  local target = min(self.limit, self.peak) * self.base / self.latency * QUEUE_TARGET
  self.slow_start, self.step = false, 1
  if self.next_dip == math.huge then self.next_dip = now + FIRST_DIP end
  self.good = nil
  self.discard, self.latency = self.peak, nil
  set(self, min(self.limit, target), "latency")
  self.hold_until = now + self.opts.cooldown
  rest_before_probe(self, self.hold_until)
end

local function end_round(self, now)
  local saturated = self.peak >= self.opts.saturation * math.floor(self.limit)
  local may_grow = self.clean and saturated and now >= self.hold_until
  local measured = self.answers >= LEAST_SAMPLES / 2
  if measured then look_at_latency(self, now) end
  if self.dipping then
    if measured then end_dip(self) end
  elseif measured and self.latency > self.opts.latency_tolerance * self.base then
    latency_cut(self, now)
  elseif measured and saturated and now >= self.next_dip then
    dip(self, now)
  elseif may_grow and not (measured and self.latency > QUEUE_TARGET * self.base) then
    grow(self, now)
  end
  self:begin_round()
end

--- Learns from a call that has ended.
---@param now number
---@param verdict neap.policy.Verdict
---@param started number when it was sent
---@param in_flight integer calls in flight when it was sent, itself included
---@param hint? number seconds, of a refusal
function Gates:sample(now, verdict, started, in_flight, hint)
  if verdict == "throttled" then
    if started > self.cut_at then refused(self, now, in_flight, hint) end
    return
  end
  -- By when they end, not by when they were sent: to wait for those sent in a
  -- round would leave out the slow ones, and their mean would be too good.
  if verdict == "neutral" then return end
  if self.discard > 0 then
    self.discard = self.discard - 1
    return
  end
  if verdict == "ok" then
    self.answers, self.latency_sum = self.answers + 1, self.latency_sum + now - started
  else
    self.clean = false -- overloaded, failed: no growth, no cut
  end
  self.done = self.done + 1
  if in_flight > self.peak then self.peak = in_flight end
  if self.done >= max(self.limit, LEAST_SAMPLES) then end_round(self, now) end
end

--- When the next change may come by itself, or nil.
---@return number? at neap.now()
function Gates:next_change()
  if self.good and self.limit >= self.good then return self.probe_at end
end

return M
