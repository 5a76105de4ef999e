--- What a forecast takes for granted: the figures of the upstream that a batch asks,
--- as text, and where each is from. Pure.
local profiles = require "neap.world.profiles"

local M = {}

---@class neap.batch.Assumption
---@field name string as `world:scaled` calls it
---@field title string
---@field text string
---@field origin string "guessed", or where the figure is from
---@field guessed boolean
---@field varies boolean whether there is something to multiply

--- 30000 is "30,000", 0.45 is "0.45".
local function number(value)
  if value % 1 == 0 and math.abs(value) < 1e15 then return require("neap.batch.progress").thousands(value) end
  return ("%.4g"):format(value)
end

local laws = {}
function laws.fixed(law) return number(law.seconds) end
laws.constant = laws.fixed
function laws.uniform(law) return ("%s to %s"):format(number(law.min), number(law.max)) end
function laws.exponential(law) return ("exponential, mean %s"):format(number(law.mean)) end
function laws.lognormal(law) return ("log-normal, median %s, sigma %.3g"):format(number(law.median), law.sigma) end
function laws.pareto(law) return ("Pareto, from %s, alpha %.3g"):format(number(law.min), law.alpha) end
function laws.empirical(law) return ("%s measured values"):format(number(#law.samples)) end

local function law_text(law)
  if type(law) == "number" then return number(law) end
  return laws[law.law](law)
end

local text = {}

function text.latency(spec)
  local parts, tokens = {}, spec.tokens and spec.tokens.per_second
  if spec.latency then
    parts[1] = law_text(spec.latency) .. (tokens and " s to the first token" or " s")
  end
  if tokens then parts[#parts + 1] = number(tokens) .. " tokens/s" end
  if spec.load then parts[#parts + 1] = ("%s s more for each in work"):format(number(spec.load.per_request)) end
  return parts
end

function text.errors(spec)
  local parts = {}
  for _, rule in ipairs(spec.errors or {}) do
    parts[#parts + 1] = ("%d: %.3g %%"):format(rule.status, rule.probability * 100)
  end
  for _, name in ipairs { "drop", "hang" } do
    if (spec[name] or 0) > 0 then parts[#parts + 1] = ("%s: %.3g %%"):format(name, spec[name] * 100) end
  end
  return parts
end

local LIMITS = { { "rpm", "requests/min" }, { "tpm", "tokens/min" }, { "itpm", "input tokens/min" },
  { "otpm", "output tokens/min" }, { "rpd", "requests/day" }, { "tpd", "tokens/day" } }

function text.quota(spec)
  local parts, limit = {}, spec.rate_limit or {}
  for _, entry in ipairs(LIMITS) do
    if limit[entry[1]] then parts[#parts + 1] = ("%s %s"):format(number(limit[entry[1]]), entry[2]) end
  end
  for _, name in ipairs { "requests", "tokens" } do
    if spec.quota and spec.quota[name] then
      parts[#parts + 1] = ("%s %s each %s s"):format(number(spec.quota[name]), name, number(spec.quota.per or 86400))
    end
  end
  return parts
end

function text.output(spec)
  if spec.tokens and spec.tokens.output then return { law_text(spec.tokens.output) .. " tokens" } end
  return spec.api ~= "json" and { "12 to 35 tokens, by the prompt" } or {}
end

function text.capacity(spec)
  if not spec.capacity then return {} end
  local steps = spec.capacity
  local slots = type(steps) == "number" and number(steps) or ("%s, in %d steps"):format(number(steps[1].slots), #steps)
  return { ("%s at a time"):format(slots) }
end

--- name, title, the options that say it
local list = {
  { "quota", "quota", { "rate_limit", "quota" } },
  { "latency", "latency", { "latency", "load", "tokens.per_second" } },
  { "errors", "error rate", { "errors", "drop", "hang" } },
  { "output", "output length", { "tokens.output" } },
  { "capacity", "capacity", { "capacity" } },
}

local function value_at(spec, key)
  local outer, inner = key:match "^([^.]+)%.(.+)$"
  if not outer then return spec[key] end
  return type(spec[outer]) == "table" and spec[outer][inner] or nil
end

--- "profile openai-tier1, 2026-06-24": where the profile says the option, and unless
--- the file's own hides it.
local function from_profile(given, key)
  local profile = given.profile and profiles.find(given.profile)
  if not profile or given[key:match "^[^.]+"] ~= nil or value_at(profile.options, key) == nil then return nil end
  for _, figure in ipairs(profile.figures) do
    if figure.key == key or figure.key:sub(1, #key + 1) == key .. "." then
      return ("profile %s, %s"):format(given.profile, figure.date)
    end
  end
end

local function origin_of(item, source, keys)
  local origins, seen = {}, {}
  for _, key in ipairs(keys) do
    local origin = from_profile(item.given, key)
      or value_at(item.given, key) ~= nil and (item.given.source or source or "guessed") or nil
    if origin and not seen[origin] then
      origins[#origins + 1], seen[origin] = origin, true
    end
  end
  return origins[1] and table.concat(origins, "; ") or "guessed"
end

--- What is assumed of one upstream.
---@param world neap.world.World
---@param index integer of the upstream
---@return neap.batch.Assumption[] empty: a handler answers, which has no figures
function M.of(world, index)
  local item, result = world.definition.upstreams[index], {}
  local spec = item.checked
  if spec.handler then return result end
  for _, entry in ipairs(list) do
    local name, title, keys = unpack(entry)
    local parts = text[name](spec)
    local origin = origin_of(item, world.definition.source, keys)
    result[#result + 1] = { name = name, title = title, text = parts[1] and table.concat(parts, ", ") or "none",
      origin = origin, guessed = origin == "guessed", varies = parts[1] ~= nil }
  end
  return result
end

return M
