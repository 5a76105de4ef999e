--- How a character may be written in JSON, in URLs and forms, in HTML, and in one of
--- these within another. Pure.
local bit = require "bit"
local json = require "neap.json"

local byte, find, format, gsub = string.byte, string.find, string.format, string.gsub
local band, rshift = bit.band, bit.rshift

local M = {}

local ENTITIES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&apos;" }
local CONTROLS = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function code_point(char)
  local a, b, c, d = byte(char, 1, 4)
  if a < 0x80 then return a end
  if a < 0xe0 then return (a - 0xc0) * 64 + b - 0x80 end
  if a < 0xf0 then return (a - 0xe0) * 4096 + (b - 0x80) * 64 + c - 0x80 end
  return (a - 0xf0) * 262144 + (b - 0x80) * 4096 + (c - 0x80) * 64 + d - 0x80
end

local function unicode_escape(char)
  local code = code_point(char)
  if code < 0x10000 then return format("\\u%04x", code) end
  code = code - 0x10000
  return format("\\u%04x\\u%04x", 0xd800 + rshift(code, 10), 0xdc00 + band(code, 1023))
end

local function percent_escape(char, mark)
  return (gsub(char, ".", function(one) return mark .. format("%02x", byte(one)) end))
end

local function in_both_cases(list, text, head)
  list[#list + 1] = text
  local upper = gsub(text:upper(), head:upper(), head)
  if upper ~= text then list[#list + 1] = upper end
end

local known = {}

--- All ways to write a character, the longest first.
---@param char string a character of UTF-8, or a byte that is none
---@return string[]
function M.of(char)
  local list = known[char]
  if list then return list end
  list = { char }
  in_both_cases(list, percent_escape(char, "%"), "%%")
  in_both_cases(list, percent_escape(char, "%25"), "%%25")
  if #char > 1 or byte(char) < 0x80 then
    in_both_cases(list, unicode_escape(char), "\\u")
    in_both_cases(list, gsub(unicode_escape(char), "\\", "\\\\"), "\\u")
  end
  if char == " " then list[#list + 1] = "+" end
  if CONTROLS[char] then list[#list + 1] = CONTROLS[char] end
  if find(char, '^["\\/]$') then
    list[#list + 1] = "\\" .. char
    list[#list + 1] = char == "\\" and "\\\\\\\\" or "\\\\\\" .. char
  end
  if #char == 1 and byte(char) < 0x80 then
    list[#list + 1] = ENTITIES[char]
    list[#list + 1] = format("&#%d;", byte(char))
    list[#list + 1] = format("&#x%x;", byte(char))
  end
  table.sort(list, function(a, b)
    if #a ~= #b then return #a > #b end
    return a < b
  end)
  if #char == 1 then known[char] = list end
  return list
end

--- How a whole text may be written, besides as it is.
---@param text string
---@return string[]
function M.of_text(text)
  local as_json = (json.encode(text) or '""'):sub(2, -2)
  local function percent(form)
    return (gsub(text, "[^%w%-._~]", function(char) return "%" .. format(form, byte(char)) end))
  end
  local list, seen = {}, { [text] = true }
  for _, one in ipairs { as_json, (gsub(as_json, "\\/", "/")), percent "%02X", percent "%02x",
    (gsub(percent "%02X", "%%20", "+")) } do
    if not seen[one] and #one > 3 then list[#list + 1] = one end
    seen[one] = true
  end
  return list
end

local BASE64 = {}
for char, other in ("+-/_"):gmatch "(.)(.)" do
  BASE64[char] = { other, unpack(M.of(char)) }
end

--- The same of base64, which has two alphabets.
---@param char string
---@return string[]
function M.of_base64(char)
  return BASE64[char] or M.of(char)
end

return M
