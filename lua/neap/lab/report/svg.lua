--- Charts as SVG, without any program. Pure.
local M = {}

local floor, log10, max, min = math.floor, math.log10, math.max, math.min

-- Of one chart, in pixels.
local WIDTH, PLOT_HEIGHT, ROW, TOP, BOTTOM, RIGHT = 640, 220, 24, 34, 40, 24
-- Told apart by people who do not see all colours (Okabe and Ito, 2008).
local COLOURS = { "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000" }

---@param text any
---@return string
function M.escape(text)
  return (tostring(text):gsub("[&<>\"']", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;",
    ["'"] = "&#39;" }))
end

local function number(value)
  if math.abs(value) < 1e-12 then return "0" end
  return ("%.6g"):format(value)
end

--- Round numbers that divide a range into four to ten steps.
---@param low number
---@param high number
---@return number[]
function M.ticks(low, high)
  if high <= low then return { low } end
  local step = 10 ^ floor(log10((high - low) / 4))
  while (high - low) / step > 10 do step = step * ((high - low) / step > 20 and 5 or 2) end
  local list = {}
  for i = math.ceil(low / step - 1e-9), floor(high / step + 1e-9) do list[#list + 1] = i * step end
  return list
end

local function log_ticks(low, high)
  local list = {}
  for power = floor(log10(low)), math.ceil(log10(high)) do
    for _, digit in ipairs { 1, 2, 5 } do
      local value = digit * 10 ^ power
      if value >= low * 0.999 and value <= high * 1.001 then list[#list + 1] = value end
    end
  end
  return list
end

local function range(chart)
  local low, high = math.huge, -math.huge
  for _, series in ipairs(chart.series) do
    for _, point in ipairs(series.points) do
      low, high = min(low, point.low or point.y, point.y), max(high, point.high or point.y, point.y)
    end
  end
  if low > high then return nil end
  if low == high then low, high = low - max(1e-9, math.abs(low) * 0.1), high + max(1e-9, math.abs(high) * 0.1) end
  local margin = (high - low) * 0.05
  return low - margin, high + margin
end

local function scale(from, to, start, stop)
  return function(value) return start + (value - from) / (to - from) * (stop - start) end
end

local function add(parts, format, ...)
  parts[#parts + 1] = format:format(...)
end

local function text(parts, x, y, anchor, value, class)
  add(parts, '<text x="%.1f" y="%.1f" text-anchor="%s"%s>%s</text>', x, y, anchor,
    class and (' class="%s"'):format(class) or "", M.escape(value))
end

local function line(parts, x1, y1, x2, y2, colour, width)
  add(parts, '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="%g"/>', x1, y1, x2, y2, colour,
    width or 1)
end

--- A row for each policy: a dot at the mean, a bar over the interval.
local function draw_rows(parts, chart, low, high)
  local longest = 0
  for _, name in ipairs(chart.names) do longest = max(longest, #name) end
  local left = min(WIDTH * 0.5, 20 + longest * 6.5)
  local bottom = TOP + #chart.names * ROW
  local x_of = scale(low, high, left, WIDTH - RIGHT)
  for _, tick in ipairs(M.ticks(low, high)) do
    line(parts, x_of(tick), TOP, x_of(tick), bottom, "#ddd")
    text(parts, x_of(tick), bottom + 16, "middle", number(tick))
  end
  for i, name in ipairs(chart.names) do text(parts, left - 8, TOP + (i - 0.5) * ROW + 4, "end", name) end
  for _, point in ipairs(chart.series[1].points) do
    local y = TOP + (point.x - 0.5) * ROW
    if point.low then line(parts, x_of(point.low), y, x_of(point.high), y, COLOURS[1], 3) end
    add(parts, '<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>', x_of(point.y), y, COLOURS[1])
  end
  return bottom + BOTTOM - 16
end

local function extent_of_x(chart)
  local low, high = math.huge, -math.huge
  for _, series in ipairs(chart.series) do
    for _, point in ipairs(series.points) do low, high = min(low, point.x), max(high, point.x) end
  end
  return low, high
end

local function draw_series(parts, series, colour, x_of, y_of)
  local path = {}
  for i, point in ipairs(series.points) do
    local x, y = x_of(point.x), y_of(point.y)
    path[i] = ("%s%.1f %.1f"):format(i == 1 and "M" or "L", x, y)
    if point.low then line(parts, x, y_of(point.low), x, y_of(point.high), colour, 2) end
    add(parts, '<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>', x, y, colour)
  end
  add(parts, '<path d="%s" fill="none" stroke="%s" stroke-width="1.5"/>', table.concat(path, " "), colour)
end

local function draw_over(parts, chart, low, high)
  local left, bottom = 70, TOP + PLOT_HEIGHT
  local from, to = extent_of_x(chart)
  if from == to then from, to = from * 0.9 - 1e-9, to * 1.1 + 1e-9 end
  local y_of = scale(low, high, bottom, TOP)
  local x_of = scale(from, to, left + 10, WIDTH - RIGHT - 10)
  local ticks = chart.log and log_ticks(from, to) or M.ticks(from, to)
  if chart.log then
    local linear = scale(log10(from), log10(to), left + 10, WIDTH - RIGHT - 10)
    x_of = function(value) return linear(log10(value)) end
  end
  for _, tick in ipairs(M.ticks(low, high)) do
    line(parts, left, y_of(tick), WIDTH - RIGHT, y_of(tick), "#ddd")
    text(parts, left - 6, y_of(tick) + 4, "end", number(tick))
  end
  for _, tick in ipairs(ticks) do text(parts, x_of(tick), bottom + 16, "middle", number(tick)) end
  text(parts, (left + WIDTH) / 2, bottom + 34, "middle", chart.over)
  for i, series in ipairs(chart.series) do
    local colour = COLOURS[(i - 1) % #COLOURS + 1]
    draw_series(parts, series, colour, x_of, y_of)
    add(parts, '<rect x="%d" y="%d" width="10" height="10" fill="%s"/>', left, bottom + 44 + (i - 1) * 16, colour)
    text(parts, left + 16, bottom + 53 + (i - 1) * 16, "start", series.name)
  end
  return bottom + 50 + #chart.series * 16
end

--- The inside of one chart; its height.
local function draw(chart)
  local parts = {}
  text(parts, 10, 20, "start", chart.title, "title")
  local low, high = range(chart)
  local height = 60
  if not low then
    text(parts, 10, 44, "start", "nothing to draw")
  else
    height = (chart.names and draw_rows or draw_over)(parts, chart, low, high)
  end
  return table.concat(parts, "\n"), height
end

local STYLE = "<style>text{font:12px sans-serif;fill:#222}.title{font-weight:bold;font-size:14px}</style>"

local LINE = 16 -- pixels

--- What charts that stand alone open with; the first line is their title.
local function heading(lines)
  local parts, y = {}, 4
  for i, one in ipairs(lines) do
    y = y + LINE
    text(parts, 10, y, "start", one, i == 1 and "title" or nil)
  end
  return table.concat(parts, "\n"), y + LINE
end

--- Charts one below the other, as an SVG document.
---@param charts neap.lab.Chart[]
---@param lines? string[] above them: a title, and what the report opens with
---@return string
function M.document(charts, lines)
  local groups, y = {}, 0
  if lines then groups[1], y = heading(lines) end
  for _, chart in ipairs(charts) do
    local inside, height = draw(chart)
    groups[#groups + 1] = ('<g transform="translate(0 %d)">\n%s\n</g>'):format(y, inside)
    y = y + height + 16
  end
  return ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d">\n%s\n'
    .. '<rect width="100%%" height="100%%" fill="#fff"/>\n%s\n</svg>\n'):format(WIDTH, y, WIDTH, y, STYLE,
    table.concat(groups, "\n"))
end

return M
