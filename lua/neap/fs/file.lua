--- An open file. Every operation runs on the thread pool while the task waits.
--- A file is closed by close(), at the latest by the collector; its descriptor
--- goes only when no operation is in flight on it, for it might be another
--- file's by then.
local await = require "neap.await"
local call = require "neap.fs.call"
local core = require "neap.core"
local errors = require "neap.error"
local uv = require "neap.uv"

local CHUNK = 64 * 1024
local MAX_READ = 2 ^ 30

---@class neap.fs.File
---@field path string
---@field private hold table {fd, busy, closing}: what the collector closes
---@field private guard userdata
---@field private at integer? place of the next read and write; nil: the system's (pipes)
---@field private appends boolean writes go to the end
local File = {}
File.__index = File

function File:__tostring()
  return ("neap.fs.File (%s%s)"):format(self.path, self.hold.fd and "" or ", closed")
end

--- Closes the descriptor once nothing uses it.
local function release(hold)
  hold.closing = true
  if hold.busy > 0 or not hold.fd then return end
  local fd = hold.fd
  hold.fd = nil
  uv.fs_close(fd)
end

local function start(resume, hold, fn, a, b)
  local function finish(...)
    hold.busy = hold.busy - 1
    if hold.closing then release(hold) end
    resume(...)
  end
  hold.busy = hold.busy + 1
  if b ~= nil then return fn(hold.fd, a, b, finish) end
  if a ~= nil then return fn(hold.fd, a, finish) end
  return fn(hold.fd, finish)
end

local function closed(self, verb)
  return errors.new { kind = "closed", path = self.path,
    message = ("cannot %s '%s': the file is closed"):format(verb, self.path) }
end

local function wait(self, verb, fn, a, b)
  if self.hold.closing then return nil, closed(self, verb) end
  local text, value = await(start, self.hold, fn, a, b)
  if text then return nil, call.failure_of(verb, self.path, text) end
  return value
end

--- Up to `count` bytes (64 KiB when not given) from the current place; nil at the
--- end. One task at a time. Waits.
---@param count? integer at least 1
---@return string? data
---@return neap.Error? err
function File:read(count)
  count = count or CHUNK
  if type(count) ~= "number" or count < 1 or count > MAX_READ or count % 1 ~= 0 then
    error("file:read: the count must be a whole number of at least 1, got " .. tostring(count), 2)
  end
  local data, err = wait(self, "read", uv.fs_read, count, self.at or -1)
  if not data then return nil, err end
  if data == "" then return nil end
  if self.at then self.at = self.at + #data end
  return data
end

