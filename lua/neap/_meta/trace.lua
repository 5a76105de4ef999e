---@meta
--- The trace of a run: what runtime/bind/lua_trace.c gives lua/neap/sim/trace.lua
--- and whoever has an event to tell.

local core = {}

--- Starts writing every event to a new file.
---@param path string
---@return true? ok
---@return string? message
function core.trace_open(path) end

--- Ends the trace.
---@return integer? lines 0 when none was open
---@return string? message what went wrong on the way
function core.trace_close() end

--- Adds an event; nothing where no trace is open.
---@param what string
---@param members? string more members of the line, as JSON: '"a":1,"b":2'
function core.trace(what, members) end

---@return boolean open
function core.is_traced() end

return core
