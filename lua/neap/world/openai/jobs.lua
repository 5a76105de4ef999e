--- What the endpoints of simulated providers have in common: reading a request to
--- generate text, and the text that it is answered with. Pure.
local text = require "neap.world.openai.text"

local concat, type = table.concat, type

local M = {}

--- JSON's null.
function M.null()
  return require("neap.json").null
end

--- The text of a message's or input's content: a string or an array of parts.
---@param content any
---@return string
function M.content(content)
  if type(content) == "string" then return content end
  local parts = {}
  if type(content) == "table" then
    for _, part in ipairs(content) do
      if type(part) == "table" and type(part.text) == "string" then parts[#parts + 1] = part.text end
    end
  end
  return concat(parts, "\n")
end

--- An optional whole number of at least `min`; nil when absent (or null).
---@param body table
---@param name string
---@param min integer
---@param max integer
---@return integer|false|nil value false: it is none
---@return string? message
---@return string? param
function M.whole(body, name, min, max)
  local value = body[name]
  if value == nil or value == M.null() then return nil end
  if type(value) ~= "number" or value % 1 ~= 0 or value < min or value > max then
    return false, ("'%s' must be a whole number from %d to %d"):format(name, min, max), name
  end
  return value
end

---@class neap.world.openai.Job a request that was understood
---@field prompts? string[] one but for completions
---@field inputs? string[]
---@field limit? integer of tokens to answer
---@field length? integer of tokens that each answer would have without the limit
---@field input? integer tokens of the prompts, where somebody has counted better
---@field n? integer choices for each prompt
---@field dimensions? integer
---@field stream? boolean
---@field tokens integer what it takes from a token limit

--- Tokens of texts.
---@param texts string[]
---@return integer
function M.count(texts)
  local tokens = 0
  for i = 1, #texts do tokens = tokens + text.count_tokens(texts[i]) end
  return tokens
end

--- The job of answering these prompts.
---@param body table
---@param prompts string[]
---@param limits string[] members that may say how long an answer may be; the first one counts
---@return neap.world.openai.Job? job
---@return string? message
---@return string? param
function M.job(body, prompts, limits)
  local limit, message, param
  for _, name in ipairs(limits) do
    limit, message, param = M.whole(body, name, 1, 2 ^ 31)
    if limit then break end
    if limit == false then return nil, message, param end
  end
  local n
  n, message, param = M.whole(body, "n", 1, 128)
  if n == false then return nil, message, param end
  return { prompts = prompts, limit = limit, n = n or 1, stream = body.stream == true,
    tokens = M.count(prompts) + (limit or 16) * (n or 1) * #prompts }
end

--- The answers to a job, n for each prompt, in the order of the prompts: arrays of
--- words, their finish reasons; and the tokens in all.
---@param job neap.world.openai.Job
---@return {words: string[], finish_reason: "length"|"stop"}[] list
---@return integer tokens
function M.answers(job)
  local list, tokens = {}, 0
  for _, prompt in ipairs(job.prompts) do
    for i = 1, job.n do
      -- The first choice depends on the prompt alone.
      local words, cut = text.answer(i == 1 and prompt or prompt .. "\0" .. i, job.limit, job.length)
      list[#list + 1] = { words = words, finish_reason = cut and "length" or "stop" }
      tokens = tokens + #words
    end
  end
  return list, tokens
end

--- Tokens of the prompts.
---@param job neap.world.openai.Job
---@return integer
function M.input(job)
  return job.input or M.count(job.prompts)
end

return M
