--- A world's figures, multiplied: what a recommendation is tried against, and which
--- assumption a forecast depends on. Pure.
local define = require "neap.world.define"
local options = require "neap.options"
local sorted = require "neap.sorted"

local M = {}

local function copy(source)
  local result = {}
  for key, value in pairs(source) do result[key] = value end
  return result
end

local IN_SECONDS = { "seconds", "min", "max", "mean", "median" }

--- A law whose values are all so many times as large.
local function scale_law(law, factor)
  if type(law) == "number" then return law * factor end
  law = copy(law)
  if law.law == "empirical" then
    law.scale = (law.scale or 1) * factor
  else
    for _, name in ipairs(IN_SECONDS) do
      if law[name] then law[name] = law[name] * factor end
    end
  end
  return law
end

local scale = {}

function scale.latency(spec, factor)
  if spec.latency then spec.latency = scale_law(spec.latency, factor) end
  if spec.errors then
    local rules = {}
    for i, rule in ipairs(spec.errors) do
      rules[i] = copy(rule)
      if rule.latency then rules[i].latency = scale_law(rule.latency, factor) end
    end
    spec.errors = rules
  end
  if spec.load then spec.load = { per_request = spec.load.per_request * factor } end
  if spec.tokens and spec.tokens.per_second then
    spec.tokens = copy(spec.tokens)
    spec.tokens.per_second = spec.tokens.per_second / factor
  end
end

function scale.output(spec, factor)
  if spec.api ~= "json" and not (spec.tokens and spec.tokens.output) then
    -- Answers are as long as their prompts make them; see openai/text.lua.
    spec.tokens = copy(spec.tokens or {})
    spec.tokens.natural = (spec.tokens.natural or 1) * factor
    return
  end
  if spec.tokens and spec.tokens.output then
    spec.tokens = copy(spec.tokens)
    spec.tokens.output = scale_law(spec.tokens.output, factor)
  end
end

function scale.errors(spec, factor)
  if spec.drop then spec.drop = math.min(1, spec.drop * factor) end
  if spec.hang then spec.hang = math.min(1, spec.hang * factor) end
  if not spec.errors then return end
  local sum, rules = 0, {}
  for i, rule in ipairs(spec.errors) do
    rules[i] = copy(rule)
    rules[i].probability = rule.probability * factor
    sum = sum + rules[i].probability
  end
  -- Together they are no more than certain.
  for _, rule in ipairs(rules) do rule.probability = rule.probability / math.max(1, sum) end
  spec.errors = rules
end

local LIMITS = { "rpm", "tpm", "itpm", "otpm", "rpd", "tpd" }

function scale.quota(spec, factor)
  if spec.rate_limit then
    spec.rate_limit = copy(spec.rate_limit)
    for _, name in ipairs(LIMITS) do
      if spec.rate_limit[name] then spec.rate_limit[name] = spec.rate_limit[name] * factor end
    end
  end
  if spec.quota then
    spec.quota = copy(spec.quota)
    for _, name in ipairs { "requests", "tokens" } do
      if spec.quota[name] then spec.quota[name] = spec.quota[name] * factor end
    end
  end
end

--- At least one slot stays where there was one.
local function scale_slots(slots, factor)
  return slots > 0 and math.max(1, math.floor(slots * factor + 0.5)) or 0
end

function scale.capacity(spec, factor)
  if type(spec.capacity) == "number" then
    spec.capacity = scale_slots(spec.capacity, factor)
  elseif spec.capacity then
    local steps = {}
    for i, step in ipairs(spec.capacity) do steps[i] = { at = step.at, slots = scale_slots(step.slots, factor) } end
    spec.capacity = steps
  end
end

local positive = { type = "number", above = 0 }
local specs = { latency = positive, errors = positive, quota = positive, output = positive, capacity = positive }

--- The definition of a world that is the same but for these figures.
---@param definition neap.world.Definition
---@param factors table<string, number>
---@return neap.world.Definition
function M.definition(definition, factors)
  factors = options.check("world:scaled", factors, specs)
  local result = define.new { source = definition.source, dir = definition.dir, path = definition.path,
    random = definition.random }
  result.shared = definition.shared
  for i, item in ipairs(definition.upstreams) do
    local checked = copy(item.checked)
    for name, change in sorted.pairs(scale) do
      if factors[name] then change(checked, factors[name]) end
    end
    result.upstreams[i] = { checked = checked, given = item.given, source = item.source }
  end
  return result
end

return M
