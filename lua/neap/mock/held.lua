--- Requests that a mock holds without ever answering, and its end, at which it lets
--- go of them in the order of their arrival.
local errors = require "neap.error"

local M = {}

---@class neap.mock.Held
---@field package requests table<integer, neap.serve.Request> by their numbers
local Held = {}
Held.__index = Held

---@return neap.mock.Held
function M.new()
  return setmetatable({ requests = {} }, Held)
end

--- Holds the request until its client has left or the mock stops. Waits.
---@param request neap.serve.Request
function Held:hold(request)
  self.requests[request.id] = request
  request:hang()
  self.requests[request.id] = nil
end

local function let_go(self)
  local ids = {}
  for id in pairs(self.requests) do ids[#ids + 1] = id end
  table.sort(ids)
  for _, id in ipairs(ids) do self.requests[id]:drop() end
end

--- The server takes no requests any more; those that are held are dropped, the
--- others waited for. Waits.
---@param server neap.serve.Server
---@param timeout? number seconds; none: for ever
---@return true? ok, neap.Error? err kind "timeout" when requests had to be broken off
function Held:stop(server, timeout)
  server:shutdown()
  let_go(self)
  local ok, err = server:stop(timeout)
  if not ok and not errors.is(err, "timeout") then error(err, 0) end
  return ok, err
end

return M
