--- Lua's own clock on the runtime's one: os.time, os.date and os.clock, for scripts in
--- virtual time. Local time is UTC. Nothing here waits.
local core = require "neap.core"

local M = {}

local floor = math.floor

--- Days from 1970-01-01 to a day of the Gregorian calendar; months and days
--- beyond their range count on.
local function days_of(year, month, day)
  year, month = year + floor((month - 1) / 12), (month - 1) % 12 + 1
  -- The year begins in March, so that the leap day is its last.
  local march_year = month > 2 and year or year - 1
  local day_of_year = floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1
  return 365 * march_year + floor(march_year / 4) - floor(march_year / 100) + floor(march_year / 400)
    + day_of_year - 719468
end

local function time(date)
  if date == nil then return floor(core.time()) end
  if type(date) ~= "table" then
    error(("bad argument #1 to 'time' (table expected, got %s)"):format(type(date)), 2)
  end
  local function field(name, default)
    local value = tonumber(date[name]) or default
    if not value then error(("field '%s' missing in date table"):format(name), 3) end
    return floor(value)
  end
  local days = days_of(field "year", field "month", field "day")
  return ((days * 24 + field("hour", 12)) * 60 + field("min", 0)) * 60 + field("sec", 0)
end

--- What stands in for three functions of `os`.
---@param raw {date: function} Lua's own os.date, at least
---@return {time: function, date: function, clock: function}
function M.functions(raw)
  local raw_date = raw.date
  local function date(format, at)
    format = format == nil and "%c" or format
    if type(format) == "string" and format:sub(1, 1) ~= "!" then format = "!" .. format end
    return raw_date(format, at == nil and floor(core.time()) or at)
  end
  return { time = time, date = date, clock = core.now }
end

return M
