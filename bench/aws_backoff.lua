-- The table of "Exponential Backoff And Jitter" (Brooker, 2015) through neap's own
-- tasks, clock and neap.retry; see spec/support/aws_backoff.lua. Beside each figure
-- stands the one of the article's program and how far the two are apart, by what is
-- allowed: 1 % of the calls, 3 % of the time, or 4 combined standard errors,
-- whichever is more.
-- usage: neap sim bench/aws_backoff.lua [RUNS] [RUNS_OF_10] [SEED]
-- (from the root of the repository; 1,000 runs, 20,000 of 10 clients, seed 7)
local core = require "neap.core"
local model = require "spec.support.aws_backoff"

local RUNS, RUNS_OF_10 = tonumber((...)) or 1000, tonumber((select(2, ...))) or 20000
local SEED = tonumber((select(3, ...))) or 7

local missed = 0

local function verdict(column, measured, expected, runs, share)
  local allowed = model.bound(column, measured, expected, runs, share)
  local off = measured[column] - expected[column]
  local met = math.abs(off) <= allowed
  if not met then missed = missed + 1 end
  return ("%+5.2f %% of %.2f%s"):format(off / expected[column] * 100, allowed / expected[column] * 100,
    met and "" or " MISSED")
end

core.reseed(SEED)
local began = core.machine_time()
print(("%d runs, %d of 10 clients, seed %d"):format(RUNS, RUNS_OF_10, SEED))
print "|   N | policy       | time, ms | original | off, of allowed   | calls   | original | off, of allowed   |"
print "|--:|---|--:|--:|---|--:|--:|---|"
for _, clients in ipairs { 10, 50, 100 } do
  local runs = clients == 10 and RUNS_OF_10 or RUNS
  for _, policy in ipairs(model.policies) do
    local expected = model.table[clients][policy.name]
    local measured = model.measure(clients, policy, runs, SEED)
    print(("| %3d | %-12s | %8.1f | %8.1f | %-17s | %7.2f | %8.2f | %-17s |"):format(clients, policy.name, measured[1],
      expected[1], verdict(1, measured, expected, runs, 0.03), measured[3], expected[3],
      verdict(3, measured, expected, runs, 0.01)))
    io.flush()
  end
end
print(("%d of 30 figures missed; %.1f s of the machine's time"):format(missed, core.machine_time() - began))
