--- Spreads jobs over the cores: each in a process of its own, which begins at the
--- same virtual instant with nothing in memory, so that a result depends on its job
--- alone, not on what ran before it or beside it. Needs a real clock.
local await = require "neap.await"
local child = require "neap.lab.child"
local core = require "neap.core"
local flow = require "neap.flow"
local json = require "neap.json"
local scope = require "neap.scope"
local uv = require "neap.uv"

local M = {}

--- Processors that there are.
---@return integer
function M.processors()
  if uv.available_parallelism then return uv.available_parallelism() end
  return math.max(1, #(uv.cpu_info() or {}))
end

--- Collects what a pipe brings; calls `done` at its end.
local function collect(pipe, into, done)
  pipe:read_start(function(err, data)
    if data and not err then
      into[#into + 1] = data
      return
    end
    pipe:close()
    done()
  end)
end

--- Runs a process to its end. Waits; a cancel ends the process.
---@return string? out nil: it could not be started
---@return string err
---@return integer? code
---@return integer? signal
local function run_process(arguments)
  local out_pipe, err_pipe = uv.new_pipe(false), uv.new_pipe(false)
  local out, err, process, code, signal, message = {}, {}, nil, nil, nil, nil
  local finished = false
  local ok, raised = pcall(await, function(resume)
    local left = 3
    local function one_done()
      left = left - 1
      if left == 0 then
        finished = true
        resume()
      end
    end
    process, message = uv.spawn(core.host.exe_path(), { args = arguments, stdio = { nil, out_pipe, err_pipe } },
      function(exit_code, exit_signal)
        code, signal = exit_code, exit_signal
        process:close()
        one_done()
      end)
    if not process then
      out_pipe:close()
      err_pipe:close()
      return resume()
    end
    collect(out_pipe, out, one_done)
    collect(err_pipe, err, one_done)
  end)
  if not ok then
    if process and not finished and not process:is_closing() then process:kill "sigkill" end
    error(raised, 0)
  end
  if not process then return nil, tostring(message) end
  return table.concat(out), table.concat(err), code, signal
end

--- What a child has written besides its result goes to standard error.
local function split(out)
  local at = out:find(child.MARK, 1, true)
  if not at then return nil, out end
  local line, rest = out:match("^([^\n]*)\n?(.*)$", at + #child.MARK)
  return line, out:sub(1, at - 1) .. rest
end

--- Does one job in a process. Waits.
---@param request neap.lab.ChildJob
---@return table? result
---@return string? message one line
---@return string? trace of what a policy or a load has raised
function M.ask(request)
  request.parent = uv.os_getpid()
  local out, err, code, signal = run_process { "sim", "--lab-job", assert(json.encode(request)) }
  if not out then return nil, "cannot start a process: " .. err end
  local line, printed = split(out)
  local said = printed .. err
  if not line then
    local last = said:match "([^\n]+)\n*$"
    return nil, ("a run ended without a result (%s)%s"):format(
      signal ~= 0 and "signal " .. signal or "exit code " .. code, last and ": " .. last or ""), said
  end
  if request.what == "describe" and said ~= "" then io.stderr:write(said) end
  local answer = assert(json.decode(line))
  if answer.error then return nil, answer.error, answer.trace end
  return answer.result
end

--- Does jobs, at most so many at a time, and calls `done(index, result)` as they
--- end. The first that fails ends all. Waits.
---@param requests neap.lab.ChildJob[]
---@param parallel integer
---@param done fun(index: integer, result: table)
---@return boolean? ok nil: one failed
---@return string? message
---@return integer? index of the one that failed
---@return string? trace
function M.each(requests, parallel, done)
  local next_index, message, failed_index, trace = 0, nil, nil, nil
  local ended = flow.event()
  scope.scope(function(s)
    local left = math.min(parallel, #requests)
    if left == 0 then return end
    for _ = 1, left do
      s:spawn(function()
        while next_index < #requests and not message do
          next_index = next_index + 1
          local mine = next_index
          local result, problem, raised = M.ask(requests[mine])
          if result then
            done(mine, result)
          elseif not message then
            message, failed_index, trace = problem, mine, raised
          end
        end
        left = left - 1
        if left == 0 or message then ended:set() end
      end)
    end
    ended:wait()
    if message then s:cancel() end
  end)
  if message then return nil, message, failed_index, trace end
  return true
end

return M
