--- What must be gone after each spec: nothing in flight, waiting or open.
local assert = require "luassert"
local core = require "neap.core"
local neap = require "neap"

local M = {}

--- Waits a moment for what ends by itself (a server's side of a socket, a
--- transfer that was given up), then checks that the http engine is idle.
function M.check_http()
  local stats
  for _ = 1, 100 do
    collectgarbage()
    stats = core.http_stats()
    if stats.in_flight == 0 and stats.waiting == 0 then return end
    neap.sleep(0.005)
  end
  assert.same({ in_flight = 0, waiting = 0 }, { in_flight = stats.in_flight, waiting = stats.waiting })
end

return M
