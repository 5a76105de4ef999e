--- What providers' answers say about their limits, each in its own words. Pure.
local ceil, floor, max = math.ceil, math.floor, math.max

local M = {}

--- A duration as OpenAI writes it: "12ms", "1s", "8.64s", "6m0s", "1h0m0s".
--- Rounded up to the millisecond, so that it is never too early.
---@param seconds number
---@return string
function M.duration(seconds)
  local ms = ceil(seconds * 1000 - 1e-6)
  if ms < 1000 then return ("%dms"):format(max(0, ms)) end
  local hours, minutes = floor(ms / 3600000), floor(ms / 60000) % 60
  local rest = ("%.3f"):format(ms % 60000 / 1000):gsub("0+$", ""):gsub("%.$", "") .. "s"
  if hours > 0 then return ("%dh%dm%s"):format(hours, minutes, rest) end
  if minutes > 0 then return ("%dm%s"):format(minutes, rest) end
  return rest
end

--- A Unix time as RFC 3339 has it, rounded up to the second.
---@param unix number
---@return string
function M.rfc3339(unix)
  local whole = ceil(unix - 1e-6)
  local days, second = floor(whole / 86400), whole % 86400
  -- Civil from days (Hinnant): years begin in March, eras have 400 of them.
  local shifted = days + 719468
  local era = floor(shifted / 146097)
  local day = shifted - era * 146097
  local year = floor((day - floor(day / 1460) + floor(day / 36524) - floor(day / 146096)) / 365)
  local of_year = day - (365 * year + floor(year / 4) - floor(year / 100))
  local month = floor((5 * of_year + 2) / 153)
  return ("%04d-%02d-%02dT%02d:%02d:%02dZ"):format(year + era * 400 + (month >= 10 and 1 or 0),
    month < 10 and month + 3 or month - 9, of_year - floor((153 * month + 2) / 5) + 1,
    floor(second / 3600), floor(second / 60) % 60, second % 60)
end

local function left(b)
  return ("%d"):format(b:left())
end

--- The bucket of a kind: of several the one with the longest period.
local function find(buckets, kind)
  local found
  for i = 1, #buckets do
    local b = buckets[i]
    if b.kind == kind and (not found or b.period > found.period) then found = b end
  end
  return found
end

---@type table<string, fun(buckets: neap.world.Bucket[], unix: number, into: table<string, string>)>
M.formats = {}

local function add_x(into, name, b, reset)
  if not b then return end
  into["x-ratelimit-limit-" .. name] = ("%d"):format(b.limit)
  into["x-ratelimit-remaining-" .. name] = left(b)
  into["x-ratelimit-reset-" .. name] = reset(b:reset())
end

--- The bucket of a kind that is by the minute.
local function by_the_minute(buckets, kind)
  for i = 1, #buckets do
    if buckets[i].kind == kind and buckets[i].period <= 60 then return buckets[i] end
  end
end

--- x-ratelimit-{limit,remaining,reset}-{requests,tokens}; a limit a day is shown
--- in the place of the one a minute.
function M.formats.openai(buckets, _, into)
  add_x(into, "requests", find(buckets, "requests"), M.duration)
  add_x(into, "tokens", find(buckets, "tokens"), M.duration)
end

--- The same, but requests are those of a day and tokens those of a minute.
function M.formats.groq(buckets, _, into)
  add_x(into, "requests", find(buckets, "requests"), M.duration)
  add_x(into, "tokens", by_the_minute(buckets, "tokens") or find(buckets, "tokens"), M.duration)
end

local function whole_seconds(seconds)
  return ("%d"):format(ceil(seconds))
end

--- The same with resets in whole seconds.
function M.formats.azure(buckets, _, into)
  add_x(into, "requests", find(buckets, "requests"), whole_seconds)
  add_x(into, "tokens", find(buckets, "tokens"), whole_seconds)
end

local function add_anthropic(into, name, b, unix)
  if not b then return end
  local prefix = "anthropic-ratelimit-" .. name
  into[prefix .. "-limit"] = ("%d"):format(b.limit)
  into[prefix .. "-remaining"] = left(b)
  into[prefix .. "-reset"] = M.rfc3339(unix + b:reset())
end

--- anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset},
--- resets as dates; "tokens" is the most restrictive of the token limits.
function M.formats.anthropic(buckets, unix, into)
  add_anthropic(into, "requests", find(buckets, "requests"), unix)
  local input, output, tokens = find(buckets, "input"), find(buckets, "output"), find(buckets, "tokens")
  add_anthropic(into, "input-tokens", input, unix)
  add_anthropic(into, "output-tokens", output, unix)
  if input and (not tokens or input.level < tokens.level) then tokens = input end
  if output and (not tokens or output.level < tokens.level) then tokens = output end
  add_anthropic(into, "tokens", tokens, unix)
end

--- The IETF draft (draft-ietf-httpapi-ratelimit-headers-10): the policies, and how
--- much is left of each.
function M.formats.ratelimit(buckets, _, into)
  local policies, state = {}, {}
  for i = 1, #buckets do
    local b = buckets[i]
    local name = b.kind .. (b.period > 60 and "-day" or "")
    policies[i] = ('"%s";q=%d;w=%d'):format(name, b.limit, b.period)
    state[i] = ('"%s";r=%s;t=%d'):format(name, left(b), ceil(b:reset()))
  end
  into["ratelimit-policy"], into.ratelimit = table.concat(policies, ", "), table.concat(state, ", ")
end

function M.formats.none() end

--- The names of the formats, for messages.
M.names = { "openai", "anthropic", "azure", "groq", "ratelimit", "none" }

return M
