--- What `neap.sim.mock` and `neap.sim.world` put up in a test, for `neap test`: a mock
--- is verified and the network goes down when the test has ended, or the describe or
--- the file in whose `setup` it was made. Nothing here waits.
local network = require "neap.sim.network"

local M = {}

---@class neap.sim.Fixtures of a test, a describe or a file
---@field mocks neap.sim.Mock[]
---@field network neap.sim.Network?

---@type neap.sim.Fixtures[]
local levels = {}

--- A test, a describe or a file begins.
---@return neap.sim.Fixtures
function M.enter()
  local level = { mocks = {} }
  levels[#levels + 1] = level
  return level
end

--- Notes a network that has just been put up, and the mock that it is for.
---@param up neap.sim.Network
---@param mock? neap.sim.Mock
---@return boolean is_tested somebody will ask for its problems
function M.add(up, mock)
  local level = levels[#levels]
  if not level then return false end
  level.network = up
  if mock then level.mocks[#level.mocks + 1] = mock end
  return true
end

--- What its mocks have to complain of, as a text; nil: nothing.
---@param level neap.sim.Fixtures
---@param has_failed boolean the test has: what it did not get to is no news
---@return string?
function M.problem(level, has_failed)
  local parts = {}
  for _, mock in ipairs(level.mocks) do parts[#parts + 1] = mock:problem(has_failed) end
  if #parts > 0 then return table.concat(parts, "\n") end
end

--- It has ended: takes its network down, if that is still up.
---@param level neap.sim.Fixtures
function M.leave(level)
  levels[#levels] = nil
  if level.network and level.network == network.current() then network.down() end
end

return M
