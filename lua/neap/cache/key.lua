--- Keys made of a call's function and arguments. Pure.
---
--- A key is injective: two calls have the same one only when their arguments are
--- equal, tables by what is in them. Functions and clients count by identity, for
--- what is in them cannot be seen. An object counts by what its metatable's
--- `cache_key(object)` says: a string, or nil for a call that is not to be cached.
local Client = require "neap.http.client"
local json = require "neap.json"

local M = {}

local concat, format, sort, type = table.concat, string.format, table.sort, type

local ARRAY = getmetatable(json.array {})
local MAX_DEPTH = 100

--- Numbers of functions and clients, in the order in which they were first seen.
local identities, last_identity = setmetatable({}, { __mode = "k" }), 0

local function identity(value)
  local number = identities[value]
  if not number then
    last_identity = last_identity + 1
    number = last_identity
    identities[value] = number
  end
  return "@" .. number .. " "
end

local function is_client(value)
  return type(value) == "table" and getmetatable(value) == Client
end

-- Of a client's methods only those may be answered by what another call brought
-- that change nothing at the server.
local PASSES = {
  [Client.post] = true, [Client.put] = true, [Client.patch] = true, [Client.delete] = true,
}

local function passes(fn, _, first, second)
  if PASSES[fn] then return true end
  if fn == Client.get or fn == Client.head then return type(second) == "table" and second.stream end
  if fn ~= Client.request or type(first) ~= "table" then return false end
  local method = type(first.method) == "string" and first.method:upper() or "GET"
  return first.stream or (method ~= "GET" and method ~= "HEAD")
end

-- Numbers before strings, each by size; booleans last.
local function before(a, b)
  local type_a, type_b = type(a), type(b)
  if type_a ~= type_b then return type_a < type_b end
  if type_a == "boolean" then return a and not b end
  return a < b
end

--- In place of a problem: the call passes by the cache.
local PASS = {}

-- The class counts by identity: two of them may say the same.
local function write_object(out, value, meta, where)
  local say = type(meta) == "table" and rawget(meta, "cache_key")
  if type(say) ~= "function" then return where .. " holds an object" end
  local said = say(value)
  if said == nil then return PASS end
  if type(said) ~= "string" then return ("%s holds an object whose cache_key is a %s"):format(where, type(said)) end
  out[#out + 1] = identity(meta) .. #said .. ":"
  out[#out + 1] = said
end

local write

local function write_table(out, value, where, depth)
  local meta = getmetatable(value)
  if meta ~= nil and meta ~= ARRAY then return write_object(out, value, meta, where) end
  if depth > MAX_DEPTH then return where .. " is nested too deeply, or a table within itself" end
  local keys = {}
  for key in pairs(value) do
    local kind = type(key)
    if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
      return ("%s has a %s as a key"):format(where, kind)
    end
    keys[#keys + 1] = key
  end
  sort(keys, before)
  out[#out + 1] = meta and "[" or "{"
  for _, key in ipairs(keys) do
    write(out, key, where, depth)
    local problem = write(out, value[key], where, depth + 1)
    if problem then return problem end
  end
  out[#out + 1] = "}"
end

--- Adds `value` to `out`; returns what is wrong with it.
function write(out, value, where, depth)
  local kind = type(value)
  if kind == "string" then
    out[#out + 1] = #value .. ":"
    out[#out + 1] = value
  elseif kind == "number" then
    out[#out + 1] = format("n%.17g ", value)
  elseif kind == "boolean" then
    out[#out + 1] = value and "t" or "f"
  elseif kind == "nil" then
    out[#out + 1] = "-"
  elseif kind == "table" then
    return write_table(out, value, where, depth)
  elseif value == json.null then
    out[#out + 1] = "0"
  elseif value == json.empty_array then
    out[#out + 1] = "[}"
  else
    return ("%s %s a %s"):format(where, depth > 1 and "holds" or "is", kind)
  end
end

--- The key of a call `fn(...)`; nil when it is a client's that writes or streams,
--- or an argument says so; nil and what stands in the way otherwise.
---@param fn function
---@return string? key
---@return string? problem "argument 2 is a function"
function M.of(fn, ...)
  if passes(fn, ...) then return nil end
  local count = select("#", ...)
  if count == 0 then return nil, "there are no arguments" end
  local out = { identity(fn) }
  for i = 1, count do
    local value = (select(i, ...))
    if is_client(value) then
      out[#out + 1] = identity(value)
    else
      local problem = write(out, value, "argument " .. i, 1)
      if problem == PASS then return nil end
      if problem then return nil, problem end
    end
  end
  return concat(out)
end

return M
