--- The scope that a test, a describe or a file of `neap test` runs in: what it leaves
--- behind is noticed and cancelled, and one that does not end is ended.
local core = require "neap.core"
local scope = require "neap.scope"

local M = {}

local bitten = false -- the test that runs has taken too long, and is cancelled

--- Real seconds after which a test that does not end is cancelled.
local TEST_TIMEOUT = tonumber(os.getenv "NEAP_TEST_TIMEOUT") or 120

--- Gives what is about to end the time to do so: a cancelled task needs a turn, a
--- socket that closes a few.
local function settle(is_quiet)
  for round = 1, 200 do
    if is_quiet() then return true end
    core.sleep((core.is_virtual() or round <= 20) and 0 or 0.005)
  end
  return is_quiet()
end

local function names_of(tasks)
  local names = {}
  for i, task in ipairs(tasks) do
    if i > 5 then
      names[i] = "..."
      break
    end
    names[i] = ("%s (%s)"):format(task:name(), task:status())
  end
  return table.concat(names, ", ")
end

--- Operations under way: transfers, jobs, servers. Those of the simulated network hold
--- nothing up, so that time can jump.
local function under_way()
  return core.stats().holds + (core.is_virtual() and core.http_stats().in_flight or 0)
end

--- What is left in scope `s` and in the runtime, as a sentence; nil: nothing.
local function leftovers(s, before, what)
  settle(function() return #s:tasks() == 0 and under_way() <= before end)
  local tasks, more = s:tasks(), under_way() - before
  local names = names_of(tasks)
  s:cancel()
  if #tasks > 0 then
    return ("%s left %d task%s running: %s"):format(what, #tasks, #tasks == 1 and "" or "s", names)
  end
  if more > 0 then
    return ("%s left %d operation%s in flight (requests and their streams, jobs, servers)"):format(what, more,
      more == 1 and "" or "s")
  end
end

--- Cancels `s` when the machine's clock says that it has taken too long.
local function watch(s)
  bitten = false
  local timer = require("neap.uv").new_timer()
  timer:start(TEST_TIMEOUT * 1000, 0, function()
    bitten = true
    s:cancel()
  end)
  timer:unref() -- must not look like something that wakes a task
  return timer
end

--- Runs `fn` in a scope; raises what it raised, or what it left behind. Waits.
---@param what string for messages: "the test"
---@param watched boolean it is cancelled when it takes too long
---@param fn function
function M.run(what, watched, fn)
  local before = under_way()
  local left, timer
  local ok, err, cancelled = pcall(scope.scope, function(s)
    if watched then timer = watch(s) end
    fn()
    left = leftovers(s, before, what)
  end)
  if timer then timer:close() end
  if timer and bitten then error(("%s did not end within %g real seconds"):format(what, TEST_TIMEOUT), 0) end
  if not ok then error(err, 0) end
  if left then error(left, 0) end
  if cancelled then error(cancelled, 0) end
end

--- Whether the whole run is being cancelled, by Ctrl-C above all. May wait for a turn.
---@return boolean
function M.is_interrupted()
  return not bitten and not pcall(core.sleep, 0)
end

return M
