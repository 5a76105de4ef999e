--- Errors as values. Code switches on `err.kind`, never on text.
--- The closed list of kinds lives in runtime/base/err.h.
local core = require "neap.core"

local M = {}

---@class neap.Error
---@field kind string one of `neap.error.kinds`
---@field message string one sentence
---@field phase? string where it was: queue, pace, dns, connect, tls, send, first_byte, download, or the wait's name
---@field timeout? string which timeout fired: queue, connect, first_byte, idle, total
---@field retryable boolean worth retrying when nothing else is known
---@field sent? "no"|"maybe"|"yes" whether the request reached the wire
---@field sends? integer times the call went onto the wire
---@field queue? number seconds that a request had waited for a connection
---@field status? integer HTTP status (kind "status")
---@field retry_after? number seconds
---@field attempts? integer calls made, the first included
---@field cause? any the value behind it
---@field traceback? string of the task that failed

--- kind -> whether it is worth retrying by default
---@type table<string, boolean>
M.kinds = core.error_kinds

local Error = core.error_metatable
Error.__index = Error

function Error:__tostring()
  if self.kind == "internal" and self.cause ~= nil then return self.message end
  return self.kind .. ": " .. tostring(self.message)
end

--- A new error. `fields.kind` must be one of the kinds; `retryable` is filled
--- in from it when absent.
---@param fields table
---@return neap.Error
function M.new(fields)
  local retryable = M.kinds[fields.kind]
  if retryable == nil then
    error("unknown error kind '" .. tostring(fields.kind) .. "'", 2)
  end
  if fields.retryable == nil then fields.retryable = retryable end
  return setmetatable(fields, Error)
end

--- Whether `value` is an error table, of `kind` when given.
---@param value any
---@param kind? string
---@return boolean
function M.is(value, kind)
  return getmetatable(value) == Error and (kind == nil or value.kind == kind)
end

--- What was raised, in words: of a table without a text of its own its `message`.
---@param value any
---@return string
function M.text(value)
  local metatable = getmetatable(value)
  if type(value) ~= "table" or type(metatable) == "table" and metatable.__tostring then return tostring(value) end
  local message = rawget(value, "message")
  return type(message) == "string" and message or "a table without a message"
end

--- `value` itself when it is an error table, else one of kind "internal" around
--- it (a raised string, for example).
---@param value any
---@param traceback? string
---@return neap.Error
function M.wrap(value, traceback)
  if not M.is(value) then
    value = M.new { kind = "internal", message = M.text(value), cause = value }
  end
  if traceback and not rawget(value, "traceback") then value.traceback = traceback end
  return value
end

return M
