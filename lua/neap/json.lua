--- JSON: lua-cjson, guarded. What it gets wrong is refused or mended, never
--- corrupted silently; docs/api/json.md has the rules. Nothing here waits.
local core = require "neap.core"

local M = {}

--- JSON's null, in both directions. It counts as true in a condition.
---@type lightuserdata
M.null = core.json_null

--- Encodes as []. (An empty Lua table encodes as {}.)
---@type lightuserdata
M.empty_array = core.json_empty_array

--- Encodes a value. Numbers keep all their digits. With `{ sort_keys = true }` the
--- members of objects are in the order of their names, byte by byte, so that equal
--- values are equal texts; in a simulation always.
---@type fun(value: any, options?: {sort_keys: boolean?}): string?, neap.Error?
--- nil, err: kind "invalid" for what JSON cannot say (a function, NaN, invalid
--- UTF-8, a table within itself), with its place; "too_large" beyond 100 MB.
M.encode = core.json_encode

--- Decodes a text. Integers beyond 2^53 come as strings of their digits, null as
--- `neap.json.null`, empty arrays so that they encode as [] again.
---@type fun(text: string): any, neap.Error?
--- nil, err: kind "decode", with `position` (from 1).
M.decode = core.json_decode

--- Marks a table (a new one without argument) as an array, so that it encodes as
--- [] also when it is empty. Returns the table.
---@type fun(t?: table): table
M.array = core.json_array

--- Whether a text is JSON by RFC 8259; false, message when not.
---@type fun(text: string): boolean, string?
M.valid = core.json_valid

--- The members of a JSON object as they stand in its text, key -> raw JSON, for
--- what is to be passed on byte by byte. Of a repeated key the last counts.
---@type fun(text: string): table<string, string>?, string?
M.members = core.json_members

--- A string with U+FFFD in place of whatever is not UTF-8.
---@type fun(text: string): string
M.clean_utf8 = core.utf8_clean

return M
