--- neap.bulkhead: at most so many calls at a time, as a policy.
--- docs/api/bulkhead.md.
local core = require "neap.core"
local error_class = require "neap.error"
local layer = require "neap.policy.layer"

local M = {}

local now = core.now

---@class neap.Bulkhead: neap.policy.Layer
---@field semaphore neap.semaphore
local Bulkhead = layer.class "bulkhead"

function Bulkhead:init()
  self.semaphore = core.semaphore(self.options.limit, self.options.max_waiting)
end

--- A lower limit takes effect as calls end.
function Bulkhead:changed()
  self.semaphore:set_limit(self.options.limit)
end

local function refuse(self, err)
  local places = self:wait_reason()
  if err.kind == "queue_full" then
    return nil, error_class.new { kind = "queue_full", phase = "bulkhead", sent = "no",
      message = "no room in the bulkhead's line: " .. places }
  end
  return nil, error_class.new { kind = "queue_timeout", phase = "bulkhead", timeout = "queue", sent = "no",
    message = ("no place in the bulkhead after %g s: %s"):format(self.options.timeout, places) }
end

--- In line for a place; `true`, or nil and an error. Waits.
local function enter(self, call, timeout, front)
  local began = now()
  call:waiting(self)
  local ok, err = self.semaphore:acquire(1, timeout, front)
  call:waiting(nil)
  call.queue = call.queue + now() - began
  return ok, err
end

local function leave(self, call, ...)
  if call:release(self) then self.semaphore:release() end
  return ...
end

--- Waits for a place, then runs the rest of the pipeline: `nil, err` of kind
--- "queue_full" or "queue_timeout" where there is none. A call that has been parked
--- enters at the head of the line.
function Bulkhead:run(call, next, ...)
  local ok, err = enter(self, call, self.options.timeout, call.front)
  if not ok then return refuse(self, err) end
  call:hold(self)
  return leave(self, call, next(call, ...))
end

function Bulkhead:give_back()
  self.semaphore:release()
end

--- Takes the place again, at the head of the line: neither `timeout` nor
--- `max_waiting` holds here, for the call was in already. Waits.
function Bulkhead:take_back(call)
  enter(self, call, nil, true)
end

--- For neap.explain.
function Bulkhead:wait_reason()
  local semaphore = self.semaphore
  return ("%d of %d places in use, %d in line"):format(semaphore:held(), semaphore:limit(), semaphore:waiting())
end

--- Plain data: state "open" or "full", limit, held, waiting, reason. Never waits.
---@return table
function Bulkhead:snapshot()
  local semaphore = self.semaphore
  local held, limit = semaphore:held(), semaphore:limit()
  return {
    kind = self.kind, name = self.name, state = held >= limit and "full" or "open", limit = limit, held = held,
    waiting = semaphore:waiting(), reason = self:wait_reason(),
  }
end

--- A policy: `neap.bulkhead{ limit = 50 }`.
---@param opts neap.bulkhead.Options
---@return neap.Bulkhead
function M.new(opts)
  return layer.new(Bulkhead, opts)
end

return M
