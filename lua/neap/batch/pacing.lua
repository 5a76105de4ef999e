--- Paces a batch as the server's answers say: their rate-limit headers and Retry-After
--- hold back all that is for the same model, so that requests wait here for their turn
--- and spend no attempts on refusals; and refusals make fewer go at a time.
---
--- Refusals count when they are many. A server that answers one request in fifty with a
--- 429 is flaky: to hold back everybody for each of these, or to cut what goes at a time,
--- would make a batch several times slower and lose nobody less. So each model is paced
--- by the headers alone, until a tenth of the latest answers were refusals; from then on
--- by Retry-After and by how many pass at a time, until a minute without any.
local adaptive = require "neap.adaptive"
local core = require "neap.core"
local flow = require "neap.flow"
local json = require "neap.json"
local pace = require "neap.pace"
local policy = require "neap.policy"
local tokens = require "neap.llm.tokens"

local M = {}

---@class neap.batch.Pacing
---@field private retry neap.Retry
---@field private concurrency integer
---@field private paces table<string, neap.batch.Pace> by model
local Pacing = {}
Pacing.__index = Pacing

---@param retry neap.Retry around each turn
---@param concurrency integer of one model at a time, at first and at most
---@return neap.batch.Pacing
function M.new(retry, concurrency)
  return setmetatable({ retry = retry, concurrency = concurrency, paces = {} }, Pacing)
end

-- Where requests say how much an answer may be.
local LIMITS = { "max_completion_tokens", "max_tokens", "max_output_tokens" }

local function number_of(value, default)
  return type(value) == "number" and value >= 0 and value < 1e9 and value or default
end

--- What an item may use, by the estimate that providers charge in advance: the prompt,
--- and as much of an answer as it allows.
---@param body string
---@return table<string, number>
function M.amounts(body)
  local value = json.decode(body)
  if type(value) ~= "table" then return { requests = 1 } end
  local input, output = tokens.input(value), 0
  for _, name in ipairs(LIMITS) do output = number_of(value[name], output) end
  output = output * math.max(1, number_of(value.n, 1))
  return { requests = 1, tokens = input + output, input_tokens = input, output_tokens = output }
end

--- The item's model; "" where it has none. Limits are each model's own.
local function model_of(body)
  return body:match '"model"%s*:%s*"([^"]*)"' or ""
end

---@class neap.batch.Pace of one model
---@field policy neap.Policy
---@field adaptive neap.policy.Layer
---@field pace neap.Pace
---@field concurrency integer
---@field speaks boolean the server has said something of limits
---@field refused number share of the latest answers that were refusals
---@field strict_until number|false neap.now(); false: refusals are few

-- A batch wants all that is done, not each of it soon: latency cuts nothing; and where
-- few are let through at first it asks for more before long.
local ANY_LATENCY, PROBE, MAX_PROBE = 100, 1, 10 -- the latter two in seconds

--- Whether it takes more than the server ever lets in at once, by what it has said.
local function is_too_large(limiter, amounts)
  for kind, known in pairs(limiter:snapshot().kinds) do
    if known.learned_limit and (amounts[kind] or 0) > known.learned_limit then return true end
  end
  return false
end

local LATEST, MANY, CALM = 50, 0.1, 60 -- answers; a share of them; seconds without a refusal

local function new_pace(retry, concurrency)
  local one = { speaks = false, refused = 0, strict_until = false, concurrency = concurrency }
  local limiter = flow.rate_limiter { learn = "replace" }
  local function amounts(_, item)
    if not one.speaks then return nil end -- one request; bodies are read for those who count
    item.amounts = item.amounts or M.amounts(item.body)
    -- Waiting would hold up the others, and help nothing.
    item.too_large = is_too_large(limiter, item.amounts)
    return not item.too_large and item.amounts or nil
  end
  -- Never fewer at a time than all of them: it limits nothing.
  one.adaptive = adaptive.new { start = concurrency, min = concurrency, max = concurrency,
    latency_tolerance = ANY_LATENCY, probe_interval = PROBE, max_probe_interval = MAX_PROBE }
  one.pace = pace.new { limiter = limiter, amounts = amounts, observe = "limits" }
  one.policy = policy { retry, one.adaptive, one.pace }
  return one
end

local function set_strict(one, strict)
  one.adaptive:update { min = strict and 1 or one.concurrency }
  one.pace:update { observe = strict or "limits" }
end

--- Counts an answer.
local function judge(one, refused)
  one.refused = one.refused + ((refused and 1 or 0) - one.refused) / LATEST
  local now, strict = core.now(), one.strict_until
  if refused and (strict or one.refused >= MANY) then
    one.strict_until = now + CALM
    if not strict then set_strict(one, true) end
  elseif strict and now >= strict then
    one.strict_until, one.refused = false, 0
    set_strict(one, false)
  end
end

local function pace_of(self, item)
  local model = model_of(item.body or "")
  local one = self.paces[model]
  if not one then
    one = new_pace(self.retry, self.concurrency)
    self.paces[model] = one
  end
  return one
end

--- Calls `send(job, item)` at its turn, and again as the retry says. Waits.
---@param send fun(job: neap.batch.Job, item: neap.batch.Item): neap.http.Response?, neap.Error?
---@param job neap.batch.Job
---@param item neap.batch.Item
---@return neap.http.Response? res
---@return neap.Error? err
function Pacing:call(send, job, item)
  return pace_of(self, item).policy:call(send, job, item)
end

--- An answer is there. Never waits.
---@param item neap.batch.Item
---@param res neap.http.Response
function Pacing:heard(item, res)
  local one = pace_of(self, item)
  one.speaks = one.speaks or core.http_mentions_limits(res.raw)
  judge(one, res.status == 429)
end

return M
