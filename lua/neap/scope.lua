--- Structured concurrency: a scope ends when all of its tasks have.
local core = require "neap.core"
local errors = require "neap.error"
local options = require "neap.options"

local M = {}

local note_traceback = core.note_traceback

local function timeout_error(seconds)
  return errors.new { kind = "timeout", phase = "scope",
    message = ("timed out after %g s"):format(seconds) }
end

local function cancelled_error()
  return errors.new { kind = "cancelled", message = "the task was cancelled" }
end

--- Waits for the children, leaves, and says how it ended. A raised error wins
--- over results, a cancel from outside over everything, the first failure over
--- the cancellations that it caused.
local function close(s, timeout, collect, ok, ...)
  -- A child's error counts only if it came before the body's: what follows may
  -- be its consequence.
  local child_first = s:failed()
  if not ok then s:cancel() end
  s:wait()
  local reason, failures, cancelled_outside, cut = s:leave()
  if ok then
    if failures and not collect then error(failures[1], 0) end
    -- The children were cut off: what the body returned is not the whole of it.
    if cut and cancelled_outside then error(cancelled_error(), 0) end
    -- A wait was told so, whatever the body made of it.
    if cut == "expired" or reason == "expired" then return nil, timeout_error(timeout) end
    if collect then return (...), failures end
    return ...
  end
  local err = ...
  if not errors.is(err, "cancelled") then
    error(child_first and not collect and failures[1] or err, 0)
  end
  if failures and not collect then error(failures[1], 0) end
  if cancelled_outside or not reason then error(err, 0) end
  if reason == "expired" then return nil, timeout_error(timeout) end
  return nil, err
end

local scope_options = {
  on_error = { type = "string", default = "cancel", one_of = { "cancel", "collect" } },
}

--- Runs `fn(scope)` in this task and waits until every task spawned inside has
--- ended. Returns what fn returned; with on_error = "collect" fn's first result
--- and the list of the tasks' errors (nil: none). A task that raises cancels the
--- others and its error is raised here, unless collected. After `scope:cancel()`
--- a wait inside raises and the scope returns nil, err (kind "cancelled").
--- Always waits.
---@param fn fun(scope: neap.Scope): any
---@param opts? {on_error: "cancel"|"collect"}
function M.scope(fn, opts)
  local collect = opts and options.check("neap.scope", opts, scope_options).on_error == "collect"
  local s = core.scope_enter(nil, false, collect)
  return close(s, nil, collect, xpcall(fn, note_traceback, s))
end

--- Runs `fn(...)` in a scope that is cancelled after `seconds`: then everything
--- inside has ended and nil, err (kind "timeout") comes back. Otherwise returns
--- fn's results. Errors raised inside pass through. Nested timeouts: whichever
--- expires first counts.
---@param seconds number 0 or more
---@param fn function
---@return any ... fn's results, or nil and an error
function M.timeout(seconds, fn, ...)
  local s = core.scope_enter(seconds, false, false)
  return close(s, seconds, false, xpcall(fn, note_traceback, ...))
end

--- Runs `fn(...)` out of reach of cancels from outside; they take effect at the
--- first wait after it. For clean-up that itself must wait.
---@param fn function
---@return any ... fn's results
function M.shield(fn, ...)
  local s = core.scope_enter(nil, true, false)
  return close(s, nil, false, xpcall(fn, note_traceback, ...))
end

return M
