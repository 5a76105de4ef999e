--- A histogram with logarithmic buckets: any number of values in bounded
--- memory, percentiles with a relative error below 0.8 %. Buckets exist once a
--- value falls into them (46 for each factor of two), so three decades of
--- latencies cost a few kilobytes. Pure.
local M = {}

local PER_OCTAVE = 46 -- 2^(1/46) is 1.0152: the middle is within 0.76 %
local SCALE = PER_OCTAVE / math.log(2)

-- What a histogram tells apart: beyond these, values share the outer buckets.
local LEAST, GREATEST = 1e-9, 1e9

---@class neap.Histogram
---@field count integer values added
---@field min number? the least value, exact
---@field max number? the greatest value, exact
---@field sum number
---@field private buckets table<integer, integer>
local Histogram = {}
Histogram.__index = Histogram

--- An empty histogram.
---@return neap.Histogram
function M.new()
  return setmetatable({ count = 0, sum = 0, buckets = {} }, Histogram)
end

local function bucket_of(value)
  return math.floor(math.log(math.min(math.max(value, LEAST), GREATEST)) * SCALE)
end

--- Adds a value (0 or more; NaN and negative values are refused).
---@param value number
function Histogram:add(value)
  if type(value) ~= "number" or value ~= value or value < 0 then
    error("histogram:add needs a number of 0 or more, got " .. tostring(value), 2)
  end
  local bucket = bucket_of(value)
  self.buckets[bucket] = (self.buckets[bucket] or 0) + 1
  self.count = self.count + 1
  self.sum = self.sum + value
  if not self.min or value < self.min then self.min = value end
  if not self.max or value > self.max then self.max = value end
end

--- The value that `percent` of the values do not exceed (nearest rank), or nil
--- when there are none. 0 and 100 are exact.
---@param percent number 0 to 100
---@return number?
function Histogram:percentile(percent)
  if type(percent) ~= "number" or percent ~= percent or percent < 0 or percent > 100 then
    error("histogram:percentile needs a number from 0 to 100, got " .. tostring(percent), 2)
  end
  if self.count == 0 then return nil end
  local rank = math.max(1, math.ceil(percent / 100 * self.count))
  if percent == 0 or rank == 1 then return self.min end
  if rank == self.count then return self.max end
  local order = {}
  for bucket in pairs(self.buckets) do order[#order + 1] = bucket end
  table.sort(order)
  local seen = 0
  for _, bucket in ipairs(order) do
    seen = seen + self.buckets[bucket]
    if seen >= rank then
      local middle = math.exp((bucket + 0.5) / SCALE)
      return math.min(math.max(middle, self.min), self.max)
    end
  end
end

--- The arithmetic mean, or nil when there are no values.
---@return number?
function Histogram:mean()
  if self.count > 0 then return self.sum / self.count end
end

return M
