--- What is wanted: goals ("min completion_time") and constraints
--- ("amplification<1.2, success>0.99"). Pure.
local metrics = require "neap.lab.metrics"

local M = {}

local ROUNDING = 1e-12 -- of a sum of a million values, relative

---@class neap.lab.Goal
---@field metric neap.lab.Metric
---@field way "min"|"max"

---@class neap.lab.Constraint
---@field metric neap.lab.Metric
---@field sign "<"|"<="|">"|">="
---@field bound number
---@field text string

local function each(text)
  return text:gmatch "%s*([^,]+)"
end

--- Goals from a text, the most important first; nil and one sentence for a wrong
--- one.
---@param text string
---@param known? neap.lab.Metric[] measures that there are; default: the usual ones
---@return neap.lab.Goal[]?
---@return string? message
function M.goals(text, known)
  local list = {}
  for part in each(text) do
    local way, name = part:match "^(%a+)%s+([%w_@]+)%s*$"
    if way ~= "min" and way ~= "max" then
      return nil, ("goal '%s' must be 'min' or 'max' and a measure, such as 'min completion_time'"):format(part)
    end
    local metric, message = metrics.find(name, known)
    if not metric then return nil, ("goal '%s': %s"):format(part, message) end
    list[#list + 1] = { metric = metric, way = way }
  end
  if #list == 0 then return nil, "a goal is needed, such as 'min completion_time'" end
  return list
end

--- Constraints from a text, maybe none; nil and one sentence for a wrong one.
---@param text? string
---@param known? neap.lab.Metric[]
---@return neap.lab.Constraint[]?
---@return string? message
function M.constraints(text, known)
  local list = {}
  for part in each(text or "") do
    part = part:match "^(.-)%s*$"
    local name, sign, bound, percent = part:match "^([%w_@]+)%s*([<>]=?)%s*([%d.eE+-]+)%s*(%%?)$"
    local number = tonumber(bound)
    if not name or not number then
      return nil, ("constraint '%s' must be a measure, one of < <= > >= and a number, such as 'amplification<1.2'")
        :format(part)
    end
    local metric, message = metrics.find(name, known)
    if not metric then return nil, ("constraint '%s': %s"):format(part, message) end
    number = percent == "%" and number / 100 or number
    if metric.percent and (number < 0 or number > 1) then
      return nil, ("constraint '%s': %s is a share, from 0 to 1; or write it in per cent, as 'success>99%%'"):format(
        part, metric.key)
    end
    list[#list + 1] = { metric = metric, sign = sign, bound = number, text = part }
  end
  return list
end

--- Goals as they are written: "max success, min p99".
---@param list neap.lab.Goal[]
---@return string
function M.text(list)
  local parts = {}
  for i, goal in ipairs(list) do parts[i] = goal.way .. " " .. goal.metric.key end
  return table.concat(parts, ", ")
end

--- By how much a constraint is missed, relative to its bound; 0: it holds. A value
--- that there is none of misses altogether.
---@param constraint neap.lab.Constraint
---@param value number?
---@return number
function M.miss(constraint, value)
  if not value then return math.huge end
  local bound, sign = constraint.bound, constraint.sign
  -- A mean of equal values may be off by its rounding: that is the bound itself.
  if math.abs(value - bound) <= ROUNDING * math.abs(bound) then value = bound end
  if sign == "<" and value < bound or sign == "<=" and value <= bound or sign == ">" and value > bound
    or sign == ">=" and value >= bound then
    return 0
  end
  -- On the bound itself "<" is missed, by next to nothing.
  return math.max(1e-12, math.abs(value - bound) / math.max(math.abs(bound), 1e-9))
end

--- The sum of what is missed; 0: all hold.
---@param constraints neap.lab.Constraint[]
---@param values table<string, number> by metric
---@return number
function M.total_miss(constraints, values)
  local sum = 0
  for _, constraint in ipairs(constraints) do sum = sum + M.miss(constraint, values[constraint.metric.key]) end
  return sum
end

--- Whether `a` is nearer to what is wanted than `b`: constraints first, then the
--- goals in order.
---@param goals neap.lab.Goal[]
---@param constraints neap.lab.Constraint[]
---@param a table<string, number>
---@param b table<string, number>
---@return boolean
function M.is_better(goals, constraints, a, b)
  local miss_a, miss_b = M.total_miss(constraints, a), M.total_miss(constraints, b)
  if miss_a ~= miss_b then return miss_a < miss_b end
  for _, goal in ipairs(goals) do
    local key = goal.metric.key
    local x, y = a[key], b[key]
    if x ~= y then
      if x == nil or y == nil then return y == nil end
      if goal.way == "min" then return x < y end
      return x > y
    end
  end
  return false
end

return M
