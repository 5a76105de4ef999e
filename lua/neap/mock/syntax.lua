--- How the mock's flags are written: `lognormal:median=0.1,sigma=0.8`,
--- `503:0.02`, `rpm=600,tpm=90000`. Text in, tables out, or nil and one sentence.
--- Pure.
local latencies = require "neap.world.latency"
local options = require "neap.options"

local M = {}

local LAWS, check_range = latencies.laws, latencies.check_range

local EXAMPLES = "fixed:0.12, uniform:min=0.05,max=0.2, exponential:mean=0.1, lognormal:median=0.1,sigma=0.8 or "
  .. "pareto:min=0.05,alpha=2"

local function number_of(text)
  local value = text:match "^[+-]?[%d.]+[eE]?[+-]?%d*$" and tonumber(text)
  if value and value == value and math.abs(value) < math.huge then return value end
end

local function nearest_parameter(name, ranges)
  local names = {}
  for known in pairs(ranges) do
    if type(known) == "string" then names[known] = true end
  end
  return options.nearest(name, names)
end

--- `a=1,b=2` into `into`; the i-th part may be a bare number for `ranges[i]`.
local function parameters(text, ranges, into)
  local position = 0
  for part in text:gmatch "[^,]+" do
    position = position + 1
    local name, raw = part:match "^%s*([%w_]+)%s*=%s*(.-)%s*$"
    if not name then name, raw = ranges[position], part:match "^%s*(.-)%s*$" end
    local range = name and ranges[name]
    if type(range) ~= "table" then
      local hint = name and nearest_parameter(name, ranges)
      return nil, ("'%s' is not understood%s"):format(part, hint and ("; did you mean '%s'?"):format(hint) or "")
    end
    local value = number_of(raw)
    if not value then return nil, ("%s needs a number, got '%s'"):format(name, raw) end
    local ok, message = check_range(name, value, range)
    if not ok then return nil, message end
    into[name] = value
  end
  return into
end

---@param text string
---@return neap.world.Latency?
---@return string? message
function M.latency(text)
  local law, rest = text:match "^%s*([%a]+):(.*)$"
  if not law then return nil, ("'%s' is no latency; write %s"):format(text, EXAMPLES) end
  local ranges = LAWS[law]
  if not ranges then
    local hint = options.nearest(law, LAWS)
    return nil, ("there is no latency law '%s'%s"):format(law,
      hint and ("; did you mean '%s'?"):format(hint) or "; write " .. EXAMPLES)
  end
  local spec, message = parameters(rest, ranges, { law = law })
  if not spec then return nil, message end
  for _, name in ipairs(ranges) do
    if not spec[name] then return nil, ("%s needs %s; write %s"):format(law, name, EXAMPLES) end
  end
  if law == "uniform" and spec.max < spec.min then return nil, "uniform needs max to be at least min" end
  return spec
end

local ERROR_RANGES = { retry_after = { min = 0 } }

--- `503:0.02`, `429:0.05,retry_after=2`.
---@param text string
---@return neap.world.ErrorRule?
---@return string? message
function M.error_rule(text)
  local status, probability, rest = text:match "^%s*(%d%d%d):([^,]+),?(.*)$"
  status = tonumber(status)
  if not status then return nil, ("'%s' is no STATUS:PROBABILITY such as 503:0.02"):format(text) end
  if status < 400 or status > 599 then return nil, ("status %d is not an error (400 to 599)"):format(status) end
  local p, message = M.probability(probability)
  if not p then return nil, message end
  return parameters(rest, ERROR_RANGES, { status = status, probability = p })
end

--- A number from 0 to 1.
---@param text string
---@return number?
---@return string? message
function M.probability(text)
  local p = number_of(text)
  if not p or p < 0 or p > 1 then return nil, ("'%s' is no probability from 0 to 1"):format(text) end
  return p
end

local LIMIT_RANGES = { rpm = { above = 0 }, tpm = { above = 0 }, window = { above = 0 } }

