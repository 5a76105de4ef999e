-- SPDX-License-Identifier: MIT
--- Servers of neap.serve that are gone after the test.
local neap = require "neap"

local M = {}

local started = {}

--- Starts a server on a free port, or on that of the options.
---@param handler function
---@param opts? table
function M.start(handler, opts)
  opts = opts or {}
  opts.handler = handler
  local server = assert(neap.serve(opts))
  started[#started + 1] = server
  return server
end

--- A test's body after which the servers are stopped, whether it ends well or not.
---@param body function
---@return function
function M.stopped_after(body)
  return function()
    local ok, err = pcall(body)
    for _, server in ipairs(started) do server:stop(0) end
    started = {}
    if not ok then error(err, 0) end
  end
end

return M
