--- Instants as the clock has them: whole nanoseconds, while a world computes with
--- seconds. A date or a level that is reached at an instant must be seen as reached
--- there, whatever the rounding of the sums that led to it. Pure.
local abs, floor, huge = math.abs, math.floor, math.huge

local M = {}

local TICK = 1e-9 -- seconds
local ROUNDING = 2 ^ -51 -- of a time: four times what a double cannot tell apart

--- The clock's own number for a date.
---@param seconds number
---@return number seconds
function M.of(seconds)
  if abs(seconds) == huge then return seconds end
  return floor(seconds * 1e9 + 0.5) / 1e9
end

--- Seconds around `now` that are the same instant.
---@param now number seconds
---@return number seconds
function M.slack(now)
  return TICK + abs(now) * ROUNDING
end

return M
