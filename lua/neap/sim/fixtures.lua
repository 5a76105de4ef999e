--- What `neap.sim.mock` and `neap.sim.world` put up in a test, for `neap test`. There is
--- a level for each file, describe and test that runs: what is put up belongs to the
--- innermost one, is verified and goes down at its end, and then what an outer level had
--- is there again. Nothing here waits.
local network = require "neap.sim.network"

local M = {}

---@class neap.sim.Fixtures of a test, a describe or a file
---@field mocks neap.sim.Mock[]
---@field network neap.sim.Network?
---@field declared integer tests and describes in it; those that a filter leaves out, too
---@field passed integer of these

---@type neap.sim.Fixtures[]
local levels = {}

--- A test, a describe or a file begins.
---@return neap.sim.Fixtures
function M.enter()
  local level = { mocks = {}, declared = 0, passed = 0 }
  levels[#levels + 1] = level
  return level
end

--- The innermost level; nil: no test runs.
---@return neap.sim.Fixtures?
function M.current() return levels[#levels] end

--- Runs `fn`; what it puts up belongs to an outer level: a `lazy_setup` runs in a test.
---@param level neap.sim.Fixtures
---@param fn fun(...): ...
function M.within(level, fn, ...)
  local function leave(ok, ...)
    levels[#levels] = nil
    if not ok then error((...), 0) end
    return ...
  end
  levels[#levels + 1] = level
  return leave(pcall(fn, ...))
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

--- Forgets a network that its test has taken down.
---@param down neap.sim.Network
function M.remove(down)
  for _, level in ipairs(levels) do
    if level.network == down then level.network = nil end
  end
end

--- What there is to complain of at the end of a level: what happened to the mocks of all
--- levels and was not told yet; of its own mocks unused rules, when all tests that could
--- have used them have passed. A text; nil: nothing.
---@param level neap.sim.Fixtures
---@param has_passed boolean
---@return string?
function M.problem(level, has_passed)
  local parts = {}
  for _, one in ipairs(levels) do
    for _, mock in ipairs(one.mocks) do parts[#parts + 1] = mock:take_complaints() end
  end
  if has_passed and level.passed == level.declared then
    for _, mock in ipairs(level.mocks) do parts[#parts + 1] = mock:unused() end
  end
  if #parts > 0 then return table.concat(parts, "\n") end
end

--- It has ended: takes its network down, if that is still up, and puts up that of the
--- next level out.
---@param level neap.sim.Fixtures
---@param has_passed boolean
function M.leave(level, has_passed)
  levels[#levels] = nil
  local outer = levels[#levels]
  if outer and has_passed and level.passed == level.declared then outer.passed = outer.passed + 1 end
  if not level.network then return end
  if level.network == network.current() then network.down() end
  if network.current() then return end
  for i = #levels, 1, -1 do
    if levels[i].network then return network.resume(levels[i].network) end
  end
end

return M
