--- One call on its way through policies: what it holds, what it waits for and
--- where its seconds went. Policies get it as their first argument.
local core = require "neap.core"
local options = require "neap.options"
local telemetry = require "neap.telemetry"

local M = {}

local now, current, random = core.now, core.current, core.random
local note_traceback = core.note_traceback

--- The calls under way, by task: the innermost one.
local active = setmetatable({}, { __mode = "k" })

---@class neap.policy.Call
---@field fn function what is called in the end
---@field task neap.task in which it runs
---@field started number neap.now() at the start
---@field outer neap.policy.Call? the call whose function made this one
---@field parent neap.policy.Call? of a fork: the call that it is a copy of
---@field attempts integer times `fn` was called, copies included
---@field queue number seconds spent waiting for permits
---@field pace number seconds spent waiting for a rate limiter
---@field backoff number seconds spent between attempts
---@field wire number seconds spent inside `fn`
---@field returned number|false|nil neap.now() when `fn` last returned
---@field held neap.policy.Layer[]|false|nil layers whose permit it holds, outermost first
---@field held_count integer
---@field away? table<integer, true> which of `held` gave their permits back for a pause
---@field front? boolean has been parked: enters lines at the head
---@field endpoint? string the router's choice
---@field account? string
---@field retrying boolean a retry loop is around it
---@field inside? integer calls begun inside the present attempt
---@field number? integer of this call inside the attempt of the outer one
---@field budget? neap.retry_budget.Budget has been told of an attempt that has not ended
---@field budget_spent? neap.retry_budget.Spent what that attempt took from it
---@field timed_out? boolean its last attempt was cut off at the retry's deadline
---@field shared? boolean its result belongs to others too
local Call = {}
Call.__index = Call

--- Notes that `layer` gave it a permit. Never waits.
---@param layer neap.policy.Layer
function Call:hold(layer)
  local count = self.held_count + 1
  if not self.held then self.held = {} end
  self.held[count], self.held_count = layer, count
end

-- Forgets the last one; whether its permit was still there.
local function drop(call, index)
  local away = call.away
  local there = not (away and away[index])
  call.held[index], call.held_count = nil, index - 1
  if not there then away[index] = nil end
  return there
end

--- Notes that `layer`, the last one in, leaves. False when its permit has been
--- given back already: it was cut off in a pause. Never waits.
---@param layer neap.policy.Layer
---@return boolean held
function Call:release(layer)
  local count = self.held_count
  if count == 0 or self.held[count] ~= layer then error("a policy released what it does not hold", 2) end
  return drop(self, count)
end

--- Gives back what it holds above the first `count` permits, the last one first.
--- Never waits.
---@param count integer
function Call:release_to(count)
  for i = self.held_count, count + 1, -1 do
    local layer = self.held[i]
    if drop(self, i) then layer:give_back(self) end
  end
end

--- Says what it waits for, until `waiting(nil)`; for `neap.explain`.
---@param layer neap.policy.Layer?
---@param why? string default: what the layer says when somebody asks
---@param until_? number neap.now() at which the wait is due
function Call:waiting(layer, why, until_)
  self.waits_in = layer or false
  -- Fields of their own only where there is something to say: see `M.run`.
  if why or self.waits_why then self.waits_why, self.waits_until = why, until_ end
end

