--- A dry run's report as text. Pure.
local core = require "neap.core"
local printable = require "neap.printable"
local progress = require "neap.batch.progress"
local sensitivity = require "neap.batch.dry_run.sensitivity"
local sorted = require "neap.sorted"
local summary = require "neap.batch.summary"

local M = {}

local LOW, HIGH = 0.05, 0.95 -- of the 90 % range

---@class neap.batch.Forecast
---@field options neap.batch.DryRunOptions
---@field facts neap.batch.InputFacts
---@field world neap.world.World
---@field server string
---@field output? string what would become of it
---@field currency? string nil: there are no prices
---@field handled boolean a handler answers
---@field assumptions neap.batch.Assumption[]
---@field rows neap.batch.DryRow[] of the world as it is, by seed
---@field effects neap.batch.Effect[]
---@field varied integer seeds of each variation
---@field command string

local function plural(count, word)
  return ("%s %s%s"):format(progress.thousands(count), word, count == 1 and "" or "s")
end

local function whole(value) return progress.thousands(math.floor(value + 0.5)) end

local function money(value)
  if value == 0 then return "0" end
  return (value >= 1 and "%.2f" or "%.3g"):format(value)
end

-- Columns as wide as they must be, to the right but for the first one and those of
-- `left`.
local function columns(rows, left)
  local widths, lines = {}, {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do widths[i] = math.max(widths[i] or 0, #cell) end
  end
  for i, row in ipairs(rows) do
    local cells = {}
    for k, cell in ipairs(row) do
      local room = (" "):rep(widths[k] - #cell)
      cells[k] = (k == 1 or left and left[k]) and cell .. room or room .. cell
    end
    lines[i] = ("  " .. table.concat(cells, "   ")):gsub("%s+$", "")
  end
  return table.concat(lines, "\n")
end

-- ---------------------------------------------------------------------------
-- What was run
-- ---------------------------------------------------------------------------

local function input_text(forecast)
  local facts = forecast.facts
  local text = ("%s: %s"):format(forecast.options.input, plural(facts.items, "item"))
  if #facts.models > 0 then text = ("%s, %s"):format(text, table.concat(facts.models, ", ")) end
  return text
end

local function seeds_text(opts)
  if opts.runs == 1 then return ("%d: one run, which tells nothing of the range"):format(opts.seed) end
  return ("%d to %d, a run each; the range is from 5 %% to 95 %% of them"):format(opts.seed, opts.seed + opts.runs - 1)
end

local function header(forecast)
  local opts = forecast.options
  local lines = { "# Dry run: nothing was sent, nothing was written" }
  local function add(name, text) lines[#lines + 1] = ("%-8s %s"):format(name, printable.line(text)) end
  add("input", input_text(forecast))
  if forecast.facts.bad > 0 then
    add("", ("%s cannot be run; the first: %s"):format(plural(forecast.facts.bad, "line"), forecast.facts.problem))
  end
  add("world", ("%s (%s)"):format(opts.world, forecast.world:source()))
  add("server", forecast.server)
  add("limits", ("concurrency %d, at most %s for an item, %g s each"):format(opts.concurrency,
    plural(opts.max_attempts, "attempt"), opts.timeout))
  add("seeds", seeds_text(opts))
  add("version", "neap " .. (core.versions.neap or "unknown"))
  add("command", forecast.command)
  if forecast.output then add("output", forecast.output) end
  return table.concat(lines, "\n")
end

-- ---------------------------------------------------------------------------
-- What it came to
-- ---------------------------------------------------------------------------

local measures = {
  { "seconds", "duration", summary.elapsed },
  { "sends", "requests sent", whole },
  { "limited", "429s", whole },
  { "failed", "failed items", whole },
  { "input", "input tokens", whole },
  { "output", "output tokens", whole },
  { "cost", "cost", money },
}

local function values(rows, key)
  local list = {}
  for i, row in ipairs(rows) do list[i] = row[key] end
  return list
end

--- Median and range of a measure over seeds.
---@param rows neap.batch.DryRow[]
---@param key string
---@return number median, number low, number high
function M.spread(rows, key)
  local list = values(rows, key)
  return sensitivity.quantile(list, 0.5), sensitivity.quantile(list, LOW), sensitivity.quantile(list, HIGH)
end

local function results(forecast)
  local one = #forecast.rows == 1
  local rows = { { "", one and "one run" or "median", not one and "90 % range" or nil } }
  for _, measure in ipairs(measures) do
    local key, title, format = unpack(measure)
    local unknown = forecast.handled and (key == "input" or key == "output")
    if forecast.rows[1][key] and not unknown then
      local median, low, high = M.spread(forecast.rows, key)
      if key == "cost" then title = ("%s, %s"):format(title, printable.line(forecast.currency)) end
      low, high = format(low), format(high)
      local range = low == high and "the same" or ("%s to %s"):format(low, high)
      rows[#rows + 1] = { title, format(median), not one and range or nil }
    end
  end
  return columns(rows)
end

-- "429: 120, timeout: 3" over all runs, the most frequent first.
local function ends_of(rows)
  local counts = {}
  for _, row in ipairs(rows) do
    for name, count in pairs(row.failures) do counts[name] = (counts[name] or 0) + count end
  end
  local names = sorted.keys(counts)
  table.sort(names, function(a, b)
    if counts[a] ~= counts[b] then return counts[a] > counts[b] end
    return a < b
  end)
  for i, name in ipairs(names) do names[i] = ("%s: %s"):format(name, whole(counts[name] / #rows)) end
  return table.concat(names, ", ")
end

--- What fails by 429, and what would help.
local function limited_notes(forecast, lines)
  local limited, too_large = 0, forecast.rows[1].too_large
  for _, row in ipairs(forecast.rows) do limited = limited + (row.failures["429"] or 0) end
  if #too_large > 0 then
    lines[#lines + 1] = ("%s more tokens than the limit ever lets in ('%s' the first): shorten the prompt or lower "
      .. "max_tokens"):format(#too_large == 1 and "1 item takes" or whole(#too_large) .. " items take",
      printable.short(too_large[1], 80))
  end
  if limited > #too_large * #forecast.rows then
    lines[#lines + 1] = "a lower --concurrency or more --max-attempts would help against 429"
  end
end

local function notes(forecast)
  local lines = {}
  if M.spread(forecast.rows, "failed") > 0 then
    lines[1] = "failed items end with (mean of a run): " .. ends_of(forecast.rows)
    limited_notes(forecast, lines)
  end
  local other = M.spread(forecast.rows, "other")
  if other > 0 then
    lines[#lines + 1] = ("%s to a path that the world does not know as a model's: tokens are not counted"):format(
      math.floor(other + 0.5) == 1 and "1 answer is" or whole(other) .. " answers are")
  end
  if forecast.handled then
    lines[#lines + 1] = "the world answers with a function of its own: tokens are not counted, nothing is varied"
  end
  for _, assumption in ipairs(forecast.assumptions) do
    if assumption.name == "latency" and not assumption.varies then
      lines[#lines + 1] = "the world says nothing of latency: the duration is what quotas and waits alone take"
    end
  end
  if not forecast.currency then lines[#lines + 1] = "cost: --price FILE tells it" end
  return table.concat(lines, "\n")
end

-- ---------------------------------------------------------------------------
-- What it hangs on
-- ---------------------------------------------------------------------------

local function percent(value)
  local text = ("%+.0f %%"):format(value * 100)
  return (text:gsub("^[+-]0 %%$", "0 %%"))
end

local function items(value)
  return math.floor(math.abs(value) + 0.5) == 0 and "0" or ("%+.0f"):format(value)
end

local function assumed(forecast)
  local rows = {}
  for i, assumption in ipairs(forecast.assumptions) do
    rows[i] = { assumption.title, printable.line(assumption.text), printable.line(assumption.origin) }
  end
  return columns(rows, { true, true, true })
end

local function changed(effect, key, format)
  local text = format(effect[key])
  return effect.lucky[key] and "(" .. text .. ")" or text
end

--- A row for each assumption that was varied, less before more.
local function changes(forecast)
  local priced = forecast.currency ~= nil
  local rows = { { "", "duration", priced and "cost" or "failed items", priced and "failed items" or nil } }
  for i = 1, #forecast.effects, 2 do
    local less, more = forecast.effects[i], forecast.effects[i + 1]
    local row = { less.assumption.title }
    local function add(key, format)
      row[#row + 1] = ("%s / %s"):format(changed(less, key, format), changed(more, key, format))
    end
    add("seconds", percent)
    if priced then add("cost", percent) end
    add("failed", items)
    rows[#rows + 1] = row
  end
  return columns(rows)
end

local function words(effect, key)
  local value = effect[key]
  local what
  if key == "failed" then
    local count = math.floor(math.abs(value) + 0.5)
    what = ("makes %s %s item%s fail"):format(progress.thousands(count), value > 0 and "more" or "fewer",
      count == 1 and "" or "s")
  else
    local longer = key == "seconds" and { "longer", "shorter" } or { "dearer", "cheaper" }
    what = ("makes it %.0f %% %s"):format(math.abs(value) * 100, value > 0 and longer[1] or longer[2])
    if key == "seconds" and math.abs(effect.failed) >= 1 and not effect.lucky.failed then
      what = ("%s and %s"):format(what, words(effect, "failed"):match "makes .*$")
    end
  end
  return ("25 %% %s %s"):format(effect.scale < 1 and "less" or "more", what)
end

-- "quota: 25 % less makes it 31 % longer [profile ..., undated]"
local function most_text(effect, key)
  return ("%s: %s [%s]"):format(effect.assumption.title, words(effect, key),
    printable.line(effect.assumption.origin))
end

local function verdict(forecast)
  local lines = {}
  local first = sensitivity.most(forecast.effects, "seconds")
  lines[1] = first and "matters most: " .. most_text(first, "seconds")
    or "matters most: none; no assumption moves the duration by 1 %"
  for _, entry in ipairs { { "cost", "for the cost" }, { "failed", "for failures" } } do
    local effect = sensitivity.most(forecast.effects, entry[1])
    if effect and (not first or effect.assumption ~= first.assumption) then
      lines[#lines + 1] = ("%s: %s"):format(entry[2], most_text(effect, entry[1]))
    end
  end
  local guessed = {}
  for _, assumption in ipairs(forecast.assumptions) do
    if assumption.guessed then guessed[#guessed + 1] = assumption.title end
  end
  if #guessed > 0 then
    lines[#lines + 1] = ("guessed: %s. The ranges above are luck alone; a wrong assumption is not in them."):format(
      table.concat(guessed, ", "))
  end
  return table.concat(lines, "\n")
end

local function seeds_of_effects(forecast)
  local first = forecast.options.seed
  if forecast.varied == 1 then return ("seed %d"):format(first) end
  return ("seeds %d to %d"):format(first, first + forecast.varied - 1)
end

--- The report.
---@param forecast neap.batch.Forecast
---@return string
function M.of(forecast)
  local parts = { header(forecast), results(forecast) }
  local more = notes(forecast)
  if more ~= "" then parts[#parts + 1] = more end
  if #forecast.assumptions > 0 then
    parts[#parts + 1] = "Assumptions, and where they are from:\n" .. assumed(forecast)
    if #forecast.effects > 0 then
      parts[#parts + 1] = ("What 25 %% less / 25 %% more of each changes (median of %s, paired; in brackets: may be "
        .. "luck):\n%s"):format(seeds_of_effects(forecast), changes(forecast))
    end
    parts[#parts + 1] = verdict(forecast)
  end
  return table.concat(parts, "\n\n") .. "\n"
end

return M
