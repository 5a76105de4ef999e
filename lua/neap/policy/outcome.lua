--- What an outcome says about the upstream. An outcome is what a call returned:
--- a result (a response with a `status`, or anything), or nil and an error.
--- Pure; every policy judges by these rules unless it is told otherwise.
local core = require "neap.core"
local error_class = require "neap.error"
local rate_headers = require "neap.rate_headers"

local M = {}

local response_class, header_of = core.http_response_metatable, core.http_header

---@alias neap.policy.Verdict
---| "ok" the upstream works: a 2xx, 3xx, or an answer that blames the request
---| "throttled" 429: asked for too much
---| "overloaded" 503, 529: the server has too much to do
---| "failed" 408, other 5xx, a connection or a timeout
---| "neutral" says nothing about the upstream: cancelled, refused by ourselves

-- Refused before any work was done, whatever the method.
local REFUSED = { [429] = true, [503] = true, [529] = true }
-- May have been processed.
local DOUBTFUL = { [408] = true, [500] = true, [502] = true, [504] = true }
-- Kinds that cannot have reached a server, also when nobody says `sent`.
local NEVER_SENT = { dns = true, connect = true, queue_full = true, queue_timeout = true, circuit_open = true }
-- Kinds that are our own doing.
local NEUTRAL = {
  queue_full = true, queue_timeout = true, invalid = true, cancelled = true, closed = true, circuit_open = true,
  budget = true, limit = true, too_large = true, redirect = true, decode = true,
}

local function by_status(status)
  if status == 429 then return "throttled" end
  if status == 503 or status == 529 then return "overloaded" end
  if status == 408 or status >= 500 then return "failed" end
  return "ok"
end

--- The verdict on an outcome.
---@param result any
---@param err any
---@return neap.policy.Verdict
function M.verdict(result, err)
  if result or err == nil then
    local status = type(result) == "table" and result.status
    return type(status) == "number" and by_status(status) or "ok"
  end
  if type(err) ~= "table" then return "failed" end
  if err.kind == "status" and type(err.status) == "number" then return by_status(err.status) end
  return NEUTRAL[err.kind] and "neutral" or "failed"
end

--- Of a response whose headers nobody has looked at yet no table is made for one.
local function header(value, name)
  if getmetatable(value) == response_class and rawget(value, "headers") == nil then
    local raw = rawget(value, "raw")
    if raw then return header_of(raw, name) end
  end
  local headers = type(value) == "table" and value.headers
  return type(headers) == "table" and headers[name] or nil
end

local function retry_status(status, replay_safe)
  return REFUSED[status] or (replay_safe and DOUBTFUL[status]) or false
end

--- Whether another attempt makes sense and does no harm: `neap.retry`'s default
--- `retry_on`. True for what was never sent and for 429, 503 and 529; for other
--- retryable errors and 408, 500, 502, 504 only when the request was
--- replay-safe. A header `x-should-retry` of the server wins over both. An error
--- table that is not neap's own speaks for itself with `retryable`.
---@param result any
---@param err any
---@return boolean
function M.may_repeat(result, err)
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

--- Seconds that the server asks to wait, or nil: `retry_after` of an error, else
--- the headers (see neap.rate_headers).
---@param result any
---@param err any
---@param now_wall number Unix time, seconds
---@return number? seconds above 0
function M.hint(result, err, now_wall)
  local outcome = result or err
  if type(outcome) ~= "table" then return nil end
  if type(outcome.retry_after) == "number" and outcome.retry_after > 0 then return outcome.retry_after end
  if type(outcome.headers) ~= "table" then return nil end
  return rate_headers.retry_after(outcome.headers, now_wall)
end

--- Lets go of a result that nobody will get: a streamed response holds a
--- connection until it is closed. Never waits.
---@param result any
function M.discard(result)
  if type(result) == "table" and type(result.close) == "function" then result:close() end
end

--- How often an outcome's request went onto the wire: what the response or the
--- error says, else once unless it was never sent.
---@param result any
---@param err any
---@return integer
function M.sends(result, err)
  local outcome = result or err
  if type(outcome) == "table" then
    if type(outcome.sends) == "number" then return outcome.sends end
    if not result and (outcome.sent == "no" or outcome.sent == nil and NEVER_SENT[outcome.kind]) then return 0 end
  end
  return 1
end

return M
