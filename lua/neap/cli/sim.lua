--- `neap sim script.lua`: a script in virtual time. main.c has made the runtime
--- with a virtual clock, which jumps to the next deadline whenever nothing is
--- ready.
local core = require "neap.core"
local errors = require "neap.error"
local replay_flags = require "neap.cassette.replay_flags"
local run = require "neap.cli.run"
local scope = require "neap.scope"
local summaries = require "neap.sim.summary"

local M = {
  name = "sim",
  operands = "script.lua [args]",
  summary = "run a script in virtual time",
  usage = { "neap sim [--world FILE] [--seed N] script.lua [args]",
    "neap sim --replay CASSETTE [--scale quota=X] [--inject STATUS:P] script.lua" },
  details = [[
Time jumps to the next deadline whenever nothing is ready, so an hour of waiting
takes no time. It begins at 0, on 1 January 2026. Equal seeds give equal draws;
pairs goes in the order of the keys, and Lua's own clock is the simulated one.
Requests reach the upstreams of a world by host name, and what the script serves
itself; nothing leaves the machine, files are read as they are. The last lines on
standard error say how much virtual and real time went by, what was asked, and
what was simulated; the script's error, if there is one, comes before them. The
exit code is the script's.]],
  options = {
    { name = "world", short = "w", type = "string", metavar = "FILE", help = "the upstreams, see docs/world.md" },
    { name = "trace", type = "string", metavar = "FILE", help = "write every event to a file, a line of JSON each" },
    { name = "check-determinism", type = "boolean", help = "run twice and compare; the first difference fails" },
    { name = "seed", short = "s", type = "integer", min = 0, max = 2 ^ 53, default = 1, metavar = "N",
      help = "seed of all randomness" },
    { name = "lab-job", type = "string", hidden = true, help = "one run of `neap lab`, as JSON" },
  },
  mode = { stop_at_positional = true },
  tail = true,
}
for _, option in ipairs(replay_flags.options) do table.insert(M.options, option) end

--- Seconds for people: 950 us, 12 ms, 3.5 s, 2 min 5 s, 1 h 2 min.
---@param seconds number
---@return string
function M.duration(seconds)
  if seconds < 0.001 then return ("%.0f us"):format(seconds * 1e6) end
  if seconds < 1 then return ("%.0f ms"):format(seconds * 1e3) end
  if seconds < 60 then return ("%.3g s"):format(seconds) end
  local whole = math.floor(seconds + 0.5)
  if whole < 3600 then return ("%d min %d s"):format(math.floor(whole / 60), whole % 60) end
  return ("%d h %d min"):format(math.floor(whole / 3600), math.floor(whole % 3600 / 60))
end

local function summary(virtual_s, real_s, switches, tasks)
  local speed = real_s > 0 and virtual_s / real_s or 0
  local factor = speed >= 10 and ("%.0f"):format(speed) or ("%.2g"):format(speed)
  return ("sim: %s virtual in %s real (%sx), %d switches, %d tasks, seed %d"):format(
    M.duration(virtual_s), M.duration(real_s), factor, switches, tasks, core.seed())
end

--- The last lines of a run, once: at its end, or at the script's own os.exit.
local function report(started)
  if started.reported then return end
  started.reported = true
  local stats = core.stats()
  io.stdout:flush()
  io.stderr:write(summary(core.now() - started.now, core.machine_time() - started.machine,
    stats.switches - started.switches, stats.spawned - started.spawned), "\n")
  require("neap.sim.network").down()
  for _, line in ipairs(summaries.lines(started.tally, started.read)) do io.stderr:write("sim: ", line, "\n") end
  if core.is_traced() then
    local events, failure = require("neap.sim.trace").stop()
    if not events then run.fail(failure, 1) end
  end
end

--- What is wrong with the script, in words: the error with its traceback, but for
--- one that is not worth one.
local function describe(err)
  local idle = require("neap.sim.idle").message(err)
  return idle or require("neap.boot")(err)
end

--- The error comes before the summary, whose lines are always the last ones. A
--- cancel (Ctrl-C) is no error: who cancelled knows the exit code.
local function finish(started, ok, ...)
  local cancelled = not ok and errors.is((...), "cancelled")
  if not ok and not cancelled then
    io.stdout:flush()
    run.fail(describe((...)), 1)
  end
  report(started)
  if cancelled then error((...), 0) end
  if ok then return ... end
end

--- The script's own frames: what is below its main chunk is the command line's.
local function with_traceback(err)
  if errors.is(err, "cancelled") then return err end
  local text = debug.traceback("", 2):gsub("^\n", "")
  return errors.wrap(err, text:match "^(.*in main chunk)" or text)
end

local function rethrow(ok, ...)
  if not ok then error((...), 0) end
  return ...
end

--- In a scope, so that the summary comes after the script's last task.
local function run_script(chunk, rest)
  return pcall(scope.scope, function()
    return rethrow(xpcall(function() return chunk(unpack(rest)) end, with_traceback))
  end)
end

--- os.exit ends the process at once, also here; but the run is summed up.
local function exit_with(started)
  local exit = os.exit
  return function(...)
    report(started)
    return exit(...)
  end
end

--- Loads the world, if one was asked for, and puts its network up. Returns the tally
--- of all networks of the run.
local function network_of(opts)
  local world, message = replay_flags.world(opts)
  if message then return nil, message end
  if opts.world then
    local ok, loaded = pcall(function() return require("neap.world").load(opts.world) end)
    if not ok then return nil, (tostring(loaded):gsub("\n.*$", "")) end
    world = loaded
  end
  local network = require "neap.sim.network"
  local tally = summaries.tally()
  function network.on_down(one) tally:add(one) end
  network.up(world, opts.seed)
  return tally
end

local function check(opts, rest)
  local code, message = require("neap.sim.check").main(opts, rest)
  if message then return run.fail(message, code) end
  core.host.set_exit_code(code)
end

---@param opts table
---@param rest string[]
function M.main(opts, rest)
  if opts.lab_job then return require("neap.lab.child").main(opts.lab_job) end
  if #rest == 0 then return run.fail("sim needs a script (try 'neap help sim')", 2) end
  if opts.check_determinism then return check(opts, rest) end
  local path = table.remove(rest, 1)
  local chunk, message, code = run.load(path)
  if not chunk then return run.fail(message, code) end
  core.reseed(opts.seed)
  run.set_arg(path, rest)
  core.current():set_name(path)
  if opts.trace then
    local ok, failure = require("neap.sim.trace").start(opts.trace)
    if not ok then return run.fail(failure, 2) end
  end
  local env = require("neap.sim.determinism").install()
  setfenv(chunk, env)
  local tally, reason = network_of(opts)
  if not tally then return run.fail(reason, 2) end
  local stats = core.stats()
  local started = {
    now = core.now(), machine = core.machine_time(), switches = stats.switches, spawned = stats.spawned,
    tally = tally, read = require("neap.sim.disk").watch(env),
  }
  env.os.exit = exit_with(started)
  return finish(started, run_script(chunk, rest))
end

return M
