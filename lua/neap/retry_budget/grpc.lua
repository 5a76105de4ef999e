--- gRPC's retryThrottling (proposal A6): a failure takes a token, a success earns
--- token_ratio, and retries stop while no more than half of the tokens are left.
--- Retries themselves cost nothing; their failures do. Pure.
local M = {}

-- Thousandths: A6 takes three decimals.
local ONE = 1000

local FAILURES = { throttled = true, overloaded = true, failed = true }

local Grpc = {}
Grpc.__index = Grpc

function M.problem() end

function Grpc:change(opts)
  self.max = math.floor(opts.max_tokens * ONE + 0.5)
  self.ratio = math.floor(opts.token_ratio * ONE + 0.5)
  if self.tokens then self.tokens = math.min(self.tokens, self.max) end
end

function Grpc:started() end

function Grpc:allow()
  return self.tokens > self.max / 2
end

function Grpc:ended(_, verdict)
  if verdict == "ok" then
    self.tokens = math.min(self.max, self.tokens + self.ratio)
  elseif FAILURES[verdict] then
    self.tokens = math.max(0, self.tokens - ONE)
  end
end

--- Tokens there, how many there may be, and how many a retry needs.
function Grpc:level()
  return self.tokens / ONE, self.max / ONE, ("more than %g"):format(self.max / 2 / ONE)
end

function M.new(opts)
  local budget = setmetatable({}, Grpc)
  budget:change(opts)
  budget.tokens = budget.max
  return budget
end

return M
