--- SHA-256 (FIPS 180-4) of short texts: what must not be readable in a key. Pure.
local bit = require "bit"

local band, bnot, bxor, ror, rshift, tobit = bit.band, bit.bnot, bit.bxor, bit.ror, bit.rshift, bit.tobit
local byte, char = string.byte, string.char

local M = {}

--- The first 32 bits of the fractions of the cube (or square) roots of primes,
--- from integers: a double has too few digits for all of them by itself.
local function fractions(count, power)
  local words, candidate = {}, 2
  while #words < count do
    local is_prime = true
    for divisor = 2, math.floor(math.sqrt(candidate)) do
      if candidate % divisor == 0 then is_prime = false break end
    end
    if is_prime then
      local root = candidate ^ (1 / power)
      words[#words + 1] = tobit(math.floor((root - math.floor(root)) * 2 ^ 32))
    end
    candidate = candidate + 1
  end
  return words
end

local K, START = fractions(64, 3), fractions(8, 2)

local function pad(text)
  local bits = #text * 8
  local zeros = (55 - #text) % 64
  local length = {}
  for i = 8, 1, -1 do
    length[i] = char(bits % 256)
    bits = math.floor(bits / 256)
  end
  return text .. "\128" .. ("\0"):rep(zeros) .. table.concat(length)
end

local function schedule(words, text, at)
  for i = 1, 16 do
    local a, b, c, d = byte(text, at + i * 4 - 4, at + i * 4 - 1)
    words[i] = tobit(a * 2 ^ 24 + b * 2 ^ 16 + c * 2 ^ 8 + d)
  end
  for i = 17, 64 do
    local x, y = words[i - 15], words[i - 2]
    local s0 = bxor(ror(x, 7), ror(x, 18), rshift(x, 3))
    local s1 = bxor(ror(y, 17), ror(y, 19), rshift(y, 10))
    words[i] = tobit(words[i - 16] + s0 + words[i - 7] + s1)
  end
end

local function compress(state, words)
  local a, b, c, d, e, f, g, h = unpack(state)
  for i = 1, 64 do
    local s1 = bxor(ror(e, 6), ror(e, 11), ror(e, 25))
    local choice = bxor(band(e, f), band(bnot(e), g))
    local t1 = tobit(h + s1 + choice + K[i] + words[i])
    local s0 = bxor(ror(a, 2), ror(a, 13), ror(a, 22))
    local majority = bxor(band(a, b), band(a, c), band(b, c))
    h, g, f, e = g, f, e, tobit(d + t1)
    d, c, b, a = c, b, a, tobit(t1 + s0 + majority)
  end
  local after = { a, b, c, d, e, f, g, h }
  for i = 1, 8 do state[i] = tobit(state[i] + after[i]) end
end

--- The digest, 64 hexadecimal digits.
---@param text string
---@return string
function M.hex(text)
  local padded, state, words = pad(text), { unpack(START) }, {}
  for at = 1, #padded, 64 do
    schedule(words, padded, at)
    compress(state, words)
  end
  for i = 1, 8 do state[i] = bit.tohex(state[i]) end
  return table.concat(state)
end

return M
