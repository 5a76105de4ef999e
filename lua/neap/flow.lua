--- Flow control between tasks: semaphores, rate limiters, queues, events. The
--- C modules in runtime/flow do the waiting; here are the constructors and what
--- is policy. What each method does: docs/api/flow.md and _meta/flow.lua.
local core = require "neap.core"
local options = require "neap.options"
local rate_headers = require "neap.rate_headers"

local M = {}

-- ---------------------------------------------------------------------------
-- Semaphore
-- ---------------------------------------------------------------------------

---@type neap.semaphore
local Semaphore = core.semaphore_methods
local note_traceback = core.note_traceback

local semaphore_options = { max_waiting = { type = "integer", min = 1 } }

--- A semaphore of `limit` permits; tasks get them strictly in order. Never waits.
---@param limit integer 0 or more
---@param opts? {max_waiting: integer} acquire fails with kind "queue_full" beyond it
---@return neap.semaphore
function M.semaphore(limit, opts)
  if type(limit) ~= "number" or limit < 0 or limit % 1 ~= 0 then
    error("neap.semaphore: the limit must be a whole number of at least 0, got " .. tostring(limit), 2)
  end
  return core.semaphore(limit, options.check("neap.semaphore", opts, semaphore_options).max_waiting)
end

local function release_after(semaphore, permits, ok, ...)
  semaphore:release(permits)
  if not ok then error((...), 0) end
  return ...
end

local function run_with(semaphore, permits, fn, ...)
  if type(fn) ~= "function" then
    error("semaphore:with: expected a function, got " .. type(fn), 3)
  end
  local ok, err = semaphore:acquire(permits)
  if not ok then return nil, err end
  return release_after(semaphore, permits, xpcall(fn, note_traceback, ...))
end

function Semaphore:with(fn, ...)
  if type(fn) == "number" then return run_with(self, fn, ...) end
  return run_with(self, 1, fn, ...)
end

-- ---------------------------------------------------------------------------
-- Queue
-- ---------------------------------------------------------------------------

---@type neap.queue
local Queue = core.queue_methods
local raw_put = Queue.put

local queue_options = {
  max = { type = "integer", min = 1 },
  priority = { type = "boolean", default = false },
}

--- A queue; without `max` it is unbounded, with `priority` the lowest number
--- comes first. Never waits.
---@param opts? {max: integer, priority: boolean}
---@return neap.queue
function M.queue(opts)
  opts = options.check("neap.queue", opts, queue_options)
  return core.queue(opts.max, opts.priority)
end

local put_options = { priority = { type = "number" }, timeout = { type = "number", min = 0 } }

function Queue:put(value, opts)
  if opts == nil then return raw_put(self, value) end
  opts = options.check("queue:put", opts, put_options)
  return raw_put(self, value, opts.priority, opts.timeout)
end

function Queue:iter()
  return function() return (self:get()) end
end

-- ---------------------------------------------------------------------------
-- Event
-- ---------------------------------------------------------------------------

--- An event, not set. Never waits.
---@return neap.event
function M.event()
  return core.event()
end

-- ---------------------------------------------------------------------------
-- Rate limiter
-- ---------------------------------------------------------------------------

---@type neap.rate_limiter
local RateLimiter = core.rate_limiter_methods
local Lease = core.lease_methods

-- What only this file calls.
local add, new_lease, cap, hold = RateLimiter.add, RateLimiter.lease, RateLimiter.cap, RateLimiter.hold
local wait_for_lease = Lease.acquire
RateLimiter.add, RateLimiter.lease, RateLimiter.cap, RateLimiter.hold = nil, nil, nil, nil
Lease.acquire = nil

local positive = { type = "number", above = 0 }
local at_least_one = { type = "number", min = 1 }

local limiter_options = {
  rate = positive,
  per = positive,
  burst = at_least_one,
  requests_per_minute = positive,
  tokens_per_minute = positive,
  input_tokens_per_minute = positive,
  output_tokens_per_minute = positive,
  requests_burst = at_least_one,
  tokens_burst = at_least_one,
  input_tokens_burst = at_least_one,
  output_tokens_burst = at_least_one,
  max_waiting = { type = "integer", min = 1 },
}

--- Requests in any order look alike, so a second's worth of them smooths the
--- start; a single request may need all the tokens of a minute, and providers
--- fill their own buckets to that brim.
local function default_burst(kind, rate, per)
  if kind == "requests" then return math.max(1, math.ceil(rate / per - 1e-9)) end
  return math.max(1, math.floor(rate))
end

--- {kind, rate, per, burst} of every limit that opts ask for.
local function limits_of(opts)
  local limits = {}
  if opts.rate then limits[1] = { "requests", opts.rate, opts.per or 1, opts.burst } end
  for _, kind in ipairs { "requests", "tokens", "input_tokens", "output_tokens" } do
    local rate, burst = opts[kind .. "_per_minute"], opts[kind .. "_burst"]
    if rate then
      if kind == "requests" and not opts.rate then burst = burst or opts.burst end
      limits[#limits + 1] = { kind, rate, 60, burst }
    elseif burst then
      error(("neap.rate_limiter: option '%s_burst' needs '%s_per_minute'"):format(kind, kind), 3)
    end
  end
  return limits
end

--- A rate limiter: any of `rate` per `per` seconds, requests and tokens per
--- minute, all of them taken together or not at all. Never waits.
---@param opts neap.rate_limiter.Options
---@return neap.rate_limiter
function M.rate_limiter(opts)
  opts = options.check("neap.rate_limiter", opts, limiter_options)
  local limits = limits_of(opts)
  if #limits == 0 then
    error("neap.rate_limiter: needs 'rate' or one of the '..._per_minute' options", 2)
  end
  if opts.per and not opts.rate then error("neap.rate_limiter: option 'per' needs 'rate'", 2) end
  if opts.burst and not (opts.rate or opts.requests_per_minute) then
    error("neap.rate_limiter: option 'burst' is for requests; use 'tokens_burst' and its like", 2)
  end
  local limiter = core.rate_limiter(opts.max_waiting)
  for _, limit in ipairs(limits) do
    local kind, rate, per, burst = unpack(limit, 1, 4)
    local ok, err = pcall(add, limiter, kind, rate, per, burst or default_burst(kind, rate, per))
    if not ok then error("neap.rate_limiter: " .. err, 2) end
  end
  return limiter
end

function RateLimiter:acquire(amounts, timeout)
  local lease, err = new_lease(self, amounts)
  if not lease then return nil, err end
  return wait_for_lease(lease, timeout)
end

-- A longer pause than this is asked for again by the server's next answer (the
-- IETF's RateLimit draft warns of absurd resets).
local LONGEST_PAUSE = 600

local function pause(limiter, kind, seconds)
  hold(limiter, kind, math.min(seconds, LONGEST_PAUSE))
end

function RateLimiter:observe(headers)
  local seen, wait = rate_headers.observe(headers, core.time())
  if wait then pause(self, nil, wait) end
  for kind, state in pairs(seen) do
    -- A "unified" limit stands above all kinds, in no unit of ours.
    local limited = kind ~= "unified" and kind or nil
    if limited and state.remaining then cap(self, limited, state.remaining) end
    if state.remaining == 0 and state.reset then pause(self, limited, state.reset) end
  end
end

return M
