--- Writes the results of a batch: whole lines, appended as they come. Lines that
--- come while an append is under way go out together in the next one, so that a
--- fast server costs few system calls. After a failure (a full disk) nothing more
--- is written, and what stood there of a half line is cut off again.
local files = require "neap.batch.files"
local flow = require "neap.flow"
local neap = require "neap"
local uv = require "neap.uv"

local M = {}

---@class neap.batch.Writer
---@field lines integer written whole
---@field bytes integer of them
---@field failed? neap.Error why nothing more is written
---@field private file neap.batch.Output
---@field private turn neap.Semaphore one append at a time
---@field private pending {text: string, written: boolean}[] what the next append takes
local Writer = {}
Writer.__index = Writer

--- A writer on an open output.
---@param file neap.batch.Output
---@return neap.batch.Writer
function M.new(file)
  return setmetatable({ file = file, lines = 0, bytes = 0, turn = flow.semaphore(1), pending = {} }, Writer)
end

-- Writes all of text; a file system or a pipe may take it in parts. Returns the
-- bytes written and, where that is not all, luv's message.
local function write_all(fd, text)
  local done = 0
  while done < #text do
    local count, message = files.fs(uv.fs_write, fd, done == 0 and text or text:sub(done + 1), -1)
    if count then
      done = done + count
    elseif message:find "^EAGAIN" then
      neap.sleep(0.01) -- a pipe that somebody else has made non-blocking
    else
      return done, message
    end
  end
  return done
end

-- Marks the lines that are whole within the first `bytes`.
function Writer:account(batch, bytes)
  for _, line in ipairs(batch) do
    bytes = bytes - #line.text
    if bytes < 0 then return end
    line.written = true
    self.lines, self.bytes = self.lines + 1, self.bytes + #line.text
  end
end

-- Appends everything that is pending.
function Writer:flush()
  local batch = self.pending
  self.pending = {}
  local text = batch[1].text
  if batch[2] then
    local texts = {}
    for i, line in ipairs(batch) do texts[i] = line.text end
    text = table.concat(texts)
  end
  local bytes, message = write_all(self.file.fd, text)
  self:account(batch, bytes)
  if not message then return end
  self.failed = files.failure("write", self.file.path, message)
  -- The size counts from what stood there when it was opened.
  if self.file.size then files.fs(uv.fs_ftruncate, self.file.fd, self.file.size + self.bytes) end
end

--- Appends `line` and a line end. Waits until it is written; a cancel does not
--- tear it.
---@param line string
---@return true? ok
---@return neap.Error? err kind "invalid", with `code` ("ENOSPC")
function Writer:append(line)
  if self.failed then return nil, self.failed end
  local entry = { text = line .. "\n", written = false }
  self.pending[#self.pending + 1] = entry
  self.turn:acquire()
  if not entry.written and not self.failed then neap.shield(self.flush, self) end
  self.turn:release()
  if entry.written then return true end
  return nil, self.failed
end

--- Closes the output. Returns nil, err when the system reports a loss only now
--- (a network file system). Waits.
---@return true? ok
---@return neap.Error? err
function Writer:close()
  if self.file.fd <= 2 then return true end
  local _, message = files.fs(uv.fs_close, self.file.fd)
  if message then return nil, files.failure("write", self.file.path, message) end
  return true
end

return M
