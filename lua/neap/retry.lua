--- neap.retry: calls a function again while it fails for a passing reason.
--- docs/api/retry.md says what each option means and where its default is from.
local backoff_rules = require "neap.policy.backoff"
local core = require "neap.core"
local layer = require "neap.policy.layer"
local options = require "neap.options"
local outcome_rules = require "neap.policy.outcome"
local scope = require "neap.scope"

local M = {}

local now, random = core.now, core.random
local verdict = outcome_rules.verdict

---@class neap.retry.Event what `on_retry` gets before each wait
---@field attempt integer the attempt that has failed, from 1
---@field wait number seconds until the next one
---@field hint? number seconds the server asked for
---@field parked boolean the hint is above max_retry_after
---@field result any what the attempt returned
---@field err? any its error

---@class neap.retry.Options
---@field max_attempts? integer calls, the first included (3); math.huge: no limit
---@field backoff? neap.retry.Backoff|fun(attempt: integer, err: any): number
---@field retry_on? fun(result: any, err: any, attempt: integer): boolean? (neap.retry's own rule: M.default_retry_on)
---@field respect_retry_after? boolean wait as long as the server asks (true)
---@field max_retry_after? number seconds: give up when the server asks for more (120)
---@field park? boolean wait out longer hints too (false)
---@field deadline? number seconds for the whole call, waits included (none)
---@field budget? neap.retry_budget.Budget|table
---@field nested? boolean loop although another retry is around this one (false)
---@field on_retry? fun(event: neap.retry.Event)
---@field name? string

--- The default `retry_on`; see neap.policy.outcome.
M.default_retry_on = outcome_rules.may_repeat

---@class neap.Retry: neap.policy.Layer
local Retry = layer.class "retry"

function Retry:init()
  self:changed()
end

function Retry:changed()
  local opts = self.options
  if type(opts.backoff) == "table" and opts.backoff.jitter == "decorrelated"
    and opts.backoff.kind ~= "exponential" then
    options.fail("neap.retry: backoff: option 'jitter' = \"decorrelated\" goes with kind = \"exponential\" only, got "
      .. opts.backoff.kind)
  end
  local budget = opts.budget
  if budget and not budget.allow then
    budget = require("neap.retry_budget").new(budget)
    opts.budget = budget
  end
  self.retry_on = opts.retry_on or M.default_retry_on
end

--- How many values, the first two, and all of them where there are more: a table for
--- each attempt is garbage that most calls do without.
local function take(...)
  local count = select("#", ...)
  if count <= 2 then return count, ... end
  return count, (...), (select(2, ...)), { ... }
end

local function give(count, result, err, all)
  if all then return unpack(all, 1, count) end
  if count == 2 then return result, err end
  if count == 1 then return result end
end

local function whole(results, ...)
  results.whole = true
  return ...
end

local function run_whole(results, next, ...)
  return whole(results, next(...))
end

-- One attempt, cut off at the deadline; what it held goes back.
local function leave_attempt(call, held, mark, ...)
  if not mark.whole then
    call:cut_off(held)
    call.timed_out = true
  end
  return ...
end

local function attempt_until(deadline, call, next, ...)
  local mark = {}
  return leave_attempt(call, call.held_count, mark,
    scope.timeout(math.max(0, deadline - now()), run_whole, mark, next, call, ...))
end

local LONGEST_WAIT = 1e6 -- seconds, as in the schema: of a backoff that a function says

local function bounded_backoff(opts, attempt, err, previous)
  local backoff = opts.backoff
  if type(backoff) == "table" then return backoff_rules.wait(backoff, attempt, random, previous) end
  local wait = backoff(attempt, err)
  if type(wait) ~= "number" or not (wait >= 0 and wait <= LONGEST_WAIT) then
    error(("neap.retry: option 'backoff' must return seconds from 0 to %d, got %s"):format(LONGEST_WAIT,
      tostring(wait)), 0)
  end
  return wait
end

-- How long to wait before the next attempt; nil and the reason to give up.
local function plan(opts, call, attempt, result, err, previous, deadline)
  if attempt >= opts.max_attempts then return nil, "attempts" end
  local hint, parked = nil, false
  if opts.respect_retry_after then
    hint = outcome_rules.hint(result, err, core.time())
    if hint and hint > opts.max_retry_after then
      if not opts.park then return nil, "hint" end
      parked = true
    end
  end
  local backoff = bounded_backoff(opts, attempt, err, previous)
  local wait = backoff_rules.with_hint(backoff, hint, type(opts.backoff) == "table" and opts.backoff.jitter, random)
  -- Nothing is gained by waiting for an attempt that may not begin.
  if deadline and now() + wait >= deadline then return nil, "deadline" end
  local budget = opts.budget
  if budget then
    local spent = budget:allow(now(), verdict(result, err), err)
    if not spent then return nil, "budget" end
    call.budget, call.budget_spent = budget, spent
  end
  return wait, hint, backoff, parked
end

local function reason_of(result, err)
  if type(err) == "table" and err.kind then return err.kind end
  return type(result) == "table" and result.status and tostring(result.status) or "failed"
end

function Retry:give_up(call, outcome, why)
  if type(outcome) == "table" and not call.shared then outcome.gave_up = why end
  self:emit("gave_up", { reason = why, attempts = call.attempts })
end

function Retry:rest(call, result, err, attempt, wait, hint, parked)
  local opts = self.options
  if opts.on_retry then
    opts.on_retry { attempt = attempt, wait = wait, hint = hint, parked = parked,
      result = result, err = err }
  end
  outcome_rules.discard(result)
  self:emit(parked and "park" or "retry", { attempt = attempt, wait = wait, hint = hint,
    reason = reason_of(result, err) })
  call:pause(wait, self, parked and "parked until the server's hint has passed" or "backoff")
  if parked then call.front = true end
end

-- Before the first attempt: tells the budget; returns the instant of the deadline.
local function begin(self, call)
  local opts = self.options
  call.retrying = true
  if opts.budget then
    opts.budget:started(now())
    call.budget = opts.budget
    -- To write nil would make the table grow: see `calls.run`.
    if call.budget_spent then call.budget_spent = nil end
  end
  return opts.deadline and now() + opts.deadline
end

-- After an attempt: rests before the next one and returns its backoff, or nil when
-- that was the last.
local function again(self, call, result, err, attempt, previous, deadline)
  local opts, budget = self.options, call.budget
  if budget then
    call.budget = nil
    budget:ended(now(), verdict(result, err), call.budget_spent)
  end
  if call.front then call.front = nil end -- for the attempt after a park only
  if call.timed_out then
    call.timed_out = nil
    return self:give_up(call, result or err, "deadline")
  end
  if not self.retry_on(result, err, attempt) then return nil end
  local wait, hint, backoff, parked = plan(opts, call, attempt, result, err, previous, deadline)
  if not wait then return self:give_up(call, result or err, hint) end
  self:rest(call, result, err, attempt, wait, hint, parked)
  return backoff
end

-- Its frame is small for the reason that `calls.run` gives.
local function loop(self, call, next, ...)
  local deadline, attempt, previous = begin(self, call), 0, nil
  while true do
    attempt = attempt + 1
    local count, result, err, all
    if deadline then
      count, result, err, all = take(attempt_until(deadline, call, next, ...))
    else
      count, result, err, all = take(next(call, ...))
    end
    previous = again(self, call, result, err, attempt, previous, deadline)
    if not previous then return give(count, result, err, all) end
  end
end

-- After a loop within a loop, what the outer one's budget was told stands again.
local function restore(call, budget, spent, ...)
  call.budget, call.budget_spent = budget, spent
  return ...
end

local function leave(call, ...)
  call.retrying = false
  return ...
end

--- Repeats the rest of the pipeline until it succeeds, fails for good, or the
--- attempts, the budget or the deadline are used up. Waits.
function Retry:run(call, next, ...)
  if not call.retrying then return leave(call, loop(self, call, next, ...)) end
  if not self.options.nested then return next(call, ...) end
  return restore(call, call.budget, call.budget_spent, loop(self, call, next, ...))
end

--- A policy: `neap.retry{ max_attempts = 5 }:call(fn, ...)`. It keeps no state
--- between calls, so any number of tasks may share one.
---@param opts? neap.retry.Options
---@return neap.Retry
function M.new(opts)
  return layer.new(Retry, opts)
end

return M