--- `count` bytes from `place` on, fewer only at the end of the file; the current
--- place stays. Any number of tasks at a time. Waits.
---@param place integer bytes from the start
---@param count integer at least 1
---@return string? data "" at the end
---@return neap.Error? err kind "invalid" for a pipe
function File:read_at(place, count)
  for _, number in ipairs { place, count } do
    if type(number) ~= "number" or number < 0 or number > 2 ^ 53 or number % 1 ~= 0 then
      error("file:read_at: place and count must be whole numbers of at least 0, got " .. tostring(number), 2)
    end
  end
  local parts, got = {}, 0
  while got < count do
    local data, err = wait(self, "read", uv.fs_read, math.min(count - got, MAX_READ), place + got)
    if not data then return nil, err end
    if data == "" then break end
    parts[#parts + 1], got = data, got + #data
  end
  return table.concat(parts)
end

--- Writes all of `data` at the current place (the end, in an appending mode).
--- After an error part of it may be there. Waits.
---@param data string
---@return true? ok
---@return neap.Error? err kind "limit" for a full disk
function File:write(data)
  if type(data) ~= "string" then error("file:write: expected a string, got " .. type(data), 2) end
  if self.hold.closing then return nil, closed(self, "write") end
  -- The place is taken before the wait, so that two writers do not overlap.
  local at = not self.appends and self.at or nil
  if at then self.at = at + #data end
  local done = 0
  while done < #data do
    local rest = done == 0 and data or data:sub(done + 1)
    local count, err = wait(self, "write", uv.fs_write, rest, at and at + done or -1)
    if not count then return nil, err end
    done = done + count
  end
  return true
end

--- Moves the place of the next read and write: "set" from the start, "cur" from
--- the current place, "end" from the end. Returns the new place. May wait.
---@param whence? "set"|"cur"|"end" default "cur"
---@param offset? integer bytes, default 0
---@return integer? place
---@return neap.Error? err kind "invalid" for a pipe, or a place before the start
function File:seek(whence, offset)
  whence, offset = whence or "cur", offset or 0
  if whence ~= "set" and whence ~= "cur" and whence ~= "end" then
    error("file:seek: whence must be 'set', 'cur' or 'end', got " .. tostring(whence), 2)
  end
  if type(offset) ~= "number" or offset % 1 ~= 0 then
    error("file:seek: the offset must be a whole number, got " .. tostring(offset), 2)
  end
  if self.hold.closing then return nil, closed(self, "seek in") end
  if not self.at then return nil, call.failure("seek in", self.path, "ESPIPE", "it is not a regular file") end
  local from = whence == "cur" and self.at or 0
  if whence == "end" then
    local stat, err = self:stat()
    if not stat then return nil, err end
    from = stat.size
  end
  if from + offset < 0 then
    return nil, call.failure("seek in", self.path, "EINVAL", "the place is before the start")
  end
  self.at = from + offset
  return self.at
end

--- What the system knows about the file: see neap.fs.stat. Waits.
---@return neap.fs.Stat? stat
---@return neap.Error? err
function File:stat()
  return wait(self, "stat", uv.fs_fstat)
end

--- Waits until what was written is on the disk.
---@return true? ok
---@return neap.Error? err
function File:sync()
  return wait(self, "sync", uv.fs_fsync)
end

--- Takes the file's lock (flock), which other programs that ask for it respect,
--- until it is closed. False when somebody else has it. Never waits.
---@return boolean? taken
---@return neap.Error? err
function File:lock()
  if self.hold.closing then return nil, closed(self, "lock") end
  local code = core.file_lock(self.hold.fd)
  if not code then return true end
  local text = uv.translate_sys_error(code)
  if text:find "^EAGAIN" then return false end
  return nil, call.failure_of("lock", self.path, text)
end

--- Cuts the file, or fills it up with zero bytes, to `size` bytes. Waits.
---@param size integer
---@return true? ok
---@return neap.Error? err
function File:truncate(size)
  if type(size) ~= "number" or size < 0 or size % 1 ~= 0 then
    error("file:truncate: the size must be a whole number of at least 0, got " .. tostring(size), 2)
  end
  return wait(self, "truncate", uv.fs_ftruncate, size)
end

local function start_close(resume, hold)
  local fd = hold.fd
  hold.fd = nil
  return uv.fs_close(fd, resume)
end

--- Closes the file, in a cancelled task too (which raises). nil, err where the
--- system reports a loss only now (a network file system). Closing again does
--- nothing. Waits.
---@return true? ok
---@return neap.Error? err
function File:close()
  local hold = self.hold
  if hold.closing then return true end
  hold.closing = true
  if hold.busy > 0 then return true end -- when what is in flight has ended
  local ok, text = pcall(await, start_close, hold)
  if not ok then
    release(hold) -- the wait did not begin: cancelled
    error(text, 0)
  end
  if text then return nil, call.failure_of("close", self.path, text) end
  return true
end

--- Closes at once, without a wait: for the way out of an error.
---@package
function File:abandon()
  release(self.hold)
end

local function wrap(path, fd, mode, stat)
  local hold = { fd = fd, busy = 0, closing = false }
  local guard = newproxy(true)
  getmetatable(guard).__gc = function() release(hold) end
  return setmetatable({
    path = path, hold = hold, guard = guard, appends = mode:find("a", 1, true) ~= nil,
    at = stat.type == "file" and 0 or nil,
  }, File)
end

-- A descriptor that comes after the wait was given up belongs to nobody.
local function start_open(resume, path, mode, permissions)
  return uv.fs_open(path, mode, permissions, function(text, fd)
    if not resume(text, fd) and fd then uv.fs_close(fd) end
  end)
end

local M = {}

--- Opens a file; arguments are checked already. Waits.
---@param path string
---@param mode string
---@param permissions integer
---@return neap.fs.File? file
---@return neap.Error? err
function M.open(path, mode, permissions)
  local text, fd = await(start_open, path, mode, permissions)
  if text then return nil, call.failure_of("open", path, text) end
  -- Of an open descriptor: a moment, and nothing to be cancelled in between.
  local stat
  stat, text = uv.fs_fstat(fd)
  if stat and stat.type == "directory" then stat, text = nil, "EISDIR: it is a directory" end
  if not stat then
    uv.fs_close(fd)
    return nil, call.failure_of("open", path, text)
  end
  return wrap(path, fd, mode, stat)
end

return M
