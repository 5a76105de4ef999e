--- The counts behind adaptive throttling: requests, local rejections, accepts and
--- refusals of a sliding window (a ring of slices). A call is counted in the slice
--- in which it began, its answer in the same one, so that the two leave together.
--- Pure.
local M = {}

local SLICES = 60

---@class neap.throttle.Window
---@field requests integer calls that began in the window, those rejected here included
---@field rejected integer of them, rejected here
---@field accepts integer of them, accepted by the upstream
---@field refused integer of them, not accepted
local Window = {}
Window.__index = Window

--- An empty window of `seconds`; it is exact to a sixtieth of them.
---@param seconds number
---@return neap.throttle.Window
function M.new(seconds)
  local window = setmetatable({
    width = seconds / SLICES, slice = nil, requests = 0, rejected = 0, accepts = 0, refused = 0,
    ring = { requests = {}, rejected = {}, accepts = {}, refused = {} },
  }, Window)
  for _, counts in pairs(window.ring) do
    for i = 1, SLICES do counts[i] = 0 end
  end
  return window
end

local function clear(self, at)
  local ring = self.ring
  self.requests, ring.requests[at] = self.requests - ring.requests[at], 0
  self.rejected, ring.rejected[at] = self.rejected - ring.rejected[at], 0
  self.accepts, ring.accepts[at] = self.accepts - ring.accepts[at], 0
  self.refused, ring.refused[at] = self.refused - ring.refused[at], 0
end

--- Lets go of what has left the window; the present slice.
---@param now number seconds
---@return integer slice
function Window:advance(now)
  local slice, last = math.floor(now / self.width), self.slice
  if last == slice then return slice end
  if last and slice > last then
    for i = math.max(last + 1, slice - SLICES + 1), slice do clear(self, i % SLICES + 1) end
  end
  if not last or slice > last then self.slice = slice end
  return self.slice
end

local function add(self, name, slice, amount)
  if slice <= self.slice - SLICES then return end
  local counts, at = self.ring[name], slice % SLICES + 1
  counts[at], self[name] = counts[at] + amount, self[name] + amount
end

--- A call begins.
---@param slice integer what `advance` returned
function Window:request(slice) add(self, "requests", slice, 1) end

--- It was rejected here.
---@param slice integer
function Window:reject(slice) add(self, "rejected", slice, 1) end

--- The upstream has accepted a call that began in `slice`, or not.
---@param slice integer
---@param accepted boolean
function Window:judge(slice, accepted) add(self, accepted and "accepts" or "refused", slice, 1) end

--- It said nothing about the upstream: as though it had not been.
---@param slice integer
function Window:forget(slice) add(self, "requests", slice, -1) end

--- The probability with which to reject the next call: max(0, (requests - k *
--- accepts) / (requests + 1)). A call under way is a request already. Until it is
--- answered it counts as accepted to the share of those that were answered (with
--- one accepted before them all): else a start with many calls at once would
--- reject most of them before the first answer is there.
---@param k number
---@return number
function Window:probability(k)
  local requests, accepts, refused = self.requests, self.accepts, self.refused
  local open = requests - self.rejected - accepts - refused
  if open > 0 then accepts = accepts + open * (accepts + 1) / (accepts + refused + 1) end
  return math.max(0, (requests - k * accepts) / (requests + 1))
end

return M
