--- A simulated upstream: a law, what it answers, and what has arrived there. A world
--- (neap.world) has several, reached by host name through the simulated network or
--- `neap mock --world`; one alone is asked in this process:
---
---   local upstream = require("neap.world.upstream").new {
---     latency = { law = "lognormal", median = 0.1, sigma = 0.8 }, capacity = 50, over = "reject", seed = 1 }
---   local res, err = upstream:request { id = "item-17" }
---
--- Requests that say what they are an attempt at (`id`, `operation`) draw at that
--- key: its k-th request has the same latency and luck whoever came before, so that
--- policies are compared on equal terms. The others draw in order of arrival.
local answers = require "neap.world.answers"
local connections = require "neap.world.connection"
local core = require "neap.core"
local errors = require "neap.error"
local laws = require "neap.world.law"
local law_options = require "neap.world.options"
local options = require "neap.options"
local statistics = require "neap.world.stats"
local streams = require "neap.world.streams"

local huge, max = math.huge, math.max
local now, sleep = core.now, core.sleep
local error, pcall, setmetatable = error, pcall, setmetatable

local M = {}

---@class neap.world.UpstreamOptions: neap.world.LawSpec
---@field seed? integer default 1
---@field log? boolean keep a row of each request in `stats`; default false
---@field name? string default "upstream"; in error messages

---@class neap.world.Upstream
---@field stats neap.world.Stats
---@field law neap.world.Law
---@field name string
---@field host string? of a world's
---@field handler? fun(request: table): any answers instead of the law
---@field options table as they were given, for a world's
---@field package spec table
---@field package streams neap.world.Streams
---@field package connection neap.world.Connection
---@field package api "openai"|"json"|nil
---@field package counts_tokens boolean?
---@field package plain neap.world.Answer
---@field package failures table<integer, string>
local Upstream = {}
Upstream.__index = Upstream

local specs = { log = { type = "boolean", default = false }, name = { type = "string", default = "upstream" } }
for name, spec in pairs(law_options.specs) do specs[name] = spec end

--- An upstream of checked options. It begins when `start` is called.
---@param spec table
---@return neap.world.Upstream
function M.of(spec)
  local limit = spec.rate_limit or {}
  return setmetatable({
    name = spec.name, host = spec.host, handler = spec.handler, spec = spec, api = spec.api, failures = {},
    counts_tokens = (limit.tpm or limit.tpd or limit.itpm or spec.quota and spec.quota.tokens) ~= nil,
    plain = spec.host and answers.plain(spec.body, spec.host), id_prefix = spec.host and answers.id_prefix(spec.host),
  }, Upstream)
end

--- An upstream to be asked in this process. Its schedules and windows begin now.
--- Never waits; raises on a wrong option.
---@param opts? neap.world.UpstreamOptions
---@return neap.world.Upstream
function M.new(opts)
  local checked = options.check("neap.world.upstream", opts, specs)
  local message = law_options.problem(checked)
  if message then error("neap.world.upstream: " .. message, 2) end
  local upstream = M.of(checked)
  upstream:start(now(), checked.seed)
  return upstream
end

--- Begins, or begins anew: schedules, windows, draws and statistics.
---@param at number seconds, as `neap.now()`
---@param seed integer
function Upstream:start(at, seed)
  local spec = self.spec
  local source = streams.new(self.host and streams.host_seed(seed, self.host) or seed, core.rng)
  local function stream(name) return source:stream(name) end
  self.streams = source
  self.law = laws.new(spec, stream, at, core.time() - now())
  self.connection = connections.new(spec.connect or {}, spec.keepalive, stream)
  self.stats = statistics.new(at, spec.log)
end

-- -- A request's way ----------------------------------------------------------

--- What a new connection costs. The table is good until the next call.
---@param at number seconds
---@param operation? integer|string what opens it; nil: draws in order
---@param number? integer how many connections that has opened here, this one included
---@return neap.world.Plan
function Upstream:connect(at, operation, number)
  local outage = self.law.outage
  if operation == nil then return self.connection:next(outage and outage:at(at)) end
  self.streams:seek(operation, number)
  local plan = self.connection:next(outage and outage:at(at))
  self.streams:seek(nil)
  return plan
end

--- What a request in this process says of its tokens.
local function work_of(request)
  if not request.input and not request.max_tokens then return nil end
  return { input = request.input or 0, limit = request.max_tokens, choices = 1, generates = true }
end

--- What the request asks for, its tokens, the endpoint that understands it, and what
--- to answer when that refuses it.
local function read(self, request)
  if not request.method then
    local work = work_of(request)
    return work, request.tokens or work and work.input + (work.limit or 16) or 0
  end
  if self.api ~= "json" then
    local asked, refusal = answers.read(self.api, request)
    if asked then return asked.work, asked.tokens, asked end
    if refusal then return nil, 0, nil, refusal end
  end
  return nil, self.counts_tokens and answers.count(request.body) or 0