--- Sleeps without holding any permit: gives them back, and takes them again at
--- the heads of their lines. What cannot be taken again (a breaker's probe) stays.
--- Waits.
---@param seconds number
---@param layer neap.policy.Layer who wants it
---@param why string
function Call:pause(seconds, layer, why)
  local began, count = now(), self.held_count
  if count > 0 then
    self.away = self.away or {}
    for i = count, 1, -1 do
      if self.held[i].take_back and not self.away[i] then
        self.away[i] = true
        self.held[i]:give_back(self)
      end
    end
  end
  self:waiting(layer, why, began + seconds)
  core.sleep(seconds)
  self:waiting(nil)
  self.backoff = self.backoff + now() - began
  self:resume()
end

--- Takes again, at the heads of their lines, the permits that a pause gave back;
--- for who goes on after a pause further in was cut off. Waits for them.
function Call:resume()
  local away = self.away
  if not away then return end
  for i = 1, self.held_count do
    if away[i] then
      self.held[i]:take_back(self)
      away[i] = nil
    end
  end
end

--- Which of its seconds a wait in such a layer counts as; in others it is "queue".
local COUNTS_AS = { pace = "pace", retry = "backoff", hedge = "wire" }

--- Whatever it was doing has been cut off by a limit of time: the seconds that
--- nobody could count any more go where it was, and it waits for nothing. Never
--- waits.
---@param held integer permits that were there before what was cut off; others go back
function Call:cut_off(held)
  local where = self.waits_in
  local field = where and (COUNTS_AS[where.kind] or "queue") or "wire"
  local counted = self.queue + self.pace + self.backoff + self.wire
  self[field] = self[field] + math.max(0, now() - self.started - counted)
  self:release_to(held)
  self:waiting(nil)
end

--- A copy for a hedge: it holds nothing yet, and counts towards this call.
---@return neap.policy.Call
function Call:fork()
  return setmetatable({
    fn = self.fn, started = now(), outer = self.outer, parent = self, held_count = 0,
    attempts = 0, queue = 0, pace = 0, backoff = 0, wire = 0, front = self.front, waits_in = false,
    endpoint = self.endpoint, account = self.account, retrying = self.retrying,
  }, Call)
end

--- The call that a fork is a copy of; itself otherwise.
---@return neap.policy.Call
function Call:root()
  while self.parent do self = self.parent end
  return self
end

--- A key that is the same for every attempt of this call and differs from any
--- other's: 128 random bits; of a call inside another one's attempt, the outer
--- key and its number there, so that it outlives the outer attempt too. Never
--- waits.
---@return string
function Call:idempotency_key()
  local root = self:root()
  if not root.key then
    local outer = root.outer
    root.key = outer and ("%s.%d"):format(outer:idempotency_key(), root.number) or M.new_key()
  end
  return root.key
end

--- A fresh idempotency key.
---@return string
function M.new_key()
  local words = {}
  for i = 1, 4 do words[i] = ("%08x"):format(random() * 2 ^ 32) end
  return "neap-" .. table.concat(words)
end

--- The innermost call of a task (default: the running one), or nil.
---@param task? neap.task
---@return neap.policy.Call?
function M.of(task)
  task = task or current()
  return task and active[task]
end

--- Every call under way, in no order.
---@return table<neap.task, neap.policy.Call>
function M.all()
  return active
end

local function leave_fn(call, began, ...)
  local ended = now()
  call.wire, call.returned = call.wire + ended - began, ended
  return ...
end

--- The innermost step of every pipeline: the function itself.
function M.invoke(call, ...)
  call.attempts = call.attempts + 1
  if call.inside then call.inside = 0 end
  return leave_fn(call, now(), call.fn(...))
end

---@class neap.policy.Spent what a call took; on results and errors as `spent`
---@field attempts integer
---@field queue number seconds waiting for permits
---@field pace number seconds waiting for a rate limiter
---@field backoff number seconds between attempts
---@field wire number seconds inside the function
---@field total number seconds

local function spent_of(call)
  return {
    attempts = call.attempts, queue = call.queue, pace = call.pace, backoff = call.backoff, wire = call.wire,
    total = now() - call.started,
  }
end

--- Adds up a fork that has ended.
---@param fork neap.policy.Call
function M.join(fork)
  local call = fork.parent
  call.attempts = call.attempts + fork.attempts
  call.queue, call.pace = call.queue + fork.queue, call.pace + fork.pace
  call.backoff, call.wire = call.backoff + fork.backoff, call.wire + fork.wire
end

local function finish(call, owner, ok, ...)
  active[call.task] = call.outer
  if not ok then
    call:release_to(0)
    -- Granted, and what came of it nobody will tell.
    if call.budget then call.budget:ended(now(), "neutral", call.budget_spent) end
    error((...), 0)
  end
  local outcome, err = ...
  if not outcome and err ~= nil then outcome = err end
  -- What a cache hands to many is not ours to write into.
  if type(outcome) == "table" and not call.shared then
    outcome.attempts, outcome.spent = call.attempts, spent_of(call)
  end
  if telemetry.active then
    telemetry.emit(owner.name, "policy", "call", { spent = spent_of(call), ok = outcome ~= err, account = call.account,
      error = outcome == err and type(err) == "table" and err.kind or nil })
  end
  return ...
end

--- The record of a call that begins in the running task.
local function begin(owner, fn)
  if type(fn) ~= "function" then
    options.fail(owner.name .. ":call needs a function, got " .. type(fn))
  end
  local task = current()
  if not task then options.fail(owner.name .. ":call waits: it must be called from a task") end
  local outer = active[task]
  -- What every call uses is there from the start: a field more would make the
  -- table grow, which costs as much as the rest of this function. Sixteen is what
  -- fits.
  local call = setmetatable({
    fn = fn, task = task, started = now(), held_count = 0, held = false, waits_in = false, returned = false,
    attempts = 0, queue = 0, pace = 0, backoff = 0, wire = 0, retrying = false,
  }, Call)
  local account = owner.account or outer and outer.account
  if account then call.account = account end
  active[task] = call
  if outer then
    call.outer, call.retrying, call.number = outer, outer.retrying, (outer.inside or 0) + 1
    outer.inside = call.number
  end
  return call
end

--- Runs `fn(...)` behind `entry`, the first step of a pipeline. Waits. Thousands of
--- tasks wait in here, and each slot of this frame is part of their memory.
---@param owner neap.Policy|neap.policy.Layer
---@param entry fun(call: neap.policy.Call, ...): any
---@param fn function
function M.run(owner, entry, fn, ...)
  local call = begin(owner, fn)
  return finish(call, owner, xpcall(entry, note_traceback, call, ...))
end

local function finish_fork(fork, ok, ...)
  active[fork.task] = nil
  M.join(fork)
  if not ok then
    fork:release_to(0)
    error((...), 0)
  end
  return ...
end

--- The body of a copy's task: `next(fork, ...)`, and whatever is still held given
--- back when it raises. Waits.
---@param fork neap.policy.Call
---@param next fun(call: neap.policy.Call, ...): any
function M.protect(fork, next, ...)
  fork.task = current()
  active[fork.task] = fork
  return finish_fork(fork, xpcall(next, note_traceback, fork, ...))
end

return M
