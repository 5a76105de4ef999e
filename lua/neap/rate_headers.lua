--- What a server says about its limits, read from response headers: waits
--- (Retry-After and its relatives) and per-dimension limit, remaining, reset.
---
--- Pure: time comes in as an argument. Everything here is advice from outside,
--- so whatever is malformed, zero or negative is no hint, never "go now"
--- (Azure OpenAI sends -1 and 0: openai-dotnet#838) and never an error.
local M = {}

local MINUTE, HOUR, DAY = 60, 3600, 86400

-- A plain number above this (the year 2001) is a Unix time, not a delay.
local EPOCH_FLOOR = 1e9

---@class neap.RateLimit
---@field limit? number units the server grants in its own period
---@field remaining? number units left; 0 means exhausted
---@field reset? number seconds from now until the dimension is reset, above 0
---@field steady? boolean it refills steadily and is full at `reset`; else all comes back then
---@field per? number seconds of the limit's period, where that is known

---@alias neap.RateDimension "requests"|"tokens"|"input_tokens"|"output_tokens"|"unified"

--- A decimal number without exponent, hex, inf or nan.
local function decimal(text)
  if text and (text:find "^%d+%.?%d*$" or text:find "^%.%d+$") then return tonumber(text) end
end

local function positive(seconds)
  if seconds and seconds > 0 and seconds < math.huge then return seconds end
end

-- ---------------------------------------------------------------------------
-- Formats
-- ---------------------------------------------------------------------------

local UNITS = { h = HOUR, m = MINUTE, s = 1, ms = 1e-3, us = 1e-6, ["µs"] = 1e-6, ["μs"] = 1e-6, ns = 1e-9 }

--- Seconds of a Go duration ("6m0s", "1m30.5s", "12ms"), or nil.
---@param text string
---@return number?
function M.duration(text)
  local total, at = 0, 1
  if text == "" then return nil end
  while at <= #text do
    local number, unit, after = text:match("^([%d.]+)([^%d.]+)()", at)
    local value, scale = decimal(number), UNITS[unit]
    if not value or not scale then return nil end
    total, at = total + value * scale, after
  end
  return total
end

local MONTHS = {
  Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6, Jul = 7, Aug = 8, Sep = 9, Oct = 10, Nov = 11, Dec = 12,
}
local LENGTHS = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

--- Days from 1970-01-01 to a date of the Gregorian calendar: years that begin in
--- March put the leap day last.
local function days_of(year, month, day)
  if month <= 2 then year, month = year - 1, month + 12 end
  local leaps = math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
  return 365 * year + leaps + math.floor((153 * (month - 3) + 2) / 5) + day - 1 - 719468
end

local function is_leap(year)
  return year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
end

--- Unix time of the parts (strings or numbers), or nil when there is no such
--- instant. Second 60 is a leap second.
local function instant(year, month, day, hour, minute, second)
  year, month, day = tonumber(year), tonumber(month), tonumber(day)
  hour, minute, second = tonumber(hour), tonumber(minute), tonumber(second)
  if not (year and month and day and hour and minute and second) then return nil end
  if month < 1 or month > 12 or day < 1 or day > LENGTHS[month] then return nil end
  if month == 2 and day == 29 and not is_leap(year) then return nil end
  if hour > 23 or minute > 59 or second >= 61 then return nil end
  return days_of(year, month, day) * DAY + hour * HOUR + minute * MINUTE + second
end

--- Unix time of an HTTP-date in any of its three forms (RFC 9110, 5.6.7), or
--- nil. `now_wall` dates the two-digit year of the RFC 850 form.
---@param text string
---@param now_wall? number Unix time, seconds
---@return number?
function M.http_date(text, now_wall)
  local day, month, year, clock = text:match "^%a%a%a, (%d%d) (%a%a%a) (%d%d%d%d) (%d%d:%d%d:%d%d) GMT$"
  if not day then
    day, month, year, clock = text:match "^%a+day, (%d%d)%-(%a%a%a)%-(%d%d) (%d%d:%d%d:%d%d) GMT$"
    if day then
      -- More than 50 years ahead means the most recent past year of that name.
      local this_year = 1970 + math.floor((now_wall or 0) / (365.2425 * DAY))
      year = this_year - this_year % 100 + tonumber(year)
      if year > this_year + 50 then year = year - 100 end
    end
  end
  if not day then
    month, day, clock, year = text:match "^%a%a%a (%a%a%a) ([ %d]%d) (%d%d:%d%d:%d%d) (%d%d%d%d)$"
  end
  if not day then return nil end
  return instant(year, MONTHS[month], day, clock:match "(%d%d):(%d%d):(%d%d)")
end

--- Unix time of an RFC 3339 timestamp ("2026-04-26T12:01:00Z"), or nil.
---@param text string
---@return number?
function M.rfc3339(text)
  local year, month, day, hour, minute, rest =
    text:match "^(%d%d%d%d)%-(%d%d)%-(%d%d)[Tt ](%d%d):(%d%d):(%d%d.*)$"
  if not year then return nil end
  local second, zone = rest:match "^(%d%d%.?%d*)(.*)$"
  if not decimal(second) then return nil end
  local offset = 0
  if zone ~= "Z" and zone ~= "z" then
    local sign, hours, minutes = zone:match "^([+-])(%d%d):(%d%d)$"
    if not sign or tonumber(hours) > 23 or tonumber(minutes) > 59 then return nil end
    offset = (tonumber(hours) * HOUR + tonumber(minutes) * MINUTE) * (sign == "+" and 1 or -1)
  end
  local time = instant(year, month, day, hour, minute, second)
  return time and time - offset
end

--- The server's idea of now: its Date header where there is one (the two clocks
--- need not agree), else ours.
local function server_time(headers, now_wall)
  return headers.date and M.http_date(headers.date, now_wall) or now_wall
