--- A small line editor for a terminal in raw mode: a state machine that is fed
--- bytes and answers with events; it writes what has to be drawn through a
--- function, so a spec can drive it without a terminal. Long lines scroll
--- sideways. Every UTF-8 character counts as one column.
local M = {}

---@class neap.cli.LineEditor
---@field write fun(text: string) draws
---@field width fun(): integer columns of the terminal
---@field history string[] oldest first; owned by the caller
---@field complete? fun(before: string): string[] what the word before the cursor may go on with
local Editor = {}
Editor.__index = Editor

---@param fields table write, width, history, complete: as above
---@return neap.cli.LineEditor
function M.new(fields)
  return setmetatable({
    write = fields.write, width = fields.width, history = fields.history, complete = fields.complete,
    pending = "", prompt = "", chars = {}, cursor = 0, active = false,
  }, Editor)
end

local function characters(text)
  local list = {}
  for char in text:gmatch "[%z\1-\127\192-\255][\128-\191]*" do list[#list + 1] = char end
  return list
end

--- Begins a line.
---@param prompt string
function Editor:start(prompt)
  self.prompt, self.chars, self.cursor = prompt, {}, 0
  self.place, self.draft = #self.history + 1, ""
  self.active = true
  self:draw()
end

function Editor:text()
  return table.concat(self.chars)
end

--- Draws the part of the line that fits, with the cursor in it.
function Editor:draw()
  if not self.active then return end
  local room = math.max(self.width() - #self.prompt - 1, 8)
  local first = math.max(1, self.cursor - room + 1)
  local last = math.min(#self.chars, first + room - 1)
  local column = #self.prompt + self.cursor - first + 1
  self.write("\r" .. self.prompt .. table.concat(self.chars, "", first, last) .. "\27[0K\r"
    .. (column > 0 and ("\27[%dC"):format(column) or ""))
end

--- Takes the line off the screen, for other output; `draw` brings it back.
function Editor:hide()
  if self.active then self.write "\r\27[0K" end
end

function Editor:set(text)
  self.chars = characters(text)
  self.cursor = #self.chars
  self:draw()
end

function Editor:insert(char)
  self.cursor = self.cursor + 1
  table.insert(self.chars, self.cursor, char)
  self:draw()
end

--- Removes the characters from `first` to `last`.
function Editor:cut(first, last)
  for _ = first, last do table.remove(self.chars, first) end
  self.cursor = first - 1
  self:draw()
end

function Editor:move(place)
  self.cursor = math.max(0, math.min(#self.chars, place))
  self:draw()
end

local function is_word(char)
  return char ~= nil and char:match "^[%w_\128-\255]" ~= nil
end

function Editor:word_left()
  local at = self.cursor
  while at > 0 and not is_word(self.chars[at]) do at = at - 1 end
  while at > 0 and is_word(self.chars[at]) do at = at - 1 end
  return at
end

function Editor:word_right()
  local at = self.cursor
  while at < #self.chars and not is_word(self.chars[at + 1]) do at = at + 1 end
  while at < #self.chars and is_word(self.chars[at + 1]) do at = at + 1 end
  return at
end

function Editor:recall(step)
  local place = self.place + step
  if place < 1 or place > #self.history + 1 then return end
  if self.place == #self.history + 1 then self.draft = self:text() end
  self.place = place
  self:set(self.history[place] or self.draft)
end

local function common_prefix(words)
  local prefix = words[1]
  for _, word in ipairs(words) do
    while word:sub(1, #prefix) ~= prefix do prefix = prefix:sub(1, -2) end
  end
  return prefix
end

function Editor:tab()
  local endings = self.complete and self.complete(table.concat(self.chars, "", 1, self.cursor)) or {}
  if #endings == 0 then return self:insert " " end
  for _, char in ipairs(characters(common_prefix(endings))) do self:insert(char) end
end

local function end_line(self, event)
  self.active = false
  self.write "\r\n"
  return event
end

local KEYS = {
  ["\1"] = function(self) self:move(0) end, -- ctrl-a
  ["\2"] = function(self) self:move(self.cursor - 1) end,
  ["\3"] = function(self) return end_line(self, "interrupt") end,
  ["\4"] = function(self) -- ctrl-d: end of input on an empty line
    if #self.chars == 0 then return end_line(self, "eof") end
    if self.cursor < #self.chars then self:cut(self.cursor + 1, self.cursor + 1) end
  end,
  ["\5"] = function(self) self:move(#self.chars) end,
  ["\6"] = function(self) self:move(self.cursor + 1) end,
  ["\8"] = function(self) if self.cursor > 0 then self:cut(self.cursor, self.cursor) end end,
  ["\t"] = function(self) self:tab() end,
  ["\n"] = function(self) return end_line(self, "line") end,
  ["\11"] = function(self) self:cut(self.cursor + 1, #self.chars) end, -- ctrl-k
  ["\12"] = function(self) -- ctrl-l
    self.write "\27[H\27[2J"
    self:draw()
  end,
  ["\14"] = function(self) self:recall(1) end,
  ["\16"] = function(self) self:recall(-1) end,
  ["\21"] = function(self) self:cut(1, self.cursor) end, -- ctrl-u
  ["\23"] = function(self) self:cut(self:word_left() + 1, self.cursor) end, -- ctrl-w
}
KEYS["\r"], KEYS["\127"] = KEYS["\n"], KEYS["\8"]

local ESCAPES = {
  A = KEYS["\16"], B = KEYS["\14"], C = KEYS["\6"], D = KEYS["\2"], H = KEYS["\1"], F = KEYS["\5"],
  ["1~"] = KEYS["\1"], ["7~"] = KEYS["\1"], ["4~"] = KEYS["\5"], ["8~"] = KEYS["\5"],
  ["3~"] = function(self) if self.cursor < #self.chars then self:cut(self.cursor + 1, self.cursor + 1) end end,
  b = function(self) self:move(self:word_left()) end,
  f = function(self) self:move(self:word_right()) end,
}
ESCAPES["1;5D"], ESCAPES["1;5C"] = ESCAPES.b, ESCAPES.f

--- An escape sequence: ESC [ parameters final, ESC O letter, or ESC and a key.
local function escape_key(pending)
  local sequence, name = pending:match "^(\27%[([0-?]*[ -/]*[@-~]))"
  if not sequence then sequence, name = pending:match "^(\27O([%w]))" end
  if not sequence then sequence, name = pending:match "^(\27([^%[O%c]))" end
  if sequence then return sequence, ESCAPES[name] end
  local begun = pending:match "^\27%[[0-?]*[ -/]*" or pending:match "^\27O?"
  if #begun == #pending then return nil end
  return begun -- broken off: something else begins
end

--- The next whole key at the front of `pending`: its bytes and what it does, or
--- nil while it is incomplete.
local function next_key(pending)
  local first = pending:byte(1)
  if not first then return nil end
  if first == 27 then return escape_key(pending) end
  if first < 32 or first == 127 then return pending:sub(1, 1), KEYS[pending:sub(1, 1)] end
  local length = first < 0xC0 and 1 or first < 0xE0 and 2 or first < 0xF0 and 3 or 4
  if #pending < length then return nil end
  local char = pending:sub(1, length)
  return char, function(self) self:insert(char) end
end

--- Adds what was typed.
---@param bytes string
function Editor:feed(bytes)
  self.pending = self.pending .. bytes
end

--- Works through what was typed, up to the end of a line. Bytes behind it stay
--- for the next line.
---@return "line"|"interrupt"|"eof"|nil event nil: more bytes are needed
---@return string? text of a line
function Editor:next_event()
  while true do
    local key, action = next_key(self.pending)
    if not key then return nil end
    self.pending = self.pending:sub(#key + 1)
    local event = action and action(self)
    if event then return event, self:text() end
  end
end

return M
