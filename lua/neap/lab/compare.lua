--- Rows of runs as a comparison: means, intervals, differences paired by seed, and
--- who cannot be told from the best. Pure but for the random streams of the
--- bootstrap.
local core = require "neap.core"
local goals_module = require "neap.lab.goals"
local metrics = require "neap.lab.metrics"
local statistics = require "neap.lab.statistics"

local M = {}

-- The bootstrap's own randomness: equal rows give equal intervals.
local BOOTSTRAP_SEED = 1979

---@class neap.lab.Variant
---@field name string in the report
---@field policy string
---@field changes? neap.lab.Change[]
---@field at? table<string, any> values of swept options by name

---@class neap.lab.Result of one variant
---@field name string
---@field variant neap.lab.Variant
---@field runs neap.lab.Row[] in the order of seeds
---@field estimates table<string, neap.lab.Estimate> by metric
---@field against table<string, neap.lab.Estimate> differences from the best, by metric
---@field is_best boolean of too few runs nobody is
---@field same boolean it cannot be told from the best
---@field verdict string
---@field cut integer operations that the time limit ended
---@field timeline? number[] successes a second by slot, means over the runs

---@class neap.lab.Comparison
---@field results neap.lab.Result[]
---@field best neap.lab.Result what the others are compared with; of too few runs the first by its means
---@field metrics neap.lab.Metric[] columns: those shown that there is something to tell of
---@field windows {name: string, from: number, to: number, metrics: neap.lab.Metric[]}[]
---@field slot? number seconds of the timelines' slots
---@field goals neap.lab.Goal[]
---@field header table what the report opens with, see neap.lab.report.header

--- Resamples by number of runs.
---@return fun(size: integer): neap.lab.Resamples
function M.resamples()
  return statistics.source(function(number)
    local rng = core.rng(BOOTSTRAP_SEED, number)
    return function() return rng:double() end
  end)
end

--- Whether `x` is better than `y`, by a goal; nil: neither.
local function better(goal, x, y)
  if not x or not y or x == y then return nil end
  if goal.way == "min" then return x < y end
  return x > y
end

local function best_by(list, goal)
  local best, key = nil, goal.metric.key
  for _, result in ipairs(list) do
    local estimate = result.estimates[key]
    if estimate and (not best or better(goal, estimate.mean, best.estimates[key].mean)) then best = result end
  end
  return best or list[1]
end

--- Whether there are too few runs to tell anything.
local function too_few(results)
  for _, result in ipairs(results) do
    if #result.runs < statistics.LEAST_RUNS then return true end
  end
  return false
end

local function means_of(result)
  local means = {}
  for key, estimate in pairs(result.estimates) do means[key] = estimate.mean end
  return means
end

local function first_by_means(results, goals)
  local first = results[1]
  for _, result in ipairs(results) do
    if goals_module.is_better(goals, {}, means_of(result), means_of(first)) then first = result end
  end
  return first
end

