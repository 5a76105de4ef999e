--- neap.pace: a rate limiter as a policy. Every send is charged: each attempt and
--- each hedge passes by itself, and what a client sent besides (redirect hops,
--- libcurl's own repeats) is charged when the answer is there.
local core = require "neap.core"
local error_class = require "neap.error"
local flow = require "neap.flow"
local layer = require "neap.policy.layer"
local options = require "neap.options"
local outcome = require "neap.policy.outcome"
local sorted = require "neap.sorted"

local M = {}

local response_class, mentions_limits = core.http_response_metatable, core.http_mentions_limits

---@class neap.Pace: neap.policy.Layer
local Pace = layer.class "pace"

function Pace:init()
  local limiter = self.options.limiter
  if type(limiter) == "table" then
    limiter = flow.rate_limiter(limiter)
  elseif not M.is_limiter(limiter) then
    options.fail("neap.pace: option 'limiter' must be a neap.rate_limiter or its options, got another userdata")
  end
  self.limiter, self.caps = limiter, {}
end

--- Whether `value` is a rate limiter.
---@param value any
---@return boolean
function M.is_limiter(value)
  return type(value) == "userdata" and debug.getmetatable(value) ~= nil
    and debug.getmetatable(value).__index == core.rate_limiter_methods
end

-- Shared: nobody writes into it.
local NOTHING = { requests = 0, tokens = 0, input_tokens = 0, output_tokens = 0 }

-- A server may say anything: what is no amount is left out.
local function amount(value)
  if type(value) == "number" and value >= 0 and value < math.huge then return value end
end

-- Both names for it: a limiter knows "tokens" or the two sides, and an upstream
-- says what it likes.
local function amounts_of_usage(usage, sends)
  return {
    requests = sends,
    tokens = amount(usage.total_tokens),
    input_tokens = amount(usage.input_tokens) or amount(usage.prompt_tokens),
    output_tokens = amount(usage.output_tokens) or amount(usage.completion_tokens),
  }
end

--- What a call used in truth, as far as its outcome tells: nothing when it was
--- never sent, only the requests when the server refused it, its `usage` where
--- it has one; nil when nobody knows.
---@param result any
---@param err any
---@return table? amounts
function M.actual(result, err)
  local sends = outcome.sends(result, err)
  if sends == 0 then return NOTHING end
  local verdict = outcome.verdict(result, err)
  if verdict == "throttled" or verdict == "overloaded" then
    return { requests = sends, tokens = 0, input_tokens = 0, output_tokens = 0 }
  end
  local usage = type(result) == "table" and rawget(result, "usage")
  if type(usage) == "table" then return amounts_of_usage(usage, sends) end
  return sends > 1 and { requests = sends } or nil
end

--- The most of each kind that one call is charged: a whole burst, as much as one
--- could have reserved. A server that claims more is not believed: one wrong
--- number would stop everybody for years, and its next headers say what is left.
local function cap(self, amounts)
  local caps = self.caps
  for kind, value in sorted.pairs(amounts) do
    if value > (caps[kind] or 0) then
      local known = self.limiter:snapshot().kinds[kind]
      caps[kind] = known and known.burst or math.huge
      if value > caps[kind] then
        amounts[kind] = caps[kind]
        self:emit("capped", { reason = "more than a whole burst for one call", dimension = kind, claimed = value })
      end
    end
  end
  return amounts
end

local KINDS = { requests = true, tokens = true, input_tokens = true, output_tokens = true }

--- What the option `actual` says.
local function told(self, result, err, args)
  local amounts = self.options.actual(result, err, unpack(args, 1, args.n))
  if amounts == nil then return nil end
  if type(amounts) ~= "table" then
    error("neap.pace: option 'actual' must return a table of amounts or nil, got " .. type(amounts), 0)
  end
  local copy = {}
  for kind, value in sorted.all(amounts) do
    if not KINDS[kind] or not amount(value) then
      error(("neap.pace: option 'actual' must return requests, tokens, input_tokens or output_tokens of at least 0, "
        .. "got %s = %s"):format(tostring(kind), tostring(value)), 0)
    end
    copy[kind] = value
  end
  return copy
end

--- Whether there is something to observe; that of most answers is found out without
--- making a table of their headers.
local function says_something(res)
  if type(res) ~= "table" then return false end
  if getmetatable(res) == response_class then
    local raw = rawget(res, "raw")
    if raw and not mentions_limits(raw) then return false end
  end
  return type(res.headers) == "table"
end

local function settle(self, call, lease, waited, args, ...)
  local result, err = ...
  call:release(self)
  local opts, res = self.options, result or err
  -- The client was not there yet: its `timings.pace` is read from here.
  if waited > 0 and type(result) == "table" then result.paced = waited end
  -- The server's word first: nobody may pass on a refund that it has overtaken.
  if opts.observe and says_something(res) then
    -- What was served has no Retry-After that is about limits.
    self.limiter:observe(res.headers, lease, opts.observe == "limits" and 200 or res.status)
  end
  local amounts = args and told(self, result, err, args) or M.actual(result, err)
  if amounts then lease:settle(amounts == NOTHING and NOTHING or cap(self, amounts)) end
  return ...
end

local function refused(err)
  if err.kind ~= "timeout" then return nil, err end
  return nil, error_class.new { kind = "queue_timeout", phase = "pace", timeout = "pace", sent = "no",
    message = "no turn at the rate limiter in time", cause = err }
end

--- Waits for the turn, then runs the rest.
function Pace:run(call, next, ...)
  local opts = self.options
  local amounts = opts.amounts and opts.amounts(...)
  call:waiting(self)
  local lease, err = self.limiter:acquire(amounts, opts.timeout, call.front)
  call:waiting(nil)
  if not lease then
    if err.sent == nil then err.sent = "no" end
    return refused(err)
  end
  local waited = lease:waited()
  call.pace = call.pace + waited
  -- Packed only for those who look at the arguments afterwards.
  local args = opts.actual and { n = select("#", ...), ... }
  call[self] = lease
  call:hold(self)
  return settle(self, call, lease, waited, args, next(call, ...))
end

--- The call was cut off on the way. Where it stood in a line further in it was
--- never sent, and all is refunded; else nobody knows what it used, and its
--- reservation stands.
function Pace:give_back(call)
  local where = call.waits_in
  if where and where.kind ~= "retry" and where.kind ~= "hedge" then call[self]:settle(NOTHING) end
end

function Pace:wait_reason()
  return ("waiting for the rate limiter, %d in line"):format(self.limiter:waiting())
end

--- Exact for the first in line, an estimate for the others.
function Pace:wait_until(call)
  return self.limiter:eta(call.task)
end

function Pace:snapshot()
  local found = self.limiter:snapshot()
  found.kind, found.name = self.kind, self.name
  return found
end

function Pace:describe()
  local rates = {}
  for kind, known in pairs(self.limiter:snapshot().kinds) do
    if known.rate then
      rates[#rates + 1] = ("%s=%g per %g s (burst %g)"):format(kind, known.rate, known.per, known.burst)
    end
  end
  table.sort(rates)
  return self.name .. " " .. (#rates > 0 and table.concat(rates, ", ") or "limits learned from headers")
end

--- A pacing policy.
---@param opts {limiter: neap.rate_limiter|table, amounts: function?, actual: function?, observe: boolean|"limits"?}
---@return neap.Pace
function M.new(opts)
  return layer.new(Pace, opts)
end

return M
