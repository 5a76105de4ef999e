---@meta
--- JSON and UTF-8: what runtime/bind/lua_json.c and lua_json_encode.c give
--- lua/neap/json.lua. Nothing here waits; arguments of a wrong type raise.

local core = {}

--- JSON's null.
---@type lightuserdata
core.json_null = nil

--- Encodes as [].
---@type lightuserdata
core.json_empty_array = nil

---@param value any
---@param options? {sort_keys: boolean?} the members of objects in the order of their names
---@return string? text
---@return neap.Error? err kind "invalid" with the place in the message; "too_large" beyond 100 MB
function core.json_encode(value, options) end

--- Whether json_encode always sorts keys, as in a simulation.
---@param on boolean
---@return boolean before
function core.json_sort_keys(on) end

---@param text string
---@return any value nil only with an error: null is core.json_null
---@return neap.Error? err kind "decode", with `position` (byte, from 1); "too_large" beyond 1 GB
function core.json_decode(text) end

--- Marks a table (a new one when there is none) as an array.
---@param t? table without a metatable of its own
---@return table t
function core.json_array(t) end

--- The members of an object as they stand in its text; of a repeated key the last.
---@param text string
---@return table<string, string>? members key -> raw JSON
---@return string? message what is wrong, with the byte
function core.json_members(text) end

--- Whether a text is JSON (RFC 8259, UTF-8, at most 1,000 levels deep).
---@param text string
---@return boolean
---@return string? message what is wrong, with the byte
function core.json_valid(text) end

--- The text with U+FFFD for what is not UTF-8.
---@param text string
---@return string
function core.utf8_clean(text) end
