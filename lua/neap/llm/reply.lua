--- Answers in OpenAI's form, read. Nothing here waits.
local cached = require "neap.cache.values"
local error_class = require "neap.error"
local header_lists = require "neap.http.headers"
local json = require "neap.json"
local outcome = require "neap.policy.outcome"

local M = {}

local null = json.null

---@class neap.llm.Usage tokens, as the provider counted them; nil: it said no such number
---@field input_tokens? integer
---@field output_tokens? integer
---@field total_tokens? integer
---@field cached_tokens? integer of the input
---@field reasoning_tokens? integer of the output
---@field estimated? true neap counted: the provider did not say

---@class neap.llm.Reply
---@field text string of the first choice; "" when it has none
---@field message? table of the first choice
---@field finish_reason? string
---@field choices? table[] as they came; of a stream: {index, text, message, finish_reason}
---@field vectors? number[][] of an embedding, in the order of the input
---@field usage? neap.llm.Usage
---@field model? string that answered
---@field id? string
---@field endpoint? string the router's choice
---@field ttft? number seconds from the request's start to the first token, of streams
---@field tokens_per_second? number after the first token, of streams
---@field status integer
---@field headers table<string, string>
---@field sends integer?
---@field attempts integer
---@field spent? neap.policy.Spent with a policy
---@field from_cache? "fresh"|"stale"|"shared" an answer to another call; see docs/api/cache.md
---@field raw? table the body, decoded
local Reply = { cache_name = "neap.llm.reply" }
cached.classes[Reply.cache_name] = Reply

---@param fields table
---@return neap.llm.Reply
function M.new(fields)
  return setmetatable(fields, Reply)
end

-- What is met twice (a message is in `choices`, and in `raw`) is one in the copy too.
local function deep_copy(value, seen)
  if type(value) ~= "table" then return value end
  local copy = seen[value]
  if copy then return copy end
  copy = setmetatable({}, getmetatable(value))
  seen[value] = copy
  for key, inner in pairs(value) do copy[key] = deep_copy(inner, seen) end
  return copy
end

--- What tells of the call rather than of the answer.
local OF_A_CALL = { attempts = true, sends = true, spent = true, paced = true, from_cache = true }