end

--- Seconds from now of a reset in any format, above 0, or nil; and the format.
local function delay_of(text, headers, now_wall)
  if not text then return nil end
  local seconds = decimal(text)
  if seconds and seconds < EPOCH_FLOOR then return positive(seconds), "seconds" end
  local time, format = seconds, "time"
  if not time then
    local duration = M.duration(text)
    if duration then return positive(duration), "duration" end
    time = M.rfc3339(text)
    format = time and "rfc3339" or "time"
    time = time or M.http_date(text, now_wall)
  end
  return time and positive(time - server_time(headers, now_wall)), format
end

-- ---------------------------------------------------------------------------
-- Header families
-- ---------------------------------------------------------------------------

-- Dimension, and the names of its limit, remaining and reset headers; of several
-- rows for one dimension the first that says anything counts.
local FAMILIES = {
  { "requests", "x-ratelimit-%s-requests" },
  { "requests", "anthropic-ratelimit-requests-%s" },
  { "requests", "x-ratelimit-%s" },
  { "requests", "ratelimit-%s" },
  { "tokens", "x-ratelimit-%s-tokens" },
  { "tokens", "x-ratelimit-%s-tokens_usage_based" },
  { "tokens", "anthropic-ratelimit-tokens-%s" },
  { "input_tokens", "anthropic-ratelimit-input-tokens-%s" },
  { "output_tokens", "anthropic-ratelimit-output-tokens-%s" },
  { "unified", "anthropic-ratelimit-unified-%s" },
}

local NAMES = {}
for i, family in ipairs(FAMILIES) do
  NAMES[i] = {
    dimension = family[1],
    limit = family[2]:format "limit",
    remaining = family[2]:format "remaining",
    reset = family[2]:format "reset",
  }
end

--- Every header that is read here.
local KNOWN = { date = true, ratelimit = true, ["ratelimit-policy"] = true, ["retry-after"] = true,
  ["retry-after-ms"] = true, ["anthropic-ratelimit-unified-status"] = true }
