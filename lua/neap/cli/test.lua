--- `neap test`: busted inside the runtime.
local core = require "neap.core"
local help = require "neap.cli.help"

local M = {
  name = "test",
  operands = "[busted arguments]",
  summary = "run busted specs, which may wait, in virtual time",
  usage = "neap test [busted arguments] [file or folder]...",
  details = [[
Runs busted inside the runtime; its arguments are passed on (-o, -t, --filter,
--list, ...). Without files, everything below spec/ that ends in _spec.lua runs.
Tests, setups and teardowns may wait. Time is virtual unless a describe's or a
test's name contains #real. Every test starts with the same seed (--seed N) and
runs in a scope of its own: a task that fails in the background, and a task or a
request that is left over, fails the test. After two real minutes, or the seconds
in NEAP_TEST_TIMEOUT, a test is cancelled and fails.
The last line is "N passed, N failed, N skipped"; the exit code is 1 when one
failed or none ran.]],
  options = {},
  raw = true,
  own_help = true,
}

local EXIT_FAILED, EXIT_USAGE = 1, 2
local HARNESS_HOG_S = 60 -- compiling a long spec is no hog

--- What busted raises, with us, instead of ending the process.
local Exit = { __tostring = function() return "os.exit was called: it would end the whole run" end }

local function exit_instead(code)
  error(setmetatable({ code = code == true and 0 or code or 0 }, Exit), 0)
end

--- The value of one of busted's options, a whole number from `min`; 1 when it is not
--- given. Nil: it is something else.
local function number_of(argv, option, min)
  local value = 1
  for i, argument in ipairs(argv) do
    local text = argument == option and (argv[i + 1] or "") or argument:sub(1, #option + 1) == option .. "="
      and argument:sub(#option + 2)
    if text then
      value = text:find "^%d+$" and tonumber(text)
      if not value or value < min or value > 2 ^ 53 then return nil end
    end
  end
  return value
end

--- busted unloads what a spec file loaded; neap's own modules stay, so that there
--- is one instance of each.
local function keep_loaded()
  local neap = require "neap"
  for _, name in ipairs { "scope", "gather", "semaphore", "await", "base64", "error", "fs", "http", "json", "retry",
    "serve", "uv" } do
    pcall(function() return neap[name] end)
  end
end

local function run_busted(runner)
  -- busted takes its name in messages from the chunk that calls the runner.
  local call = loadstring("local runner = ... runner { standalone = false } return true", "@neap test")
  local ok, err = xpcall(call, function(err)
    return getmetatable(err) == Exit and err or debug.traceback(tostring(err), 2)
  end, runner)
  if ok then return 0 end
  if getmetatable(err) == Exit then return err.code end
  io.stderr:write("neap: busted failed: ", err, "\n")
  return EXIT_FAILED, true
end

local function finish(counts, code, broken)
  if not counts.started then
    -- busted has said what was wrong with its arguments, or listed the tests.
    if code ~= 0 and counts.failed == 0 and not broken then return EXIT_USAGE end
    if code == 0 and counts.failed == 0 then return 0 end
  end
  if broken and not counts.interrupted then counts.failed = counts.failed + 1 end
  local total = counts.passed + counts.failed + counts.skipped
  if counts.interrupted then
    io.stderr:write("neap: interrupted: the tests that had not ended are not counted\n")
  elseif total == 0 then
    io.stderr:write("neap: no test ran\n")
  end
  io.stdout:write(("%d passed, %d failed, %d skipped\n"):format(counts.passed, counts.failed, counts.skipped))
  io.stdout:flush()
  if counts.interrupted then core.sleep(0) end -- raises: who cancelled knows the exit code
  return (counts.failed > 0 or total == 0 or code ~= 0) and EXIT_FAILED or 0
end

---@param _ table
---@param argv string[]
---@return integer? code
---@return string? message
function M.main(_, argv)
  for _, argument in ipairs(argv) do
    if argument == "-h" or argument == "--help" then
      io.stdout:write(help.page(M))
      return 0
    end
  end
  local seed = number_of(argv, "--seed", 0)
  if not seed then return EXIT_USAGE, "option '--seed' needs a whole number from 0 to 2^53" end
  local limit = os.getenv "NEAP_TEST_TIMEOUT"
  if limit and not (tonumber(limit) and tonumber(limit) > 0) then
    return EXIT_USAGE, ("NEAP_TEST_TIMEOUT must be seconds above 0, got '%s'"):format(limit)
  end
  if not number_of(argv, "--repeat", 1) then return EXIT_USAGE, "option '--repeat' needs a whole number from 1" end
  local found, message = pcall(require, "busted.compatibility")
  if not found then
    return EXIT_FAILED, "busted cannot be loaded (Debian: apt-get install lua-busted): " .. message:match "^[^\n]*"
  end
  require("busted.compatibility").exit = exit_instead
  os.exit = exit_instead -- luacheck: ignore 122
  local arguments = { unpack(argv) }
  arguments[0] = "neap test"
  rawset(_G, "arg", arguments)
  keep_loaded()
  core.hog_threshold(HARNESS_HOG_S)
  local counts = require("neap.cli.test_runner").install { seed = seed }
  return finish(counts, run_busted(require "busted.runner"))
end

return M
