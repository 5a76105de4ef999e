--- Fits busted to the runtime: every test, and every describe and file, runs in
--- a scope of its own, in virtual time unless its full name contains #real, with
--- the same seed; what a test leaves behind fails it. Counts the results.
---
--- busted itself is plain Lua that runs in the calling task, so tests, setups and
--- teardowns may wait.
local core = require "neap.core"
local errors = require "neap.error"
local fixtures = require "neap.sim.fixtures"
local simulated_clock = require "neap.sim.clock"
local test_scope = require "neap.cli.test_scope"

local M = {}

local EPOCH = 1767225600 -- 1 January 2026, as in `neap sim`
local REAL_CLOCK = {}
for name in pairs(simulated_clock.functions(os)) do REAL_CLOCK[name] = os[name] end

---@class neap.cli.TestCounts
---@field passed integer
---@field failed integer
---@field skipped integer
---@field started boolean whether busted got as far as running
---@field interrupted boolean it was cancelled; tests that did not end by themselves are not counted

local function is_real(busted, element)
  while element do
    if type(element.name) == "string" and element.name:find("#real", 1, true) then return true end
    element = busted.context.parent(element)
  end
  return false
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

--- Goes over to virtual or to real time. The virtual date is the same in each run, and
--- the functions of `os` show it.
local function set_time(virtual)
  if core.is_virtual() == virtual then return end
  core.clock_virtual(virtual, virtual and EPOCH or nil)
  for name, fn in pairs(virtual and simulated_clock.functions(REAL_CLOCK) or REAL_CLOCK) do
    os[name] = fn -- luacheck: ignore 122
  end
end

---@class neap.cli.TestRun
---@field busted table
---@field options {seed: integer}
---@field traces table<any, table> busted's traces, taken where an error was raised
---@field ended table<table, table> how tests ended that are not through with their hooks
---@field levels table<table, neap.sim.Fixtures> of elements that run
---@field counts neap.cli.TestCounts

--- The run is being cancelled: no other test begins, and this one counts for nothing.
local function is_interrupted(run)
  if not run.counts.interrupted and test_scope.is_interrupted() then
    run.counts.interrupted, run.busted.skipAll = true, true
  end
  return run.counts.interrupted
end

--- The body of a test in a scope, with busted's trace taken where the error was
--- raised: the scope raises it again on its way out.
local function contain_body(run, element)
  local body = element.run
  if type(body) ~= "function" then return end
  local traces, trace_of = run.traces, run.busted.plain_getTrace
  local function note(err)
    if err ~= nil then traces[err] = trace_of(element, 3, err) end
    return err
  end
  local function run_body()
    local ok, err = pcall(test_scope.run, "the test", false, function()
      local passed, raised = xpcall(body, note)
      if not passed then error(raised, 0) end
    end)
    if not ok and not is_interrupted(run) then
      element.has_failed = true
      error(unwrap(element, err), 0)
    end
  end
  -- busted looks at the environment to refuse a describe inside an it.
  element.run = setfenv(run_body, getfenv(body))
end

--- Publishes the end of a test, after what went wrong around it, so that every output
--- shows it as failed.
local function publish_end(run, element, problems)
  local ended = run.ended[element]
  run.ended[element] = nil
  for _, raise in ipairs(problems) do
    local status = run.busted.safe("it", raise, element)
    if ended[3] == "success" or ended[3] == "pending" then ended[3] = tostring(status) end
  end
  run.publish(ended[1], { "test", "end" }, element, ended[2], ended[3])
end

--- Wraps what busted runs a file, a describe or a test with.
local function contain(run, descriptor, executor)
  local is_test = descriptor == "it"
  return function(element)
    local was_virtual = core.is_virtual()
    set_time(not is_real(run.busted, element))
    if is_test then
      core.reseed(run.options.seed)
      contain_body(run, element)
    end
    local level = fixtures.enter()
    run.levels[element] = level
    local ok, err = pcall(test_scope.run, is_test and "the test with its hooks" or "this " .. descriptor, is_test,
      function() executor(element) end)
    local ended = run.ended[element]
    local has_passed = ok and not element.has_failed and (not is_test or ended ~= nil and ended[3] == "success")
    local problem, problems = fixtures.problem(level, has_passed), {}
    if not ok then problems[1] = function() error(unwrap(element, err), 0) end end
    if problem then
      problems[#problems + 1] = function() run.busted.fail(unwrap(element, problem), 0) end
    end
    fixtures.leave(level, has_passed and not problem)
    run.levels[element] = nil
    if is_interrupted(run) then
      problems, run.ended[element] = {}, nil
    elseif ended then
      publish_end(run, element, problems)
      problems = {}
    end
    set_time(was_virtual)
    for key in pairs(run.traces) do run.traces[key] = nil end
    for _, raise in ipairs(problems) do raise() end
  end
end

local CONTAINED = { file = true, describe = true, it = true }

--- Has busted run files, describes and tests our way.
local function take_over(run)
  local busted = run.busted
  busted.plain_getTrace = busted.getTrace
  function busted.getTrace(element, level, message)
    local trace = message ~= nil and run.traces[message] or busted.plain_getTrace(element, (level or 3) + 1, message)
    return trace
  end
  local register, safe = busted.register, busted.safe
  function busted.register(descriptor, executor, attributes)
    if type(executor) == "function" and CONTAINED[descriptor] then executor = contain(run, descriptor, executor) end
    return register(descriptor, executor, attributes)
  end
  function busted.safe(descriptor, fn, element)
    local level = descriptor == "lazy_setup" and run.levels[busted.context.parent(element)]
    if level then return fixtures.within(level, safe, descriptor, fn, element) end
    return safe(descriptor, fn, element)
  end
  run.publish = busted.safe_publish
  function busted.safe_publish(descriptor, channel, element, ...)
    if channel[1] == "test" and channel[2] == "end" and run.levels[element] then
      run.ended[element] = { descriptor, ... }
      return true
    end
    return run.publish(descriptor, channel, element, ...)
  end
end

--- Counts what each level has, before filters leave some of it out.
local function count_declared(busted)
  local function note()
    local level = fixtures.current()
    if level then level.declared = level.declared + 1 end
    return nil, true
  end
  busted.subscribe({ "suite", "start" }, function(_, run)
    if run == 1 then
      for _, descriptor in ipairs { "describe", "it", "pending" } do
        busted.subscribe({ "register", descriptor }, note, { priority = 1 })
      end
    end
    return nil, true
  end)
end

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
  local counts = { passed = 0, failed = 0, skipped = 0, started = false, interrupted = false }
  local make = require "busted.core"
  package.loaded["busted.core"] = function()
    local busted = make()
    take_over { busted = busted, options = options, counts = counts, traces = {}, ended = {}, levels = {} }
    keep_modules(busted)
    count_declared(busted)
    count(busted, counts)
    return busted
  end
  return counts
end

return M
