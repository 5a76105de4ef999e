---@meta
--- Keys in order: what runtime/bind/lua_sorted.c gives lua/neap/sorted.lua and
--- lua/neap/sim/ordered.lua.

local core = {}

--- The keys of a table: numbers by size, strings by their bytes, false, true.
---@param t table
---@return any[]? keys nil when one has no order
---@return integer|string count or the type of that key
function core.sorted_keys(t) end

--- The first of them.
---@param t table
---@return any key nil for an empty table
---@return string? type of a key without an order
function core.least_key(t) end

return core
