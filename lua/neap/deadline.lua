--- neap.deadline: one limit of time for everything inside it, as a policy.
--- docs/api/deadline.md.
local core = require "neap.core"
local layer = require "neap.policy.layer"
local scope = require "neap.scope"

local M = {}

local now = core.now

---@class neap.Deadline: neap.policy.Layer
local Deadline = layer.class "deadline"

-- What the layers inside had no chance to put back in order.
local function restore(call, before)
  call:cut_off(before.held)
  call.retrying = before.retrying
  if call.budget and call.budget ~= before.budget then
    call.budget:ended(now(), "neutral", call.budget_spent)
    call.budget, call.budget_spent = before.budget, before.budget_spent
  end
end

local function finish(self, call, before, ...)
  local _, err = ...
  -- What came from inside (of any type, NaN too); else it is the scope's own error.
  if err == before.err or type(err) ~= "table" then return ... end
  local where = call.waits_in
  restore(call, before)
  err.timeout, err.phase = "deadline", where and where.name or nil
  err.sent = call.attempts == before.attempts and "no" or "maybe"
  err.message = ("the deadline of %g s has passed%s"):format(self.options.seconds,
    where and ", in " .. where.name or "")
  return nil, err
end

local function note(before, ...)
  local _, err = ...
  before.err = err
  return ...
end

local function inside(before, call, next, ...)
  return note(before, next(call, ...))
end

--- Runs the rest of the pipeline; when the time is up everything inside is
--- cancelled, what it held goes back, and `nil, err` of kind "timeout" with
--- `timeout = "deadline"` comes back. `err.phase` is the policy that it waited in,
--- if any. Waits.
function Deadline:run(call, next, ...)
  local before = {
    held = call.held_count, retrying = call.retrying, attempts = call.attempts, budget = call.budget,
    budget_spent = call.budget_spent,
  }
  return finish(self, call, before, scope.timeout(self.options.seconds, inside, before, call, next, ...))
end

--- Plain data: `limit` is the seconds. Never waits.
---@return table
function Deadline:snapshot()
  return { kind = self.kind, name = self.name, state = "ready", limit = self.options.seconds }
end

--- A policy: `neap.deadline{ seconds = 30 }`.
---@param opts neap.deadline.Options
---@return neap.Deadline
function M.new(opts)
  return layer.new(Deadline, opts)
end

return M
