--- OpenAI's API as far as simulated servers speak it: a request body in, an answer of the
--- right shape out. Nothing here waits or fails at random.
local moderation = require "neap.world.openai.moderation"
local text = require "neap.world.openai.text"

local concat, floor, type = table.concat, math.floor, type

local M = {}

--- An error body in OpenAI's shape.
---@param status integer
---@param message string
---@param code? string
---@param param? string the field that is wrong
---@return {status: integer, json: table}
function M.error(status, message, code, param)
  local kind = status == 429 and "requests" or status == 401 and "authentication_error"
    or status >= 500 and "server_error" or "invalid_request_error"
  return { status = status, json = { error = {
    message = message, type = kind, param = param or M.null(), code = code or M.null(),
  } } }
end

local ERROR_CODES = { [400] = "bad_request", [401] = "invalid_api_key", [404] = "not_found",
  [408] = "timeout", [409] = "conflict", [429] = "rate_limit_exceeded", [500] = "internal_error",
  [502] = "bad_gateway", [503] = "overloaded", [504] = "gateway_timeout", [529] = "overloaded" }

local function message_of(fate)
  if fate.kind == "over" then return "every slot is taken; try again later" end
  if fate.kind ~= "limit" then return "this request fails, as the simulation was told" end
  if fate.dimension == "quota" then return "the quota is used up" end
  if not fate.retry_after then
    return ("this request needs more %s than the limit ever allows"):format(fate.dimension)
  end
  return ("rate limit of %s reached; try again in %.3f s"):format(fate.dimension, fate.retry_after)
end

--- What a request that fails is answered.
---@param fate neap.world.Fate of kind "error", "limit" or "over"
---@return {status: integer, json: table}
function M.failure(fate)
  local answer = M.error(fate.status, message_of(fate),
    fate.dimension == "quota" and "insufficient_quota" or ERROR_CODES[fate.status])
  if fate.dimension then answer.json.error.type = fate.dimension end
  return answer
end

--- JSON's null.
function M.null()
  return require("neap.json").null
end

---@class neap.world.openai.Call what an endpoint needs to know
---@field id string unique; the answer's id is made of it
---@field created integer Unix seconds
---@field body table the decoded request

