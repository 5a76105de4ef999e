--- Turns a callback into a wait.
local core = require "neap.core"

local new_gate = core.gate_new

--- Calls `fn(resume, ...)`, which starts something and has `resume` called later
--- (from a luv callback, say) or at once; waits for that and returns what
--- `resume` was given. luv's convention, the error first, stays as it is:
---
---     local err, stat = neap.await(function(resume) uv.fs_stat(path, resume) end)
---
--- `resume` returns true when its arguments arrive; false when it was called
--- before or nobody waits any more (the task was cancelled), so that what a late
--- callback brought can be given back. Waits. Raises what `fn` raises.
---@param fn fun(resume: fun(...: any): boolean, ...: any)
---@param ... any passed on to `fn`
---@return any ... the arguments of `resume`
local function await(fn, ...)
  if type(fn) ~= "function" then
    error("neap.await: expected a function, got " .. type(fn), 2)
  end
  local gate = new_gate()
  local count, values, single = 0, nil, nil
  local function resume(...)
    if not gate:open() then return false end
    count = select("#", ...)
    if count == 1 then
      single = ...
    else
      values = { ... }
    end
    return true
  end
  local ok, err = xpcall(fn, core.note_traceback, resume, ...)
  if not ok then
    gate:leave()
    error(err, 0)
  end
  gate:wait()
  if count == 1 then return single end
  if count > 1 then return unpack(values, 1, count) end
end

return await
