--- Request bodies. A body is a string, or a source: bytes that are made or read
--- while they are sent, so that memory stays flat.
local error_module = require "neap.error"
local sorted = require "neap.sorted"

local M = {}

--- Bytes read from a file at a time.
local FILE_CHUNK = 64 * 1024

---@class neap.http.Source
---@field length integer? bytes in all; nil: unknown, sent chunked
---@field restartable boolean may be opened more than once, so it can be re-sent
---@field open fun(): (fun(): string?, neap.Error?)?, (neap.Error|fun())? the next chunk and clean-up, or nil, err

---@class neap.http.SourceOptions
---@field file? string path of the file to send
---@field open? fun(): fun(): string? starts the body anew: returns what gives the next chunk, nil at the end
---@field length? integer bytes in all, when known (for `open`)

local SOURCE_KEYS = { file = "string", open = "function", length = "number" }

local function check_length(where, length)
  if length ~= nil and (type(length) ~= "number" or length < 0 or length % 1 ~= 0) then
    error(where .. ": length must be a whole number of bytes", 0)
  end
end

local function file_reader(file, path, length)
  local left = length
  return function()
    if left == 0 then return nil end
    local chunk, err = file:read(math.min(left, FILE_CHUNK))
    if err then return nil, err end
    if not chunk or chunk == "" then
      return nil, error_module.new {
        kind = "invalid", phase = "send",
        message = ("file '%s' became shorter while it was sent"):format(path),
      }
    end
    left = left - #chunk
    return chunk
  end
end

--- The source of a file's bytes. Its length is taken now. Waits.
---@param path string
---@return neap.http.Source? source, neap.Error? err
function M.of_file(path)
  local fs = require "neap.fs"
  local stat, err = fs.stat(path)
  if not stat then return nil, err end
  return {
    length = stat.size,
    restartable = true,
    open = function()
      local file, open_err = fs.open(path, "r")
      if not file then return nil, open_err end
      return file_reader(file, path, stat.size), function() file:close() end
    end,
  }
end

--- The source of a generator: `next_chunk` gives chunks and nil at the end, and
--- may wait. It runs once, so such a body is never sent twice.
---@param next_chunk fun(): string?, neap.Error?
---@param length? integer
---@return neap.http.Source
function M.of_function(next_chunk, length)
  return {
    length = length,
    restartable = false,
    open = function() return next_chunk end,
  }
end

--- Reads what stands for a raw body: a string, a function or a table of
--- `neap.http.SourceOptions`. Misuse raises (level 0); may wait for a file's size.
---@param where string for messages
---@param value string|function|neap.http.SourceOptions
---@return string|neap.http.Source|nil body, neap.Error? err
function M.of_value(where, value)
  local kind = type(value)
  if kind == "string" then return value end
  if kind == "function" then return M.of_function(value) end
  for key, part in sorted.all(value) do
    if SOURCE_KEYS[key] ~= type(part) then
      error(("%s: a body table has 'file' (string), or 'open' (function) with or without 'length'; got '%s' (%s)")
        :format(where, tostring(key), type(part)), 0)
    end
  end
  check_length(where, value.length)
  if value.file then
    if value.open or value.length then
      error(where .. ": 'file' goes with neither 'open' nor 'length'", 0)
    end
    return M.of_file(value.file)
  end
  if not value.open then error(where .. ": a body table needs 'file' or 'open'", 0) end
  return { length = value.length, restartable = true, open = value.open }
end

local function checked(next_chunk, length)
  local sent = 0
  return function()
    local chunk, err = next_chunk()
    if chunk == nil then
      if err then return nil, error_module.wrap(err) end
      if length and sent ~= length then
        return nil, error_module.new {
          kind = "invalid", phase = "send",
          message = ("the body ended after %d bytes, %d were announced"):format(sent, length),
        }
      end
      return nil
    end
    if type(chunk) ~= "string" then
      error("neap.http: a streamed body must give strings, got " .. type(chunk), 0)
    end
    sent = sent + #chunk
    if length and sent > length then
      return nil, error_module.new {
        kind = "invalid", phase = "send",
        message = ("the body is longer than the %d bytes announced"):format(length),
      }
    end
    return chunk
  end
end

--- Opens a source: the function that gives its chunks, then nil (with an error
--- when it broke off), and one that frees what it holds. Waits as the source does.
---@param source neap.http.Source
---@return (fun(): string?, neap.Error?)? next_chunk, (fun()|neap.Error) close
function M.open(source)
  local next_chunk, close = source.open()
  if not next_chunk then return nil, error_module.wrap(close or "the body could not be opened") end
  if type(next_chunk) ~= "function" then
    error("neap.http: a body's 'open' must return a function, got " .. type(next_chunk), 0)
  end
  return checked(next_chunk, source.length), close or function() end
end

return M
