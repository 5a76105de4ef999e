--- How the mock's flags are written: `lognormal:median=0.1,sigma=0.8`,
--- `503:0.02`, `rpm=600,tpm=90000`. Text in, tables out, or nil and one sentence.
--- Pure.
local options = require "neap.options"

local M = {}

--- The parameters of each latency law, and their ranges. In this order they may
--- be written without their names: `fixed:0.12`, `uniform:0.05,0.2`.
local LAWS = {
  fixed = { "seconds", seconds = { min = 0 } },
  uniform = { "min", "max", min = { min = 0 }, max = { min = 0 } },
  exponential = { "mean", mean = { above = 0 } },
  lognormal = { "median", "sigma", median = { above = 0 }, sigma = { min = 0 } },
}

local EXAMPLES = "fixed:0.12, uniform:min=0.05,max=0.2, exponential:mean=0.1 or lognormal:median=0.1,sigma=0.8"

local function number_of(text)
  local value = text:match "^[+-]?[%d.]+[eE]?[+-]?%d*$" and tonumber(text)
  if value and value == value and math.abs(value) < math.huge then return value end
end

local function check_range(name, value, range)
  if range.min and value < range.min then return nil, ("%s must be at least %g"):format(name, range.min) end
  if range.above and value <= range.above then return nil, ("%s must be above %g"):format(name, range.above) end
  if range.max and value > range.max then return nil, ("%s must be at most %g"):format(name, range.max) end
  return value
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

---@class neap.mock.Latency
---@field law "fixed"|"uniform"|"exponential"|"lognormal"
---@field seconds? number fixed
---@field min? number uniform, seconds
---@field max? number uniform, seconds
---@field mean? number exponential, seconds
---@field median? number lognormal, seconds
---@field sigma? number lognormal: of the logarithm

---@param text string
---@return neap.mock.Latency?
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

---@class neap.mock.ErrorRule
---@field status integer
---@field probability number
---@field retry_after? number seconds

local ERROR_RANGES = { retry_after = { min = 0 } }

--- `503:0.02`, `429:0.05,retry_after=2`.
---@param text string
---@return neap.mock.ErrorRule?
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

---@class neap.mock.RateLimit
---@field rpm? number requests per minute
---@field tpm? number tokens per minute
---@field window? number seconds' worth of budget that can pile up; default 60

local LIMIT_RANGES = { rpm = { above = 0 }, tpm = { above = 0 }, window = { above = 0 } }

--- `rpm=600,tpm=90000,window=10`.
---@param text string
---@return neap.mock.RateLimit?
---@return string? message
function M.rate_limit(text)
  local limit, message = parameters(text, LIMIT_RANGES, {})
  if not limit then return nil, message end
  if not limit.rpm and not limit.tpm then
    return nil, ("'%s' limits nothing; write rpm=600, tpm=90000 or both"):format(text)
  end
  return limit
end

return M
