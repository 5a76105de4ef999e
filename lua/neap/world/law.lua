--- What happens to a request at a flaky server: how long it takes, whether it
--- fails, hangs, is reset, waits in line or is turned away. Pure: time and
--- randomness are arguments, so the same law drives `neap mock` and simulated
--- upstreams.
---
--- Each cause draws from a stream of its own, and every request draws from every
--- stream: switching errors on does not change anybody's latency, and the n-th
--- request to arrive has the same fate whatever came of the others.
local brownouts = require "neap.world.brownout"
local capacities = require "neap.world.capacity"
local latencies = require "neap.world.latency"
local limits = require "neap.world.limits"

local ceil, huge = math.ceil, math.huge

local M = {}

---@class neap.world.ErrorRule
---@field status integer 400 to 599
---@field probability number
---@field retry_after? number seconds; a 429 has 1 anyway

---@class neap.world.LawSpec
---@field latency? neap.world.Latency|number seconds; default: none
---@field errors? neap.world.ErrorRule[] their probabilities add up to at most 1
---@field drop? number probability of a connection reset
---@field hang? number probability of no answer at all
---@field rate_limit? neap.world.RateLimit
---@field capacity? integer|neap.world.Step[] slots: requests worked on at a time
---@field over? "reject"|"queue" what becomes of the others; default "reject"
---@field retry_after? number seconds, of a request rejected for want of a slot
---@field brownout? neap.world.BrownoutRule|neap.world.BrownoutRule[]
---@field on_disconnect? "stop"|"continue" what the work does when its client leaves; default "stop"

---@class neap.world.Fate: neap.world.Ticket
---@field kind "answer"|"error"|"limit"|"over"|"drop"|"hang"
---@field latency number seconds as drawn, before any brownout; 0 for "limit"
---@field status? integer of "error", "limit" and "over"
---@field retry_after? number seconds, of "error", "limit" and "over"
---@field dimension? "requests"|"tokens" which limit, of "limit"
---@field on_start? fun(fate: neap.world.Fate) called when a slot is given, or when `advance` is to be called anew
---@field package brownout_draw number?

---@class neap.world.Law
---@field limits neap.world.Limits?
---@field capacity neap.world.Capacity
local Law = {}
Law.__index = Law

--- A law. `stream(name)` returns a function that draws uniform numbers in [0, 1);
--- it is called once for each of "latency", "error", "drop", "hang" and
--- "brownout".
---@param spec neap.world.LawSpec
---@param stream fun(name: string): fun(): number
---@param start? number seconds: when schedules and windows begin; default 0
---@return neap.world.Law
function M.new(spec, stream, start)
  start = start or 0
  local law = setmetatable({
    errors = spec.errors or {},
    drop = spec.drop or 0,
    hang = spec.hang or 0,
    sample = latencies.sampler(spec.latency or 0),
    draw_latency = stream "latency",
    draw_error = stream "error",
    draw_drop = stream "drop",
    draw_hang = stream "hang",
    draw_brownout = stream "brownout",
    limits = spec.rate_limit and limits.new(spec.rate_limit),
    brownout = spec.brownout and brownouts.new(spec.brownout, start),
    retry_after = spec.retry_after,
    continues = spec.on_disconnect == "continue",
  }, Law)
  law.capacity = capacities.new(spec.capacity, spec.over or "reject", start, {
    begin = function(fate, at) law:begin(fate, at) end,
    nudge = function(fate) if fate.on_start then fate:on_start() end end,
  })
  return law
end

local function pick_error(rules, u)
  for i = 1, #rules do
    local rule = rules[i]
    if u < rule.probability then return rule end
    u = u - rule.probability
  end
end

--- What becomes of the next request if there is a slot for it. Rate limits come
--- first, then hanging, the reset, the error; a request that is turned away takes
--- no time.
---@param now number seconds
---@param tokens number what it would take from a token limit
---@return neap.world.Fate
function Law:decide(now, tokens)
  local latency = self.sample(self.draw_latency)
  local rule = pick_error(self.errors, self.draw_error())
  local dropped = self.draw_drop() < self.drop
  local hung = self.draw_hang() < self.hang
  local brownout_draw = self.draw_brownout()
  if self.limits then
    local wait, dimension = self.limits:take(now, tokens)
    if wait > 0 then
      return { kind = "limit", latency = 0, status = 429, dimension = dimension,
        retry_after = wait < huge and wait or nil }
    end
  end
  if hung then return { kind = "hang", latency = latency, endless = true } end
  if dropped then return { kind = "drop", latency = latency } end
  if rule then
    return { kind = "error", latency = latency, status = rule.status,
      retry_after = rule.retry_after or (rule.status == 429 and 1 or nil) }
  end
  return { kind = "answer", latency = latency, brownout_draw = self.brownout and brownout_draw }
end

--- For the capacity: work begins, and how long it takes is settled.
---@package
---@param fate neap.world.Fate
---@param at number seconds
function Law:begin(fate, at)
  local latency, brownout = fate.latency, self.brownout
  if brownout then
    latency = latency * brownout:factor(at, self.capacity.busy)
    local status = fate.brownout_draw and brownout:failure(at, fate.brownout_draw)
    if status then fate.kind, fate.status = "error", status end
  end
  fate.ends = fate.endless and huge or at + latency
  if fate.on_start then fate:on_start() end
end

--- A request arrives. Its fate says what to do: `state` nil: answer at once with
--- `status`; "serving": be done at `ends`; "queued": wait until `on_start` is
--- called, and call `advance` at `next_change`. Whoever is serving or queued must
--- `leave`.
---@param now number seconds
---@param tokens number what it would take from a token limit
---@param since? number seconds: when its work counts from if it begins at once; default: now
---@return neap.world.Fate
function Law:arrive(now, tokens, since)
  local fate = self:decide(now, tokens)
  if fate.kind == "limit" then return fate end
  if not self.capacity:enter(now, fate, since) then
    return { kind = "over", latency = 0, status = 429, retry_after = self.retry_after }
  end
  return fate
end

--- A request leaves: answered, or (`gone`) its client has left.
---@param now number seconds
---@param fate neap.world.Fate
---@param gone? boolean
function Law:leave(now, fate, gone)
  if gone and self.continues then
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

--- Carries out what has fallen due.
---@param now number seconds
function Law:advance(now)
  self.capacity:advance(now)
end

--- Adds what an answer's headers say about limits and waiting.
---@param now number seconds
---@param fate neap.world.Fate
---@param headers table<string, string>
function Law:add_headers(now, fate, headers)
  if self.limits then self.limits:add_headers(now, headers) end
  if fate.retry_after then headers["retry-after"] = ("%d"):format(ceil(fate.retry_after)) end
end

return M
