--- How many tokens something will take, before anybody has counted. Pure.
---
--- Four ASCII characters a token is OpenAI's own rule of thumb for English; text in
--- other scripts takes about one a character. The surroundings of a message are
--- those of OpenAI's cookbook ("How to count tokens with tiktoken"): 3 tokens a
--- message and its role, 1 for a name, 3 for the answer's start. Pictures are
--- OpenAI's: 85 at low detail, and 170 a tile more, of which 1024 x 1024 has 4.
local json = require "neap.json"
local options = require "neap.options"

local M = {}

local ceil, select = math.ceil, select

local PER_MESSAGE, PER_NAME, PER_REPLY = 3, 1, 3
local PER_PICTURE, PER_TILE, TILES = 85, 170, 4

--- Tokens of a text, as a fraction.
local function weigh(text)
  if not text:find "[\128-\255]" then return #text / 4 end
  local ascii = #text - select(2, text:gsub("[\128-\255]", ""))
  -- Every character beyond ASCII has one byte that begins it.
  return ascii / 4 + select(2, text:gsub("[\192-\255]", ""))
end

local weigh_content

local function weigh_part(part)
  if type(part) ~= "table" then return 0 end
  local picture = part.image_url
  if picture then
    local low = type(picture) == "table" and picture.detail == "low"
    return PER_PICTURE + (low and 0 or TILES * PER_TILE)
  end
  return weigh_content(part.text)
end

function weigh_content(content)
  if type(content) == "string" then return weigh(content) end
  local sum = 0
  if type(content) == "table" then
    for _, part in ipairs(content) do sum = sum + weigh_part(part) end
  end
  return sum
end

local function weigh_json(value)
  if value == nil then return 0 end
  local text = json.encode(value)
  return text and weigh(text) or 0
end

local function weigh_messages(messages)
  local sum = PER_REPLY
  for _, message in ipairs(messages) do
    if type(message) == "table" then
      sum = sum + PER_MESSAGE + weigh_content(message.role) + weigh_content(message.content)
        + weigh_json(message.tool_calls)
      if message.name then sum = sum + PER_NAME + weigh_content(message.name) end
    elseif type(message) == "string" then
      sum = sum + weigh(message)
    end
  end
  return sum
end

--- An estimate of the tokens in a text, an array of texts (or of tokens), or an
--- array of chat messages. Never waits.
---@param what string|table
---@return integer
function M.estimate(what)
  if type(what) == "string" then return ceil(weigh(what)) end
  if type(what) ~= "table" then
    options.fail("neap.llm.estimate needs a text or messages, got " .. type(what))
  end
  if type(what[1]) == "number" then return #what end -- tokens already
  if type(what[1]) ~= "string" then return ceil(weigh_messages(what)) end
  local sum = 0
  for _, text in ipairs(what) do sum = sum + ceil(weigh(text)) end
  return sum
end

--- Tokens that a request sends.
---@param request table
---@return integer
function M.input(request)
  -- The system's words stand beside the messages in Anthropic's requests, and beside the
  -- input in OpenAI's Responses.
  local sum = weigh_json(request.tools) + weigh_content(request.system) + weigh_content(request.instructions)
  if type(request.messages) == "table" then
    sum = sum + weigh_messages(request.messages)
  else
    local prompt = request.input or request.prompt
    if type(prompt) == "table" or type(prompt) == "string" then sum = sum + M.estimate(prompt) end
  end
  return ceil(sum)
end

--- A moving average: of all values at first, later of about the last `window`.
---@class neap.llm.Average
---@field value number
---@field window integer
---@field count integer values so far, no more than the window
local Average = {}
Average.__index = Average

---@param start number what it is while there are no values
---@param window integer
---@return neap.llm.Average
function M.average(start, window)
  return setmetatable({ value = start, window = window, count = 0 }, Average)
end

---@param value number
function Average:add(value)
  self.count = math.min(self.window, self.count + 1)
  self.value = self.value + (value - self.value) / self.count
end

return M
