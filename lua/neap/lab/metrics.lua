--- What a run is judged by: names, units, and which way is better. Pure.
local options = require "neap.options"

local M = {}

---@class neap.lab.Metric
---@field key string in goals and in a run's row
---@field title string above a column
---@field unit? string
---@field better "max"|"min"
---@field about string

--- In the order of the report.
---@type neap.lab.Metric[]
M.list = {
  { key = "success", title = "success", better = "max", about = "share of the operations that succeeded" },
  { key = "amplification", title = "amplification", better = "min", about = "requests that arrived by operation" },
  { key = "p50", title = "p50", unit = "s", better = "min", about = "median latency of operations that succeeded" },
  { key = "p99", title = "p99", unit = "s", better = "min", about = "99th percentile of the same" },
  { key = "completion_time", title = "completion", unit = "s", better = "min",
    about = "from the start to the end of the last operation" },
  { key = "wasted", title = "wasted", unit = "s", better = "min",
    about = "seconds that servers worked on answers nobody took" },
  { key = "cost", title = "cost", better = "min", about = "by the price table" },
}

local by_key = {}
for _, metric in ipairs(M.list) do by_key[metric.key] = metric end
M.by_key = by_key

--- As people write them.
local others = { completion = "completion_time", time = "completion_time", wasted_work = "wasted",
  amp = "amplification" }

--- The metric called `name`; nil and one sentence where there is none.
---@param name string
---@return neap.lab.Metric?
---@return string? message
function M.find(name)
  local metric = by_key[others[name] or name]
  if metric then return metric end
  local names = {}
  for i, known in ipairs(M.list) do names[i] = known.key end
  local hint = options.nearest(name, names)
  return nil, ("there is no measure '%s'%s"):format(name, hint and ("; did you mean '%s'?"):format(hint)
    or "; there are " .. table.concat(names, ", "))
end

--- A number with as many digits as tell: 0.9987, 12.3, 1,234 is 1234.
---@param value number?
---@param metric? neap.lab.Metric
---@return string
function M.format(value, metric)
  if not value then return "-" end
  if metric and metric.key == "success" then return ("%.2f %%"):format(value * 100) end
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

return M
