--- The default controller: slow start, then a level known to be good, and rare
--- small tries beyond it. Pure: the time is an argument.
---
--- Three things stop growth. *Refusals*: a 429 tells, by how many calls were in
--- flight when it was sent, how many the upstream takes: one cut an episode.
--- *Saturation*: a round in which the limit was not used says nothing about a
--- higher one. *Latency*: when calls take `latency_tolerance` times as long as
--- unloaded ones, a higher limit only makes a queue longer.
---
--- The gates of saturation and of one cut an episode are Inspect AI's; resting at
--- the good level and trying by small steps is ours: a multiplicative cut for
--- every try costs a tenth of the throughput.
local gauges = require "neap.adaptive.gauge"

local M = {}

local floor, huge, max, min = math.floor, math.huge, math.max, math.min

local ROUND, SHORT_ROUND, SHORTEST_ROUND = 40, 10, 4 -- calls, at least: beyond a level known, below, after an outage
local FAILED = 0.1 -- of a round: more of it, and it is no time to grow
local JUMP = 1.2 -- a change of the limit after which earlier latencies say nothing
local MOST_STEP = 0.1 -- of the limit, of a try
local PROBE_GROWTH = 1.5
local LEAST_USE = 0.5 -- of the limit: with less in use no queue is ours
local DEEPEST_CUT = 0.5 -- for latency
local DIP, FIRST_DIP, DIP_INTERVAL, DIP_COST = 0.6, 3, 20, 30 -- share of the limit; seconds; times its length
local LEAST_DEPTH = 3 -- of a dip in which calls take long all the same
local SHORTER = 0.76 -- of the latency before a dip: it went down nearly as the limit did, a queue

---@class neap.adaptive.Gates
---@field limit number fractions count up; the layer floors it
---@field reason string of the last change
---@field good number? the level that was accepted when the next one was refused
---@field gauge neap.adaptive.Gauge
---@field package cut_until number refusals of calls sent before belong to the last episode
---@field package hold_until number no growth before
---@field package known number? what was good before a series of cuts
---@field package outage boolean? a call was refused when no other was in flight
---@field package recovering boolean? on the way back to what was good before an outage
---@field package cuts table? for latency, without a good round between: limit, and limit and latency at the second
---@field package dip table? the limit to return to; latencies before, of the last step, of alike steps
local Gates = {}
Gates.__index = Gates

local function begin_round(self)
  self.done, self.failed, self.peak = 0, 0, 0
end

--- A controller at `opts.start`.
---@param opts table checked options of neap.adaptive
---@return neap.adaptive.Gates
function M.new(opts)
  local self = setmetatable({
    opts = opts, limit = max(opts.min, min(opts.max, opts.start)), reason = "start", slow_start = true,
    gauge = gauges.new(), cut_until = -huge, hold_until = -huge, probe_interval = opts.probe_interval, step = 1,
    next_dip = huge, discard = opts.start, -- the first to answer are the quick ones
  }, Gates)
  begin_round(self)
  return self
end

local function set(self, limit, reason)
  limit = max(self.opts.min, min(self.opts.max, limit))
  if limit == self.limit then return end
  if limit > JUMP * self.limit or limit < self.limit / JUMP then
    -- What is in flight belongs to the old limit, its latency too.
    self.gauge:restart(self.slow_start)
    self.discard = max(self.peak, self.discard)
  end
  self.limit, self.reason = limit, reason
end

local function rest_before_probe(self, now)
  self.probe_at = now + self.probe_interval
end

--- A call was refused; `in_flight` counts it.
local function refused(self, now, in_flight, hint)
  local opts, accepted, good = self.opts, max(self.opts.min, in_flight - 1), self.good
  hint = hint or 0
  self.slow_start, self.recovering, self.step, self.dip, self.cuts = false, nil, 1, nil, nil
  -- For as long as a call takes, what was in flight still fills the upstream; and
  -- what it said it would refuse is no news.
  self.cut_until = now + max(hint, self.gauge.latency or self.gauge.base or 0)
  if good and self.limit > good and accepted >= floor(good) then
    self.probe_interval = min(opts.max_probe_interval, self.probe_interval * PROBE_GROWTH)
    self.hold_until = now + hint
    set(self, good, "probe_refused")
  else
    self.known = self.known or good or accepted
    self.good, self.probe_interval = accepted, opts.probe_interval
    self.hold_until = now + max(opts.cooldown, hint)
    set(self, min(self.limit, accepted) * opts.decrease, "rate_limit")
    -- Not for want of slots then: an outage, or a quota.
    if in_flight <= 1 then self.outage, self.discard = true, 0 end
  end
  rest_before_probe(self, max(now, self.hold_until))
  begin_round(self)
end

--- Growth at the end of a round that allows it.
local function grow(self, now)
  if self.outage then self.good, self.recovering, self.outage = self.known, true, nil end
  self.known = nil
  local opts, limit, good = self.opts, self.limit, self.good
  if self.slow_start then return set(self, limit * 2, "slow_start") end
  if good and limit < good then
    local step = self.recovering and limit or max(1, limit * opts.increase)
    set(self, min(good, limit + step), self.recovering and "recovery" or "steady_up")
    return rest_before_probe(self, now)
  end
  self.recovering = nil
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

--- There are signs of a queue: from now on only dips say what unloaded calls take.
local function expect_queue(self, now)
  self.slow_start = false
  if not self.gauge.queues then self.gauge.queues, self.next_dip = true, now + FIRST_DIP end
end

