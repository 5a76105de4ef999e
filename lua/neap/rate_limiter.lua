--- Rate limiters: their options, and what they make of a server's word. The rates
--- are kept in C (runtime/flow/limiter); what each method does: docs/api/flow.md
--- and _meta/flow.lua.
---
--- A configured rate is a ceiling: nothing that a server says raises it (but for
--- `learn = "replace"`). Beside it each kind has a learned one, which every
--- response sets anew, up or down; a request passes both.
local core = require "neap.core"
local options = require "neap.options"
local rate_headers = require "neap.rate_headers"
local schema = require "neap.schema"
local telemetry = require "neap.telemetry"

local M = {}

---@type neap.rate_limiter
local RateLimiter = core.rate_limiter_methods
local Lease = core.lease_methods

-- What only this file calls.
local raw = {}
for _, name in ipairs { "add", "set", "add_learned", "learn", "forget", "serve", "set_max_waiting", "lease", "hold",
  "held_until" } do
  raw[name], RateLimiter[name] = RateLimiter[name], nil
end
local new_lease, wait_for_lease = raw.lease, Lease.acquire
Lease.acquire = nil

---@class neap.rate_limiter.State
---@field options neap.rate_limiter.Options
---@field limits table<string, neap.rate_limiter.Limit> by key: "rate" or a kind
---@field numbers table<string, integer> the rate's number in C, by key
---@field kinds table<neap.rate_limiter.Kind, true> those of which something is learned
---@field learned table<neap.rate_limiter.Kind, {limit: number, per: number}> the server's latest

---@class neap.rate_limiter.Limit
---@field key string
---@field kind neap.rate_limiter.Kind
---@field rate number
---@field per number seconds
---@field burst number

---@type table<neap.rate_limiter, neap.rate_limiter.State>
local states = setmetatable({}, { __mode = "k" })

-- The largest bucket: one whose size nobody told.
local BOTTOMLESS = 1e12

local KINDS = { "requests", "tokens", "input_tokens", "output_tokens" }

