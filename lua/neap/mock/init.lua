--- The mock upstream: a law (what goes wrong, and when) in front of OpenAI's
--- answers, on `neap.serve`. `neap mock` is its command line.
local core = require "neap.core"
local errors = require "neap.error"
local flow = require "neap.flow"
local laws = require "neap.mock.law"
local openai = require "neap.mock.openai"
local serve = require "neap.serve"
local statistics = require "neap.mock.stats"
local text = require "neap.mock.text"

local now, sleep = core.now, core.sleep

local M = {}

---@class neap.mock.Config: neap.mock.LawSpec
---@field host? string default "127.0.0.1"
---@field port? integer default 0: picks one
---@field concurrency? integer requests worked on at a time; others queue
---@field token_delay? number seconds between two chunks of a stream; default 0
---@field seed? integer default 1

---@class neap.mock.Mock
---@field server neap.serve.Server
---@field stats neap.mock.Stats
---@field law neap.mock.Law
---@field package config neap.mock.Config
---@field package slots neap.Semaphore?
---@field package hanging table<neap.serve.Request, true>
local Mock = {}
Mock.__index = Mock

--- One stream of randomness a purpose; the numbers are part of what a seed means.
local STREAMS = { latency = 1, error = 2, drop = 3, hang = 4, id = 5 }

local function stream_of(seed)
  return function(name)
    local rng = core.rng(seed, STREAMS[name])
    return function() return rng:double() end
  end
end

-- -- Answers -----------------------------------------------------------------

function Mock:new_id()
  local draw, parts = self.draw_id, {}
  for i = 1, 3 do parts[i] = ("%08x"):format(math.floor(draw() * 4294967296)) end
  return table.concat(parts)
end

local ERROR_CODES = { [400] = "bad_request", [401] = "invalid_api_key", [404] = "not_found",
  [408] = "timeout", [409] = "conflict", [429] = "rate_limit_exceeded", [500] = "internal_error",
  [502] = "bad_gateway", [503] = "overloaded", [504] = "gateway_timeout", [529] = "overloaded" }

local function failure(fate, headers)
  local retry_after = fate.retry_after
  if retry_after then headers["retry-after"] = ("%d"):format(math.ceil(retry_after)) end
  local message = fate.kind ~= "limit" and "the mock fails this request, as it was told to"
    or retry_after and ("rate limit of %s reached; try again in %.3f s"):format(fate.dimension, retry_after)
    or ("this request needs more %s than the limit ever allows"):format(fate.dimension)
  local answer = openai.error(fate.status, message, ERROR_CODES[fate.status])
  if fate.dimension then answer.json.error.type = fate.dimension end
  answer.headers = headers
  return answer
end

--- Any path that is no endpoint: says what it was sent.
local function echo(request)
  if request.path == "/v1/models" and request.method == "GET" then return openai.models() end
  return { object = "mock.echo", method = request.method, path = text.printable(request.path),
    body = text.printable(request.body) }
end

function Mock:send_stream(request, chunks, headers)
  local json = require "neap.json"
  headers["content-type"] = "text/event-stream"
  headers["cache-control"] = "no-cache"
  local writer = request:respond { headers = headers }
  for i = 1, writer and #chunks or 0 do
    if i > 1 and self.config.token_delay > 0 then sleep(self.config.token_delay) end
    if not writer:event(json.encode(chunks[i])) then return end
  end
  if writer then writer:event "[DONE]" end
end

--- The answer of an upstream that is well.
function Mock:answer(request, work, headers)
  if not work.kind then return { headers = headers, json = echo(request) } end
  local call = { id = work.id, created = math.floor(core.time()), body = work.body }
  local chunks = work.job.stream and openai.stream(work.kind, call, work.job)
  if chunks then return self:send_stream(request, chunks, headers) end
  return { headers = headers, json = openai.answer(work.kind, call, work.job) }
end

-- -- A request's way ---------------------------------------------------------

--- Works for as long as the law says, from `since` on, and answers.
function Mock:work(request, work, fate, since, headers)
  local left = since + fate.latency - now()
  if left > 0 then sleep(left) end
  headers["openai-processing-ms"] = ("%d"):format((now() - since) * 1000)
  if request:disconnected() then
    request.instead = "disconnect"
    request:drop()
  elseif fate.kind == "drop" then
    request.instead = "drop"
    request:drop()
  elseif fate.kind == "error" then
    return failure(fate, headers)
  else
    return self:answer(request, work, headers)
  end
