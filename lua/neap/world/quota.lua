--- A budget for a period: so many requests, so many tokens, and then nothing until
--- the next period begins. Pure: the time is an argument.
local instant = require "neap.world.instant"

local floor, huge = math.floor, math.huge

local M = {}

---@class neap.world.QuotaSpec
---@field requests? number a period
---@field tokens? number a period, input and output
---@field per? number seconds of a period, counted from the start; default 86,400

---@class neap.world.Quota
---@field package period integer
---@field package requests number taken in it
---@field package tokens number
local Quota = {}
Quota.__index = Quota

---@param spec neap.world.QuotaSpec
---@param start number seconds: when the first period begins
---@return neap.world.Quota
function M.new(spec, start)
  return setmetatable({ per = spec.per or 86400, start = start, period = 0, requests = 0, tokens = 0,
    max_requests = spec.requests or huge, max_tokens = spec.tokens or huge }, Quota)
end

--- Takes one request and its tokens, or nothing.
---@param now number seconds
---@param tokens number
---@return number wait 0 when taken; else seconds until the next period
---@return "requests"|"tokens"|nil dimension the one that is used up
function Quota:take(now, tokens)
  local period = floor((now - self.start + instant.slack(now)) / self.per)
  if period > self.period then self.period, self.requests, self.tokens = period, 0, 0 end
  local short = self.requests + 1 > self.max_requests and "requests"
    or self.tokens + tokens > self.max_tokens and "tokens" or nil
  if short then return self.start + (self.period + 1) * self.per - now, short end
  self.requests, self.tokens = self.requests + 1, self.tokens + tokens
  return 0
end

--- Gives back what was not used after all.
---@param tokens number
function Quota:refund(tokens)
  self.tokens = math.max(0, self.tokens - tokens)
end

return M
