--- A server that gets worse without going down: slower with its load, or slower
--- and failing during a window of time, at once or in a slow ramp. Pure.
---
--- What a request suffers is settled when its work begins: with n requests worked
--- on (itself included), each rule that is in force multiplies its latency by
---
---   latency * (1 + slope * max(0, n - knee) / knee)
---
--- so that beyond the knee latency grows linearly: with slope 1 it is twice the
--- unloaded one at twice the knee, and throughput stays where it was at the knee;
--- with a slope above 1 more load means less throughput. And it fails with
--- probability `error`. A ramp scales what a rule adds (latency - 1, slope, error)
--- from nothing to all of it.
local instant = require "neap.world.instant"

local huge, max, min = math.huge, math.max, math.min

local M = {}

---@class neap.world.BrownoutRule
---@field knee? number requests that do no harm
---@field slope? number default 1
---@field latency? number factor, default 1
---@field error? number probability, default 0
---@field status? integer of `error`, default 503
---@field from? number seconds since the start, default 0
---@field to? number seconds since the start, default: for ever
---@field ramp? number seconds from `from` on in which it grows to its full size; default 0
---@field ramp_down? number seconds before `to` in which it shrinks to nothing; default 0

---@class neap.world.Brownout
local Brownout = {}
Brownout.__index = Brownout

---@param rules neap.world.BrownoutRule|neap.world.BrownoutRule[] one rule, or several
---@param start number seconds: the windows' 0
---@return neap.world.Brownout
function M.new(rules, start)
  if #rules == 0 then rules = { rules } end
  return setmetatable({ rules = rules, start = start }, Brownout)
end

--- How much of a rule is in force, from 0 to 1.
local function strength(rule, t)
  local from, to = rule.from or 0, rule.to or huge
  if t < from or t >= to then return 0 end
  local share, ramp, down = 1, rule.ramp, rule.ramp_down
  if ramp and t < from + ramp then share = (t - from) / ramp end
  if down and t > to - down then share = min(share, (to - t) / down) end
  return share
end

--- What a latency is multiplied by.
---@param now number seconds
---@param load integer requests worked on, this one included
---@return number
function Brownout:factor(now, load)
  local factor, t = 1, instant.of(now - self.start)
  for i = 1, #self.rules do
    local rule = self.rules[i]
    local share = strength(rule, t)
    if share > 0 then
      factor = factor * (1 + ((rule.latency or 1) - 1) * share)
      if rule.knee then factor = factor * (1 + share * (rule.slope or 1) * max(0, load - rule.knee) / rule.knee) end
    end
  end
  return factor
end

--- The status that a request fails with; nil: it does not.
---@param now number seconds
---@param u number uniform in [0, 1)
---@return integer?
function Brownout:failure(now, u)
  local t = instant.of(now - self.start)
  for i = 1, #self.rules do
    local rule = self.rules[i]
    local p = rule.error and rule.error * strength(rule, t) or 0
    if p > 0 then
      if u < p then return rule.status or 503 end
      u = (u - p) / (1 - p) -- uniform again, given that it passed
    end
  end
end

return M
