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
---@field brownout? table
---@field errors? table
---@field rate_limit? table

---@class spec.AdaptiveResult
---@field throughput number answers per second
---@field refused number share of the sends that got 429
---@field latency number mean seconds of an answer, from its send

local function client(ask, policy, number)
  local count = 0
  while true do
    count = count + 1
    local res = policy:call(ask, number * 1e6 + count)
    if not res or res.status == 429 then neap.sleep(REFUSED_PAUSE) end
  end
end

--- Runs a layer in a world and counts what ends from `from` to `to`.
---@param policy neap.policy.Layer
---@param world spec.AdaptiveWorld
---@param from number seconds
---@param to number seconds
---@return spec.AdaptiveResult
function M.run(policy, world, from, to)
  local upstream = upstreams.new { latency = world.latency, capacity = world.capacity, over = world.over,
    brownout = world.brownout, errors = world.errors, rate_limit = world.rate_limit, seed = world.seed }
  local answers, sends, refused, latency = 0, 0, 0, 0
  local began = core.now()
  local function ask(id)
    local sent = core.now()
    local res = upstream:request { id = id }
    local now = core.now()
    if now - began >= from then
      sends = sends + 1
      if res.status == 200 then
        answers, latency = answers + 1, latency + now - sent
      elseif res.status == 429 then
        refused = refused + 1
      end
    end
    return res
  end
  neap.timeout(to, function()
    neap.scope(function(scope)
      for i = 1, world.clients do scope:spawn(client, ask, policy, i) end
    end)
  end)
  return { throughput = answers / (to - from), refused = refused / math.max(1, sends),
    latency = latency / math.max(1, answers) }
end

--- The best of fixed limits in the same world.
---@param world spec.AdaptiveWorld
---@param limits integer[]
---@param from number seconds
---@param to number seconds
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

--- Laws of a given mean, by name.
---@type table<string, fun(mean: number): table>
M.laws = {
  fixed = function(mean) return { law = "fixed", seconds = mean } end,
  lognormal = function(mean)
    local sigma = 0.5
    return { law = "lognormal", median = mean * math.exp(-sigma ^ 2 / 2), sigma = sigma }
  end,
  exponential = function(mean) return { law = "exponential", mean = mean } end,
}

---@class spec.AdaptiveCase what is measured, and what is to be reached
---@field name string
---@field mean number seconds, of the unloaded latency
---@field capacity integer of the time that is measured
---@field before? integer capacity until `change`
---@field change? number seconds
---@field over "reject"|"queue"
---@field from number seconds
---@field to number seconds
---@field share number of the best fixed limit's throughput
---@field refused number largest share of the sends, if over is "reject"
---@field latency number largest multiple of `mean`

local function hard_cap(capacity, mean, share)
  return { name = ("hard cap of %d at %g s"):format(capacity, mean), mean = mean, capacity = capacity,
    over = "reject", from = 60, to = 240, share = share, refused = 0.02, latency = math.huge }
end

local function queueing(capacity, mean)
  return { name = ("queue behind %d at %g s"):format(capacity, mean), mean = mean, capacity = capacity,
    over = "queue", from = 60, to = 240, share = 0.95, refused = 0, latency = 2 }
end

local function changing(before, capacity, mean, over, from)
  return { name = ("%s, %d becomes %d, %g s"):format(over, before, capacity, mean), mean = mean,
    capacity = capacity, before = before, change = 120, over = over, from = 120 + from, to = 120 + from + 30,
    share = 0.9, refused = math.huge, latency = math.huge }
end

--- The cases of the bench, in its order.
---@type spec.AdaptiveCase[]
M.cases = {}
for _, mean in ipairs { 0.1, 1 } do
  for _, case in ipairs {
    hard_cap(50, mean, 0.93), hard_cap(150, mean, 0.93), hard_cap(10, mean, 0.85),
    queueing(10, mean), queueing(50, mean), queueing(150, mean),
    changing(100, 50, mean, "reject", 30), changing(20, 10, mean, "reject", 30), changing(100, 50, mean, "queue", 30),
  } do
    M.cases[#M.cases + 1] = case
  end
end
-- No bar: how far it has come two minutes later.
for _, over in ipairs { "reject", "queue" } do
  local case = changing(50, 100, 0.1, over, 90)
  case.share = 0
  M.cases[#M.cases + 1] = case
end

--- A case's world.
---@param case spec.AdaptiveCase
---@param law string of `laws`
---@param seed integer
---@param settled? boolean the last capacity from the start
---@return spec.AdaptiveWorld
function M.world(case, law, seed, settled)
  local capacity = case.capacity
  if case.before and not settled then
    capacity = { { at = 0, slots = case.before }, { at = case.change, slots = case.capacity } }
  end
  return { latency = M.laws[law](case.mean), capacity = capacity, over = case.over,
    clients = 4 * math.max(case.capacity, case.before or 0), seed = seed }
end

return M
