--- Runs once when a runtime opens: coroutines that may wait, the dressing of
--- errors, and (as its result) how an uncaught error is described.
local core = require "neap.core"
local errors = require "neap.error"
require "neap.iteration"
require "neap.coroutine"

--- Tracebacks of errors that are not tables, kept from where they were caught
--- until they leave the task: task -> { value, traceback }.
local notes = setmetatable({}, { __mode = "k" })

local function spawned_at(task)
  local lines = {}
  for _, site in ipairs(task:sites()) do lines[#lines + 1] = "\n\tspawned at " .. site end
  return table.concat(lines)
end

--- A handler for xpcall around code of the running task: keeps the traceback.
---@param err any
---@return any err
function core.note_traceback(err)
  if errors.is(err, "cancelled") then return err end
  local task = core.current()
  if not task then return err end
  local note = notes[task]
  if note and rawequal(note.value, err) then return err end
  notes[task] = { value = err, traceback = debug.traceback("", 2):gsub("^\n", "") }
  return err
end

core.on_failure(function(task, err, traceback)
  local note = notes[task]
  if note and rawequal(note.value, err) then traceback = note.traceback end
  return errors.wrap(err, traceback .. "\n\tin task " .. task:name() .. spawned_at(task))
end)

--- The text of an uncaught error: message, kind, traceback of the task and of
--- who spawned it.
---@param err any
---@return string
return function(err)
  err = errors.wrap(err)
  local message, cause = tostring(err.message), rawget(err, "cause")
  if err.kind == "internal" and type(cause) == "table" and not (getmetatable(cause) or {}).__tostring then
    -- A plain table was raised: its address would say nothing.
    message = type(cause.message) == "string" and cause.message or require "neap.cli.inspect".inspect(cause)
  end
  local text = ("%s (kind: %s)"):format(message, tostring(err.kind))
  if rawget(err, "traceback") then text = text .. "\n" .. err.traceback end
  return text
end
