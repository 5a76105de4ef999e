-- Tables and bars from the figures that bench/run has written.
-- usage: neap run report.lua RUNS.tsv http|sleepers|startup|case1
local path, section = ...

local LEVELS = { 64, 1000, 5000 }
local CLIENTS = { "neap", "go", "undici", "tarantool", "aiohttp" }
local NAMES = { neap = "neap", plain = "plain C", go = "Go net/http", undici = "Node undici",
  tarantool = "Tarantool", aiohttp = "aiohttp" }
-- Of the issue that asked for the bench; they are told, never enforced.
local BARS = { cpu_to_plain = { [64] = 1.2, [1000] = 0.9, [5000] = 0.5 }, cpu_to_aiohttp = 0.2, rss_mb = 110,
  task_bytes = 900, task_us = 1.5, task_to_bare = 1.45, startup = 3, case1 = 1.05 }

-- -- Small tools -------------------------------------------------------------

local function median(list)
  local sorted = { unpack(list) }
  table.sort(sorted)
  local n = #sorted
  if n == 0 then return nil end
  local middle = math.floor((n + 1) / 2)
  return n % 2 == 1 and sorted[middle] or (sorted[middle] + sorted[middle + 1]) / 2
end

--- Median and range, as "1.02 (0.98-1.05)".
local function spread(list, format)
  local text = format:format(median(list))
  if #list == 1 then return text end
  return ("%s (%s-%s)"):format(text, format:format(math.min(unpack(list))), format:format(math.max(unpack(list))))
end