--- The text of a message's or input's content: a string or an array of parts.
local function content_text(content)
  if type(content) == "string" then return content end
  local parts = {}
  if type(content) == "table" then
    for _, part in ipairs(content) do
      if type(part) == "table" and type(part.text) == "string" then parts[#parts + 1] = part.text end
    end
  end
  return concat(parts, "\n")
end

local function chat_prompt(body)
  if type(body.messages) ~= "table" or #body.messages == 0 then
    return nil, "'messages' must be a non-empty array", "messages"
  end
  local parts = {}
  for i, message in ipairs(body.messages) do
    if type(message) ~= "table" or type(message.role) ~= "string" then
      return nil, ("'messages[%d]' must be an object with a role"):format(i - 1), "messages"
    end
    parts[i] = content_text(message.content)
  end
  return concat(parts, "\n")
end

--- The prompts of a completion: a string, an array of strings (each is answered),
--- or an array of numbers (the tokens of one prompt).
local function completion_prompts(body)
  local prompt = body.prompt
  if type(prompt) == "string" then return { prompt } end
  local kind = type(prompt) == "table" and type(prompt[1])
  if kind ~= "string" and kind ~= "number" then
    return nil, "'prompt' must be a string or a non-empty array of strings", "prompt"
  end
  for i, item in ipairs(prompt) do
    if type(item) ~= kind then return nil, ("'prompt[%d]' must be a %s"):format(i - 1, kind), "prompt" end
  end
  return kind == "string" and prompt or { concat(prompt, " ") }
end

local function embedding_inputs(body)
  local input = body.input
  if type(input) == "string" then return { input } end
  if type(input) ~= "table" or #input == 0 then
    return nil, "'input' must be a string or a non-empty array of strings", "input"
  end
  for i, item in ipairs(input) do
    if type(item) ~= "string" then return nil, ("'input[%d]' must be a string"):format(i - 1), "input" end
  end
  return input
end

--- An optional whole number of at least `min`; nil when absent (or null).
local function whole(body, name, min, max)
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

local function count_all(texts)
  local tokens = 0
  for i = 1, #texts do tokens = tokens + text.count_tokens(texts[i]) end
  return tokens
end

local function generation(body, prompts)
  local limit, message, param
  for _, name in ipairs { "max_completion_tokens", "max_tokens" } do
    limit, message, param = whole(body, name, 1, 2 ^ 31)
    if limit then break end
    if limit == false then return nil, message, param end
  end
  local n
  n, message, param = whole(body, "n", 1, 128)
  if n == false then return nil, message, param end
  return { prompts = prompts, limit = limit, n = n or 1, stream = body.stream == true,
    tokens = count_all(prompts) + (limit or 16) * (n or 1) * #prompts }
end

local parse = {}

function parse.chat(body)
  local prompt, message, param = chat_prompt(body)
  if not prompt then return nil, message, param end
  return generation(body, { prompt })
end

function parse.completion(body)
  local prompts, message, param = completion_prompts(body)
  if not prompts then return nil, message, param end
  return generation(body, prompts)
end

function parse.embedding(body)
  local inputs, message, param = embedding_inputs(body)
  if not inputs then return nil, message, param end
  local dimensions
  dimensions, message, param = whole(body, "dimensions", 1, 8192)
  if dimensions == false then return nil, message, param end
  return { inputs = inputs, dimensions = dimensions or 256, base64 = body.encoding_format == "base64",
    tokens = count_all(inputs) }
end

function parse.moderation(body)
  local inputs, message, param = moderation.inputs(body)
  if not inputs then return nil, message, param end
  return { inputs = inputs, tokens = 0 }
end

local function usage_of(job, completion_tokens)
  local prompt_tokens = job.input or count_all(job.prompts)
  return { prompt_tokens = prompt_tokens, completion_tokens = completion_tokens,
    total_tokens = prompt_tokens + completion_tokens }
end

--- The answers to a job, n for each prompt, in the order of the prompts: arrays of
--- words, their finish reasons; and the tokens in all.
local function answers_to(job)
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

local answer = {}

function answer.chat(call, job)
  local list, tokens = answers_to(job)
  local choices = {}
  for i, item in ipairs(list) do
    choices[i] = { index = i - 1, finish_reason = item.finish_reason, logprobs = M.null(),
      message = { role = "assistant", content = concat(item.words), refusal = M.null() } }
  end
  return { id = "chatcmpl-" .. call.id, object = "chat.completion", created = call.created,
    model = call.body.model, choices = choices, usage = usage_of(job, tokens), system_fingerprint = "fp_neap_mock" }
end

function answer.completion(call, job)
  local list, tokens = answers_to(job)
  local choices = {}
  for i, item in ipairs(list) do
    choices[i] = { index = i - 1, finish_reason = item.finish_reason, logprobs = M.null(),
      text = concat(item.words) }
  end
  return { id = "cmpl-" .. call.id, object = "text_completion", created = call.created,
    model = call.body.model, choices = choices, usage = usage_of(job, tokens) }
end

--- Seven digits are what a 32-bit float holds, and what real servers send.
local function rounded(vector)
  for i = 1, #vector do vector[i] = floor(vector[i] * 1e7 + 0.5) / 1e7 end
  return vector
end

local function packed(vector)
  local ffi = require "ffi"
  local floats = ffi.new("float[?]", #vector)
  for i = 1, #vector do floats[i - 1] = vector[i] end
  return require("neap.base64").encode(ffi.string(floats, #vector * 4))
end

function answer.embedding(call, job)
  local data = {}
  for i, input in ipairs(job.inputs) do
    local vector = text.embed(input, job.dimensions)
    data[i] = { object = "embedding", index = i - 1,
      embedding = job.base64 and packed(vector) or rounded(vector) }
  end
  return { object = "list", data = data, model = call.body.model,
    usage = { prompt_tokens = job.input or job.tokens, total_tokens = job.input or job.tokens } }
end

function answer.moderation(call, job)
  local results = {}
  for i, input in ipairs(job.inputs) do results[i] = moderation.result(input) end
  return { id = "modr-" .. call.id, model = call.body.model, results = results }
end

--- The chunks of a streamed answer, in order, without the closing [DONE].
---@return table[]
local function chunks_of(call, job, object, prefix, delta)
  local list, tokens = answers_to(job)
  local chunks = {}
  local function add(choices, usage)
    chunks[#chunks + 1] = { id = prefix .. call.id, object = object, created = call.created,
      model = call.body.model, choices = choices, usage = usage }
  end
  for i, item in ipairs(list) do
    for at, word in ipairs(item.words) do add { delta(i - 1, at, word, M.null()) } end
    add { delta(i - 1, nil, nil, item.finish_reason) }
  end
  local options = call.body.stream_options
  if type(options) == "table" and options.include_usage == true then
    add(require("neap.json").empty_array, usage_of(job, tokens))
  end
  return chunks
end

local stream = {}

function stream.chat(call, job)
  return chunks_of(call, job, "chat.completion.chunk", "chatcmpl-", function(index, at, word, finish_reason)
    return { index = index, finish_reason = finish_reason,
      delta = { role = at == 1 and "assistant" or nil, content = word or "" } }
  end)
end

function stream.completion(call, job)
  return chunks_of(call, job, "text_completion", "cmpl-", function(index, _, word, finish_reason)
    return { index = index, finish_reason = finish_reason, text = word or "" }
  end)
end

--- path -> the kind of endpoint
M.endpoints = {
  ["/v1/chat/completions"] = "chat",
  ["/v1/completions"] = "completion",
  ["/v1/embeddings"] = "embedding",
  ["/v1/moderations"] = "moderation",
}

local SUFFIXES = { { "/chat/completions", "chat" }, { "/completions", "completion" }, { "/embeddings", "embedding" },
  { "/moderations", "moderation" } }

--- The kind of endpoint behind a path that ends as OpenAI's do, whatever it begins
--- with (other providers' do too); nil: none.
---@param path string
---@return string?
function M.kind_of(path)
  for i = 1, #SUFFIXES do
    local suffix = SUFFIXES[i][1]
    if path:sub(-#suffix) == suffix then return SUFFIXES[i][2] end
  end
end

--- Reads a request to an endpoint. Not understood: nil and what to answer.
---@param kind "chat"|"completion"|"embedding"|"moderation"
---@param method string
---@param body_text string
---@return neap.world.openai.Job? job
---@return table body_or_answer the decoded body, or the answer
function M.parse(kind, method, body_text)
  if method ~= "POST" then return nil, M.error(405, "use POST, not " .. method, "method_not_allowed") end
  local body, err = require("neap.json").decode(body_text)
  if type(body) ~= "table" then
    return nil, M.error(400, "the body is not a JSON object" .. (err and ": " .. tostring(err.message) or ""))
  end
  if type(body.model) ~= "string" then return nil, M.error(400, "'model' must be a string", nil, "model") end
  local job, message, param = parse[kind](body)
  if not job then return nil, M.error(400, message --[[@as string]], nil, param) end
  return job, body
end

--- The answer to an understood request.
---@param kind "chat"|"completion"|"embedding"|"moderation"
---@param call neap.world.openai.Call
---@param job neap.world.openai.Job
---@return table json
function M.answer(kind, call, job)
  return answer[kind](call, job)
end

--- The chunks of an understood request with `stream: true`; nil for an endpoint
--- that has no streams.
---@param kind "chat"|"completion"|"embedding"|"moderation"
---@param call neap.world.openai.Call
---@param job neap.world.openai.Job
---@return table[]?
function M.stream(kind, call, job)
  return stream[kind] and stream[kind](call, job)
end

--- `GET /v1/models`.
---@return table json
function M.models()
  return { object = "list", data = { { id = "mock-1", object = "model", created = 0, owned_by = "neap" } } }
end

return M