-- After this many seconds one request passes whatever a server said: its answer
-- says it again (the IETF's RateLimit draft warns of absurd resets).
local LONGEST_PAUSE = 600

-- ---------------------------------------------------------------------------
-- Options
-- ---------------------------------------------------------------------------

--- Requests in any order look alike, so a second's worth of them smooths the
--- start; a single request may need all the tokens of a minute, and providers
--- fill their own buckets to that brim.
local function default_burst(kind, rate, per)
  if kind == "requests" then return math.max(1, math.min(math.ceil(rate / per - 1e-9), BOTTOMLESS)) end
  return math.max(1, math.floor(rate))
end

local function limit_of(opts, key, kind, rate, per)
  local burst = opts[kind .. "_burst"]
  if key == "rate" then
    burst = opts.burst
  elseif kind == "requests" and not opts.rate then
    burst = burst or opts.burst
  end
  return { key = key, kind = kind, rate = rate, per = per, burst = burst or default_burst(kind, rate, per) }
end

local function refuse(message) options.fail("neap.rate_limiter: " .. message) end

--- Rates are exact to six decimal places, periods to the nanosecond.
local function at_least(opts, option, least)
  local value = opts[option]
  if value and value < least then
    refuse(("option '%s' must be at least %g, got %g"):format(option, least, value))
  end
end

--- The limits that checked options ask for. Raises where they do not fit together.
local function limits_of(opts)
  local limits = {}
  at_least(opts, "rate", 1e-6)
  at_least(opts, "per", 1e-9)
  if opts.rate then limits[1] = limit_of(opts, "rate", "requests", opts.rate, opts.per or 1) end
  for _, kind in ipairs(KINDS) do
    local rate = opts[kind .. "_per_minute"]
    at_least(opts, kind .. "_per_minute", 1e-6)
    if rate then
      limits[#limits + 1] = limit_of(opts, kind, kind, rate, 60)
    elseif opts[kind .. "_burst"] then
      refuse(("option '%s_burst' needs '%s_per_minute'"):format(kind, kind))
    end
  end
  if opts.per and not opts.rate then refuse "option 'per' needs 'rate'" end
  if opts.burst and not (opts.rate or opts.requests_per_minute) then
    refuse "option 'burst' is for requests; use 'tokens_burst' and its like"
  end
  if #limits == 0 and opts.learn ~= "replace" then
    refuse "needs 'rate' or one of the '..._per_minute' options, or learn=\"replace\""
  end
  return limits
end

--- Adds a limit and what may be learned of its kind.
local function add_limit(limiter, state, limit)
  state.numbers[limit.key] = raw.add(limiter, limit.kind, limit.rate, limit.per, limit.burst)
  state.limits[limit.key] = limit
  if not state.kinds[limit.kind] then raw.add_learned(limiter, limit.kind, LONGEST_PAUSE) end
  state.kinds[limit.kind] = true
end

--- A limiter and its state.
local function build(opts)
  local limiter = core.rate_limiter(opts.max_waiting)
  local state = { options = opts, limits = {}, numbers = {}, kinds = {}, learned = {} }
  local limits = limits_of(opts)
  for _, limit in ipairs(limits) do add_limit(limiter, state, limit) end
  if #limits == 0 then
    for _, kind in ipairs(KINDS) do
      raw.add_learned(limiter, kind, LONGEST_PAUSE)
      state.kinds[kind] = true
    end
  end
  return limiter, state
end

--- A rate limiter: any of `rate` per `per` seconds, requests and tokens per
--- minute, all of them taken together or not at all. Never waits.
---@param opts neap.rate_limiter.Options
---@return neap.rate_limiter
function M.new(opts)
  local limiter, state = build(schema.check("rate_limiter", opts))
  states[limiter] = state
  return limiter
end

local function same(a, b)
  return a ~= nil and a.rate == b.rate and a.per == b.per and a.burst == b.burst
end

local function emit(state, event, fields)
  if telemetry.active then telemetry.emit(state.options.name or "rate_limiter", "rate_limiter", event, fields) end
end

function RateLimiter:update(changes)
  local state = states[self]
  local opts = schema.change("rate_limiter", state.options, changes)
  build(opts) -- whatever is wrong is told before anything changes
  state.options = opts
  raw.set_max_waiting(self, opts.max_waiting)
  if opts.learn == "never" then
    state.learned = {}
    raw.forget(self)
  end
  for _, limit in ipairs(limits_of(opts)) do
    if not state.numbers[limit.key] then
      add_limit(self, state, limit)
    elseif not same(state.limits[limit.key], limit) then
      raw.set(self, state.numbers[limit.key], limit.rate, limit.per, limit.burst)
      state.limits[limit.key] = limit
    end
  end
  emit(state, "update", { reason = "manual", changes = changes })
end

-- ---------------------------------------------------------------------------
-- Turns
-- ---------------------------------------------------------------------------

function RateLimiter:acquire(amounts, timeout, front)
  local lease, err = new_lease(self, amounts, timeout)
  if not lease then return nil, err end
  return wait_for_lease(lease, timeout, front)
end

-- ---------------------------------------------------------------------------
-- What servers say
-- ---------------------------------------------------------------------------

-- Of what a server says: shorter ones are as good as none.
local SHORTEST_PERIOD = 1e-6
-- A rate of one in so many seconds is none, but for what comes back at the reset.
local HARDLY_EVER = 3e7

--- What a dimension's headers mean for its bucket: so many per so many seconds
--- with a burst, and where all comes back at once, in how many seconds and how
--- often. Nothing when they say too little.
---@param said neap.RateLimit
---@param own neap.rate_limiter.Limit?
local function bucket_of(said, own)
  local limit, reset = said.limit, said.reset
  if limit and (said.steady or not reset) then
    local per, fills_in = said.per or 60, said.steady and rate_headers.fills_in(said)
    -- Whatever the period: it must be full by the reset (rounding errors aside).
    if fills_in and fills_in < per * (1 - 1e-9) then per = math.max(fills_in, SHORTEST_PERIOD) end
    return limit, per, math.max(1, math.floor(limit))
  elseif reset and (limit or said.remaining) then
    limit, reset = math.max(1, math.floor(limit or BOTTOMLESS)), math.min(reset, LONGEST_PAUSE)
    return 1, HARDLY_EVER, limit, reset, math.max(reset, math.min(said.per or 60, LONGEST_PAUSE))
  elseif said.remaining and own then
    return own.rate, own.per, own.burst
  end
end

--- The configured limit of a kind; of two the one per minute.
local function own_limit(state, kind)
  return state.limits[kind] or kind == "requests" and state.limits.rate or nil
end

--- The server's limit takes the place of the configured one.
local function replace(limiter, state, kind, said, per)
  local own = own_limit(state, kind)
  if not own then return end
  local limit = said.limit
  per = math.min(per, limit * LONGEST_PAUSE)
  if said.remaining == 0 and said.steady then per = math.min(per, rate_headers.fills_in(said) or per) end
  local opts = state.options
  local burst = opts[kind .. "_burst"] or kind == "requests" and opts.burst or default_burst(kind, limit, per)
  local new = { key = own.key, kind = kind, rate = limit, per = per, burst = burst }
  if pcall(raw.set, limiter, state.numbers[own.key], limit, per, burst) then state.limits[own.key] = new end
end

--- A limit that the server told for the first time, or anew; periods that are
--- made out from resets differ by little from one answer to the next.
local function note_limit(limiter, state, kind, said)
  local per = said.per or (said.steady or not said.reset) and 60 or nil
  local before = state.learned[kind]
  if not said.limit or not per then return end
  if before and before.limit == said.limit and math.abs(before.per - per) <= 0.25 * per then return end
  state.learned[kind] = { limit = said.limit, per = per }
  if state.options.learn == "replace" then replace(limiter, state, kind, said, per) end
  emit(state, "limit", { reason = "the server's headers", dimension = kind, limit = said.limit, per = per,
    before = before and before.limit })
end

local function pause(limiter, state, seconds, reason)
  seconds = math.min(seconds, LONGEST_PAUSE)
  if raw.hold(limiter, seconds) then emit(state, "pause", { reason = reason, seconds = seconds }) end
end

local function learn(limiter, state, kind, said, lease)
  local rate, per, burst, full_in, window = bucket_of(said, own_limit(state, kind))
  if not rate then return end
  local left = said.remaining and math.min(said.remaining, BOTTOMLESS)
  if raw.learn(limiter, kind, lease, math.min(rate, 1e9), per, math.min(burst, BOTTOMLESS), left, full_in, window) then
    note_limit(limiter, state, kind, said)
  end
end

function RateLimiter:observe(headers, lease, status)
  local state = states[self]
  if type(headers) ~= "table" then
    options.fail("rate_limiter:observe: headers must be a table, got " .. type(headers))
  end
  local seen, wait = rate_headers.observe(headers, core.time())
  -- What was served was not refused: such a Retry-After is not about limits.
  if wait and not (type(status) == "number" and status < 400) then pause(self, state, wait, "Retry-After") end
  if state.options.learn == "never" then return end
  -- A "unified" limit stands above all kinds, in no unit of ours.
  local unified = seen.unified
  if unified and unified.remaining == 0 and unified.reset then pause(self, state, unified.reset, "unified limit") end
  if next(seen) == nil then return end
  raw.serve(self) -- by what was known before
  for _, kind in ipairs(KINDS) do
    local said = seen[kind]
    if said and state.kinds[kind] then learn(self, state, kind, said, lease) end
  end
  raw.serve(self) -- by all that is known now
end

-- ---------------------------------------------------------------------------
-- Looking in
-- ---------------------------------------------------------------------------

function RateLimiter:snapshot()
  local state, now = states[self], core.now()
  local waiting, held_until = self:waiting(), raw.held_until(self)
  local found = { kind = "rate_limiter", name = state.options.name or "rate_limiter", state = "ready",
    waiting = waiting, kinds = {} }
  if held_until > now then
    found.state, found.reason, found.next_change = "paused", "a server asked to wait", held_until - now
  elseif waiting > 0 then
    found.state, found.reason, found.next_change = "pacing", "the next in line is not due yet",
      math.max(0, self:eta() - now)
  end
  for kind in pairs(state.kinds) do
    local own, learned = own_limit(state, kind) or {}, state.learned[kind] or {}
    found.kinds[kind] = { available = self:available(kind), rate = own.rate, per = own.per, burst = own.burst,
      learned_limit = learned.limit, learned_per = learned.per }
  end
  return found
end

return M
