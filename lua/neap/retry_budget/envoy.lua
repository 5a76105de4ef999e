--- Envoy's retry_budget: retries under way are at most a share of all attempts
--- under way, and always at least min_concurrency. It looks at no history, so it
--- recovers at once; it must be told of every attempt's end. Pure.
local M = {}

local Envoy = {}
Envoy.__index = Envoy

function M.problem() end

function Envoy:change(opts)
  self.ratio, self.min_concurrency = opts.ratio, opts.min_concurrency
end

local function limit(self)
  -- A whole number, as in Envoy; the little extra is for shares such as 0.29.
  return math.max(self.min_concurrency, math.floor(self.ratio * self.active + 1e-9))
end

function Envoy:started()
  self.active = self.active + 1
end

function Envoy:allow()
  if self.retries >= limit(self) then return false end
  self.retries, self.active = self.retries + 1, self.active + 1
  return true
end

function Envoy:ended(_, _, spent)
  self.active = math.max(0, self.active - 1)
  if spent then self.retries = math.max(0, self.retries - 1) end
end

--- Retries that could begin now, how many may be under way, and how many places a
--- retry needs.
function Envoy:level()
  local most = limit(self)
  return math.max(0, most - self.retries), most, "at least 1"
end

function M.new(opts)
  local budget = setmetatable({ active = 0, retries = 0 }, Envoy)
  budget:change(opts)
  return budget
end

return M
