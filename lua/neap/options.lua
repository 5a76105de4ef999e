--- Option tables checked against one declaration: types, ranges, defaults and
--- unknown keys (with the nearest known one) in a single place.
local M = {}

---@class neap.OptionSpec
---@field type string one or more of Lua's type names joined by "|", plus "integer" and "any"
---@field default? any
---@field required? boolean
---@field min? number
---@field max? number
---@field above? number exclusive lower bound
---@field infinite? boolean math.huge passes for an integer
---@field one_of? any[] the accepted values
---@field fields? table<string, neap.OptionSpec> for a nested table
---@field unit? string
---@field doc? string

--- Edit distance for hints; two letters swapped count as one edit.
local function distance(a, b)
  local before, previous = nil, {}
  for j = 0, #b do previous[j] = j end
  for i = 1, #a do
    local current = { [0] = i }
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      local best = math.min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + cost)
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        best = math.min(best, before[j - 2] + 1)
      end
      current[j] = best
    end
    before, previous = previous, current
  end
  return previous[#b]
end

--- The known name closest to `name`, or nil when none is close.
---@param name string
---@param known string[]|table<string, any> an array, or a table keyed by name
---@return string?
function M.nearest(name, known)
  local names = {}
  if known[1] ~= nil then
    for _, candidate in ipairs(known) do names[#names + 1] = candidate end
  else
    for candidate in pairs(known) do names[#names + 1] = candidate end
  end
  table.sort(names)
  local best, best_distance
  for _, candidate in ipairs(names) do
    local d = distance(name, candidate)
    if not best or d < best_distance then best, best_distance = candidate, d end
  end
  -- Of a name in which no letter is right there is nothing to guess.
  if best and best_distance <= math.max(1, math.floor(#name / 3)) and best_distance < #name then return best end
end

--- Raises at the line that its author can change: the innermost one outside
--- neap's own modules, however many of their functions (tail calls vanish from
--- the stack) lie in between.
---@param message string
function M.fail(message)
  local level = 2
  while true do
    local frame = debug.getinfo(level, "S")
    if not frame then error(message, 0) end
    if frame.what ~= "C" and frame.source:sub(1, 6) ~= "@neap/" then error(message, level) end
    level = level + 1
  end
end

local fail = M.fail

local function has_type(value, spec)
  local t, accepted = type(value), spec.type
  if spec.infinite and value == math.huge then return true end
  for name in accepted:gmatch "[%w]+" do
    if name == t or name == "any" then return true end
    if name == "integer" and t == "number" and value % 1 == 0 then return true end
  end
  return false
end

local function check_value(where, value, spec)
  if not has_type(value, spec) then
    local got = type(value)
    if got == "number" and spec.type:find("integer", 1, true) then got = tostring(value) end
    fail(("%s must be %s, got %s"):format(where, (spec.type:gsub("|", " or ")), got))
  end
  if type(value) == "number" then
    if value ~= value then fail(where .. " must not be NaN") end
    if spec.min and value < spec.min then
      fail(("%s must be at least %s, got %s"):format(where, spec.min, value))
    end
    if spec.above and value <= spec.above then
      fail(("%s must be above %s, got %s"):format(where, spec.above, value))
    end
    if spec.max and value > spec.max then
      fail(("%s must be at most %s, got %s"):format(where, spec.max, value))
    end
  end
  if spec.one_of then
    local names = {}
    for _, accepted in ipairs(spec.one_of) do
      if value == accepted then return end
      names[#names + 1] = tostring(accepted)
    end
    fail(("%s must be one of %s, got %s"):format(where, table.concat(names, ", "), tostring(value)))
  end
end

--- specs -> its names, sorted
local sorted_names = setmetatable({}, { __mode = "k" })

local function names_of(specs)
  local names = sorted_names[specs]
  if names then return names end
  names = {}
  for name in pairs(specs) do names[#names + 1] = name end
  table.sort(names)
  sorted_names[specs] = names
  return names
end

--- Checks `options` against `specs` and returns a new table with defaults filled
--- in. Raises at the line of the script that gave them, with the place:
--- "neap.map: option 'concurency' is unknown; did you mean 'concurrency'?".
---@param where string the function's public name
---@param options table?
---@param specs table<string, neap.OptionSpec>
---@return table
function M.check(where, options, specs)
  if options == nil then options = {} end
  if type(options) ~= "table" then
    fail(("%s: options must be a table, got %s"):format(where, type(options)))
  end
  -- Of several faults always the same one is told.
  local unknown
  for key in pairs(options) do
    if specs[key] == nil and (unknown == nil or tostring(key) < tostring(unknown)) then unknown = key end
  end
  if unknown ~= nil then
    local hint = type(unknown) == "string" and M.nearest(unknown, specs)
    fail(("%s: option '%s' is unknown%s"):format(where, tostring(unknown),
      hint and ("; did you mean '%s'?"):format(hint) or ""))
  end
  local result = {}
  for _, key in ipairs(names_of(specs)) do
    local spec, value = specs[key], options[key]
    if value == nil then value = spec.default end
    if value == nil then
      if spec.required then fail(("%s: option '%s' is required"):format(where, key)) end
    else
      local place = ("%s: option '%s'"):format(where, key)
      check_value(place, value, spec)
      if spec.fields and type(value) == "table" then
        value = M.check(("%s: %s"):format(where, key), value, spec.fields)
      end
      result[key] = value
    end
  end
  return result
end

return M
