--- The command line: finds the command, parses its options, runs it, sets the
--- exit code. main.c makes a runtime and calls `main` in the main task with the
--- arguments; everything else is here, in Lua.
---
--- A command is a module `neap.cli.<name>` (see neap.cli.Command). What is wrong
--- with an invocation is one line on stderr and exit code 2.
local args = require "neap.cli.args"
local core = require "neap.core"
local help = require "neap.cli.help"
local options = require "neap.options"

local M = {}

---@class neap.cli.Command
---@field name string
---@field summary string one line for the overview
---@field usage? string|string[]
---@field operands? string what the overview shows behind the name
---@field details? string more text for the help page
---@field options neap.cli.Option[]
---@field mode? neap.cli.ParseMode how the options are parsed
---@field raw? boolean the command gets its arguments unparsed, as `rest`
---@field own_help? boolean --help is the command's own (or an argument like any other)
---@field tail? boolean main is called as a tail call and its results are no exit code: it ends in a script's chunk
---@field main fun(opts: table, rest: string[]): integer?, string? exit code (nil: 0) and a message, one line

--- In the order of the overview.
M.names = { "run", "sim", "lab", "repl", "batch", "mock", "test", "version", "help" }

local EXIT_USAGE = 2

--- All commands, in the order of the overview.
---@return neap.cli.Command[]
function M.commands()
  local list = {}
  for i, name in ipairs(M.names) do list[i] = require("neap.cli." .. name) end
  return list
end

--- The command called `name`; nil and a message with the nearest name when there
--- is none.
---@param name string
---@return neap.cli.Command?
---@return string? message
function M.find(name)
  for _, known in ipairs(M.names) do
    if known == name then return require("neap.cli." .. name) end
  end
  local hint = options.nearest(name, M.names)
  return nil, ("unknown command '%s'%s"):format(name, hint and ("; did you mean '%s'?"):format(hint) or "")
end

--- Prints `neap: message` as one line on stderr, with where to look when the
--- message does not say what was meant.
---@param message string
---@param topic? string the command
function M.complain(message, topic)
  if not message:find("did you mean", 1, true) then
    message = ("%s (try 'neap help%s')"):format(message, topic and " " .. topic or "")
  end
  io.stderr:write("neap: ", message, "\n")
end

local function finish(code, message)
  if message then io.stderr:write("neap: ", message, "\n") end
  core.host.set_exit_code(code or 0)
end

local function reject(message, topic)
  M.complain(message, topic)
  core.host.set_exit_code(EXIT_USAGE)
end

local function dispatch(command, argv)
  local opts, rest = {}, argv
  if not command.raw then
    opts, rest = args.parse(command.options, argv, command.mode)
    if not opts then return reject(rest, command.name) end
  end
  if opts.help then
    io.stdout:write(help.page(command))
    return finish(0)
  end
  -- A tail call, so that a script's traceback begins with the script.
  if command.tail then return command.main(opts, rest) end
  return finish(command.main(opts, rest))
end

local function is_file(path)
  local file = io.open(path, "rb")
  if file then file:close() end
  return file ~= nil
end

--- Whether the word is meant as a script rather than as a command.
local function looks_like_script(word)
  return word == "-" or word:find("/", 1, true) ~= nil or word:match "%.lua$" ~= nil or is_file(word)
end

local function is_command(word)
  for _, name in ipairs(M.names) do
    if name == word then return true end
  end
  return false
end

--- What the first argument asks for: the command's name, and how many arguments
--- to drop before the command sees them.
local function route(word)
  if word == nil or word == "-h" or word == "--help" then return "help", 1 end
  if word == "-v" or word == "-V" or word == "--version" then return "version", 1 end
  if word == "-e" or word:match "^%-e." then return "eval", 0 end
  if is_command(word) then return word, 1 end
  if looks_like_script(word) then return "run", 0 end
end

--- Runs the command line. Called once, in the main task; waits.
---@param ... string the arguments after the program's name
function M.main(...)
  local argv = { ... }
  M.words = { ... } -- reports say the exact command
  local name, drop = route(argv[1])
  if not name then
    if argv[1]:sub(1, 1) == "-" then
      local hint = options.nearest(argv[1], { "--help", "--version", "-e", "-h", "-v" })
      return reject(("unknown option '%s'%s"):format(argv[1], hint and ("; did you mean '%s'?"):format(hint) or ""))
    end
    local _, message = M.find(argv[1])
    return reject(message)
  end
  return dispatch(require("neap.cli." .. name), { unpack(argv, drop + 1) })
end

return M
