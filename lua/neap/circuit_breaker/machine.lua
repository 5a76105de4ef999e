--- A breaker's states: closed, open, half_open, isolated. Pure: the time is an
--- argument, and nothing happens by itself: an open breaker becomes half-open when
--- somebody looks after its time.
local windows = require "neap.circuit_breaker.windows"

local M = {}

local min = math.min

---@alias neap.circuit_breaker.State "closed"|"open"|"half_open"|"isolated"

---@class neap.circuit_breaker.Machine
---@field state neap.circuit_breaker.State
---@field reason string? of the last change
---@field until_ number? when it is open: the time from which on it tries again
---@field generation integer outcomes of calls from an earlier one do not count
---@field window neap.circuit_breaker.Window of the calls since it closed
---@field issued integer half_open: trial calls let through and not given back
---@field private in_a_row integer failures
---@field private openings integer since it was last closed
local Machine = {}
Machine.__index = Machine

--- A closed machine.
---@param opts table checked options
---@param on_change fun(from: string, to: string, reason: string)
---@return neap.circuit_breaker.Machine
function M.new(opts, on_change)
  return setmetatable({
    opts = opts, on_change = on_change, state = "closed", generation = 1, in_a_row = 0, openings = 0,
    issued = 0, done = 0, failed = 0, slow = 0, window = windows.new(opts.window, opts.window_size),
  }, Machine)
end

local function change(self, to, reason)
  local from = self.state
  self.state, self.reason, self.generation = to, reason, self.generation + 1
  self.in_a_row, self.issued, self.done, self.failed, self.slow = 0, 0, 0, 0, 0
  self.window:clear()
  if to ~= "open" then self.until_ = nil end
  if to == "closed" then self.openings = 0 end
  if from ~= to then self.on_change(from, to, reason) end
end

local function open(self, now, reason)
  local opts = self.opts
  local duration = opts.open_duration * opts.open_duration_factor ^ self.openings
  self.openings = self.openings + 1
  self.until_ = now + min(duration, opts.max_open_duration)
  change(self, "open", reason)
end

--- Notices what the passing of time has changed.
---@param now number
function Machine:look(now)
  if self.state == "open" and now >= self.until_ then
    change(self, "half_open", "the open duration has passed")
  end
end

--- Whether a call may go.
---@param now number
---@return integer? generation to hand to `record` or `forget`; nil: refused
function Machine:admit(now)
  self:look(now)
  -- Asked after the look: what listens to changes may have closed it.
  if self.state == "closed" then return self.generation end
  if self.state ~= "half_open" or self.issued >= self.opts.half_open_calls then return nil end
  self.issued = self.issued + 1
  return self.generation
end

-- Shares are compared by division: failed / total is then the very number that
-- the same share is as a constant, which rate * total need not be.
local function judge_window(self, now)
  local opts, window = self.opts, self.window
  local total = window.total
  if opts.consecutive_failures and self.in_a_row >= opts.consecutive_failures then
    open(self, now, ("%d failures in a row"):format(self.in_a_row))
  elseif total < opts.minimum_calls then
    return
  elseif window.failed / total >= opts.failure_rate then
    open(self, now, ("%d of %d calls failed"):format(window.failed, total))
  elseif opts.slow_call_duration and window.slow / total >= opts.slow_call_rate then
    open(self, now, ("%d of %d calls were slow"):format(window.slow, total))
  end
end

-- Opens as soon as that is certain; closes when every trial has ended.
local function judge_trials(self, now)
  local opts, count = self.opts, self.opts.half_open_calls
  if self.failed / count >= opts.failure_rate then
    open(self, now, ("%d of %d trial calls failed"):format(self.failed, count))
  elseif opts.slow_call_duration and self.slow / count >= opts.slow_call_rate then
    open(self, now, ("%d of %d trial calls were slow"):format(self.slow, count))
  elseif self.done >= count then
    change(self, "closed", ("%d trial calls, %d failed"):format(self.done, self.failed))
  end
end

--- A call has ended.
---@param now number
---@param generation integer from `admit`
---@param failed boolean
---@param slow boolean
function Machine:record(now, generation, failed, slow)
  if generation ~= self.generation then return end
  if self.state == "closed" then
    self.in_a_row = failed and self.in_a_row + 1 or 0
    self.window:add(now, failed, slow)
    judge_window(self, now)
  elseif self.state == "half_open" then
    self.done = self.done + 1
    if failed then self.failed = self.failed + 1 end
    if slow then self.slow = self.slow + 1 end
    judge_trials(self, now)
  end
end

--- A call has ended and says nothing: a trial's place is free again.
---@param generation integer
function Machine:forget(generation)
  if generation == self.generation and self.state == "half_open" then self.issued = self.issued - 1 end
end

--- New options. Fewer trials than have ended already are enough at once: no
--- further call would be let through to notice.
---@param now number
---@param opts table
function Machine:retune(now, opts)
  self.opts = opts
  if self.state == "half_open" then judge_trials(self, now) end
end

--- Refuses everything until `reset`.
---@param reason string
function Machine:isolate(reason)
  change(self, "isolated", reason)
end

--- Closes it, whatever it was, and forgets the calls so far.
---@param reason string
function Machine:reset(reason)
  change(self, "closed", reason)
end

return M
