--- Anthropic's Messages API as far as simulated servers speak it. Pure.
local jobs = require "neap.world.openai.jobs"

local concat, type = table.concat, type

local M = {}

M.LIMITS = { "max_tokens" }

local function prompt_of(body)
  if type(body.messages) ~= "table" or #body.messages == 0 then
    return nil, "messages: a non-empty array is required"
  end
  local parts = { jobs.content(body.system) }
  for i, message in ipairs(body.messages) do
    if type(message) ~= "table" or type(message.role) ~= "string" then
      return nil, ("messages.%d: must be an object with a role"):format(i - 1)
    end
    parts[#parts + 1] = jobs.content(message.content)
  end
  return concat(parts, "\n")
end

---@param body table
---@return neap.world.openai.Job? job
---@return string? message
function M.parse(body)
  local prompt, message = prompt_of(body)
  if not prompt then return nil, message end
  if body.max_tokens == nil then return nil, "max_tokens: Field required" end
  return jobs.job(body, { prompt }, M.LIMITS)
end

local REASONS = { length = "max_tokens", stop = "end_turn" }

local function message_of(call, job, item, tokens)
  return { id = "msg_" .. call.id, type = "message", role = "assistant", model = call.body.model,
    content = { { type = "text", text = concat(item.words) } }, stop_reason = REASONS[item.finish_reason],
    stop_sequence = jobs.null(), usage = { input_tokens = jobs.input(job), output_tokens = tokens } }
end

---@param call neap.world.openai.Call
---@param job neap.world.openai.Job
---@return table json
function M.answer(call, job)
  local list, tokens = jobs.answers(job)
  return message_of(call, job, list[1], tokens)
end

---@param call neap.world.openai.Call
---@param job neap.world.openai.Job
---@return neap.world.openai.Event[]
function M.stream(call, job)
  local list, tokens = jobs.answers(job)
  local item, events = list[1], {}
  local function add(name, fields, word)
    fields.type = name
    events[#events + 1] = { event = name, data = fields, word = word }
  end
  local begun = message_of(call, job, { words = {}, finish_reason = "stop" }, 1)
  begun.content, begun.stop_reason = require("neap.json").empty_array, jobs.null()
  add("message_start", { message = begun })
  add("content_block_start", { index = 0, content_block = { type = "text", text = "" } })
  for _, word in ipairs(item.words) do
    add("content_block_delta", { index = 0, delta = { type = "text_delta", text = word } }, true)
  end
  add("content_block_stop", { index = 0 })
  add("message_delta", { delta = { stop_reason = REASONS[item.finish_reason], stop_sequence = jobs.null() },
    usage = { output_tokens = tokens } })
  add("message_stop", {})
  return events
end

local KINDS = { [400] = "invalid_request_error", [401] = "authentication_error", [403] = "permission_error",
  [404] = "not_found_error", [413] = "request_too_large", [429] = "rate_limit_error", [529] = "overloaded_error" }

--- An error body in Anthropic's shape.
---@param status integer
---@param message string
---@return table json
function M.error(status, message)
  return { type = "error", error = { type = KINDS[status] or status < 500 and "invalid_request_error" or "api_error",
    message = message } }
end

return M
