--- Randomness for a world: one stream a purpose, so that a draw more in one shifts
--- none of the others. A stream is read in order, or *at a key*: then the numbers
--- depend on the seed, the purpose and the key alone, whoever came before. Two
--- policies that send different numbers of requests still meet the same latency
--- for "request-17, second attempt". Pure: the generator is an argument.
local bit = require "bit"

local band, bxor, rshift, tobit = bit.band, bit.bxor, bit.rshift, bit.tobit
local byte, floor = string.byte, math.floor

local M = {}

--- One number a purpose; they are part of what a seed means.
M.numbers = { latency = 1, error = 2, drop = 3, hang = 4, id = 5, brownout = 6 }

--- The low 32 bits of a product, in pieces that a double holds.
local function multiply(a, b)
  return tobit(band(a, 0xffff) * b + band(rshift(a, 16) * b, 0xffff) * 65536)
end

--- MurmurHash3's finalizer: every bit of `h` changes half of the result's.
local function mix(h)
  h = multiply(bxor(h, rshift(h, 16)), 0x85ebca6b)
  h = multiply(bxor(h, rshift(h, 13)), 0xc2b2ae35)
  return bxor(h, rshift(h, 16))
end

--- FNV-1a of a text, 32 bits.
local function hash(text)
  local h = tobit(0x811c9dc5)
  for i = 1, #text do h = multiply(bxor(h, byte(text, i)), 16777619) end
  return h
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
  local epoch, count = 0, 0
  return function()
    local key = self.key
    if not key then return rng:double() end
    if epoch ~= self.epoch then epoch, count = self.epoch, 0 end
    count = count + 1
    return mix(bxor(mix(bxor(key, salt)), count)) % 2 ^ 32 / 2 ^ 32
  end
end

--- From now on draws are those of the next visit of `id`; nil: in order again.
---@param id any
function Streams:seek(id)
  if id == nil then
    self.key = nil
    return
  end
  id = tostring(id)
  local visit = (self.visits[id] or 0) + 1
  self.visits[id] = visit
  self.key = mix(bxor(hash(id), mix(visit)))
  self.epoch = self.epoch + 1
end

return M
