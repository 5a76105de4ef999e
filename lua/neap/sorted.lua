--- Loops over a table in an order that does not depend on the machine.
local core = require "neap.core"

local M = {}

local next, rawget, sort, type = next, rawget, table.sort, type

-- Numbers first, then strings, then booleans.
local RANK = { number = 1, string = 2, boolean = 3 }

local function before(a, b)
  local kind_a, kind_b = type(a), type(b)
  if kind_a ~= kind_b then return RANK[kind_a] < RANK[kind_b] end
  if kind_a == "boolean" then return b and not a end
  return a < b
end

--- Whether key `a` comes before key `b`: numbers by size, strings by bytes, false
--- before true. Both must be of these types.
---@type fun(a: number|string|boolean, b: number|string|boolean): boolean
M.before = before

--- The keys of `t` in order; nil and a type when a key has no order.
---@type fun(t: table): any[]?, integer|string count or the type of that key
M.keys = core.sorted_keys

--- Sorts keys of any type by what the caller says; what it cannot tell apart has
--- no order.
local function keys_by(t, less, level)
  local keys, count = {}, 0
  local key = next(t)
  while key ~= nil do
    count = count + 1
    keys[count] = key
    key = next(t, key)
  end
  sort(keys, less)
  for i = 2, count do
    if not less(keys[i - 1], keys[i]) then
      error("neap.sorted_pairs: the comparison does not tell two keys apart: their order is the machine's", level + 1)
    end
  end
  return keys, count
end

-- What was removed on the way is skipped, as next does.
local function advance(state)
  local t, keys = state.t, state.keys
  for i = state.at + 1, state.count do
    local value = rawget(t, keys[i])
    if value ~= nil then
      state.at = i
      return keys[i], value
    end
  end
  state.at = state.count
end

--- An iterator over sorted keys, in the sense of `for`.
---@param t table
---@param keys any[]
---@param count integer
---@return function, table
function M.iterate(t, keys, count)
  return advance, { t = t, keys = keys, count = count, at = 0 }
end

--- Like pairs, in order: numbers by size, then strings by their bytes, then false
--- and true. Keys of other types have no order of their own: for them `less(a, b)`
--- says which comes first, and it must tell any two apart. Sorts once, at the
--- start; entries may be changed and removed on the way, new ones are not seen.
--- Raises for a key without an order. Never waits.
---
---     for task, since in neap.sorted_pairs(started, function(a, b) return a:name() < b:name() end) do
---@param t table
---@param less? fun(a: any, b: any): boolean
---@return function, table
function M.pairs(t, less)
  if type(t) ~= "table" then error("neap.sorted_pairs: expected a table, got " .. type(t), 2) end
  if less ~= nil and type(less) ~= "function" then
    error("neap.sorted_pairs: the comparison must be a function, got " .. type(less), 2)
  end
  if less then return M.iterate(t, keys_by(t, less, 2)) end
  local keys, count = M.keys(t)
  if not keys then
    error(("neap.sorted_pairs: a %s as key has no order of its own; give a comparison of two keys"):format(count), 2)
  end
  return M.iterate(t, keys, count)
end

--- The first key of `t`, in order, that `test(key, value)` holds for. For what is
--- said of one of several faults, once there is one.
---@param t table
---@param test fun(key: any, value: any): any
---@return any key nil: there is none
function M.first(t, test)
  for key, value in M.all(t) do
    if test(key, value) then return key end
  end
end

--- As `pairs(t)` of this module; keys of which one has no order come as Lua's pairs
--- has them. For checks that tell the first of several faults.
---@param t table
---@return function, table
function M.all(t)
  local keys, count = M.keys(t)
  if not keys then return pairs(t) end
  return M.iterate(t, keys, count)
end

return M
