--- The live percentile: that of the last one to one and a half windows, or of the
--- last few hundred values where they come more slowly. Values fall into
--- logarithmic buckets, a set for each half window; after it the oldest of three
--- sets goes and an empty one begins, once the newest holds enough. Pure.
local M = {}

-- 2^(1/64) is 1.0109: a bucket's upper end is at most 1.1 % above its values. The
-- upper end, so that calls which all take the same time are not above it.
local SCALE = 64 / math.log(2)
local LEAST, GREATEST = 1e-6, 1e6

---@class neap.hedge.Rolling
---@field private newest table {count, low, high, [bucket] = count}, newer and older likewise
local Rolling = {}
Rolling.__index = Rolling

local function empty() return { count = 0, low = math.huge, high = -math.huge } end

--- No values yet.
---@param window number seconds
---@param least integer values before there is a percentile, and in a set that is let go of
---@return neap.hedge.Rolling
function M.new(window, least)
  return setmetatable({
    half = window / 2, least = least, newest = empty(), newer = empty(), older = empty(), ends = nil, fresh = 0,
  }, Rolling)
end

local function turn(self, now)
  if not self.ends then
    self.ends = now + self.half
  elseif now >= self.ends and self.newest.count >= self.least then
    self.newest, self.newer, self.older = empty(), self.newest, self.newer
    self.ends, self.cached = now + self.half, nil
  end
end

--- Adds a value.
---@param now number seconds
---@param value number seconds, 0 or more
function Rolling:add(now, value)
  turn(self, now)
  local part = self.newest
  local bucket = math.floor(math.log(math.min(math.max(value, LEAST), GREATEST)) * SCALE)
  part[bucket] = (part[bucket] or 0) + 1
  part.count = part.count + 1
  if bucket < part.low then part.low = bucket end
  if bucket > part.high then part.high = bucket end
  self.fresh = self.fresh + 1
end

--- How many values the percentile looks at.
---@param now number seconds
---@return integer
function Rolling:count(now)
  turn(self, now)
  return self.newest.count + self.newer.count + self.older.count
end

local function compute(self, share, count)
  local a, b, c = self.newest, self.newer, self.older
  local low = math.min(a.low, b.low, c.low)
  -- From the top: high percentiles are near it.
  local above = count - math.max(1, math.ceil(share * count))
  for bucket = math.max(a.high, b.high, c.high), low, -1 do
    above = above - (a[bucket] or 0) - (b[bucket] or 0) - (c[bucket] or 0)
    if above < 0 then return math.exp((bucket + 1) / SCALE) end
  end
end

--- The value that `share` of the values do not exceed (nearest rank; up to 1.1 %
--- more), or nil while there are fewer than `least`. It is computed anew when the number of
--- values has grown by a sixteenth, or one set has gone.
---@param now number seconds
---@param share number 0 to 1
---@return number? seconds
function Rolling:percentile(now, share)
  local count = self:count(now)
  if count < self.least then return nil end
  if not self.cached or self.share ~= share or self.fresh * 16 > count then
    self.cached, self.share, self.fresh = compute(self, share, count), share, 0
  end
  return self.cached
end

return M