--- Are latencies what they were before the limit was cut? Then there is no queue:
--- the upstream takes longer than it did. The first cut of a series does not
--- count, for what was in flight then was sent to another upstream.
local function is_slower(self)
  local cuts, latency, limit = self.cuts, self.gauge.latency, self.limit
  if not cuts then
    self.cuts = { limit = limit }
  elseif not cuts.at then
    cuts.at, cuts.latency = limit, latency
  else -- a queue: by as much as the limit
    return latency > cuts.latency * math.sqrt(limit / cuts.at)
  end
end

--- The limit at which calls would take midway between unloaded and intolerable.
local function latency_cut(self, now)
  local gauge, tolerance = self.gauge, self.opts.latency_tolerance
  self.recovering, self.step, self.good = nil, 1, nil
  if is_slower(self) then
    gauge:relearn(gauge.latency)
    self.next_dip, self.probe_at = now + FIRST_DIP, now -- were it wrong, a dip would tell
    set(self, self.cuts.limit, "slower_upstream")
    self.cuts = nil
    return
  end
  expect_queue(self, now)
  local share = gauge.base / gauge.latency * (1 + tolerance) / 2
  set(self, min(self.limit, self.peak) * max(DEEPEST_CUT, share), "latency")
  gauge:restart()
  self.discard = self.peak
  self.hold_until = now + self.opts.cooldown
  rest_before_probe(self, self.hold_until)
end

--- A lower limit for a moment: what do calls take when nothing queues?
local function begin_dip(self, now)
  local used = min(self.limit, self.peak)
  self.dip = { limit = self.limit, used = used, began = now, from = self.gauge.latency, latency = self.gauge.latency,
    depth = 1, mean = 0, alike = 0 }
  set(self, used * DIP, "latency_dip")
end

--- A window of a dip: is a still lower limit to be tried?
local function deepen(self, dip, mean)
  local shorter = mean < SHORTER * dip.latency
  -- Longer than it should be, and not shorter than before: once more, to be sure.
  dip.longer = not shorter and mean > JUMP * self.gauge.base
  if shorter then dip.mean, dip.alike = 0, 0 end
  dip.mean, dip.alike = (dip.mean * dip.alike + mean) / (dip.alike + 1), dip.alike + 1
  if self.limit <= self.opts.min or not (shorter or dip.longer and dip.depth < LEAST_DEPTH) then return false end
  dip.latency, dip.depth = mean, dip.depth + 1
  set(self, self.limit * DIP, "latency_dip")
  return true
end

--- Deeper as long as calls take less; then back, but not to a limit that is now
--- known to be too high.
local function go_on_with_dip(self, now)
  local gauge, dip, before = self.gauge, self.dip, self.gauge.base
  local mean = gauge:take()
  if mean then
    if deepen(self, dip, mean) then return end
    if dip.longer then gauge:relearn(dip.mean) else gauge:unloaded(mean) end
  end
  local changed = gauge.base < before / JUMP or gauge.base > before * JUMP
  self.next_dip = now + max(changed and FIRST_DIP or DIP_INTERVAL, DIP_COST * (now - dip.began))
  local target = gauge.base / dip.from * (1 + self.opts.latency_tolerance) / 2
  set(self, target < 1 and dip.used * max(DIP, target) or dip.limit, "latency_dip_end")
  self.dip = nil
end

local function end_round(self, now)
  if self.dip then
    go_on_with_dip(self, now)
    return begin_round(self)
  end
  local opts, gauge = self.opts, self.gauge
  local saturated, measured = self.peak >= opts.saturation * floor(self.limit), gauge:close(self.slow_start)
  local ratio = gauge.latency and gauge.base > 0 and gauge.latency / gauge.base or 1
  local margin, target = gauge:margin(), (1 + opts.latency_tolerance) / 2
  local used = self.peak >= LEAST_USE * floor(self.limit)
  if measured and used and ratio > opts.latency_tolerance + 2 * margin then
    latency_cut(self, now)
  else
    if measured then self.cuts = nil end
    if used and now >= self.next_dip and gauge.latency then
      begin_dip(self, now)
    elseif saturated and now >= self.hold_until and self.failed <= FAILED * self.done and ratio <= target + margin then
      grow(self, now)
    elseif used and ratio > target + margin then
      expect_queue(self, now)
    end
  end
  begin_round(self)
end

local function round_size(self)
  local least = ROUND
  if self.outage or self.recovering then
    least = SHORTEST_ROUND
  elseif not self.dip and (self.slow_start or self.good and self.limit < self.good) then
    least = SHORT_ROUND
  end
  return max(floor(self.limit), least)
end

--- Learns from a call that has ended.
---@param now number
---@param verdict neap.policy.Verdict
---@param started number when it was sent
---@param in_flight integer calls in flight when it was sent, itself included
---@param hint? number seconds, of a refusal
function Gates:sample(now, verdict, started, in_flight, hint)
  if verdict == "throttled" then
    if started > self.cut_until then refused(self, now, in_flight, hint) end
    return
  end
  if verdict == "neutral" then return end
  if self.discard > 0 then
    self.discard = self.discard - 1
    return
  end
  if verdict == "ok" then self.gauge:add(now - started) else self.failed = self.failed + 1 end
  self.done = self.done + 1
  if in_flight > self.peak then self.peak = in_flight end
  if self.done >= round_size(self) then end_round(self, now) end
end

--- Sets the limit by hand; it goes on from there.
---@param limit number
function Gates:force(limit)
  self.good, self.known, self.outage, self.recovering = nil, nil, nil, nil
  self.dip, self.cuts, self.step = nil, nil, 1
  set(self, limit, "manual")
end

--- When the next change may come by itself, or nil.
---@return number? at neap.now()
function Gates:next_change()
  if self.good and self.limit >= self.good then return self.probe_at end
end

return M
