--- The format of a file of results. Pure.
---
---   file    = "neap cache 1\n" salt "\n" record*        salt: 16 hexadecimal digits
---   record  = mark head-sum kind fresh keep key-length value-length value-sum key value
---
--- Numbers are little-endian: sums and lengths 4 bytes, times 6 (milliseconds of
--- Unix time), kind 1. Sums are CRC-32; that of the head covers salt, fields and
--- key, so a record's length is to be trusted before its value was read, and
--- bytes in a value that look like a record are none. Kind 0 deletes its key.
local bit = require "bit"

local band, bxor, rshift, tobit = bit.band, bit.bxor, bit.rshift, bit.tobit
local byte, char, floor, sub = string.byte, string.char, math.floor, string.sub

local M = {}

M.MAGIC = "neap cache 1\n"
M.HEADER_BYTES = #M.MAGIC + 17
M.MARK = "\254\237nr"
--- Bytes of a record before its key.
M.HEAD_BYTES = 4 + 4 + 1 + 6 + 6 + 4 + 4 + 4
M.DELETED = 0
--- Bytes that a key or a value may have at most.
M.MAX_PART = 2 ^ 30

-- ---------------------------------------------------------------------------
-- Sums and numbers
-- ---------------------------------------------------------------------------

local TABLE = {}
for i = 0, 255 do
  local c = i
  for _ = 1, 8 do
    c = band(c, 1) == 1 and bxor(rshift(c, 1), tobit(0xEDB88320)) or rshift(c, 1)
  end
  TABLE[i] = c
end

--- CRC-32 (ISO 3309), as of zlib; `sum` is that of what stands before.
---@param text string
---@param sum? integer
---@return integer 32 bits, signed
function M.crc32(text, sum)
  local c = bxor(sum or 0, -1)
  local whole = #text - #text % 4
  for i = 1, whole, 4 do
    local p, q, r, s = byte(text, i, i + 3)
    c = bxor(TABLE[band(bxor(c, p), 255)], rshift(c, 8))
    c = bxor(TABLE[band(bxor(c, q), 255)], rshift(c, 8))
    c = bxor(TABLE[band(bxor(c, r), 255)], rshift(c, 8))
    c = bxor(TABLE[band(bxor(c, s), 255)], rshift(c, 8))
  end
  for i = whole + 1, #text do c = bxor(TABLE[band(bxor(c, byte(text, i)), 255)], rshift(c, 8)) end
  return bxor(c, -1)
end

local function u32(value)
  value = value % 2 ^ 32
  return char(value % 256, floor(value / 2 ^ 8) % 256, floor(value / 2 ^ 16) % 256, floor(value / 2 ^ 24))
end

local function read_u32(text, at)
  local a, b, c, d = byte(text, at, at + 3)
  return a + b * 2 ^ 8 + c * 2 ^ 16 + d * 2 ^ 24
end

local function u48(seconds)
  local ms = math.max(0, math.min(floor(seconds * 1000 + 0.5), 2 ^ 48 - 1))
  return u32(ms % 2 ^ 32) .. char(floor(ms / 2 ^ 32) % 256, floor(ms / 2 ^ 40))
end

local function read_time(text, at)
  local e, f = byte(text, at + 4, at + 5)
  local ms = read_u32(text, at) + e * 2 ^ 32 + f * 2 ^ 40
  return ms == 2 ^ 48 - 1 and math.huge or ms / 1000
end

-- ---------------------------------------------------------------------------
-- Files and records
-- ---------------------------------------------------------------------------

--- The beginning of a new file.
---@param random fun(): number
---@return string header
---@return integer salt what the sums of heads begin with
function M.header(random)
  local digits = ("%08x%08x"):format(random() * 2 ^ 32, random() * 2 ^ 32)
  return M.MAGIC .. digits .. "\n", M.crc32(digits)
end

--- The salt of a file that begins so. Nil when it is no such file; false when it
--- may be the torn beginning of one.
---@param text string the file's first bytes
---@return integer|false|nil salt
function M.salt(text)
  local digits = sub(text, 1, M.HEADER_BYTES):match("^" .. M.MAGIC .. "(%x+)\n$")
  if digits then return M.crc32(digits) end
  if #text >= M.HEADER_BYTES then return nil end
  local magic = sub(text, 1, #M.MAGIC)
  if magic ~= sub(M.MAGIC, 1, #magic) or sub(text, #M.MAGIC + 1):find "%X" then return nil end
  return false
end

--- One record.
---@param salt integer
---@param kind integer
---@param key string
---@param value string
---@param fresh number Unix time, seconds
---@param keep number Unix time, seconds
---@return string
function M.encode(salt, kind, key, value, fresh, keep)
  local fields = char(kind) .. u48(fresh) .. u48(keep) .. u32(#key) .. u32(#value) .. u32(M.crc32(value))
  local sum = M.crc32(key, M.crc32(fields, salt))
  return M.MARK .. u32(sum) .. fields .. key .. value
end

--- The bytes of a head and its key, from the head's first ones; nil: it is none.
---@param text string
---@param at integer from 1; HEAD_BYTES follow it
---@return integer? bytes
function M.head_size(text, at)
  if sub(text, at, at + 3) ~= M.MARK then return nil end
  local key_length, value_length = read_u32(text, at + 21), read_u32(text, at + 25)
  if key_length > M.MAX_PART or value_length > M.MAX_PART then return nil end
  return M.HEAD_BYTES + key_length
end

---@class neap.cache.Head
---@field kind integer
---@field key string
---@field fresh number Unix time, seconds; math.huge: for ever
---@field keep number Unix time, seconds; math.huge: for ever
---@field size integer bytes of the whole record
---@field value_sum integer
---@field value_at integer bytes before the value

--- The head at `at`, of which `head_size` bytes must be there; nil when its sum is
--- wrong.
---@param text string
---@param at integer from 1
---@param salt integer
---@return neap.cache.Head?
function M.decode(text, at, salt)
  local key_length, value_length = read_u32(text, at + 21), read_u32(text, at + 25)
  local head = M.HEAD_BYTES + key_length
  local sum = M.crc32(sub(text, at + 8, at + head - 1), salt)
  if sum % 2 ^ 32 ~= read_u32(text, at + 4) then return nil end
  return {
    kind = byte(text, at + 8), fresh = read_time(text, at + 9), keep = read_time(text, at + 15),
    key = sub(text, at + M.HEAD_BYTES, at + head - 1), size = head + value_length,
    value_sum = read_u32(text, at + 29), value_at = head,
  }
end

--- The value of a whole record; nil when its sum is wrong.
---@param text string the record
---@param head neap.cache.Head
---@return string?
function M.value(text, head)
  local value = sub(text, head.value_at + 1, head.size)
  if M.crc32(value) % 2 ^ 32 ~= head.value_sum then return nil end
  return value
end

return M
