--- `neap run script.lua [args]` and `neap script.lua [args]`.
local core = require "neap.core"

local M = {
  name = "run",
  operands = "script.lua [args]",
  summary = "run a script ('-' reads it from standard input)",
  usage = { "neap run [--record FILE] script.lua [args]", "neap script.lua [args]" },
  details = [[
The script gets its arguments as `...` and in `arg`, as in lua: arg[0] is the
script, arg[-1] is neap. It ends when all its tasks have. A script that cannot
be opened is a usage error (exit 2); one that cannot be compiled, or that raises,
is a script error (exit 1).

--record keeps every request's timings and answer, without secrets, for
`neap lab fit` and `neap sim --replay`.]],
  options = {
    { name = "record", type = "string", metavar = "FILE", help = "record requests and answers, see docs/cassette.md" },
    { name = "record-bodies", type = "string", choices = { "all", "none" }, default = "all", metavar = "WHICH",
      help = "the answers' bodies that --record keeps: all or none" },
  },
  mode = { stop_at_positional = true },
  tail = true,
}

local EXIT_SCRIPT, EXIT_USAGE = 1, 2

--- Loads a script without running it.
---@param path string "-" is standard input
---@return function? chunk nil when it cannot be had
---@return string? message one line
---@return integer? code the exit code that goes with it
function M.load(path)
  local chunk, message
  if path == "-" then
    local source = io.read "*a"
    chunk, message = loadstring((source:gsub("^#[^\n]*", "")), "=stdin")
  else
    local file, reason = io.open(path, "rb")
    local source
    if file then
      -- Once: a pipe cannot be read again. A folder opens, but does not read.
      source, reason = file:read "*a"
      if source == "" then
        local _, failure = file:read(1)
        if failure then source, reason = nil, failure end
      end
      file:close()
    end
    if not source then
      local text = tostring(reason):gsub("^" .. path:gsub("%p", "%%%0") .. ": ", "")
      return nil, ("cannot open '%s': %s"):format(path, text), EXIT_USAGE
    end
    chunk, message = loadstring(source, "@" .. path)
  end
  if not chunk then return nil, (message:gsub("\n", " ")), EXIT_SCRIPT end
  return chunk
end

--- Sets the global `arg` as lua does.
---@param script string arg[0]
---@param arguments string[]
function M.set_arg(script, arguments)
  local arg = { [-1] = core.host.exe_path(), [0] = script }
  for i, value in ipairs(arguments) do arg[i] = value end
  rawset(_G, "arg", arg)
end

--- Ends with a message instead of a script: prints it and sets the exit code.
---@param message string
---@param code integer
function M.fail(message, code)
  io.stderr:write("neap: ", message, "\n")
  core.host.set_exit_code(code)
end

local function finish(recording, ok, ...)
  local written, err = recording:stop()
  if not written then
    M.fail(("the recording is not whole: %s"):format(err.message), EXIT_SCRIPT)
  end
  if not ok then error((...), 0) end
  return ...
end

--- In a scope, so that the recording ends after the script's last task.
local function run_recorded(opts, chunk, rest)
  local recording, err = require("neap.cassette").record(opts.record, { bodies = opts.record_bodies })
  if not recording then return M.fail(err.message, EXIT_USAGE) end
  return finish(recording, xpcall(require("neap.scope").scope, core.note_traceback, function()
    return chunk(unpack(rest))
  end))
end

---@param opts table
---@param rest string[] the script and its arguments
function M.main(opts, rest)
  if #rest == 0 then return M.fail("run needs a script (try 'neap help run')", EXIT_USAGE) end
  local path = table.remove(rest, 1)
  local chunk, message, code = M.load(path)
  if not chunk then return M.fail(message, code) end
  M.set_arg(path, rest)
  if opts.record then return run_recorded(opts, chunk, rest) end
  if opts.record_bodies ~= "all" then return M.fail("--record-bodies needs --record FILE", EXIT_USAGE) end
  return chunk(unpack(rest))
end

return M
