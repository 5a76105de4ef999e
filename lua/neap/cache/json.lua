--- JSON whose objects have their members in the order of their names, so that
--- equal values are equal bytes. What neap.json refuses is refused here. Pure.
local json = require "neap.json"

local M = {}

local ARRAY = getmetatable(json.array {})
-- neap.json's own bound.
local MAX_DEPTH = 1000

--- The length when `value` encodes as an array, else nil.
local function array_length(value)
  if getmetatable(value) == ARRAY then return #value end
  local last, count = 0, 0
  for key in pairs(value) do
    if type(key) ~= "number" or key % 1 ~= 0 or key < 1 then return nil end
    last, count = math.max(last, key), count + 1
  end
  return count > 0 and last or nil
end

local write

local function write_object(out, value, depth)
  local names, of = {}, {}
  for key, inner in pairs(value) do
    local name = tostring(key)
    names[#names + 1], of[name] = name, inner
  end
  table.sort(names)
  for i, name in ipairs(names) do
    out[#out + 1] = (i == 1 and "{" or ",") .. json.encode(name) .. ":"
    write(out, of[name], depth + 1)
  end
  out[#out + 1] = #names == 0 and "{}" or "}"
end

function write(out, value, depth)
  if type(value) ~= "table" or depth > MAX_DEPTH then
    out[#out + 1] = json.encode(value) or "null"
    return
  end
  local length = array_length(value)
  if not length then return write_object(out, value, depth) end
  out[#out + 1] = "["
  for i = 1, length do
    if i > 1 then out[#out + 1] = "," end
    write(out, value[i], depth + 1)
  end
  out[#out + 1] = "]"
end

--- The text, or nil and neap.json's error.
---@param value any
---@return string? text
---@return neap.Error? err kind "invalid" or "too_large"
function M.encode(value)
  local text, err = json.encode(value)
  if not text or type(value) ~= "table" then return text, err end
  local out = {}
  write(out, value, 1)
  return table.concat(out)
end

return M
