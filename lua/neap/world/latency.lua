--- How long a simulated server takes: the laws, their parameters and samplers.
--- Pure: a sampler takes a function that draws uniform numbers in [0, 1).
local options = require "neap.options"
local sorted = require "neap.sorted"

local cos, exp, floor, log, min, pi, sqrt = math.cos, math.exp, math.floor, math.log, math.min, math.pi, math.sqrt

local M = {}

---@class neap.world.Latency
---@field law "fixed"|"constant"|"uniform"|"exponential"|"lognormal"|"pareto"|"empirical"
---@field seconds? number fixed, constant
---@field min? number seconds; uniform: the least; pareto: the scale, also the least
---@field max? number uniform, seconds
---@field mean? number exponential, seconds
---@field median? number lognormal, seconds
---@field sigma? number lognormal: of the logarithm
---@field alpha? number pareto: the shape; the mean is infinite up to 1, the variance up to 2
---@field samples? number[] empirical: seconds that were measured; each is as likely as any other
---@field scale? number empirical: what the samples are multiplied by; default 1

--- Seconds: 30 years. No parameter is longer, and heavy tails are cut there.
M.LONGEST = 1e9
local LONGEST = M.LONGEST

--- The parameters of each law and their ranges. In this order they may be written
--- without their names: `fixed:0.12`, `uniform:0.05,0.2`.
---@type table<string, table>
M.laws = {
  fixed = { "seconds", seconds = { min = 0, max = LONGEST } },
  constant = { "seconds", seconds = { min = 0, max = LONGEST } },
  uniform = { "min", "max", min = { min = 0, max = LONGEST }, max = { min = 0, max = LONGEST } },
  exponential = { "mean", mean = { above = 0, max = LONGEST } },
  lognormal = { "median", "sigma", median = { above = 0, max = LONGEST }, sigma = { min = 0, max = 10 } },
  pareto = { "min", "alpha", min = { above = 0, max = LONGEST }, alpha = { min = 0.1 } },
}

--- The names of the laws, for messages.
M.names = "fixed, constant, uniform, exponential, lognormal, pareto or empirical"

--- Whether `value` lies in `range`; else nil and one sentence about `name`.
---@param name string
---@param value number
---@param range {min?: number, above?: number, max?: number}
---@return number? value
---@return string? message
function M.check_range(name, value, range)
  if value ~= value or value == math.huge then return nil, ("%s must be finite"):format(name) end
  if range.min and value < range.min then return nil, ("%s must be at least %g"):format(name, range.min) end
  if range.above and value <= range.above then return nil, ("%s must be above %g"):format(name, range.above) end
  if range.max and value > range.max then return nil, ("%s must be at most %g"):format(name, range.max) end
  return value
end

local function empirical_problem(spec)
  for name in sorted.all(spec) do
    if name ~= "law" and name ~= "samples" and name ~= "scale" then
      local hint = options.nearest(tostring(name), { "samples", "scale", "file" })
      return ("empirical has no '%s'%s"):format(tostring(name), hint and ("; did you mean '%s'?"):format(hint) or "")
    end
  end
  local samples, scale = spec.samples, spec.scale
  if type(samples) ~= "table" or #samples == 0 then return "empirical needs samples, an array of numbers, or a file" end
  for i, value in ipairs(samples) do
    if type(value) ~= "number" then return ("empirical: sample %d must be a number"):format(i) end
    local _, message = M.check_range(("empirical: sample %d"):format(i), value, { min = 0 })
    if message then return message end
  end
  if scale ~= nil and (type(scale) ~= "number" or not (scale >= 0 and scale < math.huge)) then
    return "empirical: scale must be a number of at least 0"
  end
end

--- What is wrong with a law, or nil.
---@param spec any
---@return string? message
function M.problem(spec)
  if type(spec) ~= "table" or type(spec.law) ~= "string" then return "needs a law: " .. M.names end
  if spec.law == "empirical" then return empirical_problem(spec) end
  local ranges = M.laws[spec.law]
  if not ranges then return ("there is no latency law '%s'; write %s"):format(spec.law, M.names) end
  for name in sorted.all(spec) do
    if name ~= "law" and type(ranges[name]) ~= "table" then
      local hint = options.nearest(tostring(name), { unpack(ranges) })
      return ("%s has no '%s'%s"):format(spec.law, tostring(name), hint and ("; did you mean '%s'?"):format(hint) or "")
    end
  end
  for _, name in ipairs(ranges) do
    if type(spec[name]) ~= "number" then return ("%s needs %s, a number"):format(spec.law, name) end
    local _, message = M.check_range(name, spec[name], ranges[name])
    if message then return message end
  end
  if spec.law == "uniform" and spec.max < spec.min then return "uniform needs max to be at least min" end
end

--- A standard normal number from two uniform ones (Box and Muller, 1958).
local function normal(draw)
  local u, v = draw(), draw()
  return sqrt(-2 * log(1 - u)) * cos(2 * pi * v)
end

local samplers = {}

function samplers.fixed(spec)
  return function() return spec.seconds end
end

samplers.constant = samplers.fixed

function samplers.uniform(spec)
  return function(draw) return spec.min + draw() * (spec.max - spec.min) end
end

function samplers.exponential(spec)
  return function(draw) return -log(1 - draw()) * spec.mean end
end

function samplers.lognormal(spec)
  return function(draw) return spec.median * exp(spec.sigma * normal(draw)) end
end

function samplers.pareto(spec)
  return function(draw) return spec.min * (1 - draw()) ^ (-1 / spec.alpha) end
end

--- Sorted, so that equal draws from similar samples are similar.
function samplers.empirical(spec)
  local samples, scale = {}, spec.scale or 1
  for i, value in ipairs(spec.samples) do samples[i] = value * scale end
  table.sort(samples)
  local n = #samples
  return function(draw) return samples[floor(draw() * n) + 1] end
end

--- A function that draws a latency in seconds. Raises on a spec that is wrong.
---@param spec neap.world.Latency|number a number: that many seconds, always
---@return fun(draw: fun(): number): number
function M.sampler(spec)
  if type(spec) == "number" then spec = { law = "fixed", seconds = spec } end
  local message = M.problem(spec)
  if message then error("latency: " .. message, 2) end
  local sample = samplers[spec.law](spec)
  if spec.law ~= "lognormal" and spec.law ~= "pareto" and spec.law ~= "exponential" then return sample end
  return function(draw) return min(LONGEST, sample(draw)) end
end

return M
