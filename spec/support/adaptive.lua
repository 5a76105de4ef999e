--- Adaptive limits against a simulated upstream in virtual time: a closed load of
--- more clients than the upstream takes, each asking again as soon as it has its
--- answer. Used by the specs and by bench/adaptive.lua.
local core = require "neap.core"
local neap = require "neap"
local upstreams = require "neap.world.upstream"

local M = {}

local REFUSED_PAUSE = 0.05 -- of a client that was refused, outside its permit

---@class spec.AdaptiveWorld
---@field latency table law of neap.world
---@field capacity integer|table
---@field over "reject"|"queue"
---@field clients integer
---@field seed integer

---@class spec.AdaptiveResult
---@field throughput number answers per second
---@field refused number share of the sends that got 429
---@field latency number mean seconds of an answer, from its send
---@field windows number[] answers in each window of `window` seconds

--- Runs a layer (nil: none) in a world and counts from `from` to `to`.
---@param policy neap.policy.Layer
---@param world spec.AdaptiveWorld
---@param from number seconds
---@param to number seconds
---@return spec.AdaptiveResult
function M.run(policy, world, from, to)
  local upstream = upstreams.new { latency = world.latency, capacity = world.capacity, over = world.over,
    seed = world.seed }
  local answers, sends, refused, latency = 0, 0, 0, 0
  local began = neap.now()
  local function ask(id)
    local sent = core.now()
    local res = upstream:request { id = id }
    local now = core.now()
    if now - began >= from then
      sends = sends + 1
      if res.status == 200 then
        answers, latency = answers + 1, latency + now - sent
      else
        refused = refused + 1
      end
    end
    return res
  end
  local function client(number)
    local count = 0
    while true do
      count = count + 1
      local res = policy:call(ask, number * 1e6 + count)
      if res.status ~= 200 then neap.sleep(REFUSED_PAUSE) end
    end
  end
  neap.timeout(to, function()
    neap.scope(function(scope)
      for i = 1, world.clients do scope:spawn(client, i) end
    end)
  end)
  return { throughput = answers / (to - from), refused = refused / math.max(1, sends),
    latency = latency / math.max(1, answers) }
end

--- The best of fixed limits around `capacity` in the same world.
---@param world spec.AdaptiveWorld
---@param limits integer[]
---@param from number
---@param to number
---@return spec.AdaptiveResult best
---@return integer limit
function M.best_fixed(world, limits, from, to)
  local best, at
  for _, limit in ipairs(limits) do
    local result = M.run(neap.bulkhead { limit = limit }, world, from, to)
    if not best or result.throughput > best.throughput then best, at = result, limit end
  end
  return best, at
end

return M
