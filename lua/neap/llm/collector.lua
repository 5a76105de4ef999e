--- Puts a streamed answer together from its chunks, and takes the times. Pure.
local json = require "neap.json"
local reply_module = require "neap.llm.reply"

local M = {}

local null = json.null

---@class neap.llm.Collector
---@field choices table<integer, table> by index, from 0
---@field chunks integer chunks that held a part of the answer
---@field first? number when the first of them came
---@field last? number when the last of them came
---@field usage? neap.llm.Usage
---@field model? string
---@field id? string
local Collector = {}
Collector.__index = Collector

---@return neap.llm.Collector
function M.new()
  return setmetatable({ choices = {}, chunks = 0, count = 0 }, Collector)
end

local function choice_at(self, index)
  local choice = self.choices[index]
  if not choice then
    choice = { index = index, parts = {}, message = { role = "assistant" }, calls = {} }
    self.choices[index], self.count = choice, self.count + 1
  end
  return choice
end

local function table_of(value) return type(value) == "table" and value or nil end
local function string_of(value) return type(value) == "string" and value or nil end

--- Tool calls come in pieces: the name first, then its arguments bit by bit.
local function add_tool_calls(choice, list)
  for place, piece in ipairs(list) do
    local index = type(piece.index) == "number" and piece.index + 1 or place
    local call = choice.calls[index]
    if not call then
      call = { type = "function", ["function"] = { name = "", arguments = "" } }
      choice.calls[index] = call
    end
    call.id = string_of(piece.id) or call.id
    local said, whole = table_of(piece["function"]) or {}, call["function"]
    whole.name = whole.name .. (string_of(said.name) or "")
    whole.arguments = whole.arguments .. (string_of(said.arguments) or "")
  end
end

-- Other fields of a delta (refusal, reasoning_content, ...) are text that grows.
local function add_fields(message, delta)
  local grew = false
  for name, value in pairs(delta) do
    if name == "role" then
      message.role = string_of(value) or message.role
    elseif name ~= "content" and name ~= "tool_calls" and type(value) == "string" and value ~= "" then
      message[name], grew = (message[name] or "") .. value, true
    end
  end
  return grew
end

--- What one choice of a chunk adds; its text, and whether it adds anything.
local function add_choice(self, given)
  local choice = choice_at(self, type(given.index) == "number" and given.index or 0)
  choice.finish_reason = string_of(given.finish_reason) or choice.finish_reason
  local delta = table_of(given.delta) or {}
  local text = reply_module.text(given.text ~= nil and given.text or delta.content)
  if text ~= "" then choice.parts[#choice.parts + 1] = text end
  local grew = add_fields(choice.message, delta)
  local calls = table_of(delta.tool_calls)
  if calls then add_tool_calls(choice, calls) end
  return text, grew or text ~= "" or calls ~= nil
end

--- Takes in a chunk. Returns the first choice's new text ("" when it adds
--- something else), or nil when it adds nothing to the answer.
---@param chunk table decoded
---@param now number
---@return string?
function Collector:feed(chunk, now)
  self.usage = reply_module.usage(chunk) or self.usage
  self.model, self.id = string_of(chunk.model) or self.model, string_of(chunk.id) or self.id
  local first, any = "", false
  for _, given in ipairs(table_of(chunk.choices) or {}) do
    if type(given) == "table" then
      local text, adds = add_choice(self, given)
      if adds then any = true end
      if given.index == nil or given.index == null or given.index == 0 then first = first .. text end
    end
  end
  if not any then return nil end
  self.chunks = self.chunks + 1
  self.first, self.last = self.first or now, now
  return first
end

--- Whether every choice has said why it ended.
---@return boolean
function Collector:finished()
  for _, choice in pairs(self.choices) do
    if not choice.finish_reason then return false end
  end
  return self.count > 0
end

local function finished_choice(choice)
  local text, message = table.concat(choice.parts), choice.message
  message.content = text
  if next(choice.calls) ~= nil then
    local list = {}
    for index in pairs(choice.calls) do list[#list + 1] = index end
    table.sort(list)
    for i, index in ipairs(list) do list[i] = choice.calls[index] end
    message.tool_calls = list
  end
  return { index = choice.index, text = text, message = message, finish_reason = choice.finish_reason }
end

--- Fills in the reply: text, choices, usage (estimated where the stream says
--- none), ttft and tokens_per_second.
---@param reply table
---@param began number when the request began
---@param estimate fun(text: string): integer
---@param input integer tokens sent, as estimated
---@return table reply
function Collector:finish(reply, began, estimate, input)
  local choices, output = {}, 0
  for _, choice in pairs(self.choices) do
    choices[#choices + 1] = finished_choice(choice)
    output = output + estimate(choices[#choices].text)
  end
  table.sort(choices, function(a, b) return a.index < b.index end)
  local first = choices[1] or { text = "" }
  reply.text, reply.message, reply.finish_reason = first.text, first.message, first.finish_reason
  reply.choices = choices
  reply.model, reply.id = self.model, self.id
  reply.usage = self.usage
    or { input_tokens = input, output_tokens = output, total_tokens = input + output, estimated = true }
  if self.first then
    reply.ttft = self.first - began
    local span = self.last - self.first
    if span > 0 then reply.tokens_per_second = ((reply.usage.output_tokens or output) - 1) / span end
  end
  return reply
end

return M
