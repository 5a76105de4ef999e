--- What a simulated script cannot use, and what it uses instead.
local M = {}

M.PROGRAMS = "run the program beforehand and read its output with neap.fs.read"

local FFI = "use plain Lua, or neap's own functions (neap.json, neap.base64, neap.fs)"
local NETWORK = "use neap.http.client, which reaches the simulated network"

--- Modules that cannot be loaded -> what to use.
M.modules = {
  ffi = FFI, ["jit.util"] = "it shows where in memory code lies",
  socket = NETWORK, ["socket.core"] = NETWORK, ["socket.http"] = NETWORK,
  ssl = NETWORK, ["ssl.https"] = NETWORK, copas = NETWORK, cqueues = "use neap.spawn and neap.sleep",
  ["posix.time"] = "use neap.time and neap.sleep", ["posix.unistd"] = M.PROGRAMS,
}

--- The message about `name`, or nil when it may be loaded.
---@param name any
---@return string?
function M.of_module(name)
  local instead = M.modules[name]
  return instead and ("%s is not available in simulation: %s"):format(name, instead)
end

--- A function in place of `name` that raises.
---@param name string
---@param instead string
---@return fun()
function M.of(name, instead)
  return function()
    error(("%s is not available in simulation: %s"):format(name, instead), 2)
  end
end

return M
