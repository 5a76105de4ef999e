-- SPDX-License-Identifier: MIT
--- Mock upstreams in the test's own process.
local mock = require "neap.mock"

local M = {}

--- A test's body that has a mock upstream of its own, and gets its port and it.
---@param config table
---@param body fun(port: integer, upstream: table)
---@return function
function M.served(config, body)
  return function()
    local upstream = assert(mock.start(config))
    local ok, err = pcall(body, upstream.server:port(), upstream)
    upstream:stop(0)
    if not ok then error(err, 0) end
  end
end

return M