--- The best by the first goal; among those that cannot be told from it, the best by
--- the next one, and so on.
local function find_best(results, goals, source, breathe)
  if too_few(results) then return first_by_means(results, goals) end
  local left, best = results, results[1]
  for _, goal in ipairs(goals) do
    best = best_by(left, goal)
    local close = {}
    for _, result in ipairs(left) do
      local difference = statistics.difference(result.runs, best.runs, goal.metric.key, source)
      if result == best or statistics.may_be_none(difference) then close[#close + 1] = result end
      breathe()
    end
    left = close
  end
  return best
end

local function signed(value, metric)
  if value == 0 then return "0" end
  local factor = metric.percent and 100 or 1
  local text = metrics.format(math.abs(value) * factor)
  return (value < 0 and "-" or "+") .. text
end

--- "+1.20 s [+0.90, +1.50]": a difference.
---@param difference neap.lab.Estimate
---@param metric neap.lab.Metric
---@return string
function M.difference_text(difference, metric)
  local unit = metric.percent and " points" or metric.unit and " " .. metric.unit or ""
  local text = signed(difference.mean, metric) .. unit
  if difference.low then
    text = ("%s [%s, %s]"):format(text, signed(difference.low, metric), signed(difference.high, metric))
  end
  return text
end

--- How a result stands to the best by the goals: the first one in which they differ
--- decides.
local function judge(result, best, goals, is_few)
  if is_few then
    return true, ("%s: %d run%s tell%s too little (at least %d)"):format(
      result == best and "leads on average" or "cannot be told from it", #result.runs, #result.runs == 1 and "" or "s",
      #result.runs == 1 and "s" or "", statistics.LEAST_RUNS)
  end
  if result == best then return false, "best" end
  for _, goal in ipairs(goals) do
    local difference = result.against[goal.metric.key]
    if not statistics.may_be_none(difference) then
      local word = (difference.mean > 0) == (goal.way == "max") and "better" or "worse"
      return false, ("%s: %s %s"):format(word, metrics.name_of(goal.metric), M.difference_text(difference, goal.metric))
    end
    if not difference and (result.estimates[goal.metric.key] == nil) ~= (best.estimates[goal.metric.key] == nil) then
      return false, ("worse: no %s, for nothing succeeded"):format(metrics.name_of(goal.metric))
    end
  end
  return true, "cannot be told from the best"
end

--- What there is something to tell of: cost only with a price.
local function told(results, keys, known)
  local list = {}
  for _, key in ipairs(keys) do
    for _, result in ipairs(results) do
      if result.estimates[key] then
        list[#list + 1] = metrics.find(key, known)
        break
      end
    end
  end
  return list
end

--- Slots of the longest run.
local function slots_of(rows)
  local longest = 0
  for _, of_one in ipairs(rows) do
    for _, row in ipairs(of_one) do longest = math.max(longest, #row.timeline) end
  end
  return longest
end

--- Means by slot; a run that was over by then had none.
local function mean_timeline(rows, longest)
  local sums = {}
  for slot = 1, longest do
    local sum = 0
    for _, row in ipairs(rows) do sum = sum + (row.timeline[slot] or 0) end
    sums[slot] = sum / #rows
  end
  return sums
end

local function result_of(variant, rows, measures, source)
  local result = { name = variant.name, variant = variant, runs = rows, estimates = {}, against = {}, cut = 0 }
  for _, metric in ipairs(measures.list) do
    result.estimates[metric.key] = statistics.column(rows, metric.key, source)
  end
  for _, row in ipairs(rows) do result.cut = result.cut + row.cut end
  return result
end

local function nothing() end

---@param variants neap.lab.Variant[]
---@param rows neap.lab.Row[][] by variant
---@param goals neap.lab.Goal[]
---@param header? table
---@param measures? neap.lab.Measures default: the usual ones
---@param breathe? fun() called now and then: resamples of many variants take a while
---@return neap.lab.Comparison
function M.of(variants, rows, goals, header, measures, breathe)
  local source, results = M.resamples(), {}
  measures, breathe = measures or metrics.of(), breathe or nothing
  for i, variant in ipairs(variants) do
    results[i] = result_of(variant, rows[i], measures, source)
    breathe()
  end
  local best, is_few = find_best(results, goals, source, breathe), too_few(results)
  for _, result in ipairs(results) do
    for _, metric in ipairs(measures.list) do
      result.against[metric.key] = statistics.difference(result.runs, best.runs, metric.key, source)
    end
    result.is_best = result == best and not is_few
    result.same, result.verdict = judge(result, best, goals, is_few)
    breathe()
  end
  if measures.slot then
    local longest = slots_of(rows)
    for i, result in ipairs(results) do result.timeline = mean_timeline(rows[i], longest) end
  end
  local windows = {}
  for i, window in ipairs(measures.windows) do
    windows[i] = { name = window.name, from = window.from, to = window.to,
      metrics = told(results, window.keys, measures.list) }
  end
  return { results = results, best = best, metrics = told(results, measures.shown, measures.list), goals = goals,
    windows = windows, slot = measures.slot, header = header or {} }
end

return M
