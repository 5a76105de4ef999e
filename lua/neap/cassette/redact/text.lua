--- Where in a text values stand under names that speak of secrets: members of JSON
--- (in strings of JSON too), `name=value`, `name: value`, `<name>value</name>`, and user
--- information in URLs. No parser: what is looked at is a guess at JSON, forms, XML,
--- YAML or headers, in any mixture. Pure.
local names = require "neap.cassette.redact.names"

local byte, find, match, rep, sub = string.byte, string.find, string.match, string.rep, string.sub
local class_of, looks_drawn = names.class, names.looks_drawn

local M = {}

local MAX_NAME = 64 -- bytes; longer names are none
local MAX_USER = 512 -- bytes of user information in a URL
local MAX_ELEMENT = 16384 -- bytes of an XML element that is looked at
local MIN_WORD = 16 -- bytes of a value under a name that is a word of data too

--- Bytes of names: of members, of lines, of parameters; and of user information.
local function bytes_like(pattern)
  local set = {}
  for code = 0, 255 do set[code] = find(string.char(code), pattern) ~= nil end
  return set
end

local OF_MEMBER, OF_LINE = bytes_like "[%w_.$@ -]", bytes_like "[%w_-]"
local OF_ELEMENT = bytes_like "[^<>]"
local OF_PARAMETER, OF_USER = bytes_like "[%w_.%[%]$-]", bytes_like "[^%s%c\"'<>\\/@?#]"

--- What stands before the name that ends at `last`.
local function name_start(text, last, set, most)
  local from, least = last, last - most
  while from > 0 and from > least and set[byte(text, from)] do from = from - 1 end
  return from
end

---@class neap.cassette.Found a scan's: what it found and how
---@field text string
---@field spans {[1]: integer, [2]: integer, [3]: string?}[] first and last byte, what to put there
---@field values string[] what stood there, as it was written
---@field generous boolean a request's: shorter values under words count
---@field quoted boolean a quote may end a string of JSON around the text

