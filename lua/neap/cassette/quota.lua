--- A provider's rate limits as its answers told them. Pure.
local rates = require "neap.rate_headers"

local M = {}

local MINUTE, HOUR, DAY = 60, 3600, 86400

--- A dimension's options of a world's `rate_limit`: by the minute and by the day.
local OPTIONS = {
  requests = { "rpm", "rpd" }, tokens = { "tpm", "tpd" }, input_tokens = { "itpm" }, output_tokens = { "otpm" },
}
local ORDER = { "requests", "tokens", "input_tokens", "output_tokens" }

--- The names that a format's headers begin with. The provider's words are kept, so that
--- a client that reads them goes on.
local function format_of(headers)
  for name in pairs(headers) do
    if name:find "^anthropic%-ratelimit%-" then return "anthropic" end
    if name == "ratelimit" or name:find "^ratelimit%-" then return "ratelimit" end
  end
  local reset = headers["x-ratelimit-reset-requests"] or headers["x-ratelimit-reset-tokens"]
  if type(reset) == "table" then reset = reset[1] end
  if reset and reset:find "^%d+$" then return "azure" end
  return "openai"
end

local function add(counts, value)
  if value then counts[value] = (counts[value] or 0) + 1 end
end

--- The value that was told most often; of equals the largest.
local function most_frequent(counts)
  local best, most
  for value, count in pairs(counts) do
    if not most or count > most or count == most and value > best then best, most = value, count end
  end
  return best
end

--- Waits are told in whole milliseconds or seconds: of a shorter one too little is left.
local LEAST_RESET = 0.1 -- seconds

--- Whether one sighting tells more of how fast a limit refills: the more is missing.
local function is_better(rate, than)
  if not rates.fills_in(rate) or rate.reset < LEAST_RESET then return false end
  return not than or rate.limit - rate.remaining > than.limit - than.remaining
end

--- A period that people use, where it is near one.
local function usual(seconds)
  if seconds <= 1.5 * MINUTE then return MINUTE end
  if seconds >= 0.9 * HOUR and seconds <= 1.1 * HOUR then return HOUR end
  if seconds >= 0.5 * DAY then return DAY end
  return seconds
end

--- What was said of one dimension: its limit, its period, and whether that was said.
local function read(seen)
  local limit = most_frequent(seen.limits)
  if not limit then return nil end
  local per = most_frequent(seen.periods)
  if not per and seen.best then per = usual(rates.fills_in(seen.best)) end
  return limit, per or MINUTE, per ~= nil
end

local function observe(entries, unix)
  local all, format = {}, nil
  for _, entry in ipairs(entries) do
    if entry.status then
      local said = rates.observe(entry.headers, unix + entry.arrived + entry.seconds)
      for dimension, rate in pairs(said) do
        if OPTIONS[dimension] and rate.limit then
          local seen = all[dimension] or { limits = {}, periods = {} }
          all[dimension] = seen
          add(seen.limits, rate.limit)
          add(seen.periods, rate.per)
          if rate.steady and is_better(rate, seen.best) then seen.best = rate end
          format = format or format_of(entry.headers)
        end
      end
    end
  end
  return all, format
end

--- The limits that answers told of; nil when they told of none.
---@param entries neap.cassette.Entry[] of one host
---@param unix number Unix time at which the recording began
---@return neap.world.RateLimit? limit
---@return string[]? assumed one sentence each
function M.of(entries, unix)
  local all, format = observe(entries, unix)
  if not format then return nil end
  -- Anthropic's "tokens" is whichever of the others is the closest.
  if all.input_tokens or all.output_tokens then all.tokens = nil end
  local limit, assumed = { headers = format }, {}
  for _, dimension in ipairs(ORDER) do
    local amount, per, known = nil, nil, nil
    if all[dimension] then amount, per, known = read(all[dimension]) end
    if amount then
      local names = OPTIONS[dimension]
      if per >= DAY and names[2] then
        limit[names[2]] = amount
      else
        limit[names[1]] = amount * MINUTE / per
        if per > MINUTE then limit.window = math.max(limit.window or 0, per) end
      end
      if not known then
        assumed[#assumed + 1] = ("the headers do not say what period the limit of %s is for; a minute is assumed")
          :format((dimension:gsub("_", " ")))
      end
    end
  end
  return limit, assumed
end

return M
