--- A provider's rate limits: one token bucket for requests, one for tokens, taken
--- from together or not at all. Pure: the time is an argument. Also the headers
--- that tell the client, in OpenAI's format.
local ceil, floor, max, min = math.ceil, math.floor, math.max, math.min

local M = {}

---@class neap.world.Bucket
---@field limit number per minute, as reported
---@field capacity number
---@field rate number per second
---@field level number at `at`
---@field at number seconds
local Bucket = {}
Bucket.__index = Bucket

local function bucket(per_minute, window)
  local rate = per_minute / 60
  local capacity = max(1, rate * window)
  return setmetatable({ limit = per_minute, rate = rate, capacity = capacity, level = capacity }, Bucket)
end

function Bucket:refill(now)
  if self.at then self.level = min(self.capacity, self.level + (now - self.at) * self.rate) end
  self.at = now
end

--- Seconds until `amount` is there; huge when it never can be.
function Bucket:wait_for(amount)
  if amount > self.capacity then return math.huge end
  return max(0, (amount - self.level) / self.rate)
end

---@class neap.world.Limits
---@field requests neap.world.Bucket?
---@field tokens neap.world.Bucket?
local Limits = {}
Limits.__index = Limits

--- Limits that start with full buckets.
---@param spec neap.world.RateLimit
---@return neap.world.Limits
function M.new(spec)
  local window = spec.window or 60
  return setmetatable({
    requests = spec.rpm and bucket(spec.rpm, window),
    tokens = spec.tpm and bucket(spec.tpm, window),
  }, Limits)
end

--- Takes one request and `tokens` tokens, or nothing.
---@param now number seconds
---@param tokens number
---@return number wait 0 when taken; else seconds until it could be (huge: never)
---@return "requests"|"tokens"|nil dimension the one that is short
function Limits:take(now, tokens)
  local requests, budget = self.requests, self.tokens
  local request_wait, token_wait = 0, 0
  if requests then
    requests:refill(now)
    request_wait = requests:wait_for(1)
  end
  if budget then
    budget:refill(now)
    token_wait = budget:wait_for(tokens)
  end
  local wait = max(request_wait, token_wait)
  if wait > 0 then return wait, token_wait > request_wait and "tokens" or "requests" end
  if requests then requests.level = requests.level - 1 end
  if budget then budget.level = budget.level - tokens end
  return 0
end

--- A duration as OpenAI writes it: "12ms", "1s", "8.64s", "6m0s", "1h0m0s".
--- Rounded up to the millisecond, so that it is never too early.
---@param seconds number
---@return string
function M.duration(seconds)
  local ms = ceil(seconds * 1000 - 1e-6)
  if ms < 1000 then return ("%dms"):format(max(0, ms)) end
  local hours, minutes = floor(ms / 3600000), floor(ms / 60000) % 60
  local rest = ("%.3f"):format(ms % 60000 / 1000):gsub("0+$", ""):gsub("%.$", "") .. "s"
  if hours > 0 then return ("%dh%dm%s"):format(hours, minutes, rest) end
  if minutes > 0 then return ("%dm%s"):format(minutes, rest) end
  return rest
end

local function add_bucket(headers, name, b, now)
  if not b then return end
  b:refill(now)
  headers["x-ratelimit-limit-" .. name] = ("%d"):format(b.limit)
  headers["x-ratelimit-remaining-" .. name] = ("%d"):format(max(0, floor(b.level)))
  headers["x-ratelimit-reset-" .. name] = M.duration((b.capacity - b.level) / b.rate)
end

--- Adds `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` to `headers`.
---@param now number seconds
---@param headers table<string, string>
function Limits:add_headers(now, headers)
  add_bucket(headers, "requests", self.requests, now)
  add_bucket(headers, "tokens", self.tokens, now)
end

return M
