--- Texts of values that do not show where in memory they lie: tables, functions,
--- threads and userdata are numbered in the order in which they are first shown.
local M = {}

local raw_tostring, raw_format = tostring, string.format
local type, select, find = type, select, string.find
local getmetatable = debug.getmetatable

local numbers, last = setmetatable({}, { __mode = "k" }), 0

-- Types whose text holds an address. (A string's is shown by %p alone.)
local IS_OBJECT = { table = true, ["function"] = true, thread = true, userdata = true, cdata = true }

--- Numbers from the start again. Objects that have a number keep it.
function M.reset()
  numbers, last = setmetatable({}, { __mode = "k" }), 0
end

local function address(value)
  local number = numbers[value]
  if not number then
    last = last + 1
    number = last
    numbers[value] = number
  end
  return raw_format("0x%08x", number)
end

local function text_of(value)
  local kind = type(value)
  local text = raw_tostring(value)
  local meta = getmetatable(value)
  if kind == "userdata" or kind == "cdata" then
    -- An open file shows its C address, others their own.
    if meta and meta.__tostring and kind == "userdata" and not text:find "^file %(0x" then return text end
    return (text:gsub("0x%x+", function() return address(value) end, 1))
  end
  if type(meta) == "table" and meta.__tostring then return text end
  -- "builtin: 29" is a number already.
  if kind == "function" and text:find("builtin", 1, true) then return text end
  return kind .. ": " .. address(value)
end

--- Lua's tostring.
---@param ... any one value
---@return string
function M.tostring(...)
  local value = ...
  if IS_OBJECT[type(value)] then return text_of(value) end
  return raw_tostring(...)
end

--- The slow way: some argument is an object, or there are many.
local function format_objects(format, ...)
  local values, count, place = { ... }, select("#", ...), 0
  if type(format) ~= "string" then return raw_format(format, ...) end
  format = format:gsub("%%([%-+ #0]*%d*%.?%d*)(.)", function(width, kind)
    if kind == "%" then return nil end
    place = place + 1
    local value = values[place]
    if kind == "p" and (IS_OBJECT[type(value)] or type(value) == "string") then
      values[place] = address(value)
      return "%" .. width .. "s"
    end
    if not IS_OBJECT[type(value)] then return nil end
    if kind == "s" then
      values[place] = text_of(value)
    end
  end)
  return raw_format(format, unpack(values, 1, count))
end

--- Lua's string.format.
---@param format string
---@return string
function M.format(format, ...)
  local a, b, c, d = ...
  if IS_OBJECT[type(a)] or IS_OBJECT[type(b)] or IS_OBJECT[type(c)] or IS_OBJECT[type(d)] or select("#", ...) > 4
    or type(a) == "string" and type(format) == "string" and find(format, "%%[%-%d]*p") then
    return format_objects(format, ...)
  end
  return raw_format(format, ...)
end

return M
