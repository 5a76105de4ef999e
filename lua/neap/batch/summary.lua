--- What a batch came to, as text for people. Pure.
local progress = require "neap.batch.progress"

local M = {}

local thousands = progress.thousands

local MESSAGE_MAX = 160 -- bytes of an error's message

--- "2.14 s", "12:30 min", "3:05:00 h".
---@param seconds number
---@return string
function M.elapsed(seconds)
  if seconds < 60 then return ("%.2f s"):format(seconds) end
  return progress.duration(seconds) .. (seconds < 3600 and " min" or " h")
end

-- "12.3 s", "1.71 s", "102 ms", "0.35 ms": digits that say something.
local function seconds_text(seconds)
  if seconds >= 100 then return ("%.0f s"):format(seconds) end
  if seconds >= 10 then return ("%.1f s"):format(seconds) end
  if seconds >= 1 then return ("%.2f s"):format(seconds) end
  if seconds >= 0.00995 then return ("%.0f ms"):format(seconds * 1000) end
  return ("%.2g ms"):format(seconds * 1000)
end

-- "200: 981   429: 3   timeout: 2": numbers first, most frequent first.
local function counts_text(stats)
  local rows = {}
  for status, n in pairs(stats.statuses) do rows[#rows + 1] = { tostring(status), n, 1 } end
  for kind, n in pairs(stats.errors) do rows[#rows + 1] = { kind, n, 2 } end
  table.sort(rows, function(a, b)
    if a[3] ~= b[3] then return a[3] < b[3] end
    if a[2] ~= b[2] then return a[2] > b[2] end
    return a[1] < b[1]
  end)
  for i, row in ipairs(rows) do rows[i] = row[1] .. ": " .. thousands(row[2]) end
  return table.concat(rows, "   ")
end

-- The most frequent ones first.
local function kinds_of(counts)
  local kinds = {}
  for kind in pairs(counts) do kinds[#kinds + 1] = kind end
  table.sort(kinds, function(a, b)
    if counts[a] ~= counts[b] then return counts[a] > counts[b] end
    return a < b
  end)
  return kinds
end

-- One line of it, so long that a terminal shows it.
local function one_line(text)
  text = text:gsub("%c+", " ")
  if #text > MESSAGE_MAX then text = text:sub(1, MESSAGE_MAX - 3):gsub("[\128-\255]*$", "") .. "..." end
  return text
end

local function latency_text(latency)
  local parts = {}
  for _, percent in ipairs { 50, 90, 99 } do
    parts[#parts + 1] = ("p%d %s"):format(percent, seconds_text(latency:percentile(percent)))
  end
  parts[#parts + 1] = "max " .. seconds_text(latency.max)
  return table.concat(parts, "   ")
end

--- The summary: several lines, no line end at the end.
---@param stats neap.batch.Stats
---@param seconds number what the run took
---@param output string the file's name
---@return string
function M.text(stats, seconds, output)
  local rate = seconds > 0 and stats.done / seconds or 0
  local lines = {
    ("%s request%s in %s, %s"):format(thousands(stats.done), stats.done == 1 and "" or "s",
      M.elapsed(seconds), progress.rate(rate)),
  }
  local function row(label, text)
    lines[#lines + 1] = ("  %-9s %s"):format(label, text)
  end
  row("ok", thousands(stats.ok))
  row("failed", thousands(stats.failed)
    .. (stats.bad > 0 and (" (%s bad line%s)"):format(thousands(stats.bad), stats.bad == 1 and "" or "s") or ""))
  row("retries", thousands(stats.retries))
  if stats.done > 0 then row("statuses", counts_text(stats)) end
  for _, kind in ipairs(kinds_of(stats.errors)) do
    local sample = stats.samples[kind]
    if sample then row(kind, one_line(sample)) end
  end
  if stats.latency.count > 0 then row("latency", latency_text(stats.latency)) end
  if stats.in_flight > 0 then row("cut off", thousands(stats.in_flight) .. " in flight, without a result") end
  row("results", output == "-" and "on standard output" or output)
  return table.concat(lines, "\n")
end

return M
