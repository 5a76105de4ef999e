--- Requests in OpenAI's form, made from what the caller gave. Pure.
local checks = require "neap.llm.checks"
local error_class = require "neap.error"
local options = require "neap.options"
local sorted = require "neap.sorted"

local M = {}

--- What `chat`, `complete` and `embed` take that is not of the body.
local OURS = { idempotency_key = true, timeout = true, headers = true, on_delta = true }

M.paths = { chat = "/chat/completions", complete = "/completions", embed = "/embeddings" }

local TYPES = {
  prompt = { string = true, table = true }, messages = { table = true }, input = { string = true, table = true },
  model = { string = true }, max_tokens = { number = true }, max_completion_tokens = { number = true },
  idempotency_key = { string = true, boolean = true }, timeout = { number = true, table = true },
  headers = { table = true }, on_delta = { ["function"] = true },
}

local NAMES = sorted.keys(TYPES)

local function check_types(where, request)
  if type(request) ~= "table" then
    options.fail(("%s: the request must be a table, got %s"):format(where, type(request)))
  end
  for _, name in ipairs(NAMES) do
    local accepted, value = TYPES[name], request[name]
    if value ~= nil and not accepted[type(value)] then
      local names = {}
      for one in pairs(accepted) do names[#names + 1] = one end
      table.sort(names)
      options.fail(("%s: '%s' must be %s, got %s"):format(where, name, table.concat(names, " or "), type(value)))
    end
  end
end

local NEEDED = { chat = "messages", complete = "prompt", embed = "input" }

local function check_shape(where, kind, request)
  if kind == "chat" and request.prompt ~= nil then
    if request.messages ~= nil then options.fail(where .. ": give either 'messages' or 'prompt'") end
    if type(request.prompt) ~= "string" then options.fail(where .. ": 'prompt' must be string, got table") end
  elseif request[NEEDED[kind]] == nil then
    options.fail(("%s: '%s' is required"):format(where, kind == "chat" and "messages' or 'prompt" or NEEDED[kind]))
  end
  if request.stream ~= nil then
    options.fail(where .. ": 'stream' is not an option; use chat_stream, or 'on_delta'")
  end
  if request.on_delta and kind ~= "chat" then options.fail(where .. ": 'on_delta' is an option of chat") end
  if request.timeout then checks.timeout(where, request.timeout) end
end

local function invalid(where, message)
  return nil, error_class.new { kind = "invalid", sent = "no", message = where .. ": " .. message }
end

local function copy_of(request)
  local copy = {}
  for name, value in pairs(request) do copy[name] = value end
  return copy
end

--- The request in its full form: a chat's `prompt` is one message of the user.
--- Raises for misuse; nil and kind "invalid" for what may come from data.
---@param where string
---@param kind "chat"|"complete"|"embed"
---@param request table
---@return table? request, neap.Error? err
function M.check(where, kind, request)
  check_types(where, request)
  check_shape(where, kind, request)
  local list = request[NEEDED[kind]]
  if type(list) == "table" and #list == 0 then
    return invalid(where, ("'%s' must not be empty"):format(NEEDED[kind]))
  end
  local problem, from_data = checks.headers(request.headers)
  if not problem and checks.is_broken(request.idempotency_key) then
    problem, from_data = "'idempotency_key' " .. checks.BROKEN, true
  end
  if problem and not from_data then options.fail(where .. ": " .. problem) end
  if problem then return invalid(where, problem) end
  if kind == "chat" and request.prompt then
    request = copy_of(request)
    request.messages, request.prompt = { { role = "user", content = request.prompt } }, nil
  end
  return request
end

--- The body: what the caller gave, passed through, with the model in place.
---@param request table
---@param model string
---@param stream boolean
---@return table
function M.body(request, model, stream)
  local body = copy_of(request)
  for name in pairs(OURS) do body[name] = nil end
  body.model = model
  if stream then
    body.stream = true
    -- Without it a stream does not say what it used.
    if body.stream_options == nil then body.stream_options = { include_usage = true } end
    if body.stream_options == false then body.stream_options = nil end
  end
  return body
end

--- How many inputs an embedding has. An array of numbers is one, made of tokens.
---@param request table
---@return integer
function M.inputs(request)
  local input = request.input
  return type(input) == "table" and type(input[1]) ~= "number" and #input or 1
end

--- How many answers are asked for.
---@param request table
---@return number at least 1
function M.choices(request)
  local n = request.n
  return type(n) == "number" and n >= 1 and n or 1
end

--- Tokens that the answer may take, where the request says so.
---@param request table
---@return number?
function M.max_output(request)
  return request.max_completion_tokens or request.max_tokens
end

return M
