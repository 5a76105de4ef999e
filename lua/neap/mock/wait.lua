--- How a mock passes the time that a law asks for, while its client is there.
local core = require "neap.core"

local huge, max = math.huge, math.max
local now, sleep = core.now, core.sleep

local M = {}

--- Waits so many seconds. Waits.
---@param request neap.serve.Request
---@param seconds number
---@return true? gone the client has left
function M.stay(request, seconds)
  if seconds <= 0 then return end
  local till = now() + seconds
  local gone = request:wait_disconnect(seconds)
  if gone then return true end
  local left = till - now() -- it could not be watched
  if left > 0 then sleep(left) end
end

local function wake(fate)
  fate.event:set()
end

local function watch(request, fate)
  request:wait_disconnect()
  fate.gone = true
  fate.event:set()
end

--- Waits until the request has its slot, or its client has left. Waits.
---@param law neap.world.Law
---@param request neap.serve.Request
---@param fate neap.world.Fate
---@return true? gone
function M.in_line(law, request, fate)
  local event = core.event()
  fate.event, fate.on_start = event, wake
  local watcher = core.spawn_background(watch, request, fate)
  while fate.state == "queued" and not fate.gone do
    event:clear()
    -- One of them has to look at the clock: thousands may be in line.
    local change = law:is_first(fate) and law:next_change() or huge
    event:wait(change < huge and max(0, change - now()) or nil)
    law:advance(now())
  end
  watcher:cancel()
  return fate.gone
end

return M
