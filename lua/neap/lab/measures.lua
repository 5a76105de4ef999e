--- What an experiment says of its measures, checked: the columns of its report, its
--- own measures among them; windows of time; the slots of a timeline.
local metrics = require "neap.lab.metrics"
local options = require "neap.options"
local sorted = require "neap.sorted"

local M = {}

---@class neap.lab.OwnMeasure
---@field [1] string its name, as in goals
---@field of fun(env: neap.lab.Env, row: neap.lab.Row): number? at the end of a run; nil: no value
---@field title? string above its column; default: the name
---@field unit? string
---@field better? "min"|"max" default "min"
---@field percent? boolean it is a share, and shown times 100
---@field about? string one line for the page

local own_fields = {
  of = { type = "function", required = true },
  title = { type = "string" },
  unit = { type = "string" },
  better = { type = "string", one_of = { "min", "max" }, default = "min" },
  percent = { type = "boolean" },
  about = { type = "string", default = "" },
}

local window_fields = {
  from = { type = "number", min = 0, required = true },
  to = { type = "number", above = 0, max = 1e12, required = true },
}

-- Fields of a row that are no measures.
local TAKEN = { seed = true, operations = true, succeeded = true, cut = true, sends = true, work = true, input = true,
  output = true, timeline = true }

local function check_name(where, name)
  if type(name) ~= "string" or not name:find "^[%a_][%w_]*$" then
    options.fail(("%s: a name must be letters, digits and _, got '%s'"):format(where, tostring(name)))
  end
end

--- In order of time.
local function read_windows(given, where)
  local list = {}
  for name, spec in sorted.pairs(given or {}) do
    check_name(where .. ": option 'windows'", name)
    local here = ("%s: windows: %s"):format(where, name)
    if type(spec) ~= "table" then
      options.fail(("%s must be { from =, to = }, got %s"):format(here, type(spec)))
    end
    local window = options.check(here, spec, window_fields)
    if window.to <= window.from then
      options.fail(("%s: option 'to' must be above 'from' (%g), got %g"):format(here, window.from, window.to))
    end
    list[#list + 1] = { name = name, from = window.from, to = window.to, place = #list }
  end
  table.sort(list, function(a, b)
    if a.from ~= b.from then return a.from < b.from end
    return a.place < b.place
  end)
  return list
end

local function read_own(entry, where)
  local name, fields = entry[1], {}
  check_name(where, name)
  for key, value in pairs(entry) do
    if key ~= 1 then fields[tostring(key)] = value end
  end
  local given = options.check(("%s: %s"):format(where, name), fields, own_fields)
  if TAKEN[name] or metrics.find(name) then options.fail(("%s: '%s' is taken"):format(where, name)) end
  return { key = name, title = given.title or name, unit = given.unit, better = given.better,
    percent = given.percent, about = given.about }, given.of
end

--- Checks them. Raises at the line of the script.
---@param experiment neap.lab.ExperimentOptions
---@param where string
---@return neap.lab.Measures
---@return table<string, fun(env: neap.lab.Env, row: neap.lab.Row): number?> own, by name
function M.read(experiment, where)
  local windows = read_windows(experiment.windows, where)
  local own, functions, named, shown = {}, {}, {}, experiment.measures and {}
  for i, entry in ipairs(experiment.measures or {}) do
    local here = ("%s: measures: entry %d"):format(where, i)
    if type(entry) == "table" then
      local metric, of = read_own(entry, here)
      if functions[metric.key] then options.fail(("%s: '%s' is there twice"):format(here, metric.key)) end
      own[#own + 1], functions[metric.key], shown[i] = metric, of, metric.key
    else
      local metric, message = metrics.find(tostring(entry))
      if not metric then options.fail(("%s: %s"):format(here, message)) end
      if named[metric.key] then options.fail(("%s: '%s' is there twice"):format(here, metric.key)) end
      shown[i], named[metric.key] = metric.key, true
    end
  end
  if shown and #shown == 0 then options.fail(where .. ": option 'measures' is empty") end
  return metrics.of(windows, own, shown, experiment.timeline), functions
end

return M
