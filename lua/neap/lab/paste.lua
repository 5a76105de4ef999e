--- A variant as Lua, to paste into a script. Pure.
local policies = require "neap.lab.policies"
local sorted = require "neap.sorted"

local M = {}

local KEYWORDS = {}
for word in ([[and break do else elseif end false for function if in local nil not or repeat return then true until
  while goto]]):gmatch "%a+" do
  KEYWORDS[word] = true
end

local function key_text(key)
  if type(key) == "string" and key:match "^[%a_][%w_]*$" and not KEYWORDS[key] then return key .. " = " end
  if type(key) == "string" then return ("[%q] = "):format(key) end
  return ""
end

local show

--- Short tables on one line.
local function show_table(value, indent)
  local parts = {}
  for _, inner in ipairs(value) do parts[#parts + 1] = show(inner, indent .. "  ") end
  for key, inner in sorted.pairs(value) do
    if type(key) == "string" then parts[#parts + 1] = key_text(key) .. show(inner, indent .. "  ") end
  end
  if #parts == 0 then return "{}" end
  local line = "{ " .. table.concat(parts, ", ") .. " }"
  if #indent + #line <= 76 and not line:find "\n" then return line end
  return "{\n" .. indent .. "  " .. table.concat(parts, ",\n" .. indent .. "  ") .. ",\n" .. indent .. "}"
end

function show(value, indent)
  if type(value) == "table" and getmetatable(value) == nil then return show_table(value, indent) end
  if type(value) == "string" then return ("%q"):format(value) end
  if value == math.huge then return "math.huge" end
  if type(value) == "number" then return ("%.12g"):format(value) end
  if type(value) == "boolean" then return tostring(value) end
  return ("nil --[[ the script's own %s ]]"):format(type(value))
end

--- The call that makes the variant: of options, the whole; of a function's policy,
--- the changes.
---@param spec neap.lab.PolicySpec
---@param variant neap.lab.Variant
---@return string
function M.text(spec, variant)
  local changes = variant.changes or {}
  if type(spec) == "table" then return "neap.policy.standard " .. show(policies.changed(spec, changes), "") end
  if spec == false then return "-- no policy" end
  if #changes == 0 then return ("-- the policy '%s' as it is"):format(variant.policy) end
  return ("policy:update %s -- of the policy '%s'"):format(show(policies.changed({}, changes), ""), variant.policy)
end

return M
