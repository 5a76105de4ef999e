--- What a cache keeps of a result, and what it hands out of that. Responses are
--- taken apart and made anew for each caller; errors are copied; objects copy
--- themselves where their metatable has a `cache_copy(object, from)`; other tables
--- are the same for everybody, who must leave them as they are.
local errors = require "neap.error"
local json = require "neap.json"
local responses = require "neap.http.response"
local sorted_json = require "neap.cache.json"

local M = {}

local type, getmetatable, pairs = type, getmetatable, pairs

---@class neap.cache.Response what is kept of a response
---@field status integer
---@field flat string[] headers, {name, value, ...}
---@field body string
---@field version string
---@field url? string
---@field replay_safe? true
---@field meta? table<string, any> of the http client: JSON-able
local Kept = {}
Kept.__index = Kept

---@class neap.cache.Failure
---@field err any
local Failure = {}
Failure.__index = Failure

--- Metatables of objects that files may hold, by their `cache_name`. Such an object
--- has a `cache_copy` and is, but for the metatable, what JSON can say.
---@type table<string, table>
M.classes = {}

local function copier(meta)
  return type(meta) == "table" and rawget(meta, "cache_copy") or nil
end

-- ---------------------------------------------------------------------------
-- In memory
-- ---------------------------------------------------------------------------

local NUMBER_BYTES, TABLE_BYTES, FIELD_BYTES = 8, 56, 24
local MAX_DEPTH = 50

-- An estimate: LuaJIT's table and hash node sizes; what is met twice counts once.
local function estimate(value, seen, depth)
  local kind = type(value)
  if kind == "string" then return #value end
  if kind ~= "table" then return NUMBER_BYTES end
  if seen[value] or depth > MAX_DEPTH then return 0 end
  seen[value] = true
  local bytes = TABLE_BYTES
  for key, inner in pairs(value) do
    bytes = bytes + FIELD_BYTES + (type(key) == "string" and #key or 0) + estimate(inner, seen, depth + 1)
  end
  return bytes
end

local function response_bytes(kept)
  local bytes = #kept.body
  for i = 1, #kept.flat do bytes = bytes + #kept.flat[i] end
  return bytes
end

local function shallow_copy(value)
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, inner in pairs(value) do copy[key] = inner end
  return setmetatable(copy, getmetatable(value))
end

--- What is to be kept of an outcome and its bytes; nil for a streamed response and
--- for an object that gives no copy.
---@param result any
---@param err? any
---@param meta? table for responses
---@return any kept
---@return number bytes body and headers, a string's length, or an estimate
function M.freeze(result, err, meta)
  if result == nil then
    return setmetatable({ err = shallow_copy(err) }, Failure), estimate(err, {}, 1)
  end
  if type(result) == "string" then return result, #result end
  if not responses.is(result) then
    local copy = type(result) == "table" and copier(getmetatable(result))
    if copy then result = copy(result) end
    return result, result ~= nil and estimate(result, {}, 1) or 0
  end
  if responses.is_stream(result) then return nil, 0 end
  local kept = setmetatable({
    status = result.status, flat = responses.flat_headers(result), body = result.body,
    version = result.version, url = result.url, replay_safe = result.replay_safe, meta = meta,
  }, Kept)
  return kept, response_bytes(kept)
end

--- The outcome that was kept, for one more caller.
---@param kept any
---@param from "fresh"|"stale"|"shared"|"revalidated" how it comes about
---@return any result
---@return any err
function M.thaw(kept, from)
  local meta = type(kept) == "table" and getmetatable(kept)
  if meta == Kept then
    return responses.of {
      status = kept.status, flat = kept.flat, body = kept.body, version = kept.version, url = kept.url,
      replay_safe = kept.replay_safe, sends = 0, from_cache = from,
    }
  elseif meta == Failure then
    return nil, shallow_copy(kept.err)
  end
  local copy = copier(meta)
  if copy then return copy(kept, from) end
  return kept
end

--- Whether what is kept is handed to everybody as it is.
---@param kept any
---@return boolean
function M.is_shared(kept)
  if type(kept) ~= "table" then return false end
  local meta = getmetatable(kept)
  return meta ~= Kept and meta ~= Failure and not copier(meta)
end

--- What is kept of a response, or nil for anything else.
---@param kept any
---@return neap.cache.Response?
function M.response(kept)
  return getmetatable(kept) == Kept and kept or nil
end

-- ---------------------------------------------------------------------------
-- On disk
-- ---------------------------------------------------------------------------

--- Kinds of values; 0 is taken by deletions.
local STRING, JSON, RESPONSE, OBJECT = 1, 2, 3, 4

local function refuse(message)
  return nil, errors.new { kind = "invalid", message = message }
end

local function encode_response(kept)
  local head, err = sorted_json.encode {
    status = kept.status, version = kept.version, url = kept.url, replay_safe = kept.replay_safe,
    meta = kept.meta,
  }
  if not head then return nil, err end
  local parts = { head, "\n" }
  -- Headers are any bytes, which JSON is not.
  for i = 1, #kept.flat do parts[#parts + 1] = ("%d:%s"):format(#kept.flat[i], kept.flat[i]) end
  parts[#parts + 1] = "\n"
  parts[#parts + 1] = kept.body
  return RESPONSE, table.concat(parts)
end

--- The bytes of what is kept, for a file.
---@param kept any
---@return integer? kind
---@return string|neap.Error text
function M.encode(kept)
  if type(kept) == "string" then return STRING, kept end
  local meta = getmetatable(kept)
  if meta == Kept then return encode_response(kept) end
  if meta == Failure then return refuse "failures are kept in memory only" end
  local name = copier(meta) and rawget(meta, "cache_name")
  if name and M.classes[name] == meta then
    local text, err = sorted_json.encode(kept)
    if not text then return nil, err end
    return OBJECT, name .. "\n" .. text
  end
  if meta ~= nil and meta ~= getmetatable(json.array {}) then
    return refuse "an object cannot be kept in a file; keep a plain table or a string"
  end
  local text, err = sorted_json.encode(kept)
  if not text then return nil, err end
  return JSON, text
end

local function decode_response(text)
  local line_end = text:find("\n", 1, true)
  local fields = line_end and json.decode(text:sub(1, line_end - 1))
  if type(fields) ~= "table" then return nil end
  local flat, at = {}, line_end + 1
  while true do
    local length, from = text:match("^(%d+):()", at)
    if not length then break end
    flat[#flat + 1] = text:sub(from, from + tonumber(length) - 1)
    at = from + tonumber(length)
  end
  if text:sub(at, at) ~= "\n" then return nil end
  fields.flat, fields.body = flat, text:sub(at + 1)
  return setmetatable(fields, Kept)
end

local function decode_object(text)
  local name, body = text:match "^([^\n]*)\n(.*)$"
  local value = name and json.decode(body)
  if type(value) ~= "table" then return nil end
  -- A program that does not know the class gets a plain table.
  local class = M.classes[name]
  return class and setmetatable(value, class) or value
end

--- What `encode` made bytes of; nil when they are no such bytes.
---@param kind integer
---@param text string
---@return any kept
---@return number bytes
function M.decode(kind, text)
  if kind == STRING then return text, #text end
  if kind == RESPONSE then
    local kept = decode_response(text)
    return kept, kept and response_bytes(kept) or 0
  end
  if kind ~= JSON and kind ~= OBJECT then return nil, 0 end
  local value = (kind == JSON and json.decode or decode_object)(text)
  return value, estimate(value, {}, 1)
end

return M
