--- What happens to a request at a flaky server: how long it takes, whether it
--- fails, hangs, is reset, waits in line or is turned away. Pure: time and
--- randomness are arguments, so the same law drives `neap mock` and simulated
--- upstreams.
---
--- Each cause draws from a stream of its own, and every request draws from every
--- stream that is in use: switching errors on does not change anybody's latency,
--- and the n-th request to arrive has the same fate whatever came of the others.
local brownouts = require "neap.world.brownout"
local capacities = require "neap.world.capacity"
local latencies = require "neap.world.latency"
local limits = require "neap.world.limits"
local outages = require "neap.world.outage"
local quotas = require "neap.world.quota"

local ceil, floor, huge, max, min = math.ceil, math.floor, math.huge, math.max, math.min

local M = {}

---@class neap.world.ErrorRule
---@field status integer 400 to 599
---@field probability number
---@field retry_after? number seconds; a 429 has 1 anyway
---@field latency? neap.world.Latency|number seconds; default: as an answer's

---@class neap.world.TokenSpec
---@field output? number|neap.world.Latency tokens of an answer, cut at what `max_tokens` allows
---@field per_second? number of an answer's tokens, after its first; `latency` is the time to that one
---@field package natural? number of a scaled world: what answers' own lengths are multiplied by

---@class neap.world.LawSpec
---@field latency? neap.world.Latency|number seconds; default: none
---@field load? {per_request: number} seconds more for each request worked on, itself included
---@field tokens? neap.world.TokenSpec
---@field errors? neap.world.ErrorRule[] their probabilities add up to at most 1
---@field drop? number probability of a connection reset
---@field hang? number probability of no answer at all
---@field rate_limit? neap.world.RateLimit
---@field quota? neap.world.QuotaSpec
---@field capacity? integer|neap.world.Step[] slots: requests worked on at a time
---@field over? "reject"|"queue" what becomes of the others; default "reject"
---@field over_status? integer of a request rejected for want of a slot; default 429
---@field max_waiting? integer the longest line; who comes then is rejected
---@field retry_after? number seconds, of a request rejected for want of a slot
---@field brownout? neap.world.BrownoutRule|neap.world.BrownoutRule[]
---@field outage? neap.world.OutageRule|neap.world.OutageRule[]
---@field on_disconnect? "stop"|"continue" what the work does when its client leaves; default "stop"

---@class neap.world.Work what a request asks for, where that counts
---@field input integer tokens
---@field limit? integer output tokens that each choice may have
---@field choices integer
---@field stream? boolean
---@field generates? boolean it is answered with tokens
---@field natural? integer of each choice, where the law does not say

---@class neap.world.Fate: neap.world.Ticket
---@field kind "answer"|"error"|"limit"|"over"|"drop"|"hang"
---@field latency number seconds as drawn, before any brownout; 0 for "limit"
---@field status? integer of "error", "limit" and "over"
---@field retry_after? number seconds, of "error", "limit" and "over"
---@field dimension? "requests"|"tokens"|"input"|"output"|"quota" which limit, of "limit"
---@field refused? true of "drop": the server is down, a new connection would have been refused
---@field output? integer tokens of each choice of an answer
---@field drawn? integer the same before it was cut at the limit
---@field first_byte? number seconds since `began`, of a streamed answer
---@field whole? number seconds: when a streamed answer would have ended, which an outage cuts off
---@field silent? number seconds: nothing of it comes through from then on; a "drop" resets it at `ends`
---@field on_start? fun(fate: neap.world.Fate) called when a slot is given, or when `advance` is to be called anew
---@field package said table<string, string>? headers about limits
---@field package brownout_draw number?
---@field package generation number? seconds after the first token
---@field package charged number? output tokens taken from a limit

---@class neap.world.Law
---@field limits neap.world.Limits?
---@field quota neap.world.Quota?
---@field capacity neap.world.Capacity
---@field work number server seconds so far, of ended work
---@field wasted number server seconds of them on answers nobody took
---@field input integer tokens so far, of what was answered
---@field output integer tokens so far, of what was answered
local Law = {}
Law.__index = Law

--- How long the errors take that say it, by rule; nil: none does.
local function error_samples(rules)
  local samples
  for i = 1, #rules do
    if rules[i].latency then
      samples = samples or {}
      samples[rules[i]] = latencies.sampler(rules[i].latency)
    end
  end
  return samples
end

