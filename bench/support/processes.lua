--- Programs of ours that a bench starts, with what they print and what they cost.
local core = require "neap.core"
local neap = require "neap"
local uv = require "neap.uv"

local M = {}

-- What Linux counts CPU time in, for whoever reads /proc.
local TICKS = 100

local Process = {}
Process.__index = Process

---@return integer
function M.cores()
  return uv.available_parallelism and uv.available_parallelism() or #uv.cpu_info()
end

local function collect(process, name, pipe)
  process[name] = ""
  pipe:read_start(function(_, data)
    if data then
      process[name] = process[name] .. data
    else
      pipe:close()
      process.open = process.open - 1
    end
    process.changed:set()
  end)
end

--- Starts this neap. Never waits; raises when it cannot be started.
---@param cpu string? the core that it is to run on
---@param arguments string[]
function M.start(cpu, arguments)
  local program, args = core.host.exe_path(), arguments
  if cpu then
    args = { "-c", cpu, program, unpack(arguments) }
    program = "taskset"
  end
  local process = setmetatable({ open = 3, changed = neap.event() }, Process)
  local out, err = uv.new_pipe(false), uv.new_pipe(false)
  local handle, pid = uv.spawn(program, { args = args, stdio = { nil, out, err } }, function(code)
    process.code, process.open = code, process.open - 1
    process.handle:close()
    process.changed:set()
  end)
  process.handle, process.pid = assert(handle, pid), pid
  collect(process, "out", out)
  collect(process, "err", err)
  return process
end

--- Waits until its output matches, and returns what was captured; raises when it ends
--- without.
---@param pattern string
---@return string
function Process:wait_for(pattern)
  while true do
    local found = self.out:match(pattern)
    if found then return found end
    if self.open == 0 then error("a program ended early: " .. self.out .. self.err, 0) end
    self.changed:clear()
    self.changed:wait()
  end
end

--- Waits for its end. One that takes longer than so many seconds is killed.
---@param seconds number
function Process:wait(seconds)
  local till = core.now() + seconds
  while self.open > 0 do
    self.changed:clear()
    if not self.changed:wait(math.max(0, till - core.now())) and self.open > 0 then
      self.handle:kill "sigkill"
      error(("a program took longer than %g s: %s%s"):format(seconds, self.out, self.err), 0)
    end
  end
  return self
end

--- Ends it, and waits for that.
function Process:stop()
  if self.code == nil then self.handle:kill "sigterm" end
  self:wait(10)
end

--- Seconds of CPU so far, of all its threads, to a hundredth; nil where there is no
--- /proc.
---@return number?
function Process:cpu_time()
  local file = io.open(("/proc/%d/stat"):format(self.pid))
  if not file then return nil end
  local user, system = file:read("*a"):match "^.*%) %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ (%d+) (%d+)"
  file:close()
  return (tonumber(user) + tonumber(system)) / TICKS
end

return M
