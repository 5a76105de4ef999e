--- neap.retry: calls a function again while it fails for a passing reason.
--- docs/api/retry.md says what each option means and where its default is from.
local core = require "neap.core"
local error_class = require "neap.error"
local options = require "neap.options"
local rate_headers = require "neap.rate_headers"

local M = {}

---@class neap.retry.Backoff
---@field base? number seconds: the bound of the first wait (0.5)
---@field factor? number the bound grows by it with every attempt (2)
---@field max? number seconds: the bound stops there (20)
---@field jitter? "full"|"equal"|"decorrelated"|"none" ("full")

---@class neap.retry.Event what `on_retry` gets before each wait
---@field attempt integer the attempt that has failed, from 1
---@field wait number seconds until the next one
---@field hint? number seconds the server asked for
---@field result any what the attempt returned
---@field err? any its error

---@class neap.retry.Options
---@field max_attempts? integer calls, the first included (3)
---@field backoff? neap.retry.Backoff
---@field retry_on? fun(result: any, err: any, attempt: integer): boolean? (neap.retry's own rule: M.default_retry_on)
---@field respect_retry_after? boolean wait as long as the server asks (true)
---@field max_retry_after? number seconds: give up when the server asks for more (120)
---@field deadline? number seconds for the whole call, waits included (none)
---@field on_retry? fun(event: neap.retry.Event)

local BACKOFF = {
  base = { type = "number", min = 0, max = 1e6, default = 0.5 },
  factor = { type = "number", min = 1, max = 1000, default = 2 },
  max = { type = "number", min = 0, max = 1e6, default = 20 },
  jitter = { type = "string", one_of = { "full", "equal", "decorrelated", "none" }, default = "full" },
}

local OPTIONS = {
  max_attempts = { type = "integer", min = 1, default = 3 },
  backoff = { type = "table", fields = BACKOFF, default = {} },
  retry_on = { type = "function" },
  respect_retry_after = { type = "boolean", default = true },
  max_retry_after = { type = "number", min = 0, default = 120 },
  deadline = { type = "number", above = 0 },
  on_retry = { type = "function" },
}

-- Refused before any work was done, whatever the method.
local REFUSED_STATUS = { [429] = true, [503] = true, [529] = true }
-- May have been processed.
local DOUBTFUL_STATUS = { [408] = true, [500] = true, [502] = true, [504] = true }
-- Kinds that cannot have reached a server, also when nobody says `sent`.
local NEVER_SENT = { dns = true, connect = true, queue_full = true, queue_timeout = true, circuit_open = true }

local function header(value, name)
  local headers = type(value) == "table" and value.headers
  return type(headers) == "table" and headers[name] or nil
end

local function retry_status(status, replay_safe)
  return REFUSED_STATUS[status] or (replay_safe and DOUBTFUL_STATUS[status]) or false
end

--- The default `retry_on`. True for what was never sent and for 429, 503 and
--- 529; for other retryable errors and 408, 500, 502, 504 only when the request
--- was replay-safe. A header `x-should-retry` of the server wins over both. An
--- error table that is not neap's own speaks for itself with `retryable`.
---@param result any
---@param err any
---@return boolean
function M.default_retry_on(result, err)
  local outcome = result
  if not result and err ~= nil then outcome = err end
  if type(outcome) ~= "table" then return false end
  local verdict = header(outcome, "x-should-retry")
  if verdict == "true" then return true end
  if verdict == "false" then return false end
  if outcome ~= err or err.kind == "status" then
    return retry_status(outcome.status, outcome.replay_safe)
  end
  if not err.retryable then return false end
  if not error_class.is(err) or err.sent == "no" then return true end
  if err.sent == nil and NEVER_SENT[err.kind] then return true end
  return err.replay_safe == true
end

--- The wait after the n-th failed attempt in seconds, hints aside. Pure.
---@param backoff neap.retry.Backoff with all fields
---@param n integer failed attempts so far, from 1
---@param random fun(): number uniform in [0, 1)
---@param previous? number the wait before (decorrelated jitter)
---@return number
function M.backoff(backoff, n, random, previous)
  local base = backoff.base
  if base == 0 then return 0 end
  if backoff.jitter == "decorrelated" then
    -- Brooker's: min(max, U(base, 3 * the wait before)).
    return math.min(backoff.max, base + random() * (3 * (previous or base) - base))
  end
  local bound = math.min(backoff.max, base * backoff.factor ^ (n - 1))
  if backoff.jitter == "full" then return random() * bound end
  if backoff.jitter == "equal" then return bound / 2 + random() * bound / 2 end
  return bound
end

--- Backoff and the server's hint together: at least the longer of the two, and
--- a hint is spread a little, for it wakes everybody at the same time. Pure.
---@param backoff number seconds
---@param hint? number seconds
---@param jitter string as in the options
---@param random fun(): number
---@return number
function M.wait(backoff, hint, jitter, random)
  if not hint then return backoff end
  local spread = jitter == "none" and 0 or random() * math.min(1, hint / 10)
  return math.max(backoff, hint) + spread
end

local function hint_of(outcome)
  if type(outcome) ~= "table" then return nil end
  if type(outcome.retry_after) == "number" and outcome.retry_after > 0 then return outcome.retry_after end
  if type(outcome.headers) ~= "table" then return nil end
  return rate_headers.retry_after(outcome.headers, core.time())
end

---@class neap.Retry
---@field private options table
local Retry = {}
Retry.__index = Retry

local function pack(...) return { n = select("#", ...), ... } end

-- Notes the number of attempts on whatever table the call ends with.
local function finish(results, attempt)
  local outcome = results[1]
  if not outcome and results[2] ~= nil then outcome = results[2] end
  if type(outcome) == "table" then outcome.attempts = attempt end
  return unpack(results, 1, results.n)
end

-- One attempt, cut off at the deadline.
local function attempt_until(deadline, fn, ...)
  local left = math.max(0, deadline - core.now())
  return pack(require "neap".timeout(left, fn, ...))
end

-- How long to wait before the next attempt, or nil to give up.
local function plan(opts, attempt, results, previous, deadline)
  if attempt >= opts.max_attempts then return nil end
  local hint
  if opts.respect_retry_after then
    hint = hint_of(results[1] or results[2])
    if hint and hint > opts.max_retry_after then return nil end
  end
  local backoff = M.backoff(opts.backoff, attempt, core.random, previous)
  local wait = M.wait(backoff, hint, opts.backoff.jitter, core.random)
  -- Nothing is gained by waiting for an attempt that may not begin.
  if deadline and core.now() + wait >= deadline then return nil end
  return wait, hint, backoff
end

--- Calls `fn(...)` until it succeeds, fails for good, or the attempts or the
--- deadline are used up; returns what the last attempt returned, with `attempts`
--- set on the result or the error. Waits. A raised error passes through.
---@param fn fun(...): any
---@param ... any for `fn`
---@return any ... `fn`'s results, `nil, err` among them
function Retry:call(fn, ...)
  if type(fn) ~= "function" then
    error("retry:call needs a function, got " .. type(fn), 2)
  end
  local opts = self.options
  local retry_on = opts.retry_on or M.default_retry_on
  local deadline = opts.deadline and core.now() + opts.deadline
  local attempt, previous = 0, nil
  while true do
    attempt = attempt + 1
    -- Not in a function of its own without a deadline: thousands of tasks wait
    -- in here, and each frame is part of their memory.
    local results = deadline and attempt_until(deadline, fn, ...) or pack(fn(...))
    local result, err = results[1], results[2]
    if not retry_on(result, err, attempt) then return finish(results, attempt) end
    local wait, hint, backoff = plan(opts, attempt, results, previous, deadline)
    if not wait then return finish(results, attempt) end
    previous = backoff
    if opts.on_retry then
      opts.on_retry { attempt = attempt, wait = wait, hint = hint, result = result, err = err }
    end
    core.sleep(wait)
  end
end

--- A policy: `neap.retry{ max_attempts = 5 }:call(fn, ...)`. It keeps no state
--- between calls, so any number of tasks may share one.
---@param opts? neap.retry.Options
---@return neap.Retry
function M.new(opts)
  return setmetatable({ options = options.check("neap.retry", opts, OPTIONS) }, Retry)
end

return M
