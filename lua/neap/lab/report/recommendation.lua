--- A recommendation as text. Pure.
local goals = require "neap.lab.goals"
local metrics = require "neap.lab.metrics"
local recommend = require "neap.lab.recommend"
local sweep = require "neap.lab.sweep"
local text = require "neap.lab.report.text"

local M = {}

local function constraint_text(list)
  local parts = {}
  for i, constraint in ipairs(list) do parts[i] = constraint.text end
  return #parts > 0 and table.concat(parts, ", ") or "nothing"
end

local function space_text(dimension)
  if dimension.low then
    return ("%s %s..%s"):format(dimension.name, sweep.show(dimension.low), sweep.show(dimension.high))
  end
  local values = {}
  for i, value in ipairs(dimension.values) do values[i] = sweep.show(value) end
  return ("%s %s"):format(dimension.name, table.concat(values, ","))
end

local function searched_text(search, result)
  local parts = { ("%d candidates, of"):format(result.searched) }
  for _, base in ipairs(search.bases) do
    local space = {}
    for i, dimension in ipairs(base.dimensions) do space[i] = space_text(dimension) end
    parts[#parts + 1] = ("  %s%s"):format(base.name, #space > 0 and ": " .. table.concat(space, "; ") or " as it is")
  end
  return table.concat(parts, "\n")
end

local function bounds_text(estimate, metric)
  if not estimate then return "no value" end
  local mean = metrics.with_unit(estimate.mean, metric)
  if not estimate.low then return mean end
  return ("%s [%s, %s]"):format(mean, metrics.format(estimate.low, metric), metrics.format(estimate.high, metric))
end

--- Whether a constraint holds, and whether the whole interval agrees.
local function constraint_line(constraint, estimate)
  local miss = goals.miss(constraint, estimate and estimate.mean)
  local verdict = miss == 0 and "holds" or "missed"
  if miss == 0 and estimate.low then
    local worst = constraint.sign:find "<" and estimate.high or estimate.low
    if goals.miss(constraint, worst) > 0 then verdict = "holds on average; the interval goes beyond it" end
  elseif miss > 0 and miss < math.huge then
    verdict = ("missed by %.2g %%"):format(miss * 100)
  end
  return ("  %-24s %s: %s"):format(constraint.text, bounds_text(estimate, constraint.metric), verdict)
end

local function result_lines(search, result, shown)
  local lines, told = {}, {}
  for _, constraint in ipairs(search.constraints) do
    told[constraint.metric.key] = true
    lines[#lines + 1] = constraint_line(constraint, result.estimates[constraint.metric.key])
  end
  for _, metric in ipairs(shown) do
    local estimate = result.estimates[metric.key]
    if estimate and not told[metric.key] then
      lines[#lines + 1] = ("  %-24s %s"):format(metric.title, bounds_text(estimate, metric))
    end
  end
  return table.concat(lines, "\n")
end

--- What is told of each: the goals, and the report's columns.
local function shown_of(search, comparison)
  local list, seen = {}, {}
  for _, goal in ipairs(search.goals) do list[#list + 1] = goal.metric end
  for _, metric in ipairs(comparison.metrics) do list[#list + 1] = metric end
  local once = {}
  for _, metric in ipairs(list) do
    if not seen[metric.key] then once[#once + 1], seen[metric.key] = metric, true end
  end
  return once
end

local function world_lines(search, result)
  local lines = {}
  for _, world in ipairs(result.worlds) do
    local parts, seen = {}, {}
    local function add(metric)
      if seen[metric.key] then return end
      seen[metric.key] = true
      parts[#parts + 1] = ("%s %s"):format(metrics.name_of(metric), metrics.with_unit(world.means[metric.key], metric))
    end
    for _, goal in ipairs(search.goals) do add(goal.metric) end
    for _, constraint in ipairs(search.constraints) do add(constraint.metric) end
    lines[#lines + 1] = ("  %-10s %+.0f %%  %s%s"):format(world.factor, (world.scale - 1) * 100,
      table.concat(parts, ", "), world.holds and "" or "  MISSED")
  end
  return table.concat(lines, "\n")
end

--- Text before and after the Lua to paste.
---@param search neap.lab.Search
---@param result neap.lab.Recommendation
---@param header neap.lab.Header
---@param lua string to paste
---@return string
function M.of(search, result, header, lua)
  local best
  for _, one in ipairs(result.comparison.results) do
    if one.variant == result.winner.variant then best = one end
  end
  local shown = shown_of(search, result.comparison)
  local parts = { text.header(header),
    ("goal: %s, subject to: %s\nsearched: %s"):format(goals.text(search.goals), constraint_text(search.constraints),
      searched_text(search, result)) }
  if result.feasible then
    parts[#parts + 1] = ("\nTake this:\n\n%s\n\nOn %d fresh seeds:\n%s"):format(lua, result.runs,
      result_lines(search, best, shown))
  else
    parts[#parts + 1] = ("\nno feasible policy\n\nThe nearest miss is %s, which misses %s. On %d fresh seeds:\n%s")
      :format(best.name, table.concat(result.missed, ", "), result.runs, result_lines(search, best, shown))
  end
  for _, one in ipairs(result.comparison.results) do
    if one ~= best then
      local told = one.verdict == "best" and "by the goal alone it would be the better one"
        or one.verdict:gsub("the best", "the winner")
      parts[#parts + 1] = ("\nRunner-up: %s (%s)\n%s"):format(one.name, told, result_lines(search, one, shown))
    end
  end
  if #result.worlds > 0 then
    parts[#parts + 1] = ("\nIn worlds that differ by %g %% (%d seeds each):\n%s"):format(recommend.PERTURBATION * 100,
      search.perturbed or recommend.PERTURBED, world_lines(search, result))
  end
  return table.concat(parts, "\n") .. "\n"
end

return M
