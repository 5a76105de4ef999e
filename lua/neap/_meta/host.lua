---@meta
--- What main.c registers with the runtime: `require("neap.core").host`. Absent
--- in a program that embeds neap, unless it registers the like.

---@class neap.core.Host
local host = {}

--- The exit code of the process once all tasks have ended.
---@param code integer
function host.set_exit_code(code) end

--- The path of the running binary.
---@return string
function host.exe_path() end

--- From now on this process is ended when `parent`, who started it, ends; at once when it
--- has already. Where the system has no such thing (it is Linux's) only the latter.
---@param parent integer its process id
function host.die_with_parent(parent) end

return host
