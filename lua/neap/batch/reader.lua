--- Reads the input of a batch: a stream of lines in the OpenAI batch file format
--- becomes items, one at a time, in bounded memory. What a line says is checked
--- here; a bad line is an item too, with a `problem`.
local core = require "neap.core"
local ids = require "neap.batch.ids"
local json = require "neap.json"

local M = {}

--- A line longer than this is a bad line: it is skipped, not kept.
M.MAX_LINE = 128 * 2 ^ 20

---@class neap.batch.Item
---@field line integer its number in the input, from 1
---@field bytes integer of the input, line end included
---@field id string ours, stable: made from the custom_id, else from the line number
---@field custom_id? string as it stands in the input: JSON text
---@field name? string the custom_id, decoded
---@field method? string
---@field url? string path, begins with "/"
---@field body? string as it stands in the input: JSON text
---@field problem? string why it cannot be run: one sentence that names the line

---@class neap.batch.Source bytes of the input
---@field read fun(self): string?, neap.Error? next piece; nil at the end; nil, err. Waits
---@field close fun(self)
---@field size? integer bytes, where known

---@class neap.batch.Reader
---@field line integer lines read so far
---@field private source neap.batch.Source
---@field private chunk string
---@field private at integer
---@field private seen neap.batch.Set
local Reader = {}
Reader.__index = Reader

--- A reader over a source.
---@param source neap.batch.Source
---@return neap.batch.Reader
function M.new(source)
  return setmetatable({ source = source, line = 0, chunk = "", at = 1, seen = ids.set() }, Reader)
end

local BOM = "\239\187\191"

-- The next line without its end, and its bytes; nil at the end of the input;
-- nil, 0, err; false, bytes when it is too long.
function Reader:next_line()
  local pieces, length = nil, 0
  while true do
    local stop = self.chunk:find("\n", self.at, true)
    local piece = self.chunk:sub(self.at, (stop or 0) - 1)
    length = length + #piece
    if stop then
      self.at = stop + 1
      if length > M.MAX_LINE then return false, length + 1 end
      if not pieces then return piece, length + 1 end
      pieces[#pieces + 1] = piece
      return table.concat(pieces), length + 1
    end
    pieces = length <= M.MAX_LINE and pieces or {}
    pieces[#pieces + 1] = length <= M.MAX_LINE and piece or nil
    local chunk, err = self.source:read()
    if err then return nil, 0, err end
    if not chunk then
      self.chunk, self.at = "", 1
      if length == 0 then return nil end
      if length > M.MAX_LINE then return false, length end
      return table.concat(pieces), length
    end
    self.chunk, self.at = chunk, 1
  end
end

-- The text of a raw JSON string, or nil when it is none.
local function string_of(raw)
  if raw:sub(1, 1) ~= '"' then return nil end
  if not raw:find("\\", 1, true) then return raw:sub(2, -2) end
  return (json.decode(raw))
end

local function present(raw)
  return raw ~= nil and raw ~= "null"
end

-- Methods that need no body.
local BODILESS = { GET = true, HEAD = true, DELETE = true, OPTIONS = true }

-- Fills in the request; returns the problem, if any.
local function read_request(item, members)
  if not present(members.url) then return 'has no "url"' end
  item.url = string_of(members.url)
  if not item.url then return 'has a "url" that is not a string' end
  if item.url:sub(1, 1) ~= "/" then
    return 'has a "url" that is no path beginning with "/" (the host comes from --base-url)'
  end
  item.method = "POST"
  if present(members.method) then
    item.method = (string_of(members.method) or ""):upper()
    if not item.method:find "^[A-Z]+$" then return 'has a "method" that is not a method\'s name' end
  end
  if present(members.body) then
    item.body = members.body
  elseif not BODILESS[item.method] then
    return 'has no "body"'
  end
end

function Reader:read_members(item, text)
  local members, message = core.json_members(text)
  if not members then
    if core.json_valid(text) then return "is not a JSON object" end
    return "is not JSON: " .. tostring(message)
  end
  if not present(members.custom_id) then return 'has no "custom_id"' end
  item.name = string_of(members.custom_id)
  if not item.name then return 'has a "custom_id" that is not a string' end
  if item.name == "" then return 'has an empty "custom_id"' end
  item.custom_id = members.custom_id
  item.id = "batch_req_" .. ids.hex(item.name)
  if not self.seen:add(item.name) then
    item.id = "batch_req_" .. ids.hex("line\0" .. item.line)
    return ("repeats the custom_id %s of an earlier line"):format(item.custom_id)
  end
  return read_request(item, members)
end

--- The next item; nil at the end; nil, err when the input cannot be read on.
--- Blank lines are passed over. Waits.
---@return neap.batch.Item? item
---@return neap.Error? err
function Reader:next()
  while true do
    local text, bytes, err = self:next_line()
    if text == nil then return nil, err end
    self.line = self.line + 1
    if text and self.line == 1 and text:sub(1, 3) == BOM then text = text:sub(4) end
    if not text or text:find "[^ \t\r]" then
      local item = { line = self.line, bytes = bytes, id = "batch_req_" .. ids.hex("line\0" .. self.line) }
      local problem
      if text then
        problem = self:read_members(item, text)
      else
        problem = ("is longer than %d MB"):format(M.MAX_LINE / 2 ^ 20)
      end
      if problem then item.problem = ("line %d %s"):format(item.line, problem) end
      return item
    end
  end
end

--- Closes the source.
function Reader:close()
  self.source:close()
end

return M
