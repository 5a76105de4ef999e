--- A file's lines, one at a time, in bounded memory.
local errors = require "neap.error"

local CHUNK = 256 * 1024

--- The end of the line that begins in what was read before: pieces until the next
--- line end. nil at the end of the file when nothing is left.
local function finish_line(self, pieces, length)
  while true do
    if length > self.max_line then
      error(errors.new { kind = "too_large", path = self.file.path,
        message = ("'%s' has a line of more than %d bytes"):format(self.file.path, self.max_line) }, 0)
    end
    local chunk, err = self.file:read(CHUNK)
    if err then error(err, 0) end
    if not chunk then
      self.chunk, self.at, self.ended = "", 1, true
      self.file:abandon()
      return length > 0 and table.concat(pieces) or nil
    end
    local stop = chunk:find("\n", 1, true)
    self.chunk, self.at = chunk, (stop or #chunk) + 1
    pieces[#pieces + 1] = stop and chunk:sub(1, stop - 1) or chunk
    length = length + #pieces[#pieces]
    if stop and length <= self.max_line then return table.concat(pieces) end
  end
end

local function next_line(self)
  local at = self.at
  local stop = self.chunk:find("\n", at, true)
  if stop and stop - at <= self.max_line then
    self.at = stop + 1
    return self.chunk:sub(at, stop - 1)
  end
  if self.ended then return nil end
  local ok, line = pcall(finish_line, self, { self.chunk:sub(at, (stop or 0) - 1) }, (stop or #self.chunk + 1) - at)
  if ok then return line end
  self.ended, self.chunk = true, ""
  self.file:abandon()
  error(line, 0)
end

--- The iterator over an open file, which it closes at the end.
---@param file neap.fs.File
---@param max_line integer bytes
---@return fun(): string?
return function(file, max_line)
  local self = { file = file, max_line = max_line, chunk = "", at = 1, ended = false }
  return function() return next_line(self) end
end