for _, names in ipairs(NAMES) do
  KNOWN[names.limit], KNOWN[names.remaining], KNOWN[names.reset] = true, true, true
end

--- Whether there is more than Date among the known headers. Most answers stop here.
local function says_something(headers)
  for name in pairs(headers) do
    if not KNOWN[name] then name = type(name) == "string" and name:lower() end
    if KNOWN[name] and name ~= "date" then return true end
  end
  return false
end

--- The known headers by lower-case name; of a repeated header that came as an
--- array the first value.
local function fold(headers)
  local folded = {}
  for name, value in pairs(headers) do
    if not KNOWN[name] then name = type(name) == "string" and name:lower() end
    if KNOWN[name] then
      if type(value) == "table" then value = value[1] end
      if type(value) == "number" then value = tostring(value) end
      if type(value) == "string" then folded[name] = value:match "^%s*(.-)%s*$" end
    end
  end
  return folded
end

--- Seconds in which a whole limit refills that refills steadily and is full at
--- `reset`; nil when too little is said. It may be less than what the server's
--- takes, by one part in as many units as are missing: those left are rounded down.
---@param said {limit: number?, remaining: number?, reset: number?}
---@return number? seconds
function M.fills_in(said)
  local limit, remaining, reset = said.limit, said.remaining, said.reset
  if limit and remaining and reset and remaining < limit then return reset * limit / (limit - remaining) end
end

--- The period that such a limit of requests is meant for: a day's looks like a
--- minute's, but for how long it refills ("limit 10000, remaining 9999, reset
--- 8.64s"). What can be neither a minute, an hour nor a day is itself.
local function period_of(said)
  local least = M.fills_in(said)
  if not least then return nil end
  if least <= 1.5 * MINUTE then return MINUTE end
  local missing = said.limit - said.remaining
  local most = missing > 1 and least * missing / (missing - 1) or DAY
  if least <= 1.1 * HOUR and most >= 0.9 * HOUR then return HOUR end
  return most >= 0.9 * DAY and DAY or least
end

local function read_family(headers, names, now_wall)
  local text = headers[names.limit]
  -- Early drafts of the IETF's add policies: "100, 100;w=60".
  local first = text and text:match "^(%d+)%s*,"
  local limit, per = decimal(first or text), first and text:match("%f[%d]" .. first .. ";%s*w=(%d+)")
  local remaining = decimal(headers[names.remaining])
  local reset, format = delay_of(headers[names.reset], headers, now_wall)
  if not (limit or remaining or reset) then return nil end
  limit = positive(limit)
  -- Durations are OpenAI's and RFC 3339 is Anthropic's: token buckets.
  local steady = reset and (format == "duration" or format == "rfc3339") or nil
  local said = { limit = limit, remaining = remaining, reset = reset, per = positive(tonumber(per)), steady = steady }
  if format == "duration" and names.dimension == "requests" then said.per = period_of(said) end
  return said
end

