--- Netflix's Gradient2 limit (concurrency-limits, Gradient2Limit): by the ratio of
--- the long-term latency to the present one. Pure. Theirs does not look at drops;
--- here a refusal (429) cuts to nine tenths, once an episode, as their AIMD limit
--- does.
local M = {}

local max, min = math.max, math.min

local LONG_WINDOW, WARM_UP = 600, 10
local TOLERANCE, SMOOTHING, QUEUE = 1.5, 0.2, 4

local Gradient2 = {}
Gradient2.__index = Gradient2

---@param opts table checked options of neap.adaptive
---@param now number
function M.new(opts, now)
  return setmetatable({ opts = opts, limit = max(opts.min, min(opts.max, opts.start)), reason = "start",
    cut_at = now - 1, count = 0, long = 0 }, Gradient2)
end

local function set(self, limit, reason)
  limit = max(self.opts.min, min(self.opts.max, limit))
  if limit ~= self.limit then self.limit, self.reason = limit, reason end
end

local function add_long(self, rtt)
  self.count = self.count + 1
  if self.count <= WARM_UP then
    self.long = self.long + (rtt - self.long) / self.count
  else
    self.long = self.long + (rtt - self.long) * 2 / (LONG_WINDOW + 1)
  end
end

--- As in neap.adaptive.gates.
function Gradient2:sample(now, verdict, started, in_flight)
  if verdict == "throttled" then
    if started <= self.cut_at then return end
    self.cut_at = now
    return set(self, self.limit * 0.9, "rate_limit")
  end
  if verdict ~= "ok" then return end
  local rtt, limit = now - started, self.limit
  if rtt <= 0 then return end
  add_long(self, rtt)
  if self.long / rtt > 2 then self.long = self.long * 0.95 end
  if in_flight < limit / 2 then return end
  local gradient = max(0.5, min(1, TOLERANCE * self.long / rtt))
  set(self, limit * (1 - SMOOTHING) + SMOOTHING * (gradient * limit + QUEUE), "latency")
end

--- As in neap.adaptive.gates.
function Gradient2:force(limit)
  set(self, limit, "manual")
end

function Gradient2.next_change() end

return M
