--- The last calls of a breaker, by count or by time: how many there were, how
--- many failed, how many were slow. Pure: the time is an argument.
local M = {}

---@class neap.circuit_breaker.Window
---@field total integer
---@field failed integer
---@field slow integer

local CountWindow = {}
CountWindow.__index = CountWindow

--- The last `size` calls: a ring.
function CountWindow:add(_, failed, slow)
  local at = self.at % self.size + 1
  local failures, slows = self.failures, self.slows
  if self.total == self.size then
    if failures[at] then self.failed = self.failed - 1 end
    if slows[at] then self.slow = self.slow - 1 end
  else
    self.total = self.total + 1
  end
  failures[at], slows[at], self.at = failed, slow, at
  if failed then self.failed = self.failed + 1 end
  if slow then self.slow = self.slow + 1 end
end

function CountWindow.look() end

function CountWindow:clear()
  self.at, self.total, self.failed, self.slow, self.failures, self.slows = 0, 0, 0, 0, {}, {}
end

local TimeWindow = {}
TimeWindow.__index = TimeWindow

local SLICES = 10

local function forget(self, slice)
  local index = slice % SLICES
  self.total = self.total - (self.totals[index] or 0)
  self.failed = self.failed - (self.failures[index] or 0)
  self.slow = self.slow - (self.slows[index] or 0)
  self.totals[index], self.failures[index], self.slows[index] = 0, 0, 0
end

--- Forgets slices that are older than the window: it spans the present tenth and
--- the nine before.
function TimeWindow:look(now)
  local slice = math.floor(now / self.width)
  if slice <= self.slice then return end
  for old = math.max(self.slice + 1, slice - SLICES + 1), slice do forget(self, old) end
  self.slice = slice
end

function TimeWindow:add(now, failed, slow)
  self:look(now)
  local index = self.slice % SLICES
  self.totals[index], self.total = (self.totals[index] or 0) + 1, self.total + 1
  if failed then self.failures[index], self.failed = (self.failures[index] or 0) + 1, self.failed + 1 end
  if slow then self.slows[index], self.slow = (self.slows[index] or 0) + 1, self.slow + 1 end
end

function TimeWindow:clear()
  self.total, self.failed, self.slow = 0, 0, 0
  self.totals, self.failures, self.slows, self.slice = {}, {}, {}, -1
end

--- An empty window.
---@param kind "count"|"time"
---@param size integer calls, or seconds
---@return neap.circuit_breaker.Window
function M.new(kind, size)
  local window
  if kind == "count" then
    window = setmetatable({ size = size }, CountWindow)
  else
    window = setmetatable({ width = size / SLICES }, TimeWindow)
  end
  window:clear()
  return window
end

return M
