--- neap.sim: for specs, what stands in for the network in virtual time. See
--- docs/sim/testing.md.
---
---   local mock = neap.sim.mock()
---   mock:on { method = "GET", url = "https://api.test/items/*" }:reply(200, { name = "tide" }):times(2):delay(0.05)
---
---   local world = neap.sim.world "worlds/brownout.lua"
local core = require "neap.core"
local options = require "neap.options"

local M = {}

local function check_time(name)
  if not core.is_virtual() then
    options.fail(name .. ": needs virtual time: neap sim, or neap test without #real in the test's name")
  end
end

--- A mock in the place of the network: requests to all hosts are answered by its
--- rules. Under `neap test` it is verified at the end of the test, or of the describe in
--- whose setup it was made, and taken down. A network that is up goes down. Raises in
--- real time. Never waits.
---@return neap.sim.Mock
function M.mock(...)
  if select("#", ...) > 0 then options.fail "neap.sim.mock: takes no arguments; mock:on{...} adds a rule" end
  check_time "neap.sim.mock"
  return require("neap.sim.mock").new()
end

local world_options = { seed = { type = "integer", min = 0, max = 2 ^ 53 } }

--- A world in the place of the network, from now on. Under `neap test` it goes when the
--- test ends, or the describe in whose setup it was put up. A network that is up goes
--- down. Raises one line for a world that is wrong, and in real time. Never waits.
---@param world string|neap.world.WorldOptions|neap.world.World a file, a profile's name, options, or a world
---@param opts? {seed: integer?} of its draws; default: that of the test
---@return neap.world.World
function M.world(world, opts)
  check_time "neap.sim.world"
  local checked = options.check("neap.sim.world", opts, world_options)
  if type(world) == "string" then
    world = require("neap.world").load(world)
  elseif type(world) ~= "table" then
    options.fail("neap.sim.world: needs a world's file, its options or a world, got " .. type(world))
  elseif not world.upstream then
    world = require("neap.world").new(world)
  end
  require("neap.sim.fixtures").add(require("neap.sim.network").up(world, checked.seed))
  return world
end

return M