--- A law. `stream(name)` returns a function that draws uniform numbers in [0, 1);
--- it is called once for each of "latency", "error", "error_latency", "drop", "hang",
--- "brownout" and "output".
---@param spec neap.world.LawSpec
---@param stream fun(name: string): fun(): number
---@param start? number seconds: when schedules and windows begin; default 0
---@param wall? number what makes Unix time of a time here; default 0
---@return neap.world.Law
function M.new(spec, stream, start, wall)
  start = start or 0
  local tokens = spec.tokens or {}
  local law = setmetatable({
    errors = spec.errors or {},
    drop = spec.drop or 0,
    hang = spec.hang or 0,
    sample = latencies.sampler(spec.latency or 0),
    sample_output = tokens.output and latencies.sampler(tokens.output),
    per_second = tokens.per_second,
    natural = tokens.natural,
    per_request = spec.load and spec.load.per_request,
    draw_latency = stream "latency",
    draw_error = stream "error",
    draw_error_latency = stream "error_latency",
    error_samples = error_samples(spec.errors or {}),
    draw_drop = stream "drop",
    draw_hang = stream "hang",
    draw_brownout = stream "brownout",
    draw_output = stream "output",
    limits = spec.rate_limit and limits.new(spec.rate_limit),
    quota = spec.quota and quotas.new(spec.quota, start),
    brownout = spec.brownout and brownouts.new(spec.brownout, start),
    outage = spec.outage and outages.new(spec.outage, start),
    retry_after = spec.retry_after,
    over_status = spec.over_status or 429,
    continues = spec.on_disconnect == "continue",
    wall = wall or 0,
    work = 0, wasted = 0, input = 0, output = 0,
  }, Law)
  law.capacity = capacities.new(spec.capacity, spec.over or "reject", start, {
    begin = function(fate, at) law:begin(fate, at) end,
    nudge = function(fate) if fate.on_start then fate:on_start() end end,
  }, spec.max_waiting)
  return law
end

local function pick_error(rules, u)
  for i = 1, #rules do
    local rule = rules[i]
    if u < rule.probability then return rule end
    u = u - rule.probability
  end
end

--- What an outage makes of a request, or nil.
local function in_outage(outage, now)
  local window = outage:at(now)
  if not window then return nil end
  if window.how == "status" then
    return { kind = "error", latency = 0, status = window.status, retry_after = window.retry_after, apart = true }
  elseif window.how == "hang" then
    return { kind = "hang", latency = 0, endless = true, apart = true, state = "lost" }
  end
  return { kind = "drop", latency = 0, refused = true, apart = true }
end

local function limited(wait, dimension)
  return { kind = "limit", latency = 0, status = 429, dimension = dimension,
    retry_after = wait < huge and wait or nil }
end

--- Takes what the request may use from limits and quota; a fate when it may not.
local function take(self, now, tokens, work, charged)
  local wait, dimension
  if self.limits then
    wait, dimension = self.limits:take(now, tokens, work and work.input, charged)
    if wait > 0 then return limited(wait, dimension) end
  end
  if self.quota then
    wait = self.quota:take(now, tokens)
    if wait > 0 then return limited(wait, "quota") end
  end
end

--- The output of an answer: as drawn, and as cut; nil where nothing is said of it.
local function draw_output(self, work)
  local sample = self.sample_output
  local drawn = sample and max(1, floor(sample(self.draw_output) + 0.5))
  if not (work and work.generates) then return nil end
  drawn = drawn or work.natural
  if drawn and not sample and self.natural then drawn = max(1, floor(drawn * self.natural + 0.5)) end
  if drawn then return drawn, min(drawn, work.limit or huge) end
end

--- A fate with room for what every request comes to: a field more would make the table
--- grow, which costs as much as all the draws.
local function fate_of(kind, latency)
  return { kind = kind, latency = latency, state = false, began = false, ends = false, arrived = false, index = false }
end

--- What becomes of the next request if there is a slot for it. Outages and rate
--- limits come first, then hanging, the reset, the error; a request that is turned
--- away takes no time.
---@param now number seconds
---@param tokens number what it would take from a token limit
---@param work? neap.world.Work
---@return neap.world.Fate
function Law:decide(now, tokens, work)
  local latency = self.sample(self.draw_latency)
  local rule = self.errors[1] and pick_error(self.errors, self.draw_error())
  local dropped = self.drop > 0 and self.draw_drop() < self.drop
  local hung = self.hang > 0 and self.draw_hang() < self.hang
  local brownout_draw = self.brownout and self.draw_brownout()
  local drawn, output = draw_output(self, work)
  local fate = self.outage and in_outage(self.outage, now)
  if fate then return fate end
  local charged = work and (work.limit or output or 0) * work.choices or 0
  if self.limits or self.quota then
    fate = take(self, now, tokens, work, charged)
    if fate then return fate end
  end
  if hung then
    fate = fate_of("hang", latency)
    fate.endless = true
    return fate
  end
  if dropped then return fate_of("drop", latency) end
  if rule then
    local sample = self.error_samples and self.error_samples[rule]
    fate = fate_of("error", sample and sample(self.draw_error_latency) or latency)
    fate.status, fate.retry_after = rule.status, rule.retry_after or (rule.status == 429 and 1 or nil)
    return fate
  end
  fate = fate_of("answer", latency)
  if brownout_draw then fate.brownout_draw = brownout_draw end
  if work then
    fate.work, fate.charged, fate.drawn, fate.output = work, charged, drawn, output
    if output and self.per_second then fate.generation = max(0, output - 1) / self.per_second end
  end
  return fate
