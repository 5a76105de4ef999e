--- A simulated provider's words: answers and embeddings that depend on their input alone, so
--- that a repeated request has the same answer. Pure.
local bit = require "bit"

local band, bxor, rshift, tobit = bit.band, bit.bxor, bit.rshift, bit.tobit
local byte = string.byte

local M = {}

local WORDS = {}
for word in ([[the a tide turns slowly and calm water returns to every harbour while small boats wait in
their own order nothing is lost nobody hurries each wave carries one answer home before evening the moon
keeps time so we count what arrived compare what was sent and call it even]]):gmatch "%a+" do
  WORDS[#WORDS + 1] = word
end

--- FNV-1a, 32 bits, as a non-negative number. `i * 16777619` is done in pieces: it
--- would not fit a double.
---@param text string
---@return integer
function M.hash(text)
  local h = tobit(0x811c9dc5)
  for i = 1, #text do
    h = bxor(h, byte(text, i))
    local low, high = band(h, 0xffff), rshift(h, 16)
    h = tobit(low * 16777619 + band(high * 403, 0xffff) * 65536)
  end
  return h % 2 ^ 32
end

--- `text` as JSON can hold it: when it is not UTF-8, every byte beyond ASCII is
--- written as "\xff".
---@param text string
---@return string
function M.printable(text)
  if not text:find "[\128-\255]" or require("neap.json").encode(text) then return text end
  return (text:gsub("[\128-\255]", function(c) return ("\\x%02x"):format(byte(c)) end))
end

--- A cheap guess at what a tokenizer would count: four characters a token.
---@param text string
---@return integer
function M.count_tokens(text)
  return math.ceil(#text / 4)
end

--- How many words the answer to a prompt has when nobody says otherwise.
---@param prompt string
---@return integer
function M.length(prompt)
  return 12 + M.hash(prompt) % 24
end

--- The words of an answer to `prompt`, each with the space before it: at most
--- `limit` of them when given. Second result: whether it was cut.
---@param prompt string
---@param limit? integer
---@param length? integer before it is cut; default: 12 to 35, by the prompt
---@return string[] words
---@return boolean cut
function M.answer(prompt, limit, length)
  local hash = M.hash(prompt)
  length = length or M.length(prompt)
  local state = 1 + hash % 2147483646
  local cut = limit ~= nil and limit < length
  local words = {}
  for i = 1, cut and limit or length do
    state = state * 48271 % 2147483647 -- Park and Miller, 1988
    words[i] = " " .. WORDS[1 + math.floor(state / 65536) % #WORDS]
  end
  if words[1] then words[1] = words[1]:sub(2, 2):upper() .. words[1]:sub(3) end
  if not cut then words[#words] = words[#words] .. "." end
  return words, cut
end

--- A vector of length 1 for `text`: words are hashed to places and signs, so that
--- texts that share words are near each other.
---@param text string
---@param dimensions integer
---@return number[]
function M.embed(text, dimensions)
  local vector, sum = {}, 0
  for i = 1, dimensions do vector[i] = 0 end
  for word in (text .. " \1"):lower():gmatch "%S+" do
    local h = M.hash(word)
    for _ = 1, 4 do
      local place = 1 + h % dimensions
      vector[place] = vector[place] + (math.floor(h / 65536) % 2 == 0 and 1 or -1)
      h = M.hash(word .. h)
    end
  end
  for i = 1, dimensions do sum = sum + vector[i] * vector[i] end
  if sum == 0 then vector[1], sum = 1, 1 end -- every sign met its opposite
  local scale = 1 / math.sqrt(sum)
  for i = 1, dimensions do vector[i] = vector[i] * scale end
  return vector
end

return M
