-- SPDX-License-Identifier: MIT
-- Writes what the policies' option tables (lua/neap/schema/) say into
-- docs/policies.md and the editor stubs:
--   build/neap docs/generate.lua [ROOT]
-- A spec fails while the files differ from the tables.
local schema = require "neap.schema"

local M = {}

local function show(value)
  if value == math.huge then return "math.huge" end
  if type(value) == "string" then return ('"%s"'):format(value) end
  if type(value) == "table" then return "{}" end
  return ("%s"):format(tostring(value))
end

local function default_of(option)
  if option.fields then return "" end
  if option.default == nil then return option.required and "required" or "" end
  return "`" .. show(option.default) .. "`"
end

local function accepted_of(option)
  local parts = {}
  if option.one_of then
    for i, value in ipairs(option.one_of) do parts[i] = "`" .. show(value) .. "`" end
    return table.concat(parts, ", ")
  end
  parts[1] = (option.type:gsub("|", " or "))
  if option.above then parts[#parts + 1] = ("above %.10g"):format(option.above) end
  if option.min then parts[#parts + 1] = ("at least %.10g"):format(option.min) end
  if option.max then parts[#parts + 1] = ("at most %.10g"):format(option.max) end
  if option.infinite then parts[#parts + 1] = "or `math.huge`" end
  return table.concat(parts, ", ")
end

local function cell(text)
  return (tostring(text or ""):gsub("|", "\\|"))
end

--- Rows of a table, nested options as "backoff.base".
local function add_rows(lines, list, prefix)
  for _, option in ipairs(list) do
    local name = prefix .. option[1]
    lines[#lines + 1] = ("| `%s` | %s | %s | %s | %s%s | %s |"):format(name, cell(accepted_of(option)),
      cell(option.unit), cell(default_of(option)), cell(option.doc),
      option.live == false and " (fixed while in use)" or "", cell(option.source))
    if option.fields then add_rows(lines, option.fields, name .. ".") end
  end
end

local HEAD = [[
# Every option of every policy

Made from `lua/neap/schema/`, which is what the constructors check: do not edit. Times are seconds. An unknown option
raises and names the nearest known one; a value out of range raises and says what is accepted. All of these can be
changed in use with `:update{...}` where the object has it, unless it says so. "neap" as a source means our own choice;
the pages under [api/](README.md) give the reasons.
]]

--- docs/policies.md.
---@return string
function M.page()
  local lines = { HEAD }
  for _, name in ipairs(schema.names) do
    local definition = schema.get(name)
    lines[#lines + 1] = ("## %s\n\n%s\n"):format(definition.name, definition.about)
    lines[#lines + 1] = "| option | accepts | unit | default | meaning | source |\n|---|---|---|---|---|---|"
    add_rows(lines, definition.options, "")
    lines[#lines + 1] = ""
  end
  return table.concat(lines, "\n")
end

local LUA_TYPES = { userdata = "userdata", ["function"] = "function" }

local function stub_type(option)
  if option.one_of then
    local values = {}
    for i, value in ipairs(option.one_of) do values[i] = show(value) end
    return table.concat(values, "|")
  end
  local names = {}
  for name in option.type:gmatch "[%w]+" do names[#names + 1] = LUA_TYPES[name] or name end
  return table.concat(names, "|")
end

local function add_class(lines, name, list, later)
  lines[#lines + 1] = "---@class " .. name
  for _, option in ipairs(list) do
    local kind = stub_type(option)
    if option.fields then
      local title = option[1]:gsub("^%l", string.upper):gsub("_(%l)", string.upper)
      local nested = name:gsub("%.Options$", "") .. "." .. title
      later[#later + 1] = { nested, option.fields }
      kind = kind:gsub("table", nested)
    end
    local unit = option.unit and option.unit .. "; " or ""
    local default = option.default ~= nil and not option.fields and (" (%s)"):format(show(option.default)) or ""
    lines[#lines + 1] = ("---@field %s%s %s %s%s%s"):format(option[1], option.required and "" or "?", kind, unit,
      option.doc, default)
  end
  lines[#lines + 1] = ""
end

--- lua/neap/_meta/policies.lua.
---@return string
function M.stubs()
  local lines = { "---@meta", "-- Made from lua/neap/schema by docs/generate.lua: do not edit.", "" }
  for _, name in ipairs(schema.names) do
    local definition, later = schema.get(name), {}
    add_class(lines, definition.name .. ".Options", definition.options, later)
    for _, nested in ipairs(later) do add_class(lines, nested[1], nested[2], later) end
  end
  return table.concat(lines, "\n")
end

--- path below the root -> what is in it.
M.files = {
  ["docs/policies.md"] = M.page,
  ["lua/neap/_meta/policies.lua"] = M.stubs,
}

local function write_all(root)
  for path, make in pairs(M.files) do
    local file = assert(io.open(root .. "/" .. path, "wb"))
    file:write(make())
    file:close()
    print("wrote " .. path)
  end
end

if ... ~= "neap.docs" then write_all((...) or ".") end

return M
