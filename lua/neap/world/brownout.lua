--- A server that gets worse without going down: slower with its load, or slower
--- and failing during a window of time. Pure.
---
--- What a request suffers is settled when its work begins: with n requests worked
--- on (itself included), each rule that is in force multiplies its latency by
---
---   latency * (1 + slope * max(0, n - knee) / knee)
---
--- so that beyond the knee latency grows linearly: with slope 1 it is twice the
--- unloaded one at twice the knee, and throughput stays where it was at the knee;
--- with a slope above 1 more load means less throughput. And it fails with
--- probability `error`.
local huge, max = math.huge, math.max

local M = {}

---@class neap.world.BrownoutRule
---@field knee? number requests that do no harm
---@field slope? number default 1
---@field latency? number factor, default 1
---@field error? number probability, default 0
---@field status? integer of `error`, default 503
---@field from? number seconds since the start, default 0
---@field to? number seconds since the start, default: for ever

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

local function in_force(rule, t)
  return t >= (rule.from or 0) and t < (rule.to or huge)
end

--- What a latency is multiplied by.
---@param now number seconds
---@param load integer requests worked on, this one included
---@return number
function Brownout:factor(now, load)
  local factor, t = 1, now - self.start
  for i = 1, #self.rules do
    local rule = self.rules[i]
    if in_force(rule, t) then
      factor = factor * (rule.latency or 1)
      if rule.knee then factor = factor * (1 + (rule.slope or 1) * max(0, load - rule.knee) / rule.knee) end
    end
  end
  return factor
end

--- The status that a request fails with; nil: it does not.
---@param now number seconds
---@param u number uniform in [0, 1)
---@return integer?
function Brownout:failure(now, u)
  local t = now - self.start
  for i = 1, #self.rules do
    local rule = self.rules[i]
    if rule.error and in_force(rule, t) then
      if u < rule.error then return rule.status or 503 end
      u = (u - rule.error) / (1 - rule.error) -- uniform again, given that it passed
    end
  end
end

return M
