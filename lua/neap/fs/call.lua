--- luv's file functions as waits, and what the system says as errors.
local await = require "neap.await"
local errors = require "neap.error"

local M = {}

--- Failures that mean "no room", whatever was asked for.
local LIMITS = { EDQUOT = true, EFBIG = true, EMFILE = true, ENFILE = true, ENOMEM = true, ENOSPC = true }

--- An error about a file: kind "limit" when the system has no room (disk,
--- descriptors, memory), else "invalid"; `code` is the system's name ("ENOENT").
---@param verb string "read", "open", ...
---@param path string
---@param code string
---@param words string
---@return neap.Error
function M.failure(verb, path, code, words)
  return errors.new {
    kind = LIMITS[code] and "limit" or "invalid", code = code, path = path,
    message = ("cannot %s '%s': %s"):format(verb, path, words),
  }
end

--- The same from a text of luv: "ENOENT: no such file or directory: x".
---@param verb string
---@param path string
---@param text string
---@return neap.Error
function M.failure_of(verb, path, text)
  local code, words = tostring(text):match "^(%u[%u%d]+): ([^:]+)"
  return M.failure(verb, path, code, words or tostring(text))
end

local function start(resume, fn, a, b, c)
  if c ~= nil then return fn(a, b, c, resume) end
  if b ~= nil then return fn(a, b, resume) end
  return fn(a, resume)
end

--- `fn(...)`, a function of luv's with up to three arguments. Waits.
---@param verb string
---@param path string
---@param fn function
---@return any value nil when it failed
---@return neap.Error? err
function M.wait(verb, path, fn, ...)
  local text, value = await(start, fn, ...)
  if text then return nil, M.failure_of(verb, path, text) end
  return value
end

--- Raises (at the caller of the public function) unless `path` is a string.
---@param where string
---@param path any
function M.check_path(where, path)
  if type(path) ~= "string" then
    error(("neap.fs.%s: the path must be a string, got %s"):format(where, type(path)), 3)
  end
end

--- The error of a path that the system would cut short, or nil.
---@param verb string
---@param path string
---@return neap.Error?
function M.bad_path(verb, path)
  if path:find("\0", 1, true) then
    return M.failure(verb, path:match "^[^%z]*", "EINVAL", "a path must not have a zero byte")
  end
end

--- Permissions from a number or octal digits.
---@param where string
---@param mode string|number|nil
---@param default integer
---@return integer
function M.permissions(where, mode, default)
  if mode == nil then return default end
  local bits = type(mode) == "string" and mode:match "^[0-7]+$" and tonumber(mode, 8) or mode
  if type(bits) ~= "number" or bits < 0 or bits > 4095 or bits % 1 ~= 0 then
    error(("neap.fs.%s: mode must be octal digits such as \"644\", got %s"):format(where, tostring(mode)), 3)
  end
  return bits
end

return M
