--- pairs and next of a simulated script: the order of a table's keys is that of
--- their values, not that of the machine's memory.
---
--- `next` is without state, as Lua's: the key after `key` is the least one that is
--- greater. A list of sorted keys is kept for each table under way, so that a
--- traversal sorts once.
local core = require "neap.core"
local sorted = require "neap.sorted"

local M = {}

local type, rawget = type, rawget
local before, least_key = sorted.before, core.least_key

local HAS_ORDER = { number = true, string = true, boolean = true }

--- table -> { keys, count, at }: the last traversal by `next`.
local cursors = setmetatable({}, { __mode = "k" })

local function no_order(name, kind)
  error(("%s over a table with a %s as key: its order would be the machine's; use neap.sorted_pairs"):format(name,
    kind), 3)
end

local function check(name, t)
  if type(t) ~= "table" then
    error(("bad argument #1 to '%s' (table expected, got %s)"):format(name, t == nil and "no value" or type(t)), 3)
  end
end

--- The place of the first of the sorted keys that comes after `key`.
local function place_after(keys, count, key)
  local low, high = 1, count + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if before(key, keys[middle]) then high = middle else low = middle + 1 end
  end
  return low
end

local function cursor_of(t)
  local keys, count = sorted.keys(t)
  if not keys then return nil, count end
  local cursor = { keys = keys, count = count, at = 1 }
  cursors[t] = cursor
  return cursor
end

local function continue(t, cursor, at)
  for i = at, cursor.count do
    local key = cursor.keys[i]
    local value = rawget(t, key)
    if value ~= nil then
      cursor.at = i
      return key, value
    end
  end
  cursors[t] = nil
  return nil
end

--- Lua's next, in order.
---@param t table
---@param key any
---@return any key
---@return any value
function M.next(t, key)
  check("next", t)
  if key == nil then
    cursors[t] = nil
    -- In one pass without sorting: most calls only ask whether there is one.
    local least, kind = least_key(t)
    if kind then no_order("next", kind) end
    if least == nil then return nil end
    return least, rawget(t, least)
  end
  local cursor, kind = cursors[t], type(key)
  if not HAS_ORDER[kind] then no_order("next", kind) end
  if not cursor then
    cursor, kind = cursor_of(t)
    if not cursor then no_order("next", kind) end
  elseif cursor.keys[cursor.at] == key then
    return continue(t, cursor, cursor.at + 1)
  end
  return continue(t, cursor, place_after(cursor.keys, cursor.count, key))
end

--- Lua's pairs, in order: sorts once, at the start. Entries may be changed and
--- removed on the way.
---@param t table
---@return function, table
function M.pairs(t)
  check("pairs", t)
  local keys, count = sorted.keys(t)
  if not keys then no_order("pairs", count) end
  return sorted.iterate(t, keys, count)
end

--- table.foreach, in order.
---@param t table
---@param fn fun(key: any, value: any): any
function M.foreach(t, fn)
  check("foreach", t)
  local keys, kind = sorted.keys(t)
  if not keys then no_order("foreach", kind) end
  for _, key in ipairs(keys) do
    local value = rawget(t, key)
    if value ~= nil then
      local result = fn(key, value)
      if result ~= nil then return result end
    end
  end
end

return M
