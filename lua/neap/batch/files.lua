--- The files of a batch below reader and writer: opening, what they are, and
--- one sentence for whatever is wrong. "-" is standard input or output.
local await = require "neap.await"
local errors = require "neap.error"
local uv = require "neap.uv"

local M = {}

--- luv's "ENOENT: no such file or directory: x" without the code and the path.
local function reason(text)
  local code, words = tostring(text):match "^(%u[%u%d]+): ([^:]+)"
  return words or tostring(text), code
end

--- An error about a file: kind "invalid", with `code` ("ENOENT").
---@param verb string "read", "write", ...
---@param path string
---@param text string as luv says it
---@return neap.Error
function M.failure(verb, path, text)
  local words, code = reason(text)
  local name = ("'%s'"):format(path)
  if path == "-" then name = verb == "read" and "standard input" or "standard output" end
  return errors.new { kind = "invalid", code = code, message = ("cannot %s %s: %s"):format(verb, name, words) }
end

--- Runs a luv fs function in a wait: its results, or nil and luv's text.
local function start(resume, fn, a, b, c)
  if c ~= nil then return fn(a, b, c, resume) end
  if b ~= nil then return fn(a, b, resume) end
  return fn(a, resume)
end

--- `fn(...)` of luv's fs functions (up to three arguments) as a wait.
---@param fn function
---@return any value nil when it failed
---@return string? text luv's message
function M.fs(fn, ...)
  local text, value = await(start, fn, ...)
  if text then return nil, text end
  return value
end

--- Whether two stats are of one file.
---@param a table
---@param b table
---@return boolean
function M.same(a, b)
  return a.dev == b.dev and a.ino == b.ino
end

-- ---------------------------------------------------------------------------
-- The input
-- ---------------------------------------------------------------------------

local CHUNK = 64 * 1024

---@class neap.batch.File: neap.batch.Source
---@field path string
---@field fd integer
---@field stat table luv's
local File = {}
File.__index = File

function File:read()
  local data, text = M.fs(uv.fs_read, self.fd, CHUNK, -1)
  if not data then return nil, M.failure("read", self.path, text) end
  if data ~= "" then return data end
end

function File:close()
  if self.fd > 2 then uv.fs_close(self.fd) end
end

-- A pipe, socket or terminal: through libuv's streams, for a read on a thread of
-- the pool would keep the program from ending while nothing comes.
local Stream = {}
Stream.__index = Stream

local function start_read(resume, handle)
  handle:read_start(function(text, data)
    handle:read_stop()
    resume(text, data)
  end)
end

function Stream:read()
  local text, data = await(start_read, self.handle)
  if text then return nil, M.failure("read", self.path, text) end
  return data
end

function Stream:close()
  if not self.handle:is_closing() then self.handle:close() end
end

local function open_stream(path, fd, stat)
  local handle
  if uv.guess_handle(fd) == "tty" then
    handle = uv.new_tty(fd, true)
  elseif stat.type == "fifo" or stat.type == "socket" then
    handle = uv.new_pipe(false)
    local ok, text = handle:open(fd)
    if not ok then return nil, M.failure("read", path, text) end
  end
  return handle and setmetatable({ path = path, handle = handle, stat = stat }, Stream)
end

--- Opens the input. Waits.
---@param path string "-": standard input
---@return neap.batch.Source? source
---@return neap.Error? err kind "invalid"
function M.open_input(path)
  local fd = 0
  if path ~= "-" then
    local opened, text = M.fs(uv.fs_open, path, "r", 420)
    if not opened then return nil, M.failure("read", path, text) end
    fd = opened
  end
  local stat, text = M.fs(uv.fs_fstat, fd)
  if stat and stat.type == "directory" then stat, text = nil, "EISDIR: it is a directory" end
  if not stat then
    if fd > 2 then uv.fs_close(fd) end
    return nil, M.failure("read", path, text)
  end
  local stream, err = open_stream(path, fd, stat)
  if stream or err then return stream, err end
  local size = stat.type == "file" and stat.size or nil
  return setmetatable({ path = path, fd = fd, stat = stat, size = size }, File)
end

-- ---------------------------------------------------------------------------
-- The output
-- ---------------------------------------------------------------------------

-- What may stand at `path` before anything is opened; the flags to open it with.
local function check_output(path, input_stat, force)
  local stat, text = M.fs(uv.fs_stat, path)
  if not stat then
    if text:find "^ENOENT" then return "ax" end
    return nil, M.failure("write", path, text)
  end
  if stat.type == "directory" then return nil, M.failure("write", path, "EISDIR: it is a directory") end
  -- Terminals, pipes and /dev/null hold nothing that could be lost.
  if stat.type ~= "file" then return "a" end
  if M.same(stat, input_stat) then
    return nil, errors.new { kind = "invalid", message = ("the output '%s' is the input"):format(path) }
  end
  if not force then
    return nil, errors.new { kind = "invalid",
      message = ("the output '%s' exists already; --force overwrites it"):format(path) }
  end
  return "a"
end

---@class neap.batch.Output
---@field path string
---@field fd integer
---@field size? integer bytes, of a regular file

--- Opens the output for appending, empty. An existing file is refused unless
--- `force`, the input (under whatever name) always. Waits.
---@param path string "-": standard output
---@param input_stat table luv's stat of the input
---@param force boolean
---@return neap.batch.Output? output
---@return neap.Error? err kind "invalid"
function M.open_output(path, input_stat, force)
  local fd = 1
  if path ~= "-" then
    local flags, err = check_output(path, input_stat, force)
    if not flags then return nil, err end
    local opened, text = M.fs(uv.fs_open, path, flags, 420) -- 0644
    if not opened then return nil, M.failure("write", path, text) end
    fd = opened
  end
  local stat, text = M.fs(uv.fs_fstat, fd)
  if stat and path == "-" and M.same(stat, input_stat) and stat.type == "file" then
    return nil, errors.new { kind = "invalid", message = "the output is the input" }
  end
  if stat and stat.type == "file" and path ~= "-" and stat.size > 0 then
    local ok
    ok, text = M.fs(uv.fs_ftruncate, fd, 0)
    stat.size = 0
    if not ok then stat = nil end
  end
  if not stat then
    if fd > 2 then uv.fs_close(fd) end
    return nil, M.failure("write", path, text)
  end
  return { path = path, fd = fd, size = stat.type == "file" and stat.size or nil }
end

return M
