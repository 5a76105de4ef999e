--- A provider's rate limits as its answers told them. Pure.
local limits = require "neap.world.limits"
local rates = require "neap.rate_headers"
local sorted = require "neap.sorted"

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
  for name in sorted.pairs(headers) do
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

--- How exact what an answer says is: seconds of its reset, and units of what remains.
--- Anthropic tells dates in whole seconds (and of tokens whole thousands), beside a
--- Date in whole seconds; OpenAI milliseconds, but whole seconds of long waits.
local function resolution_of(format, dimension, reset)
  if format == "openai" then return reset < MINUTE and 0.01 or 1, 1 end
  return 2, dimension == "requests" and 1 or 1000
end

--- Between which bounds the seconds lie in which a limit refills; nil: nothing is told.
local function bounds(rate, seconds, units)
  if not rate.steady or not rates.fills_in(rate) then return nil end
  local missing = rate.limit - rate.remaining
  if missing <= units or rate.reset <= seconds then return nil end
  return rate.limit * (rate.reset - seconds) / (missing + units),
    rate.limit * (rate.reset + seconds) / (missing - units)
end

--- Keeps the narrowest bounds of those that were told.
local function narrow(seen, rate, seconds, units)
  local low, high = bounds(rate, seconds, units)
  if low and (not seen.low or high / low < seen.high / seen.low) then seen.low, seen.high = low, high end
end

local USUAL = { MINUTE, HOUR, DAY }

--- The period that people use which the bounds allow, if it is one and only one; nil:
--- nobody can tell. Others are not taken: a bucket that holds less than its limit
--- refills in less time than the limit is for.
local function period_within(low, high)
  local found
  for _, period in ipairs(USUAL) do
    if low <= 1.05 * period and high >= 0.95 * period then
      if found then return nil end
      found = period
    end
  end
  return found
end

--- What was said of one dimension: its limit, its period, and whether that was said.
local function read(seen)
  local limit = most_frequent(seen.limits)
  if not limit then return nil end
  local per = most_frequent(seen.periods) or seen.low and period_within(seen.low, seen.high)
  return limit, per or MINUTE, per ~= nil
end

local function observe(entries, unix)
  local all, format = {}, nil
  for _, entry in ipairs(entries) do
    if entry.status then
      local said = rates.observe(entry.headers, unix + entry.arrived + entry.seconds)
      for dimension, rate in sorted.pairs(said) do
        if OPTIONS[dimension] and rate.limit then
          local seen = all[dimension] or { limits = {}, periods = {} }
          all[dimension] = seen
          format = format or format_of(entry.headers)
          add(seen.limits, rate.limit)
          -- OpenAI's is guessed from the same figures as below.
          if format ~= "openai" then add(seen.periods, rate.per) end
          if rate.reset then narrow(seen, rate, resolution_of(format, dimension, rate.reset)) end
        end
      end
    end
  end
  return all, format
end

local function note_limits(notes, dimension, seen)
  local list, total = {}, 0
  for _, count in pairs(seen.limits) do total = total + count end
  for value, count in sorted.pairs(seen.limits) do
    if count >= 0.1 * total then list[#list + 1] = ("%.10g"):format(value) end
  end
  if #list > 1 then
    notes[#notes + 1] = ("the answers told several limits of %s (%s): the most frequent one is taken; models with "
      .. "limits of their own need hosts of their own"):format((dimension:gsub("_", " ")), table.concat(list, ", "))
  end
end

-- -- Do these limits give the 429s that there were? ---------------------------

--- Seconds' worth that a bucket of a minute may hold: providers check limits also by
--- the second.
local WINDOWS = { 30, 10, 5, 2, 1 }

local function is_limited(entry) return entry.status == 429 and not entry.error end

--- 429s that limits of requests would have given to what arrived.
local function predicted(limit, entries)
  local law, count = limits.new(limit), 0
  for _, entry in ipairs(entries) do
    if law:take(entry.arrived, 0) > 0 then count = count + 1 end
  end
  return count
end

local function in_order(entries)
  local list = {}
  for _, entry in ipairs(entries) do
    if entry.status then list[#list + 1] = entry end
  end
  table.sort(list, function(a, b)
    if a.arrived ~= b.arrived then return a.arrived < b.arrived end
    return a.n < b.n
  end)
  return list
end

local function is_near(count, recorded)
  return math.abs(count - recorded) <= math.max(3, 0.2 * recorded)
end

--- Of limits by the minute the window that explains the 429s best, where a minute's
--- does not; what is left unexplained is noted.
local function explain(limit, entries, notes)
  local recorded, list = 0, in_order(entries)
  for _, entry in ipairs(list) do
    if is_limited(entry) then recorded = recorded + 1 end
  end
  if recorded == 0 then return end
  if limit.tpm or limit.tpd or limit.itpm or limit.otpm then
    notes[#notes + 1] = ("there were %d x 429; a cassette does not tell the tokens, so nobody checked whether these "
      .. "limits give as many"):format(recorded)
    return
  end
  local best, window = predicted(limit, list), nil
  if not is_near(best, recorded) and limit.rpm and not limit.window then
    for _, seconds in ipairs(WINDOWS) do
      limit.window = seconds
      local count = predicted(limit, list)
      if math.abs(count - recorded) < math.abs(best - recorded) then best, window = count, seconds end
    end
    limit.window = window
  end
  if window then
    notes[#notes + 1] = ("window = %d explains the 429s best: the server did not let a minute's requests pass at once")
      :format(window)
  end
  if not is_near(best, recorded) then
    notes[#notes + 1] = ("there were %d x 429, these limits give %d: something else limits besides"):format(recorded,
      best)
  end
end

--- The limits that answers told of; nil when they told of none.
---@param entries neap.cassette.Entry[] of one host
---@param unix number Unix time at which the recording began
---@return neap.world.RateLimit? limit
---@return string[]? notes what is assumed, and what is not explained: a sentence each
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
      note_limits(assumed, dimension, all[dimension])
      if not known then
        assumed[#assumed + 1] = ("the headers do not say what period the limit of %s is for; a minute is assumed")
          :format((dimension:gsub("_", " ")))
      end
    end
  end
  explain(limit, entries, assumed)
  return limit, assumed
end

return M
