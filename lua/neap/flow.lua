--- Flow control between tasks: semaphores, queues, events, and rate limiters
--- (rate_limiter.lua). The C modules in runtime/flow do the waiting; here are the
--- constructors and what is policy. What each method does: docs/api/flow.md and
--- _meta/flow.lua.
local core = require "neap.core"
local options = require "neap.options"
local schema = require "neap.schema"

local M = {}

-- ---------------------------------------------------------------------------
-- Semaphore
-- ---------------------------------------------------------------------------

---@type neap.semaphore
local Semaphore = core.semaphore_methods
local note_traceback = core.note_traceback

--- A semaphore of `limit` permits; tasks get them strictly in order. Never waits.
---@param limit integer 0 or more
---@param opts? {max_waiting: integer} acquire fails with kind "queue_full" beyond it
---@return neap.semaphore
function M.semaphore(limit, opts)
  if type(limit) ~= "number" or not (limit >= 0 and limit < 2 ^ 31) or limit % 1 ~= 0 then
    options.fail("neap.semaphore: the limit must be a whole number from 0 to 2147483647, got " .. tostring(limit))
  end
  return core.semaphore(limit, schema.check("semaphore", opts).max_waiting)
end

local function release_after(semaphore, permits, ok, ...)
  semaphore:release(permits)
  if not ok then error((...), 0) end
  return ...
end

local function run_with(semaphore, permits, fn, ...)
  if type(fn) ~= "function" then
    options.fail("semaphore:with: expected a function, got " .. type(fn))
  end
  local ok, err = semaphore:acquire(permits)
  if not ok then return nil, err end
  return release_after(semaphore, permits, xpcall(fn, note_traceback, ...))
end

function Semaphore:with(fn, ...)
  if type(fn) == "number" then return run_with(self, fn, ...) end
  return run_with(self, 1, fn, ...)
end

-- ---------------------------------------------------------------------------
-- Queue
-- ---------------------------------------------------------------------------

---@type neap.queue
local Queue = core.queue_methods
local raw_put = Queue.put

--- A queue; without `max` it is unbounded, with `priority` the lowest number
--- comes first, with `aging` the longer the sooner. Never waits.
---@param opts? {max: integer, priority: boolean, aging: number}
---@return neap.queue
function M.queue(opts)
  opts = schema.check("queue", opts)
  if opts.aging > 0 and not opts.priority then
    options.fail("neap.queue: option 'aging' needs 'priority' to be true")
  end
  return core.queue(opts.max, opts.priority, opts.aging)
end

local put_options = { priority = { type = "number" }, timeout = { type = "number", min = 0 } }

function Queue:put(value, opts)
  if opts == nil then return raw_put(self, value) end
  opts = options.check("queue:put", opts, put_options)
  return raw_put(self, value, opts.priority, opts.timeout)
end

function Queue:iter()
  return function() return (self:get()) end
end

-- ---------------------------------------------------------------------------
-- Event
-- ---------------------------------------------------------------------------

--- An event, not set. Never waits.
---@return neap.event
function M.event()
  return core.event()
end

-- ---------------------------------------------------------------------------
-- Rate limiter
-- ---------------------------------------------------------------------------

M.rate_limiter = require("neap.rate_limiter").new

return M
