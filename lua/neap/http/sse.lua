--- Server-sent events: a parser of `text/event-stream` to the rules of the
--- WHATWG HTML standard, section 9.2.6. Pure: bytes in, events out, whatever the
--- chunk boundaries; bytes pass as they are (no UTF-8 decoding).
local lines = require "neap.http.lines"
local error_module = require "neap.error"

local find, sub, byte = string.find, string.sub, string.byte
local concat = table.concat

local M = {}

---@class neap.http.Event
---@field data string the data lines, joined by LF
---@field event string the type, "message" when the stream names none
---@field id string the last event id that the stream set, "" before the first
---@field retry number? the last reconnection time that the stream set, in seconds

---@class neap.http.SseParser
---@field id string the last event id so far
---@field retry number? the last reconnection time so far, seconds
local Parser = {}
Parser.__index = Parser

local BOM = "\239\187\191"

--- A parser at the start of a stream.
---@param max_bytes? integer the longest line and the longest event's data; default 16 MB
---@return neap.http.SseParser
function M.new(max_bytes)
  max_bytes = max_bytes or lines.MAX_BYTES
  local self = setmetatable({
    id = "", retry = nil,
    splitter = lines.new(true, max_bytes),
    max = max_bytes,
    head = "", -- the first bytes, until it is clear whether they are a BOM
    data = {}, data_len = 0, type = "",
    events = {}, first = 1, last = 0,
  }, Parser)
  self.emit = function(line) self:line(line) end
  return self
end

function Parser:dispatch()
  local data, event = self.data, self.type
  self.type = ""
  if #data == 0 then return end
  self.data, self.data_len = {}, 0
  self.last = self.last + 1
  self.events[self.last] = {
    data = #data == 1 and data[1] or concat(data, "\n"),
    event = event ~= "" and event or "message",
    id = self.id,
    retry = self.retry,
  }
end

function Parser:field(name, value)
  if name == "data" then
    self.data_len = self.data_len + #value + 1
    if self.data_len > self.max then
      error(error_module.new {
        kind = "too_large", phase = "download",
        message = ("an event's data is longer than %d bytes"):format(self.max),
      }, 0)
    end
    self.data[#self.data + 1] = value
  elseif name == "event" then
    self.type = value
  elseif name == "id" then
    if not find(value, "%z") then self.id = value end
  elseif name == "retry" then
    -- 15 digits are 31,000 years; more could not be a wait anyway.
    if find(value, "^%d+$") and #value <= 15 then
      self.retry = tonumber(value) / 1000
    end
  end
end

function Parser:line(line)
  if line == "" then return self:dispatch() end
  local colon = find(line, ":", 1, true)
  if colon == 1 then return end -- a comment
  if not colon then return self:field(line, "") end
  local start = colon + 1
  if byte(line, start) == 32 then start = start + 1 end
  self:field(sub(line, 1, colon - 1), sub(line, start))
end

--- Takes the next bytes of the stream. Raises kind "too_large" when a line or an
--- event outgrows the limit.
---@param chunk string
function Parser:feed(chunk)
  if self.head then
    chunk = self.head .. chunk
    if #chunk < 3 and chunk == sub(BOM, 1, #chunk) then
      self.head = chunk
      return
    end
    self.head = nil
    if sub(chunk, 1, 3) == BOM then chunk = sub(chunk, 4) end
  end
  self.splitter:feed(chunk, self.emit)
end

--- The next complete event, or nil when there is none yet. An event that the end
--- of the stream cuts off never comes out, as the standard demands.
---@return neap.http.Event?
function Parser:next()
  local first = self.first
  local event = self.events[first]
  if not event then return nil end
  self.events[first] = nil
  if first == self.last then
    self.first, self.last = 1, 0
  else
    self.first = first + 1
  end
  return event
end

return M
