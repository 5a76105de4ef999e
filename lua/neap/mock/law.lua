--- What happens to a request at a flaky upstream: how long it takes, whether it
--- fails, hangs, is reset or is turned away. Pure: time and randomness are
--- arguments, so the same law drives `neap mock` and simulated upstreams.
---
--- Each cause draws from a stream of its own, and every request draws from every
--- stream: switching errors on does not change anybody's latency, and the n-th
--- request to arrive has the same fate whatever came of the others.
local limits = require "neap.mock.limits"

local cos, exp, log, pi, sqrt = math.cos, math.exp, math.log, math.pi, math.sqrt

local M = {}

--- A standard normal number from two uniform ones (Box and Muller, 1958).
local function normal(draw)
  local u, v = draw(), draw()
  return sqrt(-2 * log(1 - u)) * cos(2 * pi * v)
end

local samplers = {}

function samplers.fixed(spec)
  return function() return spec.seconds end
end

function samplers.uniform(spec)
  return function(draw) return spec.min + draw() * (spec.max - spec.min) end
end

function samplers.exponential(spec)
  return function(draw) return -log(1 - draw()) * spec.mean end
end

function samplers.lognormal(spec)
  return function(draw) return spec.median * exp(spec.sigma * normal(draw)) end
end

--- A function that draws a latency in seconds.
---@param spec neap.mock.Latency
---@return fun(draw: fun(): number): number
function M.sampler(spec)
  local make = samplers[spec.law]
  if not make then error("unknown latency law '" .. tostring(spec.law) .. "'", 2) end
  return make(spec)
end

---@class neap.mock.LawSpec
---@field latency? neap.mock.Latency default: none
---@field errors? neap.mock.ErrorRule[] their probabilities add up to at most 1
---@field drop? number probability of a connection reset
---@field hang? number probability of no answer at all
---@field rate_limit? neap.mock.RateLimit

---@class neap.mock.Fate
---@field kind "answer"|"error"|"limit"|"drop"|"hang"
---@field latency number seconds; 0 for "limit"
---@field status? integer of "error" and "limit"
---@field retry_after? number seconds, of "error" and "limit"
---@field dimension? "requests"|"tokens" which limit, of "limit"

---@class neap.mock.Law
---@field limits neap.mock.Limits?
local Law = {}
Law.__index = Law

--- A law. `stream(name)` returns a function that draws uniform numbers in [0, 1);
--- it is called once for each of "latency", "error", "drop" and "hang".
---@param spec neap.mock.LawSpec
---@param stream fun(name: string): fun(): number
---@return neap.mock.Law
function M.new(spec, stream)
  return setmetatable({
    errors = spec.errors or {},
    drop = spec.drop or 0,
    hang = spec.hang or 0,
    sample = M.sampler(spec.latency or { law = "fixed", seconds = 0 }),
    draw_latency = stream "latency",
    draw_error = stream "error",
    draw_drop = stream "drop",
    draw_hang = stream "hang",
    limits = spec.rate_limit and limits.new(spec.rate_limit),
  }, Law)
end

local function pick_error(rules, u)
  for i = 1, #rules do
    local rule = rules[i]
    if u < rule.probability then return rule end
    u = u - rule.probability
  end
end

--- What becomes of the next request. Rate limits come first, then hanging, the
--- reset, the error; a request that is turned away takes no time.
---@param now number seconds
---@param tokens number what it would take from a token limit
---@return neap.mock.Fate
function Law:decide(now, tokens)
  local latency = self.sample(self.draw_latency)
  local rule = pick_error(self.errors, self.draw_error())
  local dropped = self.draw_drop() < self.drop
  local hung = self.draw_hang() < self.hang
  if self.limits then
    local wait, dimension = self.limits:take(now, tokens)
    if wait > 0 then
      return { kind = "limit", latency = 0, status = 429, dimension = dimension,
        retry_after = wait < math.huge and wait or nil }
    end
  end
  if hung then return { kind = "hang", latency = latency } end
  if dropped then return { kind = "drop", latency = latency } end
  if rule then
    return { kind = "error", latency = latency, status = rule.status,
      retry_after = rule.retry_after or (rule.status == 429 and 1 or nil) }
  end
  return { kind = "answer", latency = latency }
end

return M
