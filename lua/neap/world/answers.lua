--- What a simulated upstream makes of a request, and what it answers: OpenAI's and
--- Anthropic's shapes on their paths, a small JSON elsewhere.
local core = require "neap.core"
local openai = require "neap.world.openai"
local text = require "neap.world.openai.text"
local tokens = require "neap.llm.tokens"

local endpoints = openai.endpoints
local find, floor, max = string.find, math.floor, math.max

local M = {}

---@class neap.world.Answer
---@field status integer
---@field headers table<string, string>
---@field body? string
---@field chunks? {after: number, data: string}[] seconds since the first byte

---@class neap.world.Asked
---@field kind neap.world.openai.Kind
---@field job neap.world.openai.Job
---@field body table
---@field work neap.world.Work
---@field tokens number that a token limit is charged with

local JSON = { ["content-type"] = "application/json" }

local function encode(value)
  return (require("neap.json").encode(value))
end

--- Most requests are for no endpoint: this must cost nothing.
local function kind_of(api, request)
  local path = request.target
  if not path or find(path, "?", 1, true) then path = request.path end
  if api == "openai" then return openai.kind_of(path) end
  return endpoints[path]
end

--- Reads a request as far as the answer depends on it. Not understood: nil and what
--- to answer; nothing for what is no endpoint.
---@param api "openai"|nil
---@param request {method: string, target: string?, path: string, body: string}
---@return neap.world.Asked?
---@return neap.world.Answer? refusal
function M.read(api, request)
  local kind = kind_of(api, request)
  if not kind then return nil end
  local job, body = openai.parse(kind, request.method, request.body)
  if not job then return nil, { status = body.status, headers = JSON, body = encode(body.json) } end
  job.input = tokens.input(body)
  local choices, generates, natural = 1, job.prompts ~= nil, nil
  if generates then choices, natural = job.n * #job.prompts, text.length(job.prompts[1]) end
  return { kind = kind, job = job, body = body,
    work = { input = job.input, limit = job.limit, choices = choices, stream = job.stream, generates = generates,
      natural = natural },
    tokens = job.input + (generates and (job.limit or 16) * choices or 0) }
end

--- Tokens of a body that nobody understands.
---@param body string
---@return integer
function M.count(body)
  return tokens.estimate(body)
end

--- The headers of an answer: a table that may be written to where the law has
--- something to say.
local function headers_of(law, fate, given)
  if not law.limits and not fate.retry_after then return given end
  local headers = {}
  for name, value in pairs(given) do headers[name] = value end
  law:add_headers(fate, headers)
  return headers
end

local function failure(upstream, fate, asked)
  local body
  if asked then
    body = encode(openai.failure(fate, asked.kind).json)
  else
    local bodies = upstream.failures
    body = bodies[fate.status]
    if not body then
      body = ('{"error":{"status":%d}}'):format(fate.status)
      bodies[fate.status] = body
    end
  end
  return { status = fate.status, headers = headers_of(upstream.law, fate, JSON), body = body }
end

--- A stream's chunks: the first word at once, the last one when the work ends, the others
--- evenly between; what brings no word comes with the one before it.
local function streamed(fate, asked, call, headers)
  local list = openai.stream(asked.kind, call, asked.job)
  if not list then return nil end
  local words = 0
  for i = 1, #list do
    if list[i].word then words = words + 1 end
  end
  local seconds = fate.first_byte and max(0, (fate.whole or fate.ends) - fate.began - fate.first_byte) or 0
  local step, chunks, brought = seconds / max(1, words - 1), {}, 0
  for i, item in ipairs(list) do
    if item.word then brought = brought + 1 end
    local data = type(item.data) == "table" and encode(item.data) or item.data
    chunks[i] = { after = i == #list and seconds or math.min(seconds, max(0, brought - 1) * step),
      data = (item.event and "event: " .. item.event .. "\n" or "") .. "data: " .. data .. "\n\n" }
  end
  headers["content-type"], headers["cache-control"] = "text/event-stream", "no-cache"
  return { status = 200, headers = headers, chunks = chunks }
end

local function generated(upstream, now, fate, asked)
  local id = upstream.id_prefix .. ("%08x"):format(fate.index)
  local headers = { ["content-type"] = "application/json", ["x-request-id"] = "req_" .. id,
    ["openai-processing-ms"] = ("%d"):format((now - fate.began) * 1000) }
  upstream.law:add_headers(fate, headers)
  local call = { id = id, created = floor(upstream.law.wall + now), body = asked.body }
  asked.job.length = fate.drawn
  if asked.job.stream then
    local answer = streamed(fate, asked, call, headers)
    if answer then return answer end
  end
  return { status = 200, headers = headers, body = encode(openai.answer(asked.kind, call, asked.job)) }
end

--- What a request is answered when its time has come.
---@param upstream neap.world.Upstream
---@param now number seconds
---@param fate neap.world.Fate
---@return neap.world.Answer
function M.answer(upstream, now, fate)
  if fate.refusal then return fate.refusal end
  local asked = fate.asked
  -- What an outage cuts off began as an answer.
  if fate.kind ~= "answer" and not fate.whole then return failure(upstream, fate, asked) end
  if asked then return generated(upstream, now, fate, asked) end
  local plain = upstream.plain
  if not upstream.law.limits then return plain end
  return { status = 200, headers = headers_of(upstream.law, fate, plain.headers), body = plain.body }
end

--- The answer of an upstream to what is no endpoint; the same table each time.
---@param body string|table|nil
---@param host string
---@return neap.world.Answer
function M.plain(body, host)
  if type(body) == "string" then
    return { status = 200, headers = { ["content-type"] = "text/plain; charset=utf-8" }, body = body }
  end
  return { status = 200, headers = JSON, body = encode(body or { object = "neap.world", host = host }) }
end

--- What makes ids of one host's answers differ from another's.
---@param host string
---@return string
function M.id_prefix(host)
  return ("%08x"):format(core.rng(require("neap.world.streams").host_seed(0, host), 1):double() * 2 ^ 32)
end

return M
