--- The endpoints that simulated servers speak, OpenAI's and Anthropic's messages: a
--- request body in, an answer of the right shape out. Nothing here waits or fails at
--- random.
local anthropic = require "neap.world.anthropic"
local jobs = require "neap.world.openai.jobs"
local moderation = require "neap.world.openai.moderation"
local responses = require "neap.world.openai.responses"
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
    message = message, type = kind, param = param or jobs.null(), code = code or jobs.null(),
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
---@param kind? neap.world.openai.Kind of endpoint
---@return {status: integer, json: table}
function M.failure(fate, kind)
  if kind == "messages" then
    return { status = fate.status, json = anthropic.error(fate.status, message_of(fate)) }
  end
  local answer = M.error(fate.status, message_of(fate),
    fate.dimension == "quota" and "insufficient_quota" or ERROR_CODES[fate.status])
  if fate.dimension then answer.json.error.type = fate.dimension end
  return answer
end

---@class neap.world.openai.Call what an endpoint needs to know
---@field id string unique; the answer's id is made of it
---@field created integer Unix seconds
---@field body table the decoded request

local function chat_prompt(body)
  if type(body.messages) ~= "table" or #body.messages == 0 then
    return nil, "'messages' must be a non-empty array", "messages"
  end
  local parts = {}
  for i, message in ipairs(body.messages) do
    if type(message) ~= "table" or type(message.role) ~= "string" then
      return nil, ("'messages[%d]' must be an object with a role"):format(i - 1), "messages"
    end
    parts[i] = jobs.content(message.content)
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

local LIMITS = { "max_completion_tokens", "max_tokens" }

local parse = {}

function parse.chat(body)
  local prompt, message, param = chat_prompt(body)
  if not prompt then return nil, message, param end
  return jobs.job(body, { prompt }, LIMITS)
end

function parse.completion(body)
  local prompts, message, param = completion_prompts(body)
  if not prompts then return nil, message, param end
  return jobs.job(body, prompts, LIMITS)
end

function parse.embedding(body)
  local inputs, message, param = embedding_inputs(body)
  if not inputs then return nil, message, param end
  local dimensions
  dimensions, message, param = jobs.whole(body, "dimensions", 1, 8192)
  if dimensions == false then return nil, message, param end
  return { inputs = inputs, dimensions = dimensions or 256, base64 = body.encoding_format == "base64",
    tokens = jobs.count(inputs) }
end

function parse.moderation(body)
  local inputs, message, param = moderation.inputs(body)
  if not inputs then return nil, message, param end
  return { inputs = inputs, tokens = 0 }
end

local function usage_of(job, completion_tokens)
  local prompt_tokens = jobs.input(job)
  return { prompt_tokens = prompt_tokens, completion_tokens = completion_tokens,
    total_tokens = prompt_tokens + completion_tokens }
end

local answer = {}

function answer.chat(call, job)
  local list, tokens = jobs.answers(job)
  local choices = {}
  for i, item in ipairs(list) do
    choices[i] = { index = i - 1, finish_reason = item.finish_reason, logprobs = jobs.null(),
      message = { role = "assistant", content = concat(item.words), refusal = jobs.null() } }
  end
  return { id = "chatcmpl-" .. call.id, object = "chat.completion", created = call.created,
    model = call.body.model, choices = choices, usage = usage_of(job, tokens), system_fingerprint = "fp_neap_mock" }
end

function answer.completion(call, job)
  local list, tokens = jobs.answers(job)
  local choices = {}
  for i, item in ipairs(list) do
    choices[i] = { index = i - 1, finish_reason = item.finish_reason, logprobs = jobs.null(),
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

---@class neap.world.openai.Event of a streamed answer
---@field data table|string
---@field event? string its name
---@field word? true it brings one of the answer's words

--- The events of a streamed answer, in order.
---@return neap.world.openai.Event[]
local function chunks_of(call, job, object, prefix, delta)
  local list, tokens = jobs.answers(job)
  local chunks = {}
  local function add(choices, usage, word)
    chunks[#chunks + 1] = { word = word, data = { id = prefix .. call.id, object = object, created = call.created,
      model = call.body.model, choices = choices, usage = usage } }
  end
  for i, item in ipairs(list) do
    for at, word in ipairs(item.words) do add({ delta(i - 1, at, word, jobs.null()) }, nil, true) end
    add { delta(i - 1, nil, nil, item.finish_reason) }
  end
  local options = call.body.stream_options
  if type(options) == "table" and options.include_usage == true then
    add(require("neap.json").empty_array, usage_of(job, tokens))
  end
  chunks[#chunks + 1] = { data = "[DONE]" }
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

for kind, module in pairs { responses = responses, messages = anthropic } do
  parse[kind], answer[kind], stream[kind] = module.parse, module.answer, module.stream
end

---@alias neap.world.openai.Kind "chat"|"completion"|"responses"|"messages"|"embedding"|"moderation"

--- path -> the kind of endpoint
---@type table<string, neap.world.openai.Kind>
M.endpoints = {
  ["/v1/chat/completions"] = "chat",
  ["/v1/completions"] = "completion",
  ["/v1/responses"] = "responses",
  ["/v1/messages"] = "messages",
  ["/v1/embeddings"] = "embedding",
  ["/v1/moderations"] = "moderation",
}

local SUFFIXES = { { "/chat/completions", "chat" }, { "/completions", "completion" }, { "/embeddings", "embedding" },
  { "/moderations", "moderation" }, { "/responses", "responses" }, { "/v1/messages", "messages" } }

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

--- In the shape of the endpoint.
local function refusal(kind, status, message, code, param)
  if kind == "messages" then return { status = status, json = anthropic.error(status, message) } end
  return M.error(status, message, code, param)
end

--- Reads a request to an endpoint. Not understood: nil and what to answer.
---@param kind neap.world.openai.Kind
---@param method string
---@param body_text string
---@return neap.world.openai.Job? job
---@return table body_or_answer the decoded body, or the answer
function M.parse(kind, method, body_text)
  if method ~= "POST" then return nil, refusal(kind, 405, "use POST, not " .. method, "method_not_allowed") end
  local body, err = require("neap.json").decode(body_text)
  if type(body) ~= "table" then
    return nil, refusal(kind, 400, "the body is not a JSON object" .. (err and ": " .. tostring(err.message) or ""))
  end
  if type(body.model) ~= "string" then return nil, refusal(kind, 400, "'model' must be a string", nil, "model") end
  local job, message, param = parse[kind](body)
  if not job then return nil, refusal(kind, 400, message --[[@as string]], nil, param) end
  return job, body
end

--- The answer to an understood request.
---@param kind neap.world.openai.Kind
---@param call neap.world.openai.Call
---@param job neap.world.openai.Job
---@return table json
function M.answer(kind, call, job)
  return answer[kind](call, job)
end

--- The events of an understood request with `stream: true`; nil for an endpoint
--- that has no streams.
---@param kind neap.world.openai.Kind
---@param call neap.world.openai.Call
---@param job neap.world.openai.Job
---@return neap.world.openai.Event[]?
function M.stream(kind, call, job)
  return stream[kind] and stream[kind](call, job)
end

--- `GET /v1/models`.
---@return table json
function M.models()
  return { object = "list", data = { { id = "mock-1", object = "model", created = 0, owned_by = "neap" } } }
end

return M
