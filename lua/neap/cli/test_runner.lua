--- Fits busted to the runtime: every test, and every describe and file, runs in
--- a scope of its own, in virtual time unless its full name contains #real, with
--- the same seed; what a test leaves behind fails it. Counts the results.
---
--- busted itself is plain Lua that runs in the calling task, so tests, setups and
--- teardowns may wait.
local core = require "neap.core"
local errors = require "neap.error"
local fixtures = require "neap.sim.fixtures"
local scope = require "neap.scope"

local M = {}

--- Real seconds after which a test that does not end is cancelled.
local TEST_TIMEOUT = tonumber(os.getenv "NEAP_TEST_TIMEOUT") or 120

---@class neap.cli.TestCounts
---@field passed integer
---@field failed integer
---@field skipped integer
---@field started boolean whether busted got as far as running

local function is_real(busted, element)
  while element do
    if type(element.name) == "string" and element.name:find("#real", 1, true) then return true end
    element = busted.context.parent(element)
  end
  return false
end

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

--- What is left in scope `s` and in the runtime, as a sentence; nil: nothing.
local function leftovers(s, holds_before, what)
  settle(function() return #s:tasks() == 0 and core.stats().holds <= holds_before end)
  local tasks, holds = s:tasks(), core.stats().holds - holds_before
  local names = names_of(tasks)
  s:cancel()
  if #tasks > 0 then
    return ("%s left %d task%s running: %s"):format(what, #tasks, #tasks == 1 and "" or "s", names)
  end
  if holds > 0 then
    return ("%s left %d operation%s in flight (transfers, jobs, servers)"):format(what, holds,
      holds == 1 and "" or "s")
  end
end

--- Cancels `s` when the machine's clock says that it has taken too long.
local function watch(s)
  local dog = { bitten = false, timer = require("neap.uv").new_timer() }
  dog.timer:start(TEST_TIMEOUT * 1000, 0, function()
    dog.bitten = true
    s:cancel()
  end)
  dog.timer:unref() -- must not look like something that wakes a task
  return dog
end

--- Runs `fn` in a scope; raises what it raised, or what it left behind.
local function contained(what, watched, fn)
  local holds = core.stats().holds
  local left, dog
  local ok, err, cancelled = pcall(scope.scope, function(s)
    if watched then dog = watch(s) end
    fn()
    left = leftovers(s, holds, what)
  end)
  if dog then dog.timer:close() end
  if dog and dog.bitten then error(("%s did not end within %g real seconds"):format(what, TEST_TIMEOUT), 0) end
  if not ok then error(err, 0) end
  if left then error(left, 0) end
  if cancelled then error(cancelled, 0) end
end

--- An error as busted should see it: a task's assertion, or a text with the
--- traceback of the task; with the element's place when it has none of its own.
local function unwrap(element, err)
  if type(err) == "string" and not err:match "^[^\n]-:%d+: " and element.trace then
    return ("%s:%d: %s"):format(element.trace.short_src, element.trace.currentline, err)
  end
  if not errors.is(err) then return err end
  local meta = debug.getmetatable(err.cause)
  if type(err.cause) == "table" and meta and (meta.__type == "failure" or meta.__type == "pending") then
    return err.cause
  end
  local traceback = rawget(err, "traceback")
  return traceback and unwrap(element, tostring(err) .. "\n" .. traceback) or err
end

--- The body of a test in a scope, with busted's trace taken where the error was
--- raised: the scope raises it again on its way out.
local function contain_body(busted, element, traces)
  local body = element.run
  if type(body) ~= "function" then return end
  local trace_of = busted.plain_getTrace
  local function note(err)
    if err ~= nil then traces[err] = trace_of(element, 3, err) end
    return err
  end
  local function run()
    local ok, err = pcall(contained, "the test", false, function()
      local passed, raised = xpcall(body, note)
      if not passed then error(raised, 0) end
    end)
    if not ok then
      element.has_failed = true
      error(unwrap(element, err), 0)
    end
  end
  -- busted looks at the environment to refuse a describe inside an it.
  element.run = setfenv(run, getfenv(body))
end

--- Wraps what busted runs a file, a describe or a test with.
local function contain(busted, descriptor, executor, options, traces)
  return function(element)
    local was_virtual = core.is_virtual()
    core.clock_virtual(not is_real(busted, element))
    if descriptor == "it" then
      core.reseed(options.seed)
      contain_body(busted, element, traces)
    end
    local what = descriptor == "it" and "the test with its hooks" or ("this " .. descriptor)
    local level = fixtures.enter()
    local ok, err = pcall(contained, what, descriptor == "it", function()
      executor(element)
      local problem = fixtures.problem(level, element.has_failed == true)
      if problem then error(problem, 0) end
    end)
    fixtures.leave(level)
    core.clock_virtual(was_virtual)
    for key in pairs(traces) do traces[key] = nil end
    if not ok then error(unwrap(element, err), 0) end
  end
end

local CONTAINED = { file = true, describe = true, it = true }

--- Counts per test: an error in it or around it fails it, once.
local function count(busted, counts)
  local outcomes = {}
  busted.subscribe({ "suite", "start" }, function()
    counts.started = true
    return nil, true
  end)
  busted.subscribe({ "test", "end" }, function(element, _, status)
    if outcomes[element] ~= "failed" then
      outcomes[element] = status == "success" and "passed" or status == "pending" and "skipped" or "failed"
    end
    return nil, true
  end)
  local function on_error(element)
    if element.descriptor == "it" then
      outcomes[element] = "failed"
    else
      counts.failed = counts.failed + 1
    end
    return nil, true
  end
  busted.subscribe({ "error" }, on_error)
  busted.subscribe({ "failure" }, on_error)
  busted.subscribe({ "suite", "end" }, function()
    for element, outcome in pairs(outcomes) do
      counts[outcome] = counts[outcome] + 1
      outcomes[element] = nil
    end
    return nil, true
  end)
end

--- busted forgets what a file has required. Our own modules must stay: the table
--- `neap` outlives the file and holds some of them, and a module that was loaded
--- twice would not know the other one's objects.
local function keep_modules(busted)
  local pop = busted.context.pop
  function busted.context.pop(...)
    local kept = {}
    for name, module in pairs(package.loaded) do
      if name:find "^neap%." then kept[name] = module end
    end
    local result = pop(...)
    for name, module in pairs(kept) do
      if package.loaded[name] == nil then package.loaded[name] = module end
    end
    return result
  end
end

--- Replaces `busted.core` so that the busted object that the runner makes is
--- ours. Call before `busted.runner` is required.
---@param options {seed: integer} the seed that every test starts with
---@return neap.cli.TestCounts counts filled in while busted runs
function M.install(options)
  local counts = { passed = 0, failed = 0, skipped = 0, started = false }
  local make = require "busted.core"
  package.loaded["busted.core"] = function()
    local busted = make()
    local traces = {}
    busted.plain_getTrace = busted.getTrace
    function busted.getTrace(element, level, message)
      local trace = message ~= nil and traces[message] or busted.plain_getTrace(element, (level or 3) + 1, message)
      return trace
    end
    local register = busted.register
    function busted.register(descriptor, executor, attributes)
      if type(executor) == "function" and CONTAINED[descriptor] then
        executor = contain(busted, descriptor, executor, options, traces)
      end
      return register(descriptor, executor, attributes)
    end
    keep_modules(busted)
    count(busted, counts)
    return busted
  end
  return counts
end

return M
