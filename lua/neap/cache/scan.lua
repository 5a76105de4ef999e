--- Reads a file of results from its first record to its last, jumping over the
--- values, and finds where records go on behind bytes that are none.
local record = require "neap.cache.record"

local M = {}

local PIECE = 256 * 1024

---@class neap.cache.Scan
---@field size integer where the last whole record ends: the rest is a torn tail
---@field skipped integer bytes in the middle that belong to no record
---@field last? neap.cache.Head the last whole record
---@field last_at? integer where it begins
---@field private file neap.fs.File
---@field private text string bytes from `base` on
---@field private base integer
local Scan = {}
Scan.__index = Scan

-- Makes `count` bytes from `place` on ready; nil at the file's end. Returns where
-- they begin in `text`.
local function need(self, place, count)
  local at = place - self.base + 1
  if at >= 1 and at + count - 1 <= #self.text then return at end
  local kept = at >= 1 and at <= #self.text and self.text:sub(at) or ""
  local data, err = self.file:read_at(place + #kept, math.max(PIECE, count - #kept))
  if not data then return nil, err end
  self.text, self.base = kept .. data, place
  if #self.text < count then return nil end
  return 1
end

-- The head of a record at `place` that is whole within the file; nil when there
-- is none.
local function head_at(self, place)
  local at, err = need(self, place, record.HEAD_BYTES)
  if not at then return nil, err end
  local size = record.head_size(self.text, at)
  if not size or place + size > self.total then return nil end
  at, err = need(self, place, size)
  if not at then return nil, err end
  local head = record.decode(self.text, at, self.salt)
  if head and place + head.size <= self.total then return head end
end

-- The next place from `place` on where a record's mark stands; nil: none.
local function next_mark(self, place)
  while true do
    local at, err = need(self, place, #record.MARK)
    if not at then return nil, err end
    local found = self.text:find(record.MARK, at, true)
    if found then return self.base + found - 1 end
    -- The mark may be cut by the piece's end.
    place = self.base + #self.text - #record.MARK + 1
  end
end

--- Calls `visit(head, place)` for each record in the file's order. Waits.
---@param file neap.fs.File
---@param total integer the file's bytes
---@param salt integer
---@param visit fun(head: neap.cache.Head, place: integer)
---@return neap.cache.Scan? scan
---@return neap.Error? err
function M.run(file, total, salt, visit)
  local self = setmetatable({
    file = file, total = total, salt = salt, text = "", base = 0, size = record.HEADER_BYTES, skipped = 0,
  }, Scan)
  local place = record.HEADER_BYTES
  while place < total do
    local head, err = head_at(self, place)
    if err then return nil, err end
    if head then
      visit(head, place)
      self.last, self.last_at = head, place
      self.skipped = self.skipped + place - self.size
      place = place + head.size
      self.size = place
    else
      place, err = next_mark(self, place + 1)
      if err then return nil, err end
      if not place then break end
    end
  end
  return self
end

return M
