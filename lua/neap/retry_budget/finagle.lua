--- Finagle's RetryBudget: a call deposits 1, a retry withdraws 1 / ratio, both are
--- forgotten after `ttl` (in ten slices), and a reserve allows min_per_second
--- retries on top. Pure.
local M = {}

local SLICES = 10
-- Finagle's ScaleFactor: whole numbers, so that sums stay exact.
local DEPOSIT = 1000

local Finagle = {}
Finagle.__index = Finagle

function M.problem() end

function Finagle:change(opts)
  local ratio = opts.ratio
  self.deposit = ratio > 0 and DEPOSIT or 0
  self.cost = ratio > 0 and math.max(1, math.floor(DEPOSIT / ratio)) or 1
  self.reserve = opts.min_per_second * opts.ttl * self.cost
  self.never = ratio == 0 and opts.min_per_second == 0
  local width = opts.ttl / SLICES
  if self.width ~= width then
    -- Slices of another width: what is there counts as of now.
    self.width, self.slice = width, nil
    for i = 1, SLICES do self[i] = 0 end
    self[1] = self.sum
  end
end

--- The place of the present slice; those that have expired are emptied.
local function place(self, now)
  local slice = math.floor(now / self.width)
  local last = self.slice
  if not last then
    -- The first slice lies in place 1.
    self.offset, self.slice = slice, slice
    return 1
  end
  if slice > last then
    for i = math.max(last + 1, slice - SLICES + 1), slice do
      local at = (i - self.offset) % SLICES + 1
      self.sum, self[at] = self.sum - self[at], 0
    end
    self.slice = slice
  end
  return (self.slice - self.offset) % SLICES + 1
end

function Finagle:started(now)
  local at = place(self, now)
  self[at], self.sum = self[at] + self.deposit, self.sum + self.deposit
end

function Finagle:allow(now)
  local at, cost = place(self, now), self.cost
  if self.never or self.sum + self.reserve < cost then return false end
  self[at], self.sum = self[at] - cost, self.sum - cost
  return true
end

function Finagle:ended() end

--- Retries that could be sent now, how many there may be (nobody knows), and how
--- many a retry needs.
function Finagle:level(now)
  place(self, now)
  return self.never and 0 or (self.sum + self.reserve) / self.cost, nil, "at least 1"
end

function M.new(opts)
  local budget = setmetatable({ sum = 0 }, Finagle)
  budget:change(opts)
  return budget
end

return M