local function thousands(number)
  local text = ("%.0f"):format(number)
  return (text:reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", ""))
end

local function bar(reached, format, ...)
  print(("- %s: %s"):format(reached and "PASS" or "MISS", format:format(...)))
end

local function rows()
  local line_of = {}
  for line in io.lines(path) do
    local fields = {}
    for field in line:gmatch "[^\t]+" do fields[#fields + 1] = field end
    if fields[1] == section then line_of[#line_of + 1] = fields end
  end
  if #line_of == 0 then error("there are no figures of " .. section .. " in " .. path, 0) end
  return line_of
end

--- The figures of one run of a program, each for one piece of its work.
local function run_of(fields)
  local _, level, round, pair, program, count, cpu, wall, rss, instructions = unpack(fields)
  count = tonumber(count)
  return { level = tonumber(level), round = tonumber(round), pair = pair, program = program, count = count,
    cpu_us = tonumber(cpu) / count * 1e6, per_second = count / tonumber(wall), rss = tonumber(rss) * 1024,
    instructions = instructions ~= "-" and tonumber(instructions) / count or nil }
end

local function column(runs, key)
  local list = {}
  for i, run in ipairs(runs) do list[i] = run[key] end
  return list
end

-- -- http --------------------------------------------------------------------

--- runs[pair][program] is a list by round.
local function pairs_of(level)
  local runs = {}
  for _, fields in ipairs(rows()) do
    local run = run_of(fields)
    if run.level == level then
      runs[run.pair] = runs[run.pair] or {}
      local list = runs[run.pair][run.program] or {}
      runs[run.pair][run.program] = list
      list[run.round] = run
    end
  end
  return runs
end

--- CPU of a client over that of the plain C run beside it, by round.
local function to_plain(runs, client)
  local list = {}
  for round, run in ipairs(runs[client][client]) do
    list[round] = run.cpu_us / runs[client].plain[round].cpu_us
  end
  return list
end

--- CPU of neap over that of another client in the same round. Both are taken
--- relative to the plain C run beside them, so that drift cancels out.
local function to_client(runs, client)
  local neap, other = to_plain(runs, "neap"), to_plain(runs, client)
  local list = {}
  for round = 1, #neap do list[round] = neap[round] / other[round] end
  return list
end

--- The plain C runs that did as much work as neap's.
local function plain_runs(runs)
  local list = {}
  for _, client in ipairs(CLIENTS) do
    if client ~= "aiohttp" and runs[client] then
      for _, run in ipairs(runs[client].plain) do list[#list + 1] = run end
    end
  end
  return list
end

local function http_row(level, name, runs, ratio)
  local instructions = column(runs, "instructions")
  print(("| %s | %s | %.1f | %s | %s | %s | %.0f |"):format(thousands(level), name, median(column(runs, "cpu_us")),
    ratio, #instructions > 0 and thousands(median(instructions)) or "n/a",
    thousands(median(column(runs, "per_second"))), median(column(runs, "rss")) / 1e6))
end

local function http_table(by_level)
  print "\n| in flight | client | CPU, us/request | to plain C | instructions/request | requests/s | peak RSS, MB |"
  print "|--:|---|--:|--:|--:|--:|--:|"
  for _, level in ipairs(LEVELS) do
    local runs = by_level[level]
    local plain = plain_runs(runs)
    if #plain > 0 then http_row(level, NAMES.plain, plain, "1") end
    for _, client in ipairs(CLIENTS) do
      if runs[client] then
        http_row(level, NAMES[client], runs[client][client], spread(to_plain(runs, client), "%.2f"))
      end
    end
  end
end

local function http_bars(by_level)
  print ""
  for _, level in ipairs(LEVELS) do
    local runs = by_level[level]
    if runs.neap then
      local limit, ratios = BARS.cpu_to_plain[level], to_plain(runs, "neap")
      bar(median(ratios) <= limit, "CPU at %s in flight is %sx plain C (bar: at most %gx)", thousands(level),
        spread(ratios, "%.2f"), limit)
      for _, client in ipairs { "go", "undici", "tarantool" } do
        if runs[client] then
          ratios = to_client(runs, client)
          bar(median(ratios) < 1, "CPU at %s in flight is %sx %s (bar: below)", thousands(level),
            spread(ratios, "%.2f"), NAMES[client])
        end
      end
      if runs.aiohttp then
        ratios = to_client(runs, "aiohttp")
        bar(median(ratios) <= BARS.cpu_to_aiohttp, "CPU at %s in flight is %sx aiohttp (bar: at most %gx)",
          thousands(level), spread(ratios, "%.2f"), BARS.cpu_to_aiohttp)
      end
    end
  end
  local top = by_level[5000].neap
  if top then
    local rss = median(column(top.neap, "rss")) / 1e6
    bar(rss <= BARS.rss_mb, "peak RSS at 5,000 in flight is %.1f MB (bar: at most %d MB)", rss, BARS.rss_mb)
  end
end

local sections = {}

function sections.http()
  local by_level = {}
  for _, level in ipairs(LEVELS) do by_level[level] = pairs_of(level) end
  http_table(by_level)
  http_bars(by_level)
end

-- -- sleepers ----------------------------------------------------------------

function sections.sleepers()
  local runs = pairs_of(0).neap
  local cpu_ratios, task_bytes, bare_bytes = {}, {}, {}
  for round, run in ipairs(runs.neap) do
    cpu_ratios[round] = run.cpu_us / runs.bare[round].cpu_us
    task_bytes[round], bare_bytes[round] = run.rss / run.count, runs.bare[round].rss / run.count
  end
  print "\n| program | CPU, us/task | to the bare heap | instructions/task | peak RSS, bytes/task |"
  print "|---|--:|--:|--:|--:|"
  for _, program in ipairs { "bare", "neap" } do
    local instructions = column(runs[program], "instructions")
    print(("| %s | %.2f | %s | %s | %.0f |"):format(program == "bare" and "bare C heap" or "neap",
      median(column(runs[program], "cpu_us")), program == "bare" and "1" or spread(cpu_ratios, "%.2f"),
      #instructions > 0 and thousands(median(instructions)) or "n/a",
      median(program == "bare" and bare_bytes or task_bytes)))
  end
  print ""
  local bytes, us, ratio = median(task_bytes), median(column(runs.neap, "cpu_us")), median(cpu_ratios)
  bar(bytes <= BARS.task_bytes, "%.0f bytes of RSS a task (bar: at most %d)", bytes, BARS.task_bytes)
  bar(us <= BARS.task_us or ratio <= BARS.task_to_bare,
    "%.2f us of CPU a task, %.2fx the bare heap (bar: at most %g us or %gx)", us, ratio, BARS.task_us,
    BARS.task_to_bare)
end

-- -- startup -----------------------------------------------------------------

function sections.startup()
  local us, ratios = { neap = {}, node = {} }, {}
  for _, fields in ipairs(rows()) do us[fields[3]][tonumber(fields[2])] = tonumber(fields[4]) end
  for round, time in ipairs(us.neap) do ratios[round] = us.node[round] / time end
  print(("\nneap %.1f ms, node %.1f ms (medians of %d).\n"):format(median(us.neap) / 1e3, median(us.node) / 1e3,
    #ratios))
  bar(median(ratios) >= BARS.startup, "neap starts %sx faster than node (bar: at least %gx)",
    spread(ratios, "%.1f"), BARS.startup)
end

-- -- case1 -------------------------------------------------------------------

function sections.case1()
  local ratios = {}
  print("\n| seed | time, s | bound, s | time / bound | to first arrival, ms | first to last, s | after last, ms "
    .. "| mock's lateness, ms/request |")
  print "|--:|--:|--:|--:|--:|--:|--:|--:|"
  for i, fields in ipairs(rows()) do
    local time, bound, before, between, after, late = unpack(fields, 3)
    ratios[i] = time / bound
    print(("| %s | %.3f | %.3f | %.3f | %.1f | %.3f | %.1f | %.2f |"):format(fields[2], time, bound, ratios[i],
      before * 1e3, between, after * 1e3, late * 1e3))
  end
  print ""
  bar(median(ratios) <= BARS.case1, "time is %sx the bound (bar: at most %gx)", spread(ratios, "%.3f"), BARS.case1)
end

sections[section]()
