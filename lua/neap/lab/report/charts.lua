--- What there is to draw of a comparison: a chart for each measure. Of a sweep over
--- one number: the measure over that number; else a row with its interval for each
--- policy. Pure data; svg.lua and gnuplot.lua draw it.
local text = require "neap.lab.report.text"

local M = {}

---@class neap.lab.Point
---@field x number over a number: its value; else the row's number, from 1
---@field y number
---@field low number?
---@field high number?

---@class neap.lab.Series
---@field name string
---@field points neap.lab.Point[]

---@class neap.lab.Chart
---@field title string
---@field key string of the measure
---@field over string? the option on the x axis; nil: rows
---@field log boolean? the x axis is logarithmic
---@field names string[]? of the rows
---@field series neap.lab.Series[]

local function only_key(at)
  local name
  for key in pairs(at or {}) do
    if name then return nil end
    name = key
  end
  return name
end

--- The one numeric option that the variants differ in, or nil.
local function swept(results)
  local name
  for _, result in ipairs(results) do
    if result.variant.changes then
      local key = only_key(result.variant.at)
      if not key or name and key ~= name or type(result.variant.at[key]) ~= "number" then return nil end
      name = key
    end
  end
  return name
end

local function point(x, estimate, scale)
  return { x = x, y = estimate.mean * scale, low = estimate.low and estimate.low * scale,
    high = estimate.high and estimate.high * scale }
end

local function scale_of(metric) return metric.percent and 100 or 1 end

local function over_option(results, metric, option)
  local series, by_policy = {}, {}
  local low, high = math.huge, 0
  for _, result in ipairs(results) do
    local x, estimate = result.variant.at and result.variant.at[option], result.estimates[metric.key]
    if x and x < math.huge and estimate then
      local one = by_policy[result.variant.policy]
      if not one then
        one = { name = result.variant.policy, points = {} }
        by_policy[result.variant.policy], series[#series + 1] = one, one
      end
      one.points[#one.points + 1] = point(x, estimate, scale_of(metric))
      low, high = math.min(low, x), math.max(high, x)
    end
  end
  for _, one in ipairs(series) do table.sort(one.points, function(a, b) return a.x < b.x end) end
  return { series = series, over = option, log = low > 0 and high / low >= 8 }
end

local function over_rows(results, metric)
  local points, names = {}, {}
  for i, result in ipairs(results) do
    names[i] = result.name
    local estimate = result.estimates[metric.key]
    if estimate then points[#points + 1] = point(i, estimate, scale_of(metric)) end
  end
  return { series = { { name = "", points = points } }, names = names }
end

--- Successes over time: each slot's at its middle.
local function over_time(comparison)
  local series = {}
  for i, result in ipairs(comparison.results) do
    series[i] = { name = result.name, points = {} }
    for slot, rate in ipairs(result.timeline) do
      series[i].points[slot] = { x = (slot - 0.5) * comparison.slot, y = rate }
    end
  end
  return { key = "timeline", title = text.TIMELINE, over = "seconds", log = false, series = series }
end

--- The charts of a comparison: its measures in order, those of its windows, and the
--- timeline.
---@param comparison neap.lab.Comparison
---@return neap.lab.Chart[]
function M.of(comparison)
  local option, list = swept(comparison.results), {}
  local function add(metric, window)
    local chart = option and over_option(comparison.results, metric, option) or over_rows(comparison.results, metric)
    chart.key = metric.key
    chart.title = metric.percent and metric.title .. ", %" or text.title_of(metric, comparison.header.currency)
    if window then chart.title = ("%s, in '%s'"):format(chart.title, window) end
    list[#list + 1] = chart
  end
  for _, metric in ipairs(comparison.metrics) do add(metric) end
  for _, window in ipairs(comparison.windows) do
    for _, metric in ipairs(window.metrics) do add(metric, window.name) end
  end
  if comparison.slot then list[#list + 1] = over_time(comparison) end
  return list
end

return M
