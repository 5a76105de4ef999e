--- Options to vary: `backoff.base=0.1..2`. The names, ranges and types are those of
--- the policies' schemas. Pure.
local options = require "neap.options"
local policies = require "neap.lab.policies"
local schema = require "neap.schema"

local floor = math.floor

local M = {}

--- Values of a range where it does not say how many.
M.POINTS = 5
--- The most variants that a sweep may have.
M.MOST = 1000
-- A range that is wider than this is divided by equal factors.
local WIDE = 8

---@class neap.lab.Dimension
---@field name string as it was given
---@field part string option of neap.policy.standard
---@field path string[]
---@field option neap.schema.Option
---@field values any[] a list, or the points of the range
---@field low? number of a range
---@field high? number
---@field log? boolean equal factors instead of equal steps
---@field integer? boolean

-- ---------------------------------------------------------------------------
-- Names
-- ---------------------------------------------------------------------------

local function walk(list, part, path, visit)
  for _, option in ipairs(list) do
    local inner = { unpack(path) }
    inner[#inner + 1] = option[1]
    if option.fields then
      walk(option.fields, part, inner, visit)
    elseif option[1] ~= "name" then
      visit(part, inner, option)
    end
  end
end

local index

--- Every option of every part by its full and by its short name.
local function all()
  if index then return index end
  index = { full = {}, short = {}, names = {} }
  for _, part in ipairs(policies.parts) do
    walk(schema.get(part[2]).options, part[1], {}, function(name, path, option)
      local short = table.concat(path, ".")
      local full = name .. "." .. short
      local entry = { part = name, path = path, option = option, full = full }
      index.full[full] = entry
      index.names[#index.names + 1] = full
      if part[2] ~= name then index.full[part[2] .. "." .. short] = entry end
      for from = 1, #path do
        local ending = table.concat(path, ".", from)
        index.short[ending] = index.short[ending] or {}
        table.insert(index.short[ending], entry)
        index.names[#index.names + 1] = ending
      end
    end)
  end
  return index
end

local function full_names(entries)
  local names = {}
  for i, entry in ipairs(entries) do names[i] = entry.full end
  return table.concat(names, ", ")
end

--- The option called `name`: "retry.backoff.base", or its ending ("backoff.base",
--- "base") where only one option ends so, or only one of the policies that `has`
--- names. nil and one sentence where there is none.
---@param name string
---@param has? table<string, boolean> parts
---@return {part: string, path: string[], option: neap.schema.Option, full: string}?
---@return string? message
function M.find(name, has)
  local known = all()
  if known.full[name] then return known.full[name] end
  local entries = known.short[name]
  if not entries then
    local hint = options.nearest(name, known.names)
    return nil, ("there is no option '%s' in any policy%s"):format(name,
      hint and ("; did you mean '%s'?"):format(hint) or "; docs/policies.md lists them")
  end
  if #entries > 1 and has then
    local there = {}
    for _, entry in ipairs(entries) do
      if has[entry.part] then there[#there + 1] = entry end
    end
    if #there > 0 then entries = there end
  end
  if #entries > 1 then
    return nil, ("several options are called '%s': say which, %s"):format(name, full_names(entries))
  end
  return entries[1]
end

-- ---------------------------------------------------------------------------
-- Values
-- ---------------------------------------------------------------------------

local function number_of(text)
  return text:match "^[+-]?%.?%d[%d.eE+-]*$" and tonumber(text) or nil
end

--- Three digits tell enough, and can be pasted.
---@param value number
---@return number
function M.round(value)
  return tonumber(("%.3g"):format(value))
end

--- A point of a range, 0 its low end and 1 its high one.
---@param dimension neap.lab.Dimension
---@param share number
---@return number
function M.point(dimension, share)
  local low, high = dimension.low, dimension.high
  if share <= 0 then return low end
  if share >= 1 then return high end
  local value = dimension.log and low * (high / low) ^ share or low + (high - low) * share
  if dimension.integer then return floor(value + 0.5) end
  return math.min(high, math.max(low, M.round(value)))
end

local function is_integer(option)
  return option.type:find("integer", 1, true) ~= nil and not option.type:find("number", 1, true)
end

local function set_range(dimension, low, high)
  dimension.low, dimension.high = low, high
  dimension.log, dimension.integer = low > 0 and high / low >= WIDE, is_integer(dimension.option)
end

local function range_of(dimension, text)
  local low, high, count = text:match "^(.-)%.%.([^:]+):?(.*)$"
  if not low then return nil end
  low, high = number_of(low), number_of(high)
  local points = count == "" and M.POINTS or number_of(count)
  if not low or not high or high <= low then
    return false, ("'%s' must be a range such as 0.1..2 or 0.1..2:7, or a list such as 1,2,4"):format(text)
  end
  if not points or points < 2 or points > M.MOST or points % 1 ~= 0 then
    return false, ("'%s': a range has 2 to %d points"):format(text, M.MOST)
  end
  set_range(dimension, low, high)
  for i = 0, points - 1 do
    local value = M.point(dimension, i / (points - 1))
    if value ~= dimension.values[#dimension.values] then dimension.values[#dimension.values + 1] = value end
  end
  return true
end

local function value_of(option, text)
  text = text:match "^%s*(.-)%s*$"
  local types = option.type
  if types:find "number" or types:find "integer" then
    local number = number_of(text)
    if number then return number end
    if option.infinite and (text == "inf" or text == "huge") then return math.huge end
  end
  if types:find "boolean" and (text == "true" or text == "false") then return text == "true" end
  return text
end

--- What is wrong with a value of an option, or nil.
local function problem(name, option, value)
  if value == math.huge and option.infinite then return nil end
  local spec = {}
  for key, field in pairs(option) do
    if key ~= 1 then spec[key] = field end
  end
  local ok, message = pcall(options.check, "x", { value = value }, { value = spec })
  if ok then return nil end
  message = tostring(message):gsub("^.-option 'value'", "", 1)
  return ("option '%s'%s"):format(name, message)
end

--- Reads one `NAME=VALUES`; nil and one sentence where it is wrong.
---@param text string
---@param has? table<string, boolean> parts of the policies at hand
---@return neap.lab.Dimension?
---@return string? message
function M.parse(text, has)
  local name, values = text:match "^%s*([%w_.]+)%s*=%s*(.-)%s*$"
  if not name or values == "" then
    return nil, ("'%s' must be an option and its values, such as backoff.base=0.1..2"):format(text)
  end
  local found, message = M.find(name, has)
  if not found then return nil, message end
  local dimension = { name = name, part = found.part, path = found.path, option = found.option, values = {} }
  local ranged, wrong = range_of(dimension, values)
  if ranged == false then return nil, wrong end
  if not ranged then
    for part in values:gmatch "[^,]+" do dimension.values[#dimension.values + 1] = value_of(found.option, part) end
  end
  for _, value in ipairs(dimension.values) do
    wrong = problem(name, found.option, value)
    if wrong then return nil, wrong end
  end
  return dimension
end

-- ---------------------------------------------------------------------------
-- Variants
-- ---------------------------------------------------------------------------

--- A change that sets a dimension's option.
---@param dimension neap.lab.Dimension
---@param value any
---@return neap.lab.Change
function M.change(dimension, value)
  -- JSON has no infinity.
  return { name = dimension.name, part = dimension.part, path = dimension.path,
    value = value == math.huge and "inf" or value }
end

---@param value any
---@return string
function M.show(value)
  if type(value) == "number" and value ~= math.huge then return ("%.12g"):format(value) end
  return tostring(value)
end

--- A variant of a policy with these values, one of each dimension.
---@param policy string
---@param dimensions neap.lab.Dimension[]
---@param values any[]
---@return neap.lab.Variant
function M.variant(policy, dimensions, values)
  local changes, at, parts = {}, {}, {}
  for i, dimension in ipairs(dimensions) do
    changes[i] = M.change(dimension, values[i])
    at[dimension.name] = values[i]
    parts[i] = ("%s=%s"):format(dimension.name, M.show(values[i]))
  end
  return { name = ("%s, %s"):format(policy, table.concat(parts, " ")), policy = policy, changes = changes, at = at }
end

local function grid(dimensions, visit, values, depth)
  values, depth = values or {}, depth or 1
  if depth > #dimensions then return visit { unpack(values) } end
  for _, value in ipairs(dimensions[depth].values) do
    values[depth] = value
    grid(dimensions, visit, values, depth + 1)
  end
end

--- Whether a policy has all that the dimensions change.
---@param has table<string, boolean>
---@param dimensions neap.lab.Dimension[]
---@return boolean
function M.applies(has, dimensions)
  for _, dimension in ipairs(dimensions) do
    if not has[dimension.part] then return false end
  end
  return true
end

--- Every combination for every policy that has these options; the other policies as
--- they are. nil and one sentence where no policy has them, or there are too many.
---@param names string[] of policies
---@param parts table<string, table<string, boolean>> by policy
---@param dimensions neap.lab.Dimension[]
---@return neap.lab.Variant[]?
---@return string? message
function M.variants(names, parts, dimensions)
  local list, swept = {}, 0
  for _, name in ipairs(names) do
    if #dimensions > 0 and M.applies(parts[name], dimensions) then
      swept = swept + 1
      grid(dimensions, function(values) list[#list + 1] = M.variant(name, dimensions, values) end)
    else
      list[#list + 1] = { name = name, policy = name }
    end
    if #list > M.MOST then
      return nil, ("the sweep has more than %d variants: give fewer values, as in 0.1..2:3"):format(M.MOST)
    end
  end
  if #dimensions > 0 and swept == 0 then
    local wanted = {}
    for i, dimension in ipairs(dimensions) do
      wanted[i] = dimension.part .. "." .. table.concat(dimension.path, ".")
    end
    return nil, ("no policy of the script has %s"):format(table.concat(wanted, " and "))
  end
  return list
end

--- All parts that any of these policies has.
---@param parts table<string, table<string, boolean>>
---@return table<string, boolean>
function M.union(parts)
  local has = {}
  for _, of_one in pairs(parts) do
    for name, there in pairs(of_one) do has[name] = has[name] or there end
  end
  return has
end

--- Reads several; nil and one sentence where one is wrong.
---@param texts string[]
---@param parts table<string, table<string, boolean>> by policy
---@return neap.lab.Dimension[]?
---@return string? message
function M.parse_all(texts, parts)
  local has, list = M.union(parts), {}
  for i, text in ipairs(texts) do
    local dimension, message = M.parse(text, has)
    if not dimension then return nil, message end
    list[i] = dimension
  end
  return list
end

--- A dimension around the value that an option has: a quarter of it to four times.
---@param part string
---@param path string[]
---@param option neap.schema.Option
---@param value number
---@return neap.lab.Dimension?
function M.around(part, path, option, value)
  local low, high = value / 4, value * 4
  if option.min then low = math.max(low, option.min) end
  if option.above then low = math.max(low, option.above + (high - option.above) / 100) end
  if option.max then high = math.min(high, option.max) end
  if is_integer(option) then low, high = math.max(1, math.ceil(low)), floor(high) end
  if low >= high then return nil end
  local dimension = { name = part .. "." .. table.concat(path, "."), part = part, path = path, option = option,
    values = {} }
  set_range(dimension, low, high)
  return dimension
end

return M
