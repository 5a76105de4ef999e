--- The trace of a run: every event as a line of JSON in a file. The core writes
--- what tasks, timers and requests do (runtime/base/trace.h); here is what policies
--- tell.
local core = require "neap.core"
local errors = require "neap.error"
local json = require "neap.json"
local telemetry = require "neap.telemetry"

local M = {}

local unsubscribe

local SORTED = { sort_keys = true }

--- What an event's field says, as JSON that does not depend on the machine.
local function value_text(value)
  if errors.is(value) then value = { kind = value.kind, message = tostring(value.message) } end
  return json.encode(value, SORTED) or json.encode(tostring(value)) or '"?"'
end

-- The line has its own time.
local function members(event)
  local names = {}
  for name in pairs(event) do
    if name ~= "at" and name ~= "event" and type(name) == "string" then names[#names + 1] = name end
  end
  table.sort(names)
  local parts = { '"event":' .. value_text(event.event) }
  for _, name in ipairs(names) do
    parts[#parts + 1] = json.encode(name) .. ":" .. value_text(event[name])
  end
  return table.concat(parts, ",")
end

--- Starts writing to a new file. Never waits.
---@param path string
---@return true? ok
---@return string? message one line
function M.start(path)
  local ok, message = core.trace_open(path)
  if not ok then return nil, ("cannot write the trace '%s': %s"):format(path, message) end
  if unsubscribe then unsubscribe() end
  unsubscribe = telemetry.subscribe(function(event) core.trace("policy", members(event)) end)
  return true
end

--- Ends the trace. Never waits.
---@return integer? events how many it has; 0 when none was open
---@return string? message why it is not complete
function M.stop()
  if unsubscribe then unsubscribe() end
  unsubscribe = nil
  local events, message = core.trace_close()
  if not events then return nil, "the trace is not complete: " .. message end
  return events
end

return M
