--- Where a script listens itself, inside the simulated network: `neap.serve` finds
--- its way here on a virtual clock.
local errors = require "neap.error"
local servers = require "neap.sim.server"

local M = {}

local FIRST_PORT, LAST_PORT = 49152, 65535 -- of those that the system picks

---@class neap.sim.Listeners
---@field package by_port table<integer, neap.sim.Server>
---@field package next_port integer
---@field package changed fun() somebody listens, or does no more
local Listeners = {}
Listeners.__index = Listeners

---@param changed fun()
---@return neap.sim.Listeners
function M.new(changed)
  return setmetatable({ by_port = {}, next_port = FIRST_PORT, changed = changed }, Listeners)
end

--- Whether a name means the machine that the script runs on.
---@param name string lower case, without brackets
---@return boolean
function M.is_local(name)
  return name == "localhost" or name == "::1" or name:find "^127%.%d+%.%d+%.%d+$" ~= nil
    or name:find "%.localhost$" ~= nil
end

--- Who listens on `port` and is meant by `name`: by an address of this machine or
--- the one it listens on (`here`); else, as a server on all addresses, by any name.
---@param name string
---@param port integer
---@param here boolean
---@return neap.sim.Server?
function Listeners:find(name, port, here)
  local server = self.by_port[port]
  if not server then return nil end
  if here then return (M.is_local(name) or name == server.host) and server or nil end
  return (server.host == "0.0.0.0" or server.host == "::") and server or nil
end

local function pick_port(self)
  for _ = FIRST_PORT, LAST_PORT do
    local port = self.next_port
    self.next_port = port < LAST_PORT and port + 1 or FIRST_PORT
    if not self.by_port[port] then return port end
  end
end

---@param config neap.core.ServerConfig
---@return neap.sim.Server? server
---@return neap.Error? err kind "connect": the port is taken
function Listeners:listen(config)
  local port = config.port > 0 and config.port or pick_port(self)
  if not port or self.by_port[port] then
    return nil, errors.new { kind = "connect",
      message = ("cannot listen on %s:%d: the address is in use"):format(config.host, port or 0) }
  end
  local server = servers.new(config, port, function(stopped)
    if self.by_port[port] == stopped then
      self.by_port[port] = nil
      self.changed()
    end
  end)
  self.by_port[port] = server
  self.changed()
  return server
end

--- Every server stops, with what it has.
function Listeners:close()
  local ports = {}
  for port in pairs(self.by_port) do ports[#ports + 1] = port end
  table.sort(ports)
  for i = 1, #ports do self.by_port[ports[i]]:close() end
end

return M
