--- Which files a simulated script reads: they come from the disk as they are, so a
--- result depends on them, and the summary of `neap sim` names them.
local core = require "neap.core"
local files = require "neap.fs.file"

local M = {}

local function is_read(mode)
  return mode == nil or mode == "r" or type(mode) == "string" and (mode:find("r", 1, true) or mode:find("+", 1, true))
end

--- Notes what is opened for reading from now on: by Lua's own functions in `env`,
--- by neap.fs everywhere. Returns the list of names, which grows, each once. Once a
--- process. Never waits.
---@param env table a script's globals
---@return string[]
function M.watch(env)
  local names, known = {}, {}
  local function note(path)
    if type(path) ~= "string" or known[path] then return end
    known[path] = true
    names[#names + 1] = path
  end
  local io, loadfile, dofile = env.io, env.loadfile, env.dofile
  local open, lines, input = io.open, io.lines, io.input
  function io.open(path, mode)
    local file, message, code = open(path, mode)
    if file and is_read(mode) then note(path) end
    return file, message, code
  end
  function io.lines(path, ...)
    note(path)
    if path == nil then return lines() end
    return lines(path, ...)
  end
  function io.input(file)
    note(file)
    if file == nil then return input() end
    return input(file)
  end
  function env.loadfile(path, ...)
    note(path)
    return loadfile(path, ...)
  end
  function env.dofile(path)
    note(path)
    return dofile(path)
  end
  local file_job, open_file = core.file_job, files.open
  function core.file_job(path, ...)
    note(path)
    return file_job(path, ...)
  end
  function files.open(path, mode, ...)
    local file, err = open_file(path, mode, ...)
    if file and is_read(mode) then note(path) end
    return file, err
  end
  return names
end

return M
