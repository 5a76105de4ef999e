--- OpenAI's Responses API as far as simulated servers speak it. Pure.
local jobs = require "neap.world.openai.jobs"

local concat, type = table.concat, type

local M = {}

M.LIMITS = { "max_output_tokens" }

--- The text of `input`: a text, or items, of which messages and function results say
--- something.
local function prompt_of(body)
  local input, parts = body.input, {}
  if type(body.instructions) == "string" then parts[1] = body.instructions end
  if type(input) == "string" then
    parts[#parts + 1] = input
    return concat(parts, "\n")
  end
  if type(input) ~= "table" or #input == 0 then
    return nil, "'input' must be a text or a non-empty array of items", "input"
  end
  for i, item in ipairs(input) do
    if type(item) ~= "table" then return nil, ("'input[%d]' must be an object"):format(i - 1), "input" end
    parts[#parts + 1] = jobs.content(item.content or item.output)
  end
  return concat(parts, "\n")
end

---@param body table
---@return neap.world.openai.Job? job
---@return string? message
---@return string? param
function M.parse(body)
  local prompt, message, param = prompt_of(body)
  if not prompt then return nil, message, param end
  return jobs.job(body, { prompt }, M.LIMITS)
end

local function response_of(call, job, item, tokens)
  local input = jobs.input(job)
  local cut = item.finish_reason == "length"
  return { id = "resp_" .. call.id, object = "response", created_at = call.created, model = call.body.model,
    status = cut and "incomplete" or "completed", error = jobs.null(),
    incomplete_details = cut and { reason = "max_output_tokens" } or jobs.null(),
    output = { { type = "message", id = "msg_" .. call.id, status = cut and "incomplete" or "completed",
      role = "assistant", content = { { type = "output_text", text = concat(item.words),
        annotations = require("neap.json").empty_array } } } },
    usage = { input_tokens = input, output_tokens = tokens, total_tokens = input + tokens,
      input_tokens_details = { cached_tokens = 0 }, output_tokens_details = { reasoning_tokens = 0 } } }
end

---@param call neap.world.openai.Call
---@param job neap.world.openai.Job
---@return table json
function M.answer(call, job)
  local list, tokens = jobs.answers(job)
  return response_of(call, job, list[1], tokens)
end

---@param call neap.world.openai.Call
---@param job neap.world.openai.Job
---@return neap.world.openai.Event[]
function M.stream(call, job)
  local list, tokens = jobs.answers(job)
  local item, events = list[1], {}
  local function add(name, fields, word)
    fields.type, fields.sequence_number = name, #events
    events[#events + 1] = { event = name, data = fields, word = word }
  end
  local begun = { id = "resp_" .. call.id, object = "response", created_at = call.created, model = call.body.model,
    status = "in_progress", output = require("neap.json").empty_array }
  add("response.created", { response = begun })
  for _, word in ipairs(item.words) do
    add("response.output_text.delta", { item_id = "msg_" .. call.id, output_index = 0, content_index = 0,
      delta = word }, true)
  end
  add("response.output_text.done", { item_id = "msg_" .. call.id, output_index = 0, content_index = 0,
    text = concat(item.words) })
  local whole = response_of(call, job, item, tokens)
  add(whole.status == "completed" and "response.completed" or "response.incomplete", { response = whole })
  return events
end

return M
