--- Splits a byte stream into lines, whatever the chunk boundaries. Pure.
--- A line that spans many chunks is kept as pieces, so the cost stays linear.
local error_module = require "neap.error"

local find, sub, byte = string.find, string.sub, string.byte
local concat = table.concat

local M = {}

--- Longest line or event by default: 16 MB.
M.MAX_BYTES = 16 * 1024 * 1024

---@class neap.http.LineSplitter
---@field private pieces string[] the start of a line whose end has not come
---@field private pieces_len integer bytes in pieces
---@field private skip_lf boolean the last line ended in CR: a LF next is part of it
---@field private cr_ends boolean a lone CR ends a line
---@field private max integer
local Splitter = {}
Splitter.__index = Splitter

--- A splitter. With `cr_ends`, CR, LF and CRLF all end a line (event streams);
--- else LF does, and a CR before it is dropped (plain text).
---@param cr_ends boolean
---@param max_bytes? integer the longest line; beyond it `feed` raises kind "too_large"
---@return neap.http.LineSplitter
function M.new(cr_ends, max_bytes)
  return setmetatable({
    pieces = {}, pieces_len = 0, skip_lf = false,
    cr_ends = cr_ends, max = max_bytes or M.MAX_BYTES,
  }, Splitter)
end

function Splitter:keep(piece)
  local pieces = self.pieces
  pieces[#pieces + 1] = piece
  self.pieces_len = self.pieces_len + #piece
  if self.pieces_len > self.max then
    error(error_module.new {
      kind = "too_large", phase = "download",
      message = ("a line of the body is longer than %d bytes"):format(self.max),
    }, 0)
  end
end

function Splitter:take(piece)
  local pieces = self.pieces
  if #pieces == 0 then return piece end
  self:keep(piece)
  local line = concat(pieces)
  self.pieces, self.pieces_len = {}, 0
  return line
end

--- Calls `emit(line)` for every line that `chunk` completes.
---@param chunk string
---@param emit fun(line: string)
function Splitter:feed(chunk, emit)
  local start, cr_ends = 1, self.cr_ends
  local pattern = cr_ends and "[\r\n]" or "\n"
  if self.skip_lf and #chunk > 0 then
    self.skip_lf = false
    if byte(chunk, 1) == 10 then start = 2 end
  end
  while true do
    local at = find(chunk, pattern, start, not cr_ends)
    if not at then break end
    local line = self:take(sub(chunk, start, at - 1))
    start = at + 1
    if not cr_ends then
      if byte(line, -1) == 13 then line = sub(line, 1, -2) end
    elseif byte(chunk, at) == 13 then
      if start > #chunk then
        self.skip_lf = true
      elseif byte(chunk, start) == 10 then
        start = start + 1
      end
    end
    emit(line)
  end
  if start <= #chunk then self:keep(sub(chunk, start)) end
end

--- What is left at the end of the stream: a last line without its end, or nil.
---@return string?
function Splitter:rest()
  if self.pieces_len == 0 then return nil end
  return self:take ""
end

return M