--- `rpm=600,tpm=90000,window=10`.
---@param text string
---@return neap.world.RateLimit?
---@return string? message
function M.rate_limit(text)
  local limit, message = parameters(text, LIMIT_RANGES, {})
  if not limit then return nil, message end
  if not limit.rpm and not limit.tpm then
    return nil, ("'%s' limits nothing; write rpm=600, tpm=90000 or both"):format(text)
  end
  return limit
end

-- -- Capacity -----------------------------------------------------------------

local CAPACITY = "write N, or N@t=30:N2 (N2 slots from 30 s on)"

local function read_steps(text)
  local first, rest = text:match "^%s*(%d+)(.*)$"
  if not first then return nil end
  local steps = { { at = 0, slots = tonumber(first) } }
  while rest ~= "" do
    local at, slots, later = rest:match "^@t=([^:@]+):(%d+)(.*)$"
    at = at and number_of(at)
    if not at then return nil end
    steps[#steps + 1] = { at = at, slots = tonumber(slots) }
    rest = later:match "^%s*$" and "" or later
  end
  return steps
end

--- `50`, `50@t=30:25`, `50@t=30:25@t=60:50`.
---@param text string
---@return neap.world.Step[]?
---@return string? message
function M.capacity(text)
  local steps = read_steps(text)
  if not steps then return nil, ("'%s' is no capacity; %s"):format(text, CAPACITY) end
  for i, step in ipairs(steps) do
    if step.slots > 2 ^ 31 then return nil, ("%d slots are too many (2147483648 at most)"):format(step.slots) end
    if i > 1 and step.at <= steps[i - 1].at then
      return nil, ("the times of '%s' must be above 0 and in order; %s"):format(text, CAPACITY)
    end
  end
  return steps
end

local OVER_RANGES = { retry_after = { min = 0 } }

---@class neap.mock.Over
---@field over "reject"|"queue"
---@field retry_after? number seconds

--- `reject`, `reject,retry_after=2`, `queue`.
---@param text string
---@return neap.mock.Over?
---@return string? message
function M.over(text)
  local over, rest = text:match "^%s*(%a+)%s*,?(.*)$"
  if over == "queue" and rest == "" then return { over = over } end
  if over ~= "reject" then
    return nil, ("'%s' is not understood; write reject, reject,retry_after=S or queue"):format(text)
  end
  return parameters(rest, OVER_RANGES, { over = over })
end

-- -- Brownout -----------------------------------------------------------------

local BROWNOUT_RANGES = { knee = { above = 0 }, slope = { min = 0 }, latency = { min = 0 },
  error = { min = 0, max = 1 }, status = { min = 400, max = 599 } }
local BROWNOUT = "write knee=50,slope=1, or latency=3,error=0.2@t=30..60"

--- `@t=30..60`, `@t=30..`: when a rule is in force.
local function window(text, rule)
  local from, to = text:match "^t=(.-)%.%.(.*)$"
  from, to = from and number_of(from), to ~= "" and to or nil
  local till = to and number_of(to)
  if not from or from < 0 or to and not till then
    return nil, ("'@%s' is no window of time; write @t=30..60 or @t=30.."):format(text)
  end
  if till and till <= from then return nil, ("the window '@%s' ends before it begins"):format(text) end
  rule.from, rule.to = from, till
  return rule
end

--- `knee=50,slope=1`, `latency=3,error=0.2,status=529@t=30..60`.
---@param text string
---@return neap.world.BrownoutRule?
---@return string? message
function M.brownout(text)
  local rules, times = text:match "^([^@]*)@?(.*)$"
  local rule, message = parameters(rules, BROWNOUT_RANGES, {})
  if not rule then return nil, ("%s; %s"):format(message, BROWNOUT) end
  if rule.slope and not rule.knee then return nil, "slope needs a knee; " .. BROWNOUT end
  if not (rule.knee or rule.latency or rule.error) then
    return nil, ("'%s' does nothing; %s"):format(text, BROWNOUT)
  end
  if rule.status and (not rule.error or rule.status % 1 ~= 0) then
    return nil, "status needs error=P and a whole number; " .. BROWNOUT
  end
  if text:find("@", 1, true) then return window(times, rule) end
  return rule
end

return M
