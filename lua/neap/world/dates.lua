--- Dates of which the earliest comes first: a binary heap of numbers in an array,
--- whose first element is the earliest. Pure.
local floor = math.floor

local M = {}

--- Adds a date.
---@param dates number[]
---@param at number seconds
function M.add(dates, at)
  local i = #dates + 1
  while i > 1 do
    local parent = floor(i / 2)
    if dates[parent] <= at then break end
    dates[i], i = dates[parent], parent
  end
  dates[i] = at
end

--- Removes the earliest; there must be one.
---@param dates number[]
---@return number at seconds
function M.take(dates)
  local first, count = dates[1], #dates
  local last = dates[count]
  dates[count], count = nil, count - 1
  local i = 1
  while 2 * i <= count do
    local child = 2 * i
    if child < count and dates[child + 1] < dates[child] then child = child + 1 end
    if last <= dates[child] then break end
    dates[i], i = dates[child], child
  end
  if count > 0 then dates[i] = last end
  return first
end

return M