end

function Mock:hang(request)
  request.instead = "hang"
  self.hanging[request] = true
  request:hang()
  self.hanging[request] = nil
end

--- What the request asks for: kind, job and body of an endpoint; or nil and an
--- answer that refuses it.
local function understand(request)
  local kind = openai.endpoints[request.path]
  if not kind then return { tokens = text.count_tokens(request.body) } end
  local job, body = openai.parse(kind, request.method, request.body)
  if not job then return nil, body end
  return { kind = kind, job = job, body = body, tokens = job.tokens }
end

function Mock:respond(request)
  local work, refusal = understand(request)
  local fate = self.law:decide(now(), work and work.tokens or 0)
  local id = self:new_id()
  local headers = { ["x-request-id"] = "req_" .. id }
  if self.law.limits then self.law.limits:add_headers(now(), headers) end
  if not work then
    refusal.headers = headers
    return refusal
  end
  work.id = id
  if fate.kind == "limit" then return failure(fate, headers) end
  if fate.kind == "hang" then return self:hang(request) end
  if not self.slots then return self:work(request, work, fate, request.arrived, headers) end
  return self.slots:with(function() return self:work(request, work, fate, now(), headers) end)
end

-- -- Statistics --------------------------------------------------------------

local ROWS = 500 -- rendered at a time, so that a long list holds nobody up

function Mock:send_stats(request)
  local json = require "neap.json"
  if request.method == "DELETE" then
    self.stats = statistics.new(now())
    return 200, self.stats:summary(now())
  end
  local summary = self.stats:summary(now())
  if request.query.full == nil or request.query.full == "0" then return 200, summary end
  local head = json.encode(summary)
  local writer = request:respond { headers = { ["content-type"] = "application/json" } }
  if not writer then return end
  writer:write(head:sub(1, -2) .. ',"full":[')
  local stats, count = self.stats, self.stats.count
  for first = 1, count, ROWS do
    local rows = stats:rows(first, math.min(first + ROWS - 1, count), json.encode)
    if not writer:write((first > 1 and "," or "") .. rows) then return end
    sleep(0)
  end
  writer:write "]}"
end

function Mock:handle(request)
  if request.path == "/stats" then return self:send_stats(request) end
  request.stats = self.stats
  local id = request.headers["x-client-request-id"]
  request.index = self.stats:arrive(id and text.printable(id), text.printable(request.path),
    text.printable(request.body), request.arrived)
  local answer = self:respond(request)
  request.status = answer and answer.status or 200
  return answer
end

--- Told by the server when the answer is out.
local function note(request, finished)
  if not request.index then return end
  local instead = request.instead
  if not instead and finished.outcome ~= "sent" then instead = "disconnect" end
  request.stats:finish(request.index, instead or request.status, finished.duration)
end

--- Starts a mock; it runs in the caller's scope until `stop`. Needs real time.
---@param config neap.mock.Config
---@return neap.mock.Mock? mock
---@return neap.Error? err as of neap.serve
function M.start(config)
  local seed = config.seed or 1
  local mock = setmetatable({
    config = { token_delay = config.token_delay or 0 },
    law = laws.new(config, stream_of(seed)),
    draw_id = stream_of(seed) "id",
    stats = statistics.new(now()),
    slots = config.concurrency and flow.semaphore(config.concurrency),
    hanging = {},
  }, Mock)
  local err
  mock.server, err = serve {
    host = config.host, port = config.port,
    max_concurrency = 2 ^ 30, max_connections = 2 ^ 20, max_body = 2 ^ 30, idle_timeout = 0,
    handler = function(request) return mock:handle(request) end,
    on_finish = note,
  }
  if not mock.server then return nil, err end
  return mock
end

--- Stops taking requests, lets go of those that hang, and waits up to `timeout`
--- seconds for the others. Waits.
---@param timeout? number seconds; none: for ever
---@return true? ok, neap.Error? err kind "timeout" when requests had to be broken off
function Mock:stop(timeout)
  self.server:shutdown()
  for request in pairs(self.hanging) do request:drop() end
  local ok, err = self.server:stop(timeout)
  if not ok and not errors.is(err, "timeout") then error(err, 0) end
  return ok, err
end

return M