--- The members of a structured field's list: names (or what stands there instead)
--- and their parameters.
local function members_of(text)
  local list, start, quoted = {}, 1, false
  for at, char in (text .. ","):gmatch '()([",])' do
    if char == '"' then
      quoted = not quoted
    elseif not quoted then
      local name, rest = text:sub(start, at - 1):match "^%s*([^;]-)%s*(;.*)$"
      local member = { name = name }
      for key, value in (rest or ""):gmatch ";%s*([%w_*]+)=([^;]*)" do member[key] = value:match "^(.-)%s*$" end
      if name then list[#list + 1] = member end
      start = at + 1
    end
  end
  return list
end

local function whole(text)
  return text and text:find "^%d+$" and tonumber(text) or nil
end

local UNITS_OF_POLICIES = { ['"requests"'] = "requests", ['"tokens"'] = "tokens" }

local function dimension_of(name, unit)
  if unit then return UNITS_OF_POLICIES[unit] end
  name = name:lower()
  if not name:find "token" then return "requests" end
  return name:find "input" and "input_tokens" or name:find "output" and "output_tokens" or "tokens"
end

--- The IETF draft's fields, `RateLimit: "burst";r=50;t=30, "day";r=9` and
--- `RateLimit-Policy: "burst";q=100;w=60`: of several policies of a dimension the one
--- with the least left. What a policy counts is its unit `qu`; without one it counts
--- tokens when its name says so, else requests.
local function read_ratelimit_field(headers, seen)
  local text = headers.ratelimit
  if not text then return end
  local limit, remaining, reset = text:match "limit=(%d+),%s*remaining=(%d+),%s*reset=(%d+)" -- until draft 7
  if limit then
    seen.requests = { limit = tonumber(limit), remaining = tonumber(remaining), reset = positive(whole(reset)) }
    return
  end
  local policies = {}
  for _, policy in ipairs(members_of(headers["ratelimit-policy"] or "")) do policies[policy.name] = policy end
  local found = {}
  for _, member in ipairs(members_of(text)) do
    local policy, left = policies[member.name] or {}, whole(member.r)
    local dimension = dimension_of(member.name, policy.qu)
    local least = dimension and found[dimension]
    if left and dimension and (not least or left < least.remaining) then
      found[dimension] = { remaining = left, reset = positive(whole(member.t)),
        limit = positive(whole(policy.q) or whole(member.l)), per = positive(whole(policy.w)) }
    end
  end
  for dimension, said in pairs(found) do seen[dimension] = seen[dimension] or said end
end

local function observe(headers, now_wall)
  local seen = {}
  for _, names in ipairs(NAMES) do
    if not seen[names.dimension] then
      seen[names.dimension] = read_family(headers, names, now_wall)
    end
  end
  if not seen.requests then read_ratelimit_field(headers, seen) end
  if seen.unified and headers["anthropic-ratelimit-unified-status"] == "rejected" then
    seen.unified.remaining = 0
  end
  return seen
end

local function explicit_retry_after(headers, now_wall)
  local ms = positive(decimal(headers["retry-after-ms"]))
  if ms then return ms / 1e3 end
  local text = headers["retry-after"]
  if not text then return nil end
  local seconds = decimal(text)
  if seconds then return positive(seconds) end
  local date = M.http_date(text, now_wall)
  return date and positive(date - server_time(headers, now_wall))
end

--- What the headers say about each dimension; an empty table when nothing.
---@param headers table<string, string> any case; of a response
---@param now_wall number Unix time, seconds
---@return table<neap.RateDimension, neap.RateLimit>
---@return number? retry_after the explicit wait, as by `explicit_retry_after`
function M.observe(headers, now_wall)
  if not says_something(headers) then return {} end
  headers = fold(headers)
  return observe(headers, now_wall), explicit_retry_after(headers, now_wall)
end

--- Seconds that an explicit wait asks for: `retry-after-ms`, then Retry-After
--- (seconds or date); nil when there is none.
---@param headers table<string, string> any case; of a response
---@param now_wall number Unix time, seconds
---@return number? seconds above 0
function M.explicit_retry_after(headers, now_wall)
  return explicit_retry_after(fold(headers), now_wall)
end

--- Seconds that the server asks to wait before the next try: the explicit wait,
--- else the latest reset among the dimensions with nothing left; nil when the
--- headers give no hint.
---@param headers table<string, string> any case; of a response
---@param now_wall number Unix time, seconds
---@return number? seconds above 0
function M.retry_after(headers, now_wall)
  headers = fold(headers)
  local wait = explicit_retry_after(headers, now_wall)
  if wait then return wait end
  for _, seen in pairs(observe(headers, now_wall)) do
    if seen.remaining == 0 and seen.reset and seen.reset > (wait or 0) then wait = seen.reset end
  end
  return wait
end

return M