--- For neap.cache: a reply of its own for each caller.
---@param reply neap.llm.Reply
---@param from? "fresh"|"stale"|"shared" nil: the copy that is kept
---@return neap.llm.Reply
function Reply.cache_copy(reply, from)
  local copy, seen, flat = M.new { attempts = 0, sends = 0, from_cache = from }, {}, {}
  for name, value in pairs(reply) do
    if not OF_A_CALL[name] and name ~= "headers" then copy[name] = deep_copy(value, seen) end
  end
  for name, value in pairs(reply.headers or {}) do flat[#flat + 1], flat[#flat + 2] = name, value end
  copy.headers = header_lists.view(flat)
  return copy
end

local function known(value)
  if value == null then return nil end
  return value
end

local function field(value, name)
  value = known(value)
  return type(value) == "table" and known(value[name]) or nil
end

local MAX_TOKENS = 1e9

-- A server may say anything: what is no number of tokens is left out.
local function tokens_of(value)
  if type(value) == "number" and value >= 0 and value <= MAX_TOKENS and value % 1 == 0 then return value end
end

--- The usage of a body or of a stream's chunk; nil when it has none. A total that
--- is not said is the sum, and a side that is not said the difference.
---@param body table
---@param output_unsaid? integer
---@return neap.llm.Usage?
function M.usage(body, output_unsaid)
  local said = field(body, "usage")
  if type(said) ~= "table" then return nil end
  local said_input = field(said, "prompt_tokens") or field(said, "input_tokens")
  local said_output = field(said, "completion_tokens") or field(said, "output_tokens") or output_unsaid
  local said_total = field(said, "total_tokens")
  local input, output, total = tokens_of(said_input), tokens_of(said_output), tokens_of(said_total)
  if said_total == nil and input and output then total = tokens_of(input + output) end
  if said_output == nil and input and total then output = tokens_of(total - input) end
  if said_input == nil and output and total then input = tokens_of(total - output) end
  if not (input or output or total) then return nil end
  return {
    input_tokens = input, output_tokens = output, total_tokens = total,
    cached_tokens = tokens_of(field(field(said, "prompt_tokens_details"), "cached_tokens")),
    reasoning_tokens = tokens_of(field(field(said, "completion_tokens_details"), "reasoning_tokens")),
  }
end

--- The text of a message's content: a string, or an array of parts.
---@param content any
---@return string
function M.text(content)
  if type(content) == "string" then return content end
  local parts = {}
  for _, part in ipairs(type(content) == "table" and content or {}) do
    local text = field(part, "text")
    if type(text) == "string" then parts[#parts + 1] = text end
  end
  return table.concat(parts)
end

-- ---------------------------------------------------------------------------
-- Errors
-- ---------------------------------------------------------------------------

local MAX_MESSAGE = 500

--- What providers put into an error body: OpenAI's {error={message,type,code}},
--- a bare {error="..."}, {message="..."} or {detail="..."}.
local function error_fields(body)
  local inner = field(body, "error") or body
  if type(inner) == "string" then return { message = inner } end
  local message = field(inner, "message") or field(inner, "detail")
  if type(message) ~= "string" then return {} end
  return { message = message, type = field(inner, "type"), code = field(inner, "code"), param = field(inner, "param") }
end

local function one_line(text)
  text = json.clean_utf8(text):gsub("[%c%s]+", " ")
  if #text > MAX_MESSAGE then text = json.clean_utf8(text:sub(1, MAX_MESSAGE)) .. " ..." end
  return text
end

--- `text` without the secrets: some servers repeat the key that they refuse.
---@param text string
---@param secrets string[]
---@return string
function M.redact(text, secrets)
  for _, secret in ipairs(secrets) do
    local from, to = text:find(secret, 1, true)
    while from do
      text = text:sub(1, from - 1) .. "***" .. text:sub(to + 1)
      from, to = text:find(secret, from + 3, true)
    end
  end
  return text
end

--- What a provider's error says: one line, and its type and code.
---@param body any decoded, or nil
---@param text string? the body as it came
---@param secrets string[]
---@return string message, table fields
function M.complaint(body, text, secrets)
  local fields = error_fields(body)
  local message = one_line(M.redact(fields.message or text or "", secrets))
  return message ~= "" and message or "no reason given", fields
end

--- The error that a response of status 300 and above stands for.
---@param res neap.http.Response
---@param secrets string[]
---@return neap.Error err kind "status" with status, headers, retry_after, type, code
function M.status_error(res, secrets)
  local message, fields = M.complaint(json.decode(res.body or ""), res.body, secrets)
  return error_class.new {
    kind = "status", status = res.status, headers = res.headers, sent = "yes", sends = res.sends,
    message = ("HTTP %d: %s"):format(res.status, message), type = fields.type, code = fields.code,
    param = fields.param, replay_safe = res.replay_safe, retryable = outcome.may_repeat(res, nil),
    retry_after = outcome.hint(res, nil, require("neap.core").time()),
  }
end

local function malformed(res, why, cause)
  return error_class.new { kind = "decode", sent = "yes", sends = res.sends, status = res.status, cause = cause,
    message = "the answer is not what was asked for: " .. why }
end

-- ---------------------------------------------------------------------------
-- Answers
-- ---------------------------------------------------------------------------

-- `output`: tokens of it where the body does not say.
local function base_reply(res, body, output)
  return M.new {
    status = res.status, headers = res.headers, sends = res.sends, attempts = 1, raw = body,
    usage = M.usage(body, output), model = field(body, "model"), id = field(body, "id"),
  }
end

local read = {}

local function first_choice(body)
  local choices = field(body, "choices")
  local choice = type(choices) == "table" and choices[1]
  if type(choice) ~= "table" then return nil end
  return choice, choices
end

function read.chat(res, body)
  local choice, choices = first_choice(body)
  local message = field(choice, "message")
  if type(message) ~= "table" then return nil, malformed(res, "it has no choices with a message") end
  local reply = base_reply(res, body)
  reply.message, reply.choices, reply.text = message, choices, M.text(known(message.content))
  reply.finish_reason = field(choice, "finish_reason")
  return reply
end

function read.complete(res, body)
  local choice, choices = first_choice(body)
  local text = field(choice, "text")
  if type(text) ~= "string" then return nil, malformed(res, "it has no choices with a text") end
  local reply = base_reply(res, body)
  reply.choices, reply.text, reply.finish_reason = choices, text, field(choice, "finish_reason")
  return reply
end

--- Base64 of 32-bit floats, which takes a fifth of the bytes of numbers in JSON.
local function unpack_floats(text)
  local bytes = require("neap.base64").decode(text)
  if not bytes or #bytes % 4 ~= 0 then return nil end
  local ffi = require "ffi"
  local floats, vector = ffi.new("float[?]", #bytes / 4), {}
  ffi.copy(floats, bytes, #bytes)
  for i = 1, #bytes / 4 do vector[i] = floats[i - 1] end
  return vector
end

function read.embed(res, body, inputs)
  local data, vectors, found = field(body, "data"), {}, 0
  for place, item in ipairs(type(data) == "table" and data or {}) do
    local vector, index = field(item, "embedding"), field(item, "index") or place - 1
    if type(vector) == "string" then vector = unpack_floats(vector) end
    if type(vector) ~= "table" or type(index) ~= "number" or vectors[index + 1] or index < 0 or index >= inputs then
      return nil, malformed(res, "it has a vector that fits no input")
    end
    vectors[index + 1], found = vector, found + 1
  end
  if found ~= inputs then return nil, malformed(res, ("it has %d vectors for %d inputs"):format(found, inputs)) end
  local reply = base_reply(res, body, 0)
  reply.vectors = vectors
  return reply
end

--- The reply that a response holds, or nil and why there is none.
---@param kind "chat"|"complete"|"embed"
---@param res neap.http.Response its body read
---@param secrets string[]
---@param inputs? integer vectors that are due
---@return neap.llm.Reply? reply, neap.Error? err
function M.read(kind, res, secrets, inputs)
  if res.status >= 300 then return nil, M.status_error(res, secrets) end
  local body, err = json.decode(res.body or "")
  if type(body) ~= "table" then return nil, malformed(res, err and err.message or "it is no JSON object", err) end
  return read[kind](res, body, inputs)
end

return M
