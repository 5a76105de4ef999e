--- Finds values in a text, also as JSON, URLs, forms and HTML write them, and their
--- base64. A few are looked for one after the other; many in one pass over the text:
--- its every four bytes are looked up in an index. Pure.
local base64 = require "neap.base64"
local bit = require "bit"
local ways = require "neap.cassette.redact.ways"

local byte, find, gsub, sub = string.byte, string.find, string.gsub, string.sub
local band, bor, bxor, lshift, rshift = bit.band, bit.bor, bit.bxor, bit.lshift, bit.rshift

local M = {}

local FEW = 10 -- needles; with more the pass is cheaper
local MASK = 8191
local MIN_ANCHOR = 4
local MAX_BASE64 = 4096 -- bytes of a value that is looked for in base64 too

-- -- Needles --------------------------------------------------------------------

---@class neap.cassette.Needle
---@field value string
---@field anchor string a part of it that is written in one way only
---@field offset integer bytes before the anchor
---@field before string[][] what stands before the anchor, backwards, each in the ways in which it may be written
---@field after string[][]
---@field left boolean must not follow a letter or digit
---@field right boolean must not be followed by one
---@field word boolean may be a member's name by chance

local LITERAL = "[%w%-._~]"

--- The pieces of a value: runs that are written in one way only, and characters.
local function pieces_of(value, of)
  local list, at = {}, 1
  while at <= #value do
    local stop = select(2, find(value, "^" .. LITERAL .. "+", at))
    if stop then
      list[#list + 1] = { sub(value, at, stop) }
    else
      stop = select(2, find(value, "^[\194-\244][\128-\191]+", at)) or at
      if stop - at > 3 then stop = at end
      list[#list + 1] = of(sub(value, at, stop))
    end
    at = stop + 1
  end
  return list
end

local function longest_run(value)
  local best, place, at = "", 1, 1
  while true do
    local from, to = find(value, LITERAL .. "+", at)
    if not from then return best, place end
    if to - from >= #best then best, place = sub(value, from, to), from end
    at = to + 1
  end
end

--- A value of letters and digits that may be a part of other words and numbers; a long
--- mixture of both is none by chance.
local function may_be_a_part(value)
  return #value < 16 or not (find(value, "%d") and find(value, "%a"))
end

local function needle_of(value, of)
  local anchor, place = longest_run(value)
  if #anchor < MIN_ANCHOR then anchor, place = value, 1 end -- found as it is only
  local before = {}
  local pieces = pieces_of(sub(value, 1, place - 1), of)
  for i = #pieces, 1, -1 do before[#before + 1] = pieces[i] end
  local bounded = may_be_a_part(value)
  return {
    value = value, anchor = anchor, offset = place - 1, before = before,
    after = pieces_of(sub(value, place + #anchor), of), word = not find(value, "[^%l_]"),
    left = bounded and find(value, "^%w") ~= nil, right = bounded and find(value, "%w$") ~= nil,
  }
end

--- What to look for where a value is not to be found: it, and its base64. One without
--- an anchor is looked for in the ways in which all of it may be written.
local function needles_of(value)
  local list = { needle_of(value, ways.of) }
  if #value <= MAX_BASE64 then list[2] = needle_of(gsub(base64.encode(value), "=+$", ""), ways.of_base64) end
  if #longest_run(value) < MIN_ANCHOR then
    for _, text in ipairs(ways.of_text(value)) do list[#list + 1] = needle_of(text, ways.of) end
  end
  return list
end

-- -- Matching -------------------------------------------------------------------

--- The end of these pieces, one behind the other from `at` on: the byte behind them, or,
--- with a step of -1, the first of them where they end before `at`. nil: not there.
local function match(text, at, pieces, step)
  for i = 1, #pieces do
    local stop
    for j = 1, #pieces[i] do
      local way = pieces[i][j]
      local from = step < 0 and at - #way or at
      if from >= 1 and sub(text, from, from + #way - 1) == way then
        stop = at + step * #way
        break
      end
    end
    if not stop then return nil end
    at = stop
  end
  return at
end

--- Whether what stands before `from` ends a word; the letters of an escape do.
local function is_bounded(text, from)
  if from == 1 or not find(text, "^%w", from - 1) then return true end
  local head = sub(text, from > 6 and from - 6 or 1, from - 1)
  return find(head, "%%%x%x$") ~= nil or find(head, "\\[bfnrt]$") ~= nil or find(head, "\\u%x%x%x%x$") ~= nil
end

--- Where a needle is whose anchor is at `at`: first and last byte; nil: not there.
local function place_of(text, at, needle)
  local from, to = at - needle.offset, at - needle.offset + #needle.value - 1
  if from < 1 or sub(text, from, to) ~= needle.value then
    from = match(text, at, needle.before, -1)
    to = from and match(text, at + #needle.anchor, needle.after, 1)
    if not to then return nil end
    to = to - 1
  end
  if needle.left and not is_bounded(text, from) or needle.right and find(text, "^%w", to + 1) then return nil end
  if needle.word and find(text, '^\\*"%s*:', to + 1) and sub(text, from - 1, from - 1) == '"' then return nil end
  return from, to
end

-- -- Finders --------------------------------------------------------------------

---@class neap.cassette.Finder
---@field values table<string, neap.cassette.Needle[]> what is looked for
---@field count integer values
---@field package needles neap.cassette.Needle[]
---@field package filter boolean[] by a hash of four bytes: whether any anchor ends so
---@field package index table<integer, neap.cassette.Needle[]> by an anchor's last four bytes
local Finder = {}
Finder.__index = Finder

---@return neap.cassette.Finder
function M.new()
  return setmetatable({ values = {}, count = 0, needles = {}, index = {} }, Finder)
end

local function four_of(anchor)
  local a, b, c, d = byte(anchor, -4, -1)
  return bor(lshift(a, 24), lshift(b, 16), lshift(c, 8), d)
end

local function slot_of(four)
  return band(bxor(four, rshift(four, 13)), MASK) + 1
end

local function enter(self, needle)
  if not self.filter then
    self.filter = {}
    for i = 1, MASK + 1 do self.filter[i] = false end
    for _, old in ipairs(self.needles) do enter(self, old) end
  end
  local four = four_of(needle.anchor)
  self.filter[slot_of(four)] = true
  local list = self.index[four] or {}
  list[#list + 1] = needle
  self.index[four] = list
end

--- Looks for one more value.
---@param value string at least 4 bytes
---@param needles? neap.cassette.Needle[] what another finder made of it
function Finder:add(value, needles)
  if self.values[value] then return end
  needles = needles or needles_of(value)
  self.values[value], self.count = needles, self.count + 1
  for _, needle in ipairs(needles) do
    if self.filter or #self.needles >= FEW then enter(self, needle) end
    self.needles[#self.needles + 1] = needle
  end
end

local function one_by_one(self, text, spans)
  for i = 1, #self.needles do
    local needle = self.needles[i]
    local at = find(text, needle.anchor, 1, true)
    while at do
      local from, to = place_of(text, at, needle)
      if from then spans[#spans + 1] = { from, to } end
      at = find(text, needle.anchor, to and to + 1 or at + 1, true)
    end
  end
end

local function at_once(self, text, spans)
  local filter, index, four = self.filter, self.index, 0
  for i = 1, #text do
    four = bor(lshift(four, 8), byte(text, i))
    if filter[band(bxor(four, rshift(four, 13)), MASK) + 1] then
      local list = index[four]
      for j = 1, list and #list or 0 do
        local needle = list[j]
        local at = i - #needle.anchor + 1
        if at >= 1 and sub(text, at, i) == needle.anchor then
          local from, to = place_of(text, at, needle)
          if from then spans[#spans + 1] = { from, to } end
        end
      end
    end
  end
end

--- Adds the places of all values in a text to a list.
---@param text string
---@param spans {[1]: integer, [2]: integer}[] first and last bytes
function Finder:find(text, spans)
  if self.filter then
    at_once(self, text, spans)
  else
    one_by_one(self, text, spans)
  end
end

-- -- Cutting out ------------------------------------------------------------------

--- The first byte of a place that may begin within an escape of JSON: of the escape.
local function whole_escape(text, from)
  local slashes = 0
  while from - slashes > 1 and byte(text, from - slashes - 1) == 92 do slashes = slashes + 1 end
  if slashes % 2 == 1 then return from - 1 end
  local head = sub(text, from > 5 and from - 5 or 1, from - 1)
  local at = find(head, "\\u%x?%x?%x?$")
  return at and from - #head + at - 1 or from
end

--- The text with something else in these places; where they overlap, the first of them
--- that goes furthest counts.
---@param text string
---@param spans {[1]: integer, [2]: integer, [3]: string?}[] with what to put there
---@param mark string default for it
---@return string
function M.replace(text, spans, mark)
  if #spans == 0 then return text end
  for i = 1, #spans do
    local span = spans[i]
    if not span[3] then span[1] = whole_escape(text, span[1]) end
    span[4] = i
  end
  table.sort(spans, function(a, b)
    if a[1] ~= b[1] then return a[1] < b[1] end
    if a[2] ~= b[2] then return a[2] > b[2] end
    return a[4] < b[4]
  end)
  local parts, done, i = {}, 0, 1
  while i <= #spans do
    local span = spans[i]
    local stop = span[2]
    i = i + 1
    while i <= #spans and spans[i][1] <= stop do
      if spans[i][2] > stop then stop = spans[i][2] end
      i = i + 1
    end
    parts[#parts + 1] = sub(text, done + 1, span[1] - 1)
    parts[#parts + 1] = span[3] or mark
    done = stop
  end
  parts[#parts + 1] = sub(text, done + 1)
  return table.concat(parts)
end

return M