local function note(found, from, to, instead)
  if to < from then return end
  found.spans[#found.spans + 1] = { from, to, instead }
  found.values[#found.values + 1] = sub(found.text, from, to)
end

--- Whether a value that stands alone under a name is a secret.
local function is_secret(found, class, name, value)
  if class ~= "word" then return true end
  return (found.generous or names.may_be_secret(name)) and looks_drawn(value, found.generous and 8 or MIN_WORD)
end

local function backslashes(text, at)
  local count = 0
  while byte(text, at - count) == 92 do count = count + 1 end
  return count
end

--- Where a string ends whose quotes have `depth` backslashes before them: its closing
--- quote or what is before it; at the latest where a string around it ends.
local function string_end(text, from, depth, quote)
  local at = from
  while true do
    local stop = find(text, quote, at, true)
    if not stop then return #text + 1 end
    local count = backslashes(text, stop - 1)
    if stop - count < from then count = stop - from end
    if count < depth then return stop - count end
    if count % (2 * depth + 2) == depth then return stop - depth end
    at = stop + 1
  end
end

--- The last byte of an array or object.
local function balanced_end(text, from, depth)
  local level, at = 0, from
  while true do
    local stop = find(text, '[%[%]{}"]', at)
    if not stop then return #text end
    local char = byte(text, stop)
    if char == 34 then
      local count = backslashes(text, stop - 1)
      if count < depth then return stop - count - 1 end
      stop = string_end(text, stop + 1, depth, '"') + depth
    elseif char == 91 or char == 123 then
      level = level + 1
    else
      level = level - 1
      if level == 0 then return stop end
    end
    at = stop + 1
  end
end

-- -- Members --------------------------------------------------------------------

--- A text in single quotes, as Python prints it: it never leaves a string of JSON.
local function single_quoted(found, class, name, from)
  local stop = find(found.text, "['\"\\\r\n]", from) or #found.text + 1
  if is_secret(found, class, name, sub(found.text, from, stop - 1)) then note(found, from, stop - 1) end
  return stop
end

--- A name in quotes before a colon. Returns where to go on; nil: behind the colon.
local function member(found, mark, last, colon)
  local text = found.text
  local depth = backslashes(text, last - 1)
  local stop = last - 1 - depth
  local from = name_start(text, stop, OF_MEMBER, MAX_NAME)
  if from == stop or from < 1 or byte(text, from) ~= byte(text, last) then return nil end
  local name = sub(text, from + 1, stop)
  local class = class_of(name)
  if not class then return nil end
  local at = find(text, "[^%s]", colon + 1)
  if not at then return nil end
  local quote = rep("\\", depth) .. '"'
  if sub(text, at, at + depth) == quote then
    local begin = at + depth + 1
    local close = string_end(text, begin, depth, '"')
    if is_secret(found, class, name, sub(text, begin, close - 1)) then note(found, begin, close - 1) end
    return close + depth + 1
  elseif byte(text, at) == 39 then
    return single_quoted(found, class, name, at + 1)
  elseif class == "any" then
    local close = find(text, "^[%[{]", at) and balanced_end(text, at, depth) or match(text, "^%-?%d[%d.eE+-]*()", at)
    if not close then return nil end
    if byte(text, at) ~= 91 and byte(text, at) ~= 123 then close = close - 1 end
    note(found, at, close, quote .. mark .. quote)
    return close + 1
  end
end

--- `name: value` without quotes, up to the line's end.
local function line_member(found, last, colon)
  local text = found.text
  local name = sub(text, name_start(text, last, OF_LINE, MAX_NAME) + 1, last)
  local class = class_of(name)
  if not class or class == "word" then return nil end
  local slashes, quote, begin = match(text, "^[ \t]*(\\*)([\"'])()", colon + 1)
  if quote == "'" then return single_quoted(found, class, name, begin) end
  if quote then
    if slashes == "" and found.quoted then return nil end
    local close = string_end(text, begin, #slashes, '"')
    note(found, begin, close - 1)
    return close
  end
  begin = find(text, "[^ \t]", colon + 1)
  local stop = begin and match(text, "^[^%c\"'\\<>{}%[%]&]*()", begin)
  if stop and stop > begin then note(found, begin, stop - 1) end
  return stop
end

local function scan_colons(found, mark)
  local text, at = found.text, 1
  while true do
    local colon = find(text, ":", at, true)
    if not colon then return end
    local last = colon - 1
    local char = byte(text, last)
    while char == 32 or char == 10 or char == 13 or char == 9 do
      last = last - 1
      char = byte(text, last)
    end
    at = nil
    if char == 34 or char == 39 then
      at = member(found, mark, last, colon)
    elseif OF_LINE[char] and last == colon - 1 then
      at = line_member(found, last, colon)
    end
    if not at or at <= colon then at = colon + 1 end
  end
end

-- -- Parameters -----------------------------------------------------------------

--- The name of a parameter that ends at `last`, and whether it is one of a query or form.
local function parameter_name(text, last)
  local from = name_start(text, last, OF_PARAMETER, MAX_NAME)
  local name, before = sub(text, from + 1, last), from < 1 and "&" or sub(text, from, from)
  if before == "\\" and find(name, "^u00[23][6fF]") then return sub(name, 6), true end -- "\u0026"
  if before == "%" and find(name, "^[23][6fF]") then return sub(name, 3), true end -- "%26"
  return name, before == "&" or before == "?" or before == ";"
end

--- Where values end that follow one of the ways to write "=".
local STOPS = {
  ["="] = "[&;%%#%s%c\"'<>\\,(){}%[%]]", ["\\u003d"] = "[&;%%#%s%c\"'<>\\,(){}%[%]]",
  ["%3D"] = "[^%w_.~*+/-]", ["%3d"] = "[^%w_.~*+/-]",
}

local function value_end(text, from, equals)
  local at = from
  while true do
    local stop = find(text, STOPS[equals], at)
    if not stop then return #text end
    if find(text, "^%%%x%x", stop) and not (byte(equals) == 37 and sub(text, stop, stop + 2) == "%26") then
      at = stop + 3
    elseif find(text, "^\\+/", stop) then
      at = find(text, "/", stop, true) + 1
    elseif find(text, "^\\+u003[dD]", stop) then
      at = select(2, find(text, "^\\+u003[dD]", stop)) + 1
    else
      return stop - 1
    end
  end
end

--- `name="value"`.
local function quoted_value(found, class, name, at)
  local slashes, quote, begin = match(found.text, "^(\\*)([\"'])()", at)
  if not quote then return nil end
  if quote == "'" then return single_quoted(found, class, name, begin) end
  if slashes == "" and found.quoted then return at end
  local close = string_end(found.text, begin, #slashes, '"')
  if class ~= "word" then note(found, begin, close - 1) end
  return close
end

local function scan_equals(found, equals)
  local text, at = found.text, 1
  while true do
    local from, to = find(text, equals, at, true)
    if not from then return end
    at = to + 1
    local last = from - 1
    while equals == "=" and byte(text, last) == 32 and from - last < 4 do last = last - 1 end
    local name, is_parameter = parameter_name(text, last)
    local class = class_of(name)
    if class and (class ~= "word" or is_parameter) then
      local begin = match(text, "^ ? ?()", at)
      local stop = quoted_value(found, class, name, begin)
      if not stop then
        stop = value_end(text, begin, equals)
        note(found, begin, stop)
      end
      if stop >= at then at = stop + 1 end
    end
  end
end

-- -- Elements and URLs -----------------------------------------------------------

--- Where a CDATA section begins that ends at `last`; 0: nowhere.
local function open_cdata(text, last)
  for from = last, last > MAX_ELEMENT and last - MAX_ELEMENT or 1, -1 do
    if byte(text, from) == 91 and sub(text, from - 8, from) == "<![CDATA[" then return from end
  end
  return 0
end

local function scan_elements(found)
  local text, at = found.text, 1
  while true do
    local close, slash = find(text, "<\\*/", at)
    if not close then return end
    local name = match(text, "^[%w_.:-]+", slash + 1)
    local class = name and class_of(match(name, "[^:]*$"))
    if class then
      local last = close - 1
      local in_section = sub(text, last - 2, last) == "]]>"
      if in_section then last = last - 3 end
      local from = in_section and open_cdata(text, last) or name_start(text, last, OF_ELEMENT, MAX_ELEMENT)
      local opens = byte(text, from) == (in_section and 91 or 62)
      if opens and is_secret(found, class, name, sub(text, from + 1, last)) then
        note(found, from + 1, last)
      end
    end
    at = slash + 1
  end
end

--- `//user:password@`, also as `\/\/`.
local function scan_users(found)
  local text, at = found.text, 1
  while true do
    local sign = find(text, "@", at, true)
    if not sign then return end
    local from = name_start(text, sign - 1, OF_USER, MAX_USER)
    if byte(text, from) == 47 and find(sub(text, from > 3 and from - 3 or 1, from), "/\\*/$") then
      local user = sub(text, from + 1, sign - 1)
      if find(user, ":", 1, true) or looks_drawn(user) then note(found, from + 1, sign - 1) end
    end
    at = sign + 1
  end
end

--- What a text has under names that speak of secrets.
---@param text string
---@param mark string to put there
---@param generous? boolean it was sent: values under names such as "token" count from 8 bytes on
---@return neap.cassette.Found
function M.scan(text, mark, generous)
  local found = { text = text, spans = {}, values = {}, generous = generous == true,
    quoted = find(text, '^%s*[%[{"]') ~= nil or find(text, "^%s*data:") ~= nil
      or find(text, "^%s*event:") ~= nil }
  if find(text, "%z") then return found end -- no text
  scan_colons(found, mark)
  scan_equals(found, "=")
  if find(text, "%3", 1, true) then
    scan_equals(found, "%3D")
    scan_equals(found, "%3d")
  end
  if find(text, "\\u003d", 1, true) then scan_equals(found, "\\u003d") end
  if find(text, "</", 1, true) or find(text, "<\\/", 1, true) then scan_elements(found) end
  scan_users(found)
  return found
end

return M
