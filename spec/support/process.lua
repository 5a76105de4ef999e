--- Child processes for specs.
local neap = require "neap"
local uv = require "neap.uv"

local M = {}

---@class spec.Process
---@field pid integer
---@field stdout string what it has printed so far
---@field stderr string
---@field code integer? exit code, once it has ended
---@field signal integer?
local Process = {}
Process.__index = Process

local function collect(process, field)
  local pipe = uv.new_pipe(false)
  return pipe, function()
    pipe:read_start(function(_, data)
      if data then
        process[field] = process[field] .. data
      else
        pipe:close()
        process.open = process.open - 1
        process:check()
      end
    end)
  end
end

function Process:check()
  if self.code and self.open == 0 then self.ended:set() end
end

--- Starts a program.
---@param path string
---@param args string[]
---@param opts? {cwd: string?, env: string[]?}
---@return spec.Process
function M.start(path, args, opts)
  opts = opts or {}
  local self = setmetatable({ stdout = "", stderr = "", open = 2, ended = neap.event() }, Process)
  local out, read_out = collect(self, "stdout")
  local err, read_err = collect(self, "stderr")
  local handle, pid
  handle, pid = uv.spawn(path, {
    args = args, stdio = { nil, out, err }, cwd = opts.cwd, env = opts.env,
  }, function(code, signal)
    handle:close()
    self.handle = nil
    self.code, self.signal = code, signal
    self:check()
  end)
  if not handle then error(("cannot start %s: %s"):format(path, pid)) end
  self.handle, self.pid = handle, pid
  read_out()
  read_err()
  return self
end

---@param signal string
function Process:kill(signal)
  if self.handle then self.handle:kill(signal) end
end

--- Waits for its end.
---@param timeout? number seconds, default 60
---@return integer? code
function Process:wait(timeout)
  assert(self.ended:wait(timeout or 60))
  return self.code
end

--- Runs a program to its end.
---@param path string
---@param args string[]
---@param opts? {cwd: string?, env: string[]?}
---@return spec.Process
function M.run(path, args, opts)
  local process = M.start(path, args, opts)
  process:wait()
  return process
end

return M
