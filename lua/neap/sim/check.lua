--- `neap sim --check-determinism`: runs the script twice, each in a process of its
--- own, and compares what they did event by event, what they wrote and how they
--- ended.
local await = require "neap.await"
local core = require "neap.core"
local fs = require "neap.fs"
local scope = require "neap.scope"
local uv = require "neap.uv"

local M = {}

local EXIT_DIFFERENT, EXIT_USAGE = 1, 2

--- The words of this command line that are neither the script's nor ours: "sim"
--- and its other options.
---@param words string[] all words after the program's name
---@param rest string[] the script and its arguments
---@return string[]
function M.option_words(words, rest)
  local list, i = {}, 1
  while i <= #words - #rest do
    local word = words[i]
    if word == "--trace" then
      i = i + 1 -- and its value
    elseif word ~= "--check-determinism" and word ~= "--" and not word:find "^%-%-trace=" then
      list[#list + 1] = word
    end
    i = i + 1
  end
  return list
end

local function spawn(arguments, files)
  local function create(path) return assert(uv.fs_open(path, "w", 384)) end
  local out, err = create(files.out), create(files.err)
  local null = assert(uv.fs_open("/dev/null", "r", 0))
  local run = {}
  local process, message
  process, message = uv.spawn(core.host.exe_path(), { args = arguments, stdio = { null, out, err } },
    function(code, signal)
      process:close()
      run.code, run.signal = code, signal
      if run.resume then run.resume() end
    end)
  for _, fd in ipairs { out, err, null } do uv.fs_close(fd) end
  if not process then return nil, tostring(message) end
  run.process = process
  return run
end

--- Ends what still runs.
local function stop(runs)
  for _, run in ipairs(runs) do
    if not run.code and not run.process:is_closing() then run.process:kill "sigkill" end
  end
end

local function wait_for(run)
  if run.code then return end
  await(function(resume) run.resume = resume end)
end

local function ending(run)
  return run.signal ~= 0 and "signal " .. run.signal or "exit code " .. run.code
end

--- The first line that differs: its number and both lines (nil: none any more).
---@param first string path
---@param second string path
---@return integer? number nil: there is none; then the count of lines follows
---@return string|integer? line
---@return string? other
function M.first_difference(first, second)
  local a, b = assert(io.open(first, "rb")), assert(io.open(second, "rb"))
  local number = 0
  while true do
    local line, other = a:read "*l", b:read "*l"
    if line ~= other then
      a:close()
      b:close()
      return number + 1, line, other
    end
    if line == nil then
      a:close()
      b:close()
      return nil, number
    end
    number = number + 1
  end
end

local function differs(what, number, line, other)
  return ("not deterministic: %s %d differs between two runs\n  first:  %s\n  second: %s"):format(what, number,
    line or "(the run had ended)", other or "(the run had ended)")
end

--- What differs between two runs, or nil and the number of events.
local function compare(runs)
  local number, line, other = M.first_difference(runs[1].trace, runs[2].trace)
  if number then return differs("event", number, line, other) end
  local events = line
  number, line, other = M.first_difference(runs[1].out, runs[2].out)
  if number then return differs("line", number, line, other) .. "\n(of the standard output)" end
  if ending(runs[1]) ~= ending(runs[2]) then
    return ("not deterministic: the first run ended with %s, the second with %s"):format(ending(runs[1]),
      ending(runs[2]))
  end
  return nil, events
end

local function pass_on(path, to)
  local file = assert(io.open(path, "rb"))
  to:write(file:read "*a")
  to:flush()
  file:close()
end

local function run_twice(arguments, opts, folder, runs)
  for i = 1, 2 do
    local files = { out = folder .. "/out" .. i, err = folder .. "/err" .. i, trace = folder .. "/trace" .. i }
    if i == 1 and opts.trace then files.trace = opts.trace end
    local list = { unpack(arguments.options) }
    list[#list + 1] = "--trace=" .. files.trace
    list[#list + 1] = "--"
    for _, word in ipairs(arguments.script) do list[#list + 1] = word end
    local run, message = spawn(list, files)
    if not run then return message end
    runs[i] = run
    for name, path in pairs(files) do run[name] = path end
  end
  for i = 1, 2 do wait_for(runs[i]) end
end

local function judge(runs)
  for i = 1, 2 do
    local trace = io.open(runs[i].trace, "rb")
    if not trace then -- it did not get so far
      pass_on(runs[i].err, io.stderr)
      return runs[i].code ~= 0 and runs[i].code or EXIT_DIFFERENT
    end
    trace:close()
  end
  pass_on(runs[1].out, io.stdout)
  pass_on(runs[1].err, io.stderr)
  local difference, events = compare(runs)
  if difference then
    io.stderr:write("neap: ", difference, "\n")
    return EXIT_DIFFERENT
  end
  io.stderr:write(("sim: deterministic: two runs with the same %d events and the same output\n"):format(events))
  return runs[1].signal ~= 0 and 128 + runs[1].signal or runs[1].code
end

--- Runs `neap sim` twice. Waits.
---@param opts table the options
---@param rest string[] the script and its arguments
---@return integer code the script's exit code; 1 when the runs differ
---@return string? message one line
function M.main(opts, rest)
  if rest[1] == "-" then return EXIT_USAGE, "--check-determinism needs a script file: it runs it twice" end
  core.clock_virtual(false)
  local folder, err = fs.tmpdir()
  if not folder then return EXIT_DIFFERENT, tostring(err.message) end
  local runs, code = {}, EXIT_DIFFERENT
  local arguments = { options = M.option_words(rawget(_G, "arg"), rest), script = rest }
  local ok, message = pcall(run_twice, arguments, opts, folder, runs)
  stop(runs) -- of an interrupted one
  if ok and not message then code, message = judge(runs) end
  scope.shield(fs.remove, folder, { recursive = true })
  if not ok then error(message, 0) end
  return code, message
end

return M
