--- The figures of bench/fidelity_report.lua: of real and of simulated runs of the same
--- script, their 95 % intervals, and how far the two are apart.
local statistics = require "neap.lab.statistics"

local M = {}

M.head = "| cell | figure | real | simulated | real is off by | bar |\n|---|---|--:|--:|--:|--:|"

--- The latencies of all runs together, ascending, and whose each is.
local function pool(runs)
  local all = {}
  for number, run in ipairs(runs) do
    for _, seconds in ipairs(run.latencies) do all[#all + 1] = { seconds, number } end
  end
  table.sort(all, function(a, b) return a[1] < b[1] end)
  local values, owners, sizes = {}, {}, {}
  for i, pair in ipairs(all) do values[i], owners[i] = pair[1], pair[2] end
  for number, run in ipairs(runs) do sizes[number] = #run.latencies end
  return { values = values, owners = owners, sizes = sizes }
end

--- The percentile of the pool in which run i is there weights[i] times.
local function weighted(pooled, p, weights)
  local values, owners, total = pooled.values, pooled.owners, 0
  for number, size in ipairs(pooled.sizes) do total = total + size * weights[number] end
  local above = total - math.ceil(p * total - 1e-9) -- from the far end it is nearer
  local i = #values
  local seen = weights[owners[i]]
  while seen <= above do
    i = i - 1
    seen = seen + weights[owners[i]]
  end
  return values[i]
end

--- A percentile of the pooled latencies. Calls of one run are not independent, so
--- whole runs are drawn anew.
local function percentile(pooled, p, resamples)
  local size, drawn = resamples.size, {}
  local weights = {}
  for i = 1, resamples.count do
    for number = 1, size do weights[number] = 0 end
    for j = (i - 1) * size + 1, i * size do weights[resamples[j]] = weights[resamples[j]] + 1 end
    drawn[i] = weighted(pooled, p, weights)
  end
  table.sort(drawn)
  return { mean = statistics.percentile(pooled.values, p), low = statistics.percentile(drawn, 0.025),
    high = statistics.percentile(drawn, 0.975) }
end

local function figures(runs, source)
  local pooled, resamples = pool(runs), source(#runs)
  local list = {
    completion = statistics.column(runs, "completion", source),
    amplification = statistics.column(runs, "amplification", source),
    p50 = percentile(pooled, 0.5, resamples),
    p99 = percentile(pooled, 0.99, resamples),
    succeeded = 0, requests = 0, calls = 0,
  }
  for _, run in ipairs(runs) do
    list.requests, list.calls = list.requests + run.requests, list.calls + run.calls
    list.succeeded = list.succeeded + #run.latencies
  end
  return list
end

-- p50 has no bar of its own, and is there to see.
local ROWS = {
  { "completion", "completion time, s", "%.2f", 0.10 }, { "amplification", "amplification", "%.3f", 0.10 },
  { "p50", "p50, s", "%.3f" }, { "p99", "p99, s", "%.3f", 0.15 },
}

local function interval(estimate, format)
  if not estimate.low then return format:format(estimate.mean) end
  return ("%s (%s-%s)"):format(format:format(estimate.mean), format:format(estimate.low), format:format(estimate.high))
end

--- Cores that client and mock kept busy, on average over the runs.
local function cores_of(runs)
  local seconds, client, mock = 0, 0, 0
  for _, run in ipairs(runs) do
    seconds, client, mock = seconds + run.completion, client + run.cpu, mock + (run.mock_cpu or 0)
  end
  return client / seconds, mock / seconds
end

---@class bench.fidelity.Comparison
---@field rows string[] of a table whose head is `head`
---@field apart table<string, number> real by simulated, less 1: "completion", "amplification", "p99"
---@field within boolean all of them are within their bars
---@field text string the same for people
---@field requests integer of all real runs
---@field client number cores that the real client kept busy
---@field mock number

--- Compares the two sides of a cell.
---@param real bench.fidelity.Run[]
---@param simulated bench.fidelity.Run[]
---@param stream fun(size: integer): {double: fun(self): number} randomness for the intervals
---@return bench.fidelity.Comparison
function M.compare(real, simulated, stream)
  local source = statistics.source(function(size)
    local rng = stream(size)
    return function() return rng:double() end
  end)
  local there, here = figures(real, source), figures(simulated, source)
  local rows, apart, parts, within = {}, {}, {}, true
  for i, row in ipairs(ROWS) do
    local key, title, format, bar = unpack(row)
    local difference = there[key].mean / here[key].mean - 1
    rows[i] = ("%s | %s | %s | %+.1f %% | %s"):format(title, interval(there[key], format),
      interval(here[key], format), difference * 100, bar and ("%.0f %%"):format(bar * 100) or "")
    if bar then
      apart[key], parts[#parts + 1] = difference, ("%s %+.1f %%"):format(title:match "^[^,]+", difference * 100)
      within = within and math.abs(difference) <= bar
    end
  end
  rows[#rows + 1] = ("succeeded | %.2f %% | %.2f %% | |"):format(there.succeeded / there.calls * 100,
    here.succeeded / here.calls * 100)
  local client, mock = cores_of(real)
  return { rows = rows, apart = apart, within = within, text = table.concat(parts, ", "), requests = there.requests,
    client = client, mock = mock }
end

return M
