--- Programs, this neap above all, as child processes, with what they said. Real time
--- only.
local core = require "neap.core"
local neap = require "neap"
local tmp = require "spec.support.tmp"
local uv = require "neap.uv"

local M = {}

local function environment(extra)
  local list = {}
  for name, value in pairs(uv.os_environ()) do
    if not extra or extra[name] == nil then list[#list + 1] = name .. "=" .. value end
  end
  for name, value in pairs(extra or {}) do
    if value then list[#list + 1] = name .. "=" .. value end
  end
  return list
end

local Child = {}
Child.__index = Child

local function collect(child, name)
  local pipe = uv.new_pipe(false)
  child.pipes[#child.pipes + 1] = pipe
  child[name] = ""
  return pipe, function()
    pipe:read_start(function(_, data)
      if data then
        child[name] = child[name] .. data
      else
        pipe:close()
        child.open = child.open - 1
      end
      child:changed()
    end)
  end
end

function Child:changed()
  if self.wake then
    local wake = self.wake
    self.wake = nil
    wake()
  end
end

--- Waits until `condition()` holds, looking again whenever something came from
--- the child; raises when the child has ended without.
---@param condition fun(): any
function Child:wait_until(condition)
  while not condition() do
    if self.open == 0 then
      error(("the child ended (%s) without it; it said:\n%s%s"):format(tostring(self.code), self.out, self.err), 2)
    end
    neap.await(function(resume) self.wake = resume end)
  end
end

--- Waits until the child's standard output contains `text`.
---@param text string
function Child:wait_for(text)
  self:wait_until(function() return self.out:find(text, 1, true) end)
end

---@param data string
function Child:write(data)
  self.stdin:write(data)
end

function Child:close_stdin()
  if not self.stdin:is_closing() then self.stdin:close() end
end

---@param signal string "sigint", "sigterm", ...
function Child:kill(signal)
  self.process:kill(signal)
end

--- Waits for the end of the child and of its output.
---@return {code: integer, signal: integer, out: string, err: string}
function Child:wait()
  while self.open > 0 do neap.await(function(resume) self.wake = resume end) end
  return self
end

--- Starts a program; `options`: stdin (text, then closed; true keeps it open),
--- env (name -> value, false removes), cwd.
---@param program string
---@param arguments string[]
---@param options? {stdin?: string|boolean, env?: table<string, string|false>, cwd?: string}
function M.start_program(program, arguments, options)
  options = options or {}
  local child = setmetatable({ open = 3, pipes = {}, stdin = uv.new_pipe(false) }, Child)
  local out, read_out = collect(child, "out")
  local err, read_err = collect(child, "err")
  local process, pid = uv.spawn(program, {
    args = arguments, stdio = { child.stdin, out, err }, env = environment(options.env), cwd = options.cwd,
  }, function(code, signal)
    child.code, child.signal = code, signal
    child.process:close()
    child.open = child.open - 1
    child:changed()
  end)
  assert(process, pid)
  child.process, child.pid = process, pid
  read_out()
  read_err()
  if type(options.stdin) == "string" then child.stdin:write(options.stdin) end
  if options.stdin ~= true then child.stdin:shutdown(function() child:close_stdin() end) end
  return child
end

--- Starts this neap.
---@param arguments string[]
---@param options? table
function M.start(arguments, options)
  return M.start_program(core.host.exe_path(), arguments, options)
end

--- Runs a program to its end; a cancel kills it.
---@param program string
---@param arguments string[]
---@param options? table
---@return {code: integer, signal: integer, out: string, err: string}
function M.run_program(program, arguments, options)
  local child = M.start_program(program, arguments, options)
  local ok, err = pcall(child.wait, child)
  child:close_stdin()
  if not ok then
    if child.code == nil then child:kill "sigkill" end
    error(err, 0)
  end
  return child
end

--- Runs this neap to its end.
---@param arguments string[]
---@param options? table
---@return {code: integer, signal: integer, out: string, err: string}
function M.run(arguments, options)
  return M.run_program(core.host.exe_path(), arguments, options)
end

--- A file with `text`, in a folder of its own below the system's temporary one.
---@param name string
---@param text string
---@return string path
---@return string folder
function M.file(name, text)
  local folder = tmp.dir()
  return tmp.write(folder .. "/" .. name, text), folder
end

--- Removes what `file` made.
M.remove = tmp.remove

return M
