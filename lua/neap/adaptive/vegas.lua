--- Netflix's Vegas limit (concurrency-limits, VegasLimit): by the queue that the
--- latency above the unloaded one stands for. Pure. A refusal (429) counts as its
--- drop: minus log10 of the limit, once an episode.
local M = {}

local max, min = math.max, math.min

local PROBE_MULTIPLIER = 30

local Vegas = {}
Vegas.__index = Vegas

---@param opts table checked options of neap.adaptive
---@param now number
function M.new(opts, now)
  return setmetatable({ opts = opts, limit = max(opts.min, min(opts.max, opts.start)), reason = "start",
    cut_at = now - 1, samples = 0 }, Vegas)
end

local function log10(limit)
  return max(1, math.floor(math.log(limit) / math.log(10)))
end

local function set(self, limit, reason)
  limit = max(self.opts.min, min(self.opts.max, limit))
  if limit ~= self.limit then self.limit, self.reason = limit, reason end
end

local function adjust(self, rtt, in_flight)
  local limit = self.limit
  local queue = math.ceil(limit * (1 - self.unloaded / rtt))
  if in_flight * 2 < limit then return end
  local unit = log10(limit)
  if queue <= unit then
    set(self, limit + 6 * unit, "latency")
  elseif queue < 3 * unit then
    set(self, limit + unit, "latency")
  elseif queue > 6 * unit then
    set(self, limit - unit, "latency")
  end
end

--- As in neap.adaptive.gates.
function Vegas:sample(now, verdict, started, in_flight)
  if verdict == "throttled" then
    if started <= self.cut_at then return end
    self.cut_at = now
    return set(self, self.limit - log10(self.limit), "rate_limit")
  end
  if verdict ~= "ok" then return end
  local rtt = now - started
  if rtt <= 0 then return end
  self.samples = self.samples + 1
  if not self.unloaded or rtt < self.unloaded or self.samples >= PROBE_MULTIPLIER * self.limit then
    self.unloaded, self.samples = rtt, 0
    return
  end
  adjust(self, rtt, in_flight)
end

--- As in neap.adaptive.gates.
function Vegas:force(limit)
  set(self, limit, "manual")
end

function Vegas.next_change() end

return M