end

--- For the capacity: work begins, and how long it takes is settled.
---@package
---@param fate neap.world.Fate
---@param at number seconds
function Law:begin(fate, at)
  local latency, factor = fate.latency, 1
  if self.per_request then latency = latency + self.per_request * self.capacity.busy end
  local brownout = self.brownout
  if brownout then
    factor = brownout:factor(at, self.capacity.busy)
    local status = fate.brownout_draw and brownout:failure(at, fate.brownout_draw)
    if status then fate.kind, fate.status = "error", status end
  end
  if fate.endless then
    fate.ends = huge
  elseif fate.generation and fate.kind == "answer" then
    fate.ends = at + (latency + fate.generation) * factor
    if fate.work.stream then fate.first_byte = latency * factor end
  else
    fate.ends = at + latency * factor
  end
  if self.outage then self.outage:cut(fate, at) end
  if fate.ghost then self:account(fate.endless and 0 or fate.ends - at, true) end
  if fate.on_start then fate:on_start() end
end

--- A request arrives. Its fate says what to do: `state` nil: answer at once with
--- `status` (or reset, for "drop"); "serving": be done at `ends`; "queued": wait until
--- `on_start` is called, and call `advance` at `next_change`; "lost": it hangs. Whoever
--- has a state must `leave`.
---@param now number seconds
---@param tokens number what it would take from a token limit
---@param since? number seconds: when its work counts from if it begins at once; default: now
---@param work? neap.world.Work
---@return neap.world.Fate
function Law:arrive(now, tokens, since, work)
  local fate = self:decide(now, tokens, work)
  if self.limits then self:note_limits(now, fate) end
  if fate.apart or fate.kind == "limit" then return fate end
  if not self.capacity:enter(now, fate, since) then
    if fate.charged then self:refund(fate, fate.charged) end
    return { kind = "over", latency = 0, status = self.over_status, retry_after = self.retry_after, said = fate.said }
  end
  return fate
end

--- What the answer will say of limits: as of the request's arrival, for that is when
--- gateways count (Envoy's rate limit filter and its like), whatever comes in meanwhile.
---@package
function Law:note_limits(now, fate)
  fate.said = {}
  self.limits:add_headers(now, fate.said, self.wall)
end

---@package
function Law:account(seconds, wasted)
  self.work = self.work + seconds
  if wasted then self.wasted = self.wasted + seconds end
end

--- Output tokens that were taken and not used.
---@package
function Law:refund(fate, unused)
  if self.limits then self.limits:settle(unused) end
  if self.quota and unused > 0 then self.quota:refund(unused) end
  fate.charged = nil
end

--- A request leaves: answered, or (`gone`) its client has left.
---@param now number seconds
---@param fate neap.world.Fate
---@param gone? boolean
function Law:leave(now, fate, gone)
  local serving, continues = fate.state == "serving", gone and self.continues
  if serving then
    local till = continues and not fate.endless and fate.ends or min(now, fate.ends)
    self:account(max(0, till - fate.began), gone or fate.kind == "drop")
  end
  local work = fate.work
  if work and not gone and fate.kind == "answer" then
    local used = (fate.output or 0) * work.choices
    self.input, self.output = self.input + work.input, self.output + used
    if fate.charged and fate.output then self:refund(fate, fate.charged - used) end
  end
  if continues then
    self.capacity:abandon(now, fate)
  else
    self.capacity:leave(now, fate)
  end
end

--- When something will change by itself for those in line; huge: never.
---@return number seconds
function Law:next_change()
  return self.capacity:next_change()
end

--- Whether it is this one in line who has to call `advance` at `next_change`; whoever
--- becomes it later is told by `on_start`.
---@param fate neap.world.Fate of state "queued"
---@return boolean
function Law:is_first(fate)
  return self.capacity:is_first(fate)
end

--- Carries out what has fallen due.
---@param now number seconds
function Law:advance(now)
  self.capacity:advance(now)
end

--- Adds what an answer's headers say about limits and waiting.
---@param fate neap.world.Fate
---@param headers table<string, string>
function Law:add_headers(fate, headers)
  for name, value in pairs(fate.said or {}) do headers[name] = value end
  if fate.retry_after then headers["retry-after"] = ("%d"):format(ceil(fate.retry_after)) end
end

return M
