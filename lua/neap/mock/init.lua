--- The mock upstream: a law (what goes wrong, and when) in front of OpenAI's
--- answers, on `neap.serve`. `neap mock` is its command line.
local core = require "neap.core"
local held = require "neap.mock.held"
local law_options = require "neap.world.options"
local laws = require "neap.world.law"
local openai = require "neap.world.openai"
local options = require "neap.options"
local serve = require "neap.serve"
local statistics = require "neap.world.stats"
local streams = require "neap.world.streams"
local text = require "neap.world.openai.text"
local wait = require "neap.mock.wait"

local now, sleep = core.now, core.sleep

local M = {}

---@class neap.mock.Config: neap.world.LawSpec
---@field host? string default "127.0.0.1"
---@field port? integer default 0: picks one
---@field concurrency? integer the same as `capacity` with over = "queue"
---@field token_delay? number seconds between two chunks of a stream; default 0
---@field seed? integer default 1

---@class neap.mock.Mock
---@field server neap.serve.Server
---@field stats neap.world.Stats
---@field law neap.world.Law
---@field package config neap.mock.Config
---@field package held neap.mock.Held
local Mock = {}
Mock.__index = Mock

-- -- Answers -----------------------------------------------------------------

function Mock:new_id()
  local draw, parts = self.draw_id, {}
  for i = 1, 3 do parts[i] = ("%08x"):format(math.floor(draw() * 4294967296)) end
  return table.concat(parts)
end

local function failure(fate, headers, kind)
  local answer = openai.failure(fate, kind)
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
    local chunk = chunks[i]
    if i > 1 and chunk.data ~= "[DONE]" and wait.stay(request, self.config.token_delay) then return end
    local data = type(chunk.data) == "table" and json.encode(chunk.data) or chunk.data
    if not writer:event { event = chunk.event, data = data } then return end
  end
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

--- Works for as long as the law says, and answers.
---@return true? gone the client has left
---@return table? answer
function Mock:work(request, work, fate, headers)
  if fate.state == "queued" and wait.in_line(self.law, request, fate) then return true end
  if fate.kind == "hang" then
    request.instead = "hang"
    self.held:hold(request)
    return true
  end
  if wait.stay(request, fate.ends - now()) or request:disconnected() then return true end
  headers["openai-processing-ms"] = ("%d"):format((now() - fate.began) * 1000)
  if fate.kind == "drop" then
    request.instead = "drop"
    request:drop()
  elseif fate.kind == "error" then
    return nil, failure(fate, headers, work.kind)
  else
    return nil, self:answer(request, work, headers)
  end
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
  local law, work, refusal = self.law, understand(request)
  local at, id = now(), self:new_id()
  local headers = { ["x-request-id"] = "req_" .. id }
  if not work then
    law:decide(at, 0) -- it counts against the rate limit, and takes its turn in the streams
    if law.limits then law.limits:add_headers(at, headers) end
    refusal.headers = headers
    return refusal
  end
  work.id = id
  local fate = law:arrive(at, work.tokens, request.arrived)
  law:add_headers(fate, headers)
  if not fate.state then return failure(fate, headers, work.kind) end
  local gone, answer = self:work(request, work, fate, headers)
  law:leave(now(), fate, gone)
  if gone then request:drop() end
  return answer
end

-- -- Statistics --------------------------------------------------------------

--- A few turns of the loop: who has left before now has been noticed then.
local function catch_up()
  for _ = 1, 3 do sleep(0) end
end

--- A client may leave and be back on a new connection before its leaving is
--- noticed: a peak counts without those who are noticed right after it.
local function settle_peak(stats)
  local open, left = stats.open, stats.left
  catch_up()
  stats:note_peak(open - (stats.left - left))
end

local ROWS = 500 -- rendered at a time, so that a long list holds nobody up

--- What GET /stats answers, as a table.
---@return table
function Mock:summary()
  local summary, capacity = self.stats:summary(now()), self.law.capacity
  if self.config.capacity then
    self.law:advance(now())
    summary.slots = { limit = capacity.limit, busy = capacity.busy, waiting = capacity.waiting }
  end
  return summary
end

function Mock:send_stats(request)
  local json = require "neap.json"
  if request.method == "DELETE" then
    self.stats = statistics.new(now())
    return 200, self:summary()
  end
  catch_up() -- peaks are settled
  local summary = self:summary()
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
  if self.stats.open > self.stats.max_open then core.spawn(settle_peak, self.stats) end
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

local specs = {
  host = { type = "string" },
  port = { type = "integer", min = 0, max = 65535 },
  concurrency = { type = "integer", min = 1 },
  token_delay = { type = "number", min = 0, default = 0 },
}
for name, spec in pairs(law_options.specs) do specs[name] = spec end

local function check(config)
  local checked = options.check("neap.mock.start", config, specs, 3)
  if checked.concurrency then
    if checked.capacity then error("neap.mock.start: give 'concurrency' or 'capacity', not both", 3) end
    checked.capacity, checked.over = checked.concurrency, "queue"
  end
  local message = law_options.problem(checked)
  if message then error("neap.mock.start: " .. message, 3) end
  return checked
end

--- Starts a mock; it runs in the caller's scope until `stop`. Schedules and
--- windows begin now. Needs real time.
---@param config? neap.mock.Config
---@return neap.mock.Mock? mock
---@return neap.Error? err as of neap.serve
function M.start(config)
  config = check(config)
  local source = streams.new(config.seed, core.rng)
  local function stream(name) return source:stream(name) end
  local mock = setmetatable({
    config = config,
    law = laws.new(config, stream, now()),
    draw_id = stream "id",
    stats = statistics.new(now()),
    held = held.new(),
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
  return self.held:stop(self.server, timeout)
end

return M
