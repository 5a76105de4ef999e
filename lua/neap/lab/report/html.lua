--- One self-contained HTML page: what the text says, and the charts. Pure.
local charts = require "neap.lab.report.charts"
local compare = require "neap.lab.compare"
local headers = require "neap.lab.report.header"
local metrics = require "neap.lab.metrics"
local svg = require "neap.lab.report.svg"
local text = require "neap.lab.report.text"

local M = {}

local escape = svg.escape

local STYLE = [[
body { font: 15px/1.45 sans-serif; color: #222; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .3rem .7rem; text-align: right }
th:first-child, td:first-child, td.text { text-align: left } tr { border-bottom: 1px solid #ddd }
tr.best { background: #e8f4ea } tr.same { background: #f4f8ee } small { color: #666; white-space: nowrap }
dl { display: grid; grid-template-columns: max-content auto; gap: .2rem 1rem } dt { color: #666 } dd { margin: 0 }
code, pre { font: 13px/1.4 monospace } pre { background: #f5f5f5; padding: .8rem; overflow-x: auto }
svg { max-width: 100%; height: auto }]]

local function header_list(header)
  local parts = {}
  for i, line in ipairs(headers.lines(header)) do
    local value = escape(line[2])
    if line[1] == "command" then value = "<code>" .. value .. "</code>" end
    parts[i] = ("<dt>%s</dt><dd>%s</dd>"):format(line[1], value)
  end
  return "<dl>\n" .. table.concat(parts, "\n") .. "\n</dl>"
end

local function cell(estimate, metric)
  if not estimate then return "<td>-</td>" end
  local mean = escape(metrics.format(estimate.mean, metric))
  if not estimate.low then return ("<td>%s</td>"):format(mean) end
  return ("<td>%s<br><small>[%s, %s]</small></td>"):format(mean, escape(metrics.format(estimate.low, metric)),
    escape(metrics.format(estimate.high, metric)))
end

local function difference_cell(difference, metric)
  if not difference then return "<td>-</td>" end
  return ("<td>%s</td>"):format((escape(compare.difference_text(difference, metric)):gsub(" (%[.*%])$",
    "<br><small>%1</small>")))
end

local function table_of(comparison, columns, cell_of, last)
  local rows = { "<tr><th></th>" }
  for _, metric in ipairs(columns) do
    rows[1] = rows[1] .. ("<th title=\"%s\">%s</th>"):format(escape(metric.about),
      escape(text.title_of(metric, comparison.header.currency)))
  end
  rows[1] = rows[1] .. (last and "<th></th></tr>" or "</tr>")
  for _, result in ipairs(comparison.results) do
    local cells = {}
    for i, metric in ipairs(columns) do cells[i] = cell_of(result, metric) end
    rows[#rows + 1] = ('<tr class="%s"><td>%s</td>%s%s</tr>'):format(
      result.is_best and "best" or result.same and "same" or "other", escape(result.name), table.concat(cells),
      last and ('<td class="text">%s</td>'):format(escape(result.verdict)) or "")
  end
  return "<table>\n" .. table.concat(rows, "\n") .. "\n</table>"
end

local function mean_cell(result, metric)
  return cell(result.estimates[metric.key], metric)
end

local function window_tables(comparison)
  local parts = {}
  for i, window in ipairs(comparison.windows) do
    parts[i] = ("<h2>%s</h2>\n%s"):format(escape(text.window_title(window)),
      table_of(comparison, window.metrics, mean_cell))
  end
  return table.concat(parts, "\n")
end

--- The page of a comparison. `more`: text that goes before the table, as it is.
---@param comparison neap.lab.Comparison
---@param more? string
---@return string
function M.of(comparison, more)
  local title = escape(comparison.header.title or "Comparison")
  return table.concat({
    "<!DOCTYPE html>", '<html lang="en"><head><meta charset="utf-8">', "<title>" .. title .. "</title>",
    "<style>" .. STYLE .. "</style></head><body>", "<h1>" .. title .. "</h1>", header_list(comparison.header),
    more and "<pre>" .. escape(more) .. "</pre>" or "",
    ("<p>Best: %s.</p>"):format(escape(text.goal_text(comparison.goals))),
    table_of(comparison, comparison.metrics, mean_cell, true),
    window_tables(comparison),
    ("<h2>Differences, seed by seed</h2>\n<p>From %s%s.</p>"):format(comparison.best.is_best and "the best, " or "",
      escape(comparison.best.name)),
    table_of(comparison, comparison.metrics, function(result, metric)
      if result == comparison.best then return "<td></td>" end
      return difference_cell(result.against[metric.key], metric)
    end),
    "<h2>Charts</h2>", svg.document(charts.of(comparison)), "</body></html>", "",
  }, "\n")
end

return M
