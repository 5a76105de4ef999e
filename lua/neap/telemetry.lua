--- One stream of everything that policies decide: logs, metrics, live views and
--- traces all listen here. An event is a table: `source` (the policy's name),
--- `kind` ("circuit_breaker", ...), `event` ("open", ...), `at` (neap.now()),
--- mostly `reason`, and fields of its own.
local core = require "neap.core"

local M = {}

---@class neap.telemetry.Event
---@field source string the policy's name
---@field kind string what it is: "retry", "circuit_breaker", ...
---@field event string what happened: "open", "limit", "call", ...
---@field at number seconds, neap.now()
---@field reason? string

---@type fun(event: neap.telemetry.Event)[]
local listeners = {}

--- Whether anybody listens: what costs something to tell is told only then.
---@type boolean
M.active = false

--- Calls `fn(event)` at every event, in the task in which it happens; it must
--- not wait. An error in it is logged and goes no further. Never waits.
---@param fn fun(event: neap.telemetry.Event)
---@return fun() unsubscribe
function M.subscribe(fn)
  if type(fn) ~= "function" then
    error("neap.telemetry.subscribe needs a function, got " .. type(fn), 2)
  end
  -- A new list: one that is being walked stays as it is.
  local list = { unpack(listeners) }
  list[#list + 1] = fn
  listeners, M.active = list, true
  return function()
    local rest = {}
    for _, listener in ipairs(listeners) do
      if listener ~= fn then rest[#rest + 1] = listener end
    end
    listeners, M.active = rest, #rest > 0
  end
end

--- Tells every listener. Never waits.
---@param source string
---@param kind string
---@param event string
---@param fields? table becomes the event
function M.emit(source, kind, event, fields)
  if not M.active then return end
  fields = fields or {}
  fields.source, fields.kind, fields.event, fields.at = source, kind, event, core.now()
  for _, listener in ipairs(listeners) do
    local ok, err = pcall(listener, fields)
    if not ok then core.log("error", "a telemetry listener failed: " .. tostring(err)) end
  end
end

return M
