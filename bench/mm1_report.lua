-- The table of `bench/run mm1`: what a simulated call costs neap, SimPy and the bare
-- loop, and whether the three models say the same.
-- usage: neap run bench/mm1_report.lua RUNS.tsv
local path = ...

local NAMES = { neap = "neap: tasks, semaphore, timeout, retry", simpy = "SimPy: processes, Resource",
  loop = "bare Python loop" }
local FIGURES = {
  { "time", "seconds of a call" }, { "answered", "share answered" }, { "attempts", "attempts by call" },
}
local BAR = 2

--- runs[program][round] = { count, cpu, time, time's error, ... }
local runs = { neap = {}, simpy = {}, loop = {} }
for line in io.lines(path) do
  local fields = {}
  for field in line:gmatch "[^\t]+" do fields[#fields + 1] = field end
  local section, round, program, count, cpu = unpack(fields)
  if section == "mm1" then
    local run = { count = tonumber(count), cpu = tonumber(cpu) }
    for i = 9, #fields, 3 do run[fields[i]] = { tonumber(fields[i + 1]), tonumber(fields[i + 2]) } end
    runs[program][tonumber(round)] = run
  end
end

local function spread(values, format)
  table.sort(values)
  local n = #values
  local text = format:format((values[math.ceil(n / 2)] + values[math.floor(n / 2) + 1]) / 2)
  return n == 1 and text or ("%s (%s-%s)"):format(text, format:format(values[1]), format:format(values[n]))
end

--- Of one round each: how many times the calls of the other program per CPU second.
local function ratios(other)
  local list = {}
  for round, run in ipairs(runs.neap) do
    local there = runs[other][round]
    list[round] = (run.count / run.cpu) / (there.count / there.cpu)
  end
  return list
end

local function rates(program)
  local list = {}
  for round, run in ipairs(runs[program]) do list[round] = run.count / run.cpu / 1000 end
  return list
end

--- Mean over the rounds, and its standard error.
local function pooled(program, figure)
  local sum, variance, n = 0, 0, #runs[program]
  for _, run in ipairs(runs[program]) do
    sum, variance = sum + run[figure][1], variance + run[figure][2] ^ 2
  end
  return sum / n, math.sqrt(variance) / n
end

print "\n| program | thousand calls per CPU second |"
print "|---|--:|"
for _, program in ipairs { "neap", "simpy", "loop" } do
  print(("| %s | %s |"):format(NAMES[program], spread(rates(program), "%.0f")))
end

print "\n| figure, standard error | neap | SimPy | bare loop | neap and SimPy apart by |"
print "|---|--:|--:|--:|--:|"
local agree, same = true, true
for _, figure in ipairs(FIGURES) do
  local key, title = unpack(figure)
  local cells, mean, wrong = {}, {}, {}
  for i, program in ipairs { "neap", "simpy", "loop" } do
    mean[i], wrong[i] = pooled(program, key)
    cells[i] = ("%.4f, %.4f"):format(mean[i], wrong[i])
  end
  local apart = math.abs(mean[1] - mean[2]) / math.sqrt(wrong[1] ^ 2 + wrong[2] ^ 2)
  agree, same = agree and apart <= 4, same and math.abs(mean[2] - mean[3]) <= 1e-6
  print(("| %s | %s | %.1f standard errors |"):format(title, table.concat(cells, " | "), apart))
end

local function bar(reached, format, ...)
  print(("- %s: %s"):format(reached and "PASS" or "MISS", format:format(...)))
end

print ""
bar(agree, "the models of neap and SimPy agree within 4 standard errors")
bar(same, "those of SimPy and the bare loop, on the same draws, agree to the last digit")
local to_simpy = ratios "simpy"
local text = spread(to_simpy, "%.2f") -- sorts: the median is in the middle
local reached = to_simpy[math.ceil(#to_simpy / 2)] >= BAR
bar(reached, "neap simulates %s times the calls of SimPy per CPU second (bar: at least %d)", text, BAR)
print(("- neap simulates %s times the calls of the bare loop, which has no tasks, no client and no policy"):format(
  spread(ratios "loop", "%.2f")))
