--- A provider's rate limits: token buckets for requests and for tokens, by the
--- minute and by the day, taken from together or not at all. Pure: the time is an
--- argument.
local headers = require "neap.world.headers"
local instant = require "neap.world.instant"

local floor, huge, max, min = math.floor, math.huge, math.max, math.min

local M = {}

local DAY = 86400

---@class neap.world.RateLimit
---@field rpm? number requests a minute
---@field tpm? number tokens a minute: a prompt, and what `max_tokens` allows
---@field itpm? number input tokens a minute
---@field otpm? number output tokens a minute: what `max_tokens` allows, settled by what was used
---@field rpd? number requests a day
---@field tpd? number tokens a day
---@field window? number seconds' worth that the buckets of a minute hold; default 60
---@field headers? "openai"|"anthropic"|"azure"|"groq"|"ratelimit"|"none" default "openai"

---@class neap.world.Bucket
---@field kind "requests"|"tokens"|"input"|"output" what it counts
---@field limit number as reported: per minute, or per day
---@field period number seconds that `limit` is for
---@field capacity number
---@field rate number per second
---@field level number at `at`
---@field at number seconds
local Bucket = {}
Bucket.__index = Bucket

local function bucket(kind, limit, period, window)
  local rate = limit / period
  local capacity = max(1, limit * window / period) -- in this order 60 rpm are 60
  return setmetatable({ kind = kind, limit = limit, period = period, rate = rate, capacity = capacity,
    level = capacity }, Bucket)
end

function Bucket:refill(now)
  if self.at then self.level = min(self.capacity, self.level + (now - self.at) * self.rate) end
  self.at = now
end

--- Seconds until `amount` is there; huge when it never can be. Who comes at the very
--- instant that it was told finds it there: the level may go below 0 by what fills
--- within a tick.
function Bucket:wait_for(amount)
  if amount > self.capacity then return huge end
  local wait = (amount - self.level) / self.rate
  return wait > instant.slack(self.at) and wait or 0
end

--- What is left, in whole ones.
---@return integer
function Bucket:left()
  return max(0, floor(self.level + self.rate * instant.slack(self.at)))
end

--- Seconds until it is full.
function Bucket:reset()
  return (self.capacity - self.level) / self.rate
end

---@class neap.world.Limits
---@field buckets neap.world.Bucket[]
---@field requests neap.world.Bucket? by the minute
---@field tokens neap.world.Bucket? by the minute
local Limits = {}
Limits.__index = Limits

--- Limits that start with full buckets.
---@param spec neap.world.RateLimit
---@return neap.world.Limits
function M.new(spec)
  local window, buckets = spec.window or 60, {}
  local function add(kind, limit, period, holds)
    if not limit then return nil end
    buckets[#buckets + 1] = bucket(kind, limit, period, holds)
    return buckets[#buckets]
  end
  local requests = add("requests", spec.rpm, 60, window)
  add("requests", spec.rpd, DAY, DAY)
  local tokens = add("tokens", spec.tpm, 60, window)
  add("tokens", spec.tpd, DAY, DAY)
  add("input", spec.itpm, 60, window)
  add("output", spec.otpm, 60, window)
  return setmetatable({ buckets = buckets, requests = requests, tokens = tokens,
    write = headers.formats[spec.headers or "openai"] }, Limits)
end

--- Takes one request and its tokens, or nothing.
---@param now number seconds
---@param tokens number in all
---@param input? number of them; default: all
---@param output? number of them; default 0
---@return number wait 0 when taken; else seconds until it could be (huge: never)
---@return "requests"|"tokens"|"input"|"output"|nil dimension the one that is short
function Limits:take(now, tokens, input, output)
  local buckets, wait, short = self.buckets, 0, nil
  input, output = input or tokens, output or 0
  for i = 1, #buckets do
    local b = buckets[i]
    local kind = b.kind
    b:refill(now)
    local seconds = b:wait_for(kind == "requests" and 1 or kind == "tokens" and tokens
      or kind == "input" and input or output)
    if seconds > wait then wait, short = seconds, kind end
  end
  if wait > 0 then return wait, short end
  for i = 1, #buckets do
    local b = buckets[i]
    local kind = b.kind
    b.level = b.level - (kind == "requests" and 1 or kind == "tokens" and tokens or kind == "input" and input or output)
  end
  return 0
end

--- Output tokens that were taken and not used come back to their own bucket.
---@param unused number negative: more was used
function Limits:settle(unused)
  for i = 1, #self.buckets do
    local b = self.buckets[i]
    if b.kind == "output" then b.level = min(b.capacity, b.level + unused) end
  end
end

M.duration = headers.duration

--- Adds what the provider's answers say about its limits.
---@param now number seconds
---@param into table<string, string>
---@param wall? number what makes Unix time of `now`; default 0
function Limits:add_headers(now, into, wall)
  for i = 1, #self.buckets do self.buckets[i]:refill(now) end
  self.write(self.buckets, now + (wall or 0), into)
end

return M
