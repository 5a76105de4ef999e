--- A comparison as text. Pure.
local compare = require "neap.lab.compare"
local headers = require "neap.lab.report.header"
local metrics = require "neap.lab.metrics"
local statistics = require "neap.lab.statistics"

local M = {}

--- The lines that every report opens with.
---@param header neap.lab.Header
---@return string
function M.header(header)
  local lines = { "# " .. (header.title or "Comparison") }
  for _, line in ipairs(headers.lines(header)) do lines[#lines + 1] = ("%-8s %s"):format(line[1], line[2]) end
  return table.concat(lines, "\n") .. "\n"
end

local function pad(text, width, left)
  -- Only bytes that begin a character take room.
  local length = select(2, text:gsub("[^\128-\191]", ""))
  local room = (" "):rep(math.max(0, width - length))
  return left and text .. room or room .. text
end

--- Columns as wide as they must be; the first one to the left.
local function table_text(rows)
  local widths, lines = {}, {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do widths[i] = math.max(widths[i] or 0, #cell) end
  end
  for i, row in ipairs(rows) do
    local cells = {}
    for k, cell in ipairs(row) do cells[k] = pad(cell, widths[k], k == 1 or row.left == k) end
    lines[i] = (table.concat(cells, "  "):gsub("%s+$", ""))
  end
  return table.concat(lines, "\n")
end

local function title_of(metric, currency)
  local unit = metric.key == "cost" and currency or metric.unit
  return unit and ("%s, %s"):format(metric.title, unit) or metric.title
end

M.title_of = title_of

local function interval(estimate, metric)
  if not estimate or not estimate.low then return "" end
  local low, high = metrics.format(estimate.low, metric), metrics.format(estimate.high, metric)
  return ("[%s, %s]"):format((low:gsub(" %%$", "")), (high:gsub(" %%$", "")))
end

--- Whether there are runs enough for them.
local function has_intervals(comparison)
  for _, result in ipairs(comparison.results) do
    if #result.runs >= statistics.LEAST_RUNS then return true end
  end
  return false
end

local function means(comparison, list)
  local currency = comparison.header.currency
  local rows = { { "" } }
  for _, metric in ipairs(list) do table.insert(rows[1], title_of(metric, currency)) end
  for _, result in ipairs(comparison.results) do
    local row, under = { (result.is_best and "* " or result.same and "= " or "  ") .. result.name }, { "" }
    for _, metric in ipairs(list) do
      local estimate = result.estimates[metric.key]
      row[#row + 1] = metrics.format(estimate and estimate.mean, metric)
      under[#under + 1] = interval(estimate, metric)
    end
    rows[#rows + 1] = row
    if has_intervals(comparison) then rows[#rows + 1] = under end
  end
  return table_text(rows)
end

local function differences(comparison)
  local rows = { { "" } }
  for _, metric in ipairs(comparison.metrics) do table.insert(rows[1], title_of(metric, comparison.header.currency)) end
  for _, result in ipairs(comparison.results) do
    if result ~= comparison.best then
      local row, under = { "  " .. result.name }, { "" }
      for _, metric in ipairs(comparison.metrics) do
        local difference = result.against[metric.key]
        local text = difference and compare.difference_text(difference, metric) or "-"
        text = text:gsub(" points", ""):gsub(" s ", " ")
        row[#row + 1] = text:match "^(%S+)"
        under[#under + 1] = text:match "%[.*%]" or ""
      end
      rows[#rows + 1] = row
      if has_intervals(comparison) then rows[#rows + 1] = under end
    end
  end
  return #rows > 1 and table_text(rows) or nil
end

local function verdicts(comparison)
  local rows = {}
  for _, result in ipairs(comparison.results) do
    rows[#rows + 1] = { (result.is_best and "* " or result.same and "= " or "  ") .. result.name, result.verdict,
      left = 2 }
  end
  return table_text(rows)
end

local function goal_text(goals)
  local parts = {}
  for i, goal in ipairs(goals) do
    parts[i] = (goal.way == "max" and "highest " or "lowest ") .. metrics.name_of(goal.metric)
  end
  return table.concat(parts, ", then ")
end

M.goal_text = goal_text

local function notes(comparison)
  local lines = {}
  for _, result in ipairs(comparison.results) do
    if result.cut > 0 then
      lines[#lines + 1] = ("%s: the time limit ended %d operation%s, which count as failed"):format(result.name,
        result.cut, result.cut == 1 and "" or "s")
    end
  end
  return lines
end

--- "Of operations that began from 20 to 30 s ('outage'), and requests that arrived then".
---@param window {name: string, from: number, to: number}
---@return string
function M.window_title(window)
  return ("Window '%s', %g to %g s: operations that began then, requests that arrived then"):format(window.name,
    window.from, window.to)
end

M.TIMELINE = "Operations that succeeded, a second"

-- Columns of a timeline that people can read.
local COLUMNS = 16

local function timeline(comparison)
  local slot, longest = comparison.slot, 0
  for _, result in ipairs(comparison.results) do longest = math.max(longest, #result.timeline) end
  local merged = math.ceil(longest / COLUMNS)
  local rows = { { "from, s" } }
  for column = 1, merged > 0 and math.ceil(longest / merged) or 0 do
    local first = (column - 1) * merged
    rows[1][column + 1] = ("%g"):format(first * slot)
    for i, result in ipairs(comparison.results) do
      local sum, count = 0, math.min(merged, longest - first)
      for k = 1, count do sum = sum + (result.timeline[first + k] or 0) end
      rows[i + 1] = rows[i + 1] or { "  " .. result.name }
      rows[i + 1][column + 1] = ("%.1f"):format(sum / count)
    end
  end
  return ("%s, by when they ended:\n\n%s\n"):format(M.TIMELINE, table_text(rows))
end

--- The report of a comparison.
---@param comparison neap.lab.Comparison
---@return string
function M.of(comparison)
  local parts = { M.header(comparison.header), means(comparison, comparison.metrics) .. "\n" }
  for _, window in ipairs(comparison.windows) do
    parts[#parts + 1] = M.window_title(window) .. ":\n\n" .. means(comparison, window.metrics) .. "\n"
  end
  if comparison.slot then parts[#parts + 1] = timeline(comparison) end
  local versus = differences(comparison)
  if versus then
    parts[#parts + 1] = ("Differences from %s, seed by seed; shares in points:\n\n%s\n"):format(
      comparison.best.is_best and ("the best (%s)"):format(comparison.best.name) or comparison.best.name, versus)
  end
  parts[#parts + 1] = ("Best: %s\n\n%s\n"):format(goal_text(comparison.goals), verdicts(comparison))
  for _, line in ipairs(notes(comparison)) do parts[#parts + 1] = line .. "\n" end
  return table.concat(parts, "\n")
end

return M
