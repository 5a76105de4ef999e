--- What a run is judged by: names, units, and which way is better; those of an
--- experiment's windows, and its own. Pure.
local options = require "neap.options"

local M = {}

---@class neap.lab.Metric
---@field key string in goals and in a run's row: "success", "success@outage"
---@field title string above a column
---@field unit? string
---@field better "max"|"min"
---@field about string
---@field percent? boolean a share: shown times 100
---@field windowed? boolean there is one of each window
---@field window? string which one, of those

--- In the order of the report.
---@type neap.lab.Metric[]
M.list = {
  { key = "success", title = "success", better = "max", percent = true, windowed = true,
    about = "share of the operations that succeeded" },
  { key = "amplification", title = "amplification", better = "min", windowed = true,
    about = "requests that arrived by operation" },
  { key = "wait", title = "wait", unit = "s", better = "min", windowed = true,
    about = "mean until a caller had its answer or its error" },
  { key = "p50", title = "p50", unit = "s", better = "min", windowed = true,
    about = "median latency of operations that succeeded" },
  { key = "p99", title = "p99", unit = "s", better = "min", windowed = true, about = "99th percentile of the same" },
  { key = "completion_time", title = "completion", unit = "s", better = "min",
    about = "from the start to the end of the last operation" },
  { key = "wasted", title = "wasted", unit = "s", better = "min",
    about = "seconds that servers worked on answers nobody took" },
  { key = "cost", title = "cost", better = "min", about = "by the price table" },
}

--- The columns of a report that says nothing of them.
local USUAL = { "success", "amplification", "p50", "p99", "completion_time", "wasted", "cost" }

--- As people write them.
local others = { completion = "completion_time", time = "completion_time", wasted_work = "wasted",
  amp = "amplification" }

---@class neap.lab.Window
---@field name string
---@field from number seconds since the start
---@field to number
---@field keys? string[] of its measures that are shown

---@class neap.lab.Measures what is known of a run, and what a report shows
---@field list neap.lab.Metric[] all
---@field shown string[] keys of the columns
---@field windows neap.lab.Window[] in order of time
---@field slot? number seconds of a slot of the timeline

--- The metric called `name`; nil and one sentence where there is none.
---@param name string
---@param list? neap.lab.Metric[] default: the usual ones
---@return neap.lab.Metric?
---@return string? message
function M.find(name, list)
  local names = {}
  for i, known in ipairs(list or M.list) do
    if known.key == (others[name] or name) then return known end
    names[i] = known.key
  end
  local hint = options.nearest(name, names)
  return nil, ("there is no measure '%s'%s"):format(name, hint and ("; did you mean '%s'?"):format(hint)
    or "; there are " .. table.concat(names, ", "))
end

local function of_window(metric, window)
  local copy = {}
  for key, value in pairs(metric) do copy[key] = value end
  copy.key, copy.window, copy.windowed = metric.key .. "@" .. window.name, window.name, nil
  return copy
end

--- What there is to tell of an experiment.
---@param windows? neap.lab.Window[]
---@param own? neap.lab.Metric[] the experiment's own
---@param shown? string[] keys of the columns; default: the usual ones
---@param slot? number seconds of the timeline
---@return neap.lab.Measures
function M.of(windows, own, shown, slot)
  local measures = { list = { unpack(M.list) }, shown = shown or USUAL, windows = {}, slot = slot }
  for _, metric in ipairs(own or {}) do measures.list[#measures.list + 1] = metric end
  for i, window in ipairs(windows or {}) do
    local keys = {}
    for _, metric in ipairs(M.list) do
      if metric.windowed then measures.list[#measures.list + 1] = of_window(metric, window) end
    end
    for _, key in ipairs(measures.shown) do
      local metric = M.find(key)
      if metric and metric.windowed then keys[#keys + 1] = key .. "@" .. window.name end
    end
    measures.windows[i] = { name = window.name, from = window.from, to = window.to, keys = keys }
  end
  return measures
end

--- A number with as many digits as tell: 0.9987, 12.3, 1,234 is 1234.
---@param value number?
---@param metric? neap.lab.Metric
---@return string
function M.format(value, metric)
  if not value then return "-" end
  if metric and metric.percent then return ("%.2f %%"):format(value * 100) end
  local size = math.abs(value)
  if size >= 1000 then return ("%.0f"):format(value) end
  if size >= 100 then return ("%.1f"):format(value) end
  if size >= 10 then return ("%.2f"):format(value) end
  if size >= 0.1 or size == 0 then return ("%.3f"):format(value) end
  return ("%.3g"):format(value)
end

--- "12.3 s", "0.998".
---@param value number?
---@param metric neap.lab.Metric
---@return string
function M.with_unit(value, metric)
  local text = M.format(value, metric)
  return value and metric.unit and text .. " " .. metric.unit or text
end

--- What a metric is called on its own: "success", "success in 'outage'".
---@param metric neap.lab.Metric
---@return string
function M.name_of(metric)
  return metric.window and ("%s in '%s'"):format(metric.title, metric.window) or metric.title
end

return M
