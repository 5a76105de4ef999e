--- The token bucket: calls or successes earn tokens, a retry costs one (Brooker,
--- "Fixing retries with token buckets and circuit breakers", 2022). In the long
--- run no more than 1 + per_call attempts are made for each call. Pure.
local M = {}

-- Tokens are counted in millionths: ten deposits of 0.1 make exactly one.
local ONE = 1e6

local function micro(tokens) return math.floor(tokens * ONE + 0.5) end

local Bucket = {}
Bucket.__index = Bucket

--- Says what is wrong with the options, if anything.
function M.problem(opts)
  if opts.initial and opts.initial > opts.cap then
    return ("option 'initial' must be at most 'cap' (%g), got %g"):format(opts.cap, opts.initial)
  end
end

function Bucket:change(opts)
  self.per_success = micro(opts.per_success or 0)
  self.per_call = micro(opts.per_call or (opts.per_success and 0 or 0.1))
  self.cap = micro(opts.cap)
  self.needs = opts.needs == "more_than_one" and ONE + 1 or ONE
  if self.tokens then self.tokens = math.min(self.tokens, self.cap) end
end

function Bucket:started()
  local tokens = self.tokens + self.per_call
  self.tokens = tokens < self.cap and tokens or self.cap
end

function Bucket:allow()
  if self.tokens < self.needs then return false end
  self.tokens = self.tokens - ONE
  return true
end

function Bucket:ended(_, verdict)
  if verdict == "ok" and self.per_success > 0 then
    self.tokens = math.min(self.cap, self.tokens + self.per_success)
  end
end

--- Tokens there, how many there may be, and how many a retry needs.
function Bucket:level()
  return self.tokens / ONE, self.cap / ONE, self.needs == ONE and "at least 1" or "more than 1"
end

function M.new(opts)
  local bucket = setmetatable({}, Bucket)
  bucket:change(opts)
  bucket.tokens = micro(opts.initial or opts.cap)
  return bucket
end

return M
