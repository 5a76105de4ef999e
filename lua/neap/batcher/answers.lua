--- What a batch's `run` returned, dealt out to the callers. Nobody goes without an
--- answer: whatever `run` did, each entry gets a result or an error. Pure.
local errors = require "neap.error"

local M = {}

--- What a raised error is to the callers. For a message handler: takes the
--- traceback, unless the error brings one from the task in which it was raised.
---@param name string the batcher's
---@param err any
---@return neap.Error
function M.raised(name, err)
  if errors.is(err, "cancelled") then return err end
  local traceback = errors.is(err) and rawget(err, "traceback")
  if traceback and err.kind == "internal" then return err end
  local wrapped = errors.new { kind = "internal", cause = err,
    message = ("the run of %s raised: %s"):format(name, tostring(err)) }
  wrapped.traceback = traceback or debug.traceback("", 2):gsub("^\n", "")
  return wrapped
end

local function broken(name, kind, message, ...)
  return errors.new { kind = kind, message = ("the run of %s returned %s"):format(name, message:format(...)) }
end

--- The error that all callers get; nil: each has an answer of its own.
local function common_error(name, count, results, failures)
  if results == nil then
    if failures ~= nil then return failures end
    return broken(name, "internal", "neither results nor an error")
  end
  if type(results) ~= "table" then
    return broken(name, "internal", "a %s instead of a list of results", type(results))
  end
  if failures ~= nil and type(failures) ~= "table" then
    return broken(name, "internal", "a %s instead of a table of errors", type(failures))
  end
  local answers, most = 0, #results
  for i = 1, count do
    if results[i] ~= nil or failures and failures[i] ~= nil then answers = answers + 1 end
  end
  if answers < count then return broken(name, "protocol", "%d answers for %d items", answers, count) end
  if failures and failures[count + 1] ~= nil then most = count + 1 end
  if most > count then return broken(name, "protocol", "more than the %d answers that were due", count) end
end

--- An error table of its own for each caller: whoever gets it may write on it.
local function copy(err)
  if not errors.is(err) then return err end
  local fields = {}
  for key, value in pairs(err) do fields[key] = value end
  return setmetatable(fields, getmetatable(err))
end

--- Gives each entry its `result` or `err`.
---@param name string the batcher's
---@param entries neap.batcher.Entry[] in the order of the items
---@param ok boolean whether `run` returned
---@param results any what it returned; the error when it did not
---@param failures any
---@return any err the error that all got, if they did
function M.give(name, entries, ok, results, failures)
  local err = results
  if ok then err = common_error(name, #entries, results, failures) end
  for i, entry in ipairs(entries) do
    if err ~= nil then
      entry.err = i == 1 and err or copy(err)
    else
      entry.result = results[i]
      if entry.result == nil then entry.err = failures[i] end
    end
  end
  return err
end

return M