end

local function outcome_of(fate, gone)
  if gone then return fate.kind == "hang" and "hang" or "disconnect" end
  return fate.kind == "drop" and "drop" or fate.status or 200
end

--- A request arrives; what becomes of it, as `neap.world.Law.arrive` has it.
---@param at number seconds
---@param request neap.sim.Request
---@param since? number seconds: when its work counts from if it begins at once; default: `at`
---@return neap.world.Fate
function Upstream:arrive(at, request, since)
  local law, stats, operation = self.law, self.stats, request.operation
  local work, tokens, asked, refusal = read(self, request)
  if operation ~= nil then self.streams:seek(operation, request.attempt) end
  local fate
  if refusal then
    law:decide(at, 0) -- it counts against the rate limit, and takes its turn in the streams
    fate = { kind = "error", latency = 0, status = refusal.status, refusal = refusal }
  else
    fate = law:arrive(at, tokens, since, work)
  end
  if operation ~= nil then self.streams:seek(nil) end
  if asked then fate.asked = asked end
  fate.arrived = at
  fate.index = stats:arrive(request.id, stats.logs and request.path or "/", nil, since or at)
  stats:note_peak(stats.open)
  if not fate.state then stats:finish(fate.index, outcome_of(fate), 0) end
  return fate
end

--- What a request is answered, at the end of its work or at its first byte.
---@param at number seconds
---@param fate neap.world.Fate of kind answer, error, limit or over
---@return neap.world.Answer
function Upstream:answer(at, fate)
  return answers.answer(self, at, fate)
end

--- A request whose fate has a state is over: answered, reset, or (`gone`) its client
--- has left before that.
---@param at number seconds
---@param fate neap.world.Fate
---@param gone? boolean
function Upstream:leave(at, fate, gone)
  self.law:leave(at, fate, gone)
  self.stats:finish(fate.index, outcome_of(fate, gone), at - fate.arrived)
end

-- -- In this process ---------------------------------------------------------

local function wake(fate)
  fate.event:set()
end

--- In line until the fate has its slot.
local function wait_in_line(law, fate)
  local event = core.event()
  fate.event, fate.on_start = event, wake
  while fate.state == "queued" do
    event:clear()
    -- One of them has to look at the clock: thousands may be in line.
    local change = law:is_first(fate) and law:next_change() or huge
    local woken = event:wait(change < huge and max(0, change - now()) or nil)
    law:advance(woken and now() or max(now(), change))
  end
end

local function wait_for_end(law, fate)
  if fate.state == "queued" then wait_in_line(law, fate) end
  if fate.endless then core.event():wait() end
  local left = fate.ends - now()
  if left > 0 then sleep(left) end
end

local function lost(self, fate)
  if fate.refused then
    return nil, errors.new { kind = "connect", phase = "connect", sent = "no", sends = 0, replay_safe = true,
      message = self.name .. " refused the connection" }
  end
  return nil, errors.new { kind = "receive", phase = "first_byte", sent = "maybe", sends = 1, replay_safe = true,
    message = self.name .. " reset the connection" }
end

---@class neap.world.Response
---@field status integer
---@field headers table<string, string> lower-case names
---@field usage? {input: integer, output: integer} tokens, of a request that said what it takes
---@field replay_safe true
---@field sends 1

---@class neap.world.Request
---@field id? string|number the same for every attempt at the same thing
---@field tokens? number for the token limit; default: `input`, and `max_tokens` (16 without)
---@field input? number tokens of the prompt
---@field max_tokens? number of the answer

--- Sends a request. Waits. A reset connection is nil and an error of kind
--- "receive" (sent "maybe"), a refused one of kind "connect"; a request that hangs
--- waits until it is cancelled; a cancel is a client that leaves.
---@param request? neap.world.Request
---@return neap.world.Response? response
---@return neap.Error? err
function Upstream:request(request)
  local asked = { id = request and request.id }
  asked.operation = asked.id
  if request then asked.tokens, asked.input, asked.max_tokens = request.tokens, request.input, request.max_tokens end
  local fate = self:arrive(now(), asked)
  if fate.state then
    local ok, err = pcall(wait_for_end, self.law, fate)
    self:leave(now(), fate, not ok)
    if not ok then error(err, 0) end
  end
  if fate.kind == "drop" then return lost(self, fate) end
  local headers = {}
  self.law:add_headers(fate, headers)
  local usage = fate.work and fate.kind == "answer" and { input = fate.work.input, output = fate.output or 0 } or nil
  return { status = fate.status or 200, headers = headers, usage = usage, replay_safe = true, sends = 1 }
end

return M
