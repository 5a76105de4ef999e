--- The AWS SDKs' retry quota (botocore, standard mode): a retry takes its price,
--- by the kind of failure, and gets it back when it succeeds; a first attempt that
--- succeeds gives back a little. Pure.
local M = {}

local Aws = {}
Aws.__index = Aws

function M.problem() end

function Aws:change(opts)
  self.opts, self.quota = opts, opts.quota
  if self.tokens then self.tokens = math.min(self.tokens, self.quota) end
end

function Aws:started() end

local function price(opts, verdict, err)
  if type(err) == "table" and err.kind == "timeout" then return opts.timeout_cost end
  return verdict == "throttled" and opts.throttle_cost or opts.retry_cost
end

--- The price, to be shown when the retry has ended.
function Aws:allow(_, verdict, err)
  local cost = price(self.opts, verdict, err)
  if cost > self.tokens then return false end
  self.tokens = self.tokens - cost
  return cost
end

function Aws:ended(_, verdict, spent)
  if verdict ~= "ok" then return end
  local refund = self.opts.success_refund
  if spent then refund = spent == true and self.opts.retry_cost or spent end
  self.tokens = math.min(self.quota, self.tokens + refund)
end

--- Tokens there, how many there may be, and how many a retry needs.
function Aws:level()
  return self.tokens, self.quota, ("at least %g"):format(self.opts.retry_cost)
end

function M.new(opts)
  local budget = setmetatable({}, Aws)
  budget:change(opts)
  budget.tokens = budget.quota
  return budget
end

return M
