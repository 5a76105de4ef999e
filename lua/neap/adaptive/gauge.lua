--- How long calls take by how long unloaded ones do: a mean over windows of
--- answers, beside an estimate of the unloaded latency. Pure.
---
--- By when calls end, not by when they were sent: to wait for those sent in a
--- window would leave out the slow ones, and the mean would be too good.
local M = {}

local max, min, sqrt = math.max, math.min, math.sqrt

local WINDOW = 40 -- answers: with fewer a mean says little (exponential latencies: 16 % standard deviation)
local ENOUGH = 20 -- for a window that is cut off
local SMOOTHING = 0.3 -- of the windows' means
local REACH = 1.15 -- a window beyond it is not an unloaded one
local DRIFT, DIP_WEIGHT = 0.1, 0.3 -- of a window in the unloaded latency
local FELL = 0.7 -- an unloaded latency that was never unloaded
local MOST_KNOWN = 1000 -- answers; beyond them the old ones are forgotten

---@class neap.adaptive.Gauge
---@field base number? seconds, unloaded
---@field known number answers behind `base`
---@field latency number? seconds, at the present limit
---@field queues boolean a queue has been seen: only dips say what unloaded calls take
---@field package count integer answers in the window
---@field package sum number seconds
local Gauge = {}
Gauge.__index = Gauge

---@return neap.adaptive.Gauge
function M.new()
  return setmetatable({ known = 0, queues = false, count = 0, sum = 0 }, Gauge)
end

--- An answer took so long.
---@param seconds number
function Gauge:add(seconds)
  self.count, self.sum = self.count + 1, self.sum + seconds
end

--- How far a mean may be off by chance, as a share.
---@return number
function Gauge:margin()
  return 1 / sqrt(max(1, self.known))
end

local function learn(self, mean, count, weight)
  local known = self.known + count
  self.base = self.base and self.base + max(weight, count / known) * (mean - self.base) or mean
  self.known = min(MOST_KNOWN, known)
end

local function look(self, growing)
  local mean, count = self.sum / self.count, self.count
  self.latency = self.latency and self.latency + SMOOTHING * (mean - self.latency) or mean
  local reach = (growing and 1 or REACH) + self:margin()
  if not self.base or not self.queues and mean <= self.base * reach then
    learn(self, mean, count, DRIFT)
  end
  self.count, self.sum = 0, 0
  return mean
end

--- Ends the window if it has enough answers. `growing`: by leaps, and what calls
--- take longer may well be a queue.
---@param growing? boolean
---@return number? mean seconds
function Gauge:close(growing)
  if self.count >= WINDOW then return look(self, growing) end
end

--- Ends the window if it has enough answers, and learns nothing from it yet.
---@return number? mean seconds
function Gauge:take()
  if self.count < WINDOW then return end
  local mean = self.sum / self.count
  self.count, self.sum = 0, 0
  return mean
end

--- A window in which nothing queued took so long.
---@param mean number seconds
function Gauge:unloaded(mean)
  if self.base and mean < FELL * self.base then self.base, self.known = nil, 0 end
  learn(self, mean, WINDOW, DIP_WEIGHT)
end

--- Unloaded calls take so long, whatever was known before.
---@param mean number seconds
function Gauge:relearn(mean)
  self.base, self.known = mean, WINDOW
end

--- The limit has moved so far that nothing of before holds.
---@param growing? boolean
function Gauge:restart(growing)
  if self.count >= ENOUGH then look(self, growing) end
  self.latency, self.count, self.sum = nil, 0, 0
end

return M
