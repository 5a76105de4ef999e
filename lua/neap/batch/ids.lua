--- Identities of a batch: stable 64-bit hashes of text, the ids and header
--- values made from them, and a compact set that knows which custom_ids have
--- been seen. Pure, but for the memory of the set.
local bit = require "bit"
local ffi = require "ffi"

local band, bxor, rol, rshift, lshift, tobit, tohex =
  bit.band, bit.bxor, bit.rol, bit.rshift, bit.lshift, bit.tobit, bit.tohex

ffi.cdef [[
void *calloc(size_t count, size_t size);
void free(void *memory);
]]

local M = {}

-- 32-bit multiplication. A double holds 53 bits, so in two halves.
local function mul(a, b)
  return tobit(tobit(band(a, 0xffff) * b) + lshift(tobit(rshift(a, 16) * b), 16))
end

-- The finalizer of MurmurHash3 (Appleby, public domain): every input bit
-- reaches every output bit.
local function mix(h)
  h = mul(bxor(h, rshift(h, 16)), 0x85ebca6b)
  h = mul(bxor(h, rshift(h, 13)), 0xc2b2ae35)
  return bxor(h, rshift(h, 16))
end

--- Two 32-bit hashes of `text`: two lanes in the manner of MurmurHash3 with
--- constants of their own. Equal on every machine and in every run. Not for
--- secrets.
---@param text string
---@return integer high, integer low signed 32-bit numbers
function M.hash(text)
  local h1, h2 = 0x2f0b4f37, 0x6b43a9b5
  for i = 1, #text, 4 do
    local a, b, c, d = text:byte(i, i + 3)
    local k = a + (b or 0) * 0x100 + (c or 0) * 0x10000 + (d or 0) * 0x1000000
    h1 = tobit(mul(rol(bxor(h1, mul(rol(mul(k, 0xcc9e2d51), 15), 0x1b873593)), 13), 5) + 0xe6546b64)
    h2 = tobit(mul(rol(bxor(h2, mul(rol(mul(k, 0x9e3779b1), 16), 0x7feb352d)), 15), 9) + 0x38495ab5)
  end
  h1, h2 = bxor(h1, #text), bxor(h2, #text)
  h1 = tobit(h1 + h2)
  h2 = tobit(h2 + h1)
  h1, h2 = mix(h1), mix(h2)
  h1 = tobit(h1 + h2)
  return h1, tobit(h2 + h1)
end

--- The hash of `text` as 16 hexadecimal digits.
---@param text string
---@return string
function M.hex(text)
  local high, low = M.hash(text)
  return tohex(high) .. tohex(low)
end

-- What OpenAI accepts in X-Client-Request-Id: up to 512 ASCII characters.
local MAX_HEADER = 512

--- `custom_id` as a header value: control characters and everything beyond
--- ASCII percent-encoded, so that it stays one line and two ids stay two; a long
--- one is cut and ends in its hash.
---@param custom_id string
---@return string
function M.header_value(custom_id)
  local value = custom_id:gsub("[^ -~]", function(c) return ("%%%02X"):format(c:byte()) end)
  -- A server trims outer blanks.
  value = value:gsub("^ ", "%%20"):gsub(" $", "%%20")
  if #value > MAX_HEADER then value = value:sub(1, MAX_HEADER - 17) .. "~" .. M.hex(custom_id) end
  return value
end

---@class neap.batch.Set
---@field count integer
local Set = {}
Set.__index = Set

local function new_slots(capacity)
  local memory = ffi.C.calloc(capacity, 8)
  if memory == nil then error "not enough memory for the set of custom_ids" end
  return ffi.gc(ffi.cast("int32_t *", memory), ffi.C.free)
end

--- An empty set of texts. It keeps a 64-bit hash of each and nothing else, so a
--- million cost 16 MB; that any two of a million share one has odds of 1 to
--- 37 million.
---@return neap.batch.Set
function M.set()
  local capacity = 1024
  return setmetatable({ count = 0, capacity = capacity, slots = new_slots(capacity) }, Set)
end

-- Puts the hash into its slot; false when it is there already. 0, 0 is "free".
local function insert(slots, capacity, high, low)
  local index = band(high, capacity - 1)
  while true do
    local at_high, at_low = slots[2 * index], slots[2 * index + 1]
    if at_high == 0 and at_low == 0 then
      slots[2 * index], slots[2 * index + 1] = high, low
      return true
    end
    if at_high == high and at_low == low then return false end
    index = band(index + 1, capacity - 1)
  end
end

function Set:grow()
  local capacity = self.capacity * 2
  local old, slots = self.slots, new_slots(capacity)
  for index = 0, self.capacity - 1 do
    local high, low = old[2 * index], old[2 * index + 1]
    if high ~= 0 or low ~= 0 then insert(slots, capacity, high, low) end
  end
  ffi.C.free(ffi.gc(old, nil)) -- now, for it may be large
  self.slots, self.capacity = slots, capacity
end

--- Adds `text`. Returns false when it was there before.
---@param text string
---@return boolean
function Set:add(text)
  local high, low = M.hash(text)
  if high == 0 and low == 0 then low = 1 end
  if not insert(self.slots, self.capacity, high, low) then return false end
  self.count = self.count + 1
  if self.count * 3 > self.capacity * 2 then self:grow() end
  return true
end

return M
