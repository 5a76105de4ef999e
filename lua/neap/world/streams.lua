--- Randomness for a world: one stream a purpose, so that a draw more in one shifts
--- none of the others. A stream is read in order, or *at a key*: then the numbers
--- depend on the seed, the purpose and the key alone, whoever came before. Two
--- policies that send different numbers of requests still meet the same latency
--- for "request-17, second attempt". Pure: the generator is an argument.
local bit = require "bit"

local band, bxor, lshift, rshift, tobit = bit.band, bit.bxor, bit.lshift, bit.rshift, bit.tobit
local byte, floor = string.byte, math.floor

local M = {}

--- One number a purpose; they are part of what a seed means.
M.numbers = { latency = 1, error = 2, drop = 3, hang = 4, id = 5, brownout = 6, output = 7, connect = 8,
  refuse = 9, connect_hang = 10, handler = 11, error_latency = 12 }

--- The low 32 bits of a product, in pieces that a double holds.
local function multiply(a, b)
  return tobit(band(a, 0xffff) * b + band(rshift(a, 16) * b, 0xffff) * 65536)
end

--- MurmurHash3's finalizer: every bit of `h` changes half of the result's. The
--- products are in pieces that a double holds; they are written out, for a call in
--- here is one too many for the JIT compiler to inline.
local function mix(h)
  h = bxor(h, rshift(h, 16))
  local low, high = band(h, 0xffff), rshift(h, 16)
  h = tobit(low * 0xca6b + lshift(band(low * 0x85eb + high * 0xca6b, 0xffff), 16))
  h = bxor(h, rshift(h, 13))
  low, high = band(h, 0xffff), rshift(h, 16)
  h = tobit(low * 0xae35 + lshift(band(low * 0xc2b2 + high * 0xae35, 0xffff), 16))
  return bxor(h, rshift(h, 16))
end

--- FNV-1a of a text, 32 bits.
local function hash(text)
  local h = tobit(0x811c9dc5)
  for i = 1, #text do h = multiply(bxor(h, byte(text, i)), 16777619) end
  return h
end

--- The seed of a host in a world with a seed: hosts differ in their draws.
---@param seed integer
---@param host string
---@return integer
function M.host_seed(seed, host)
  local h = mix(bxor(hash(host), mix(bxor(tobit(seed % 2 ^ 32), mix(tobit(floor(seed / 2 ^ 32)))))))
  return h % 2 ^ 32 + seed % 2 ^ 21 * 2 ^ 32
end

---@class neap.world.Streams
---@field package key integer? nil: in order
---@field package epoch integer
---@field package visits table<any, integer>
local Streams = {}
Streams.__index = Streams

---@param seed integer
---@param rng fun(seed: integer, stream: integer): {double: fun(self): number} as core.rng
---@return neap.world.Streams
function M.new(seed, rng)
  return setmetatable({ seed = seed, rng = rng, epoch = 0, visits = {} }, Streams)
end

--- A function that draws uniform numbers in [0, 1) for a purpose.
---@param name string of `numbers`
---@return fun(): number
function Streams:stream(name)
  local number = M.numbers[name] or error("there is no stream '" .. tostring(name) .. "'", 2)
  local rng = self.rng(self.seed, number)
  local salt = mix(bxor(tobit(self.seed % 2 ^ 32), mix(bxor(tobit(floor(self.seed / 2 ^ 32)), number))))
  local epoch, count, base = 0, 0, 0
  return function()
    local key = self.key
    if not key then return rng:double() end
    if epoch ~= self.epoch then epoch, count, base = self.epoch, 0, mix(bxor(key, salt)) end
    count = count + 1
    return mix(bxor(base, count)) % 2 ^ 32 / 2 ^ 32
  end
end

--- From now on draws are those of the next visit of `id`, or of the given one;
--- nil: in order again.
---@param id any
---@param visit? integer
function Streams:seek(id, visit)
  if id == nil then
    self.key = nil
    return
  end
  if not visit then
    id = tostring(id)
    visit = (self.visits[id] or 0) + 1
    self.visits[id] = visit
  end
  -- A number is its own hash, but for a salt that texts do not have.
  local h = type(id) == "number" and mix(bxor(tobit(id % 2 ^ 32), 0x6e656170)) or hash(id)
  self.key = mix(bxor(h, mix(visit)))
  self.epoch = self.epoch + 1
end

return M
