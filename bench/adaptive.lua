-- How near an adaptive limit comes to the best fixed one, in virtual time: every
-- case of spec/support/adaptive.lua, on several seeds. A closed load, four clients
-- a slot; no retries. Prints a line a case: the share of the best fixed limit's
-- throughput, the share of sends that got 429, the mean latency by the unloaded
-- one; each as the mean over the seeds, and the worst seed.
-- usage: neap sim bench/adaptive.lua [ALGORITHM] [SEEDS] [law=lognormal] [case=PATTERN] [option=number]...
-- (from the root of the repository; ALGORITHM gates, vegas or gradient2; law fixed,
-- lognormal or exponential; options as of neap.adaptive; about a quarter of an hour
-- for 20 seeds; NEAP_HOG_MS=0 silences warnings about fixed limits far too high)
local neap = require "neap"
local support = require "spec.support.adaptive"

local algorithm, seeds = (...) or "gates", tonumber((select(2, ...))) or 20
local settings, law, pattern = { algorithm = algorithm }, "lognormal", ""
for _, argument in ipairs { select(3, ...) } do
  local name, value = argument:match "^([%w_]+)=(.*)$"
  if name == "law" then
    law = value
  elseif name == "case" then
    pattern = value
  elseif name then
    settings[name] = tonumber(value)
  else
    error("bench/adaptive.lua: not name=value: " .. argument, 0)
  end
end

local SHARES = { 1, 0.9, 1.1, 1.5 } -- of the capacity: the fixed limits that are tried

--- The best throughput of a fixed limit, and the limits worth a try with the next
--- seed: the first seed tries all; then those are left out that were no better
--- than the capacity itself.
local function best_fixed(case, seed, limits)
  -- A fixed limit works alike all the time; of long latencies, the same window lets
  -- luck be the same.
  local from, to = case.from, case.to
  if case.mean < 1 then from, to = 10, 70 end
  local world, at_capacity, best, worth = support.world(case, law, seed, true), nil, 0, {}
  for _, limit in ipairs(limits) do
    local throughput = support.run(neap.bulkhead { limit = limit }, world, from, to).throughput
    at_capacity = at_capacity or throughput
    best = math.max(best, throughput)
    if limit == case.capacity or throughput > 1.005 * at_capacity then worth[#worth + 1] = limit end
  end
  return best, worth
end

local function summary(values)
  local sum, least, most = 0, math.huge, -math.huge
  for _, value in ipairs(values) do
    sum, least, most = sum + value, math.min(least, value), math.max(most, value)
  end
  return sum / #values, least, most
end

local missed = 0

local function run(case)
  local shares, refused, latencies, limits = {}, {}, {}, {}
  for i, share in ipairs(SHARES) do limits[i] = math.ceil(case.capacity * share) end
  for seed = 1, seeds do
    local best
    best, limits = best_fixed(case, seed, limits)
    local result = support.run(neap.adaptive(settings), support.world(case, law, seed), case.from, case.to)
    shares[seed] = result.throughput / best
    refused[seed], latencies[seed] = result.refused, result.latency / case.mean
  end
  local share, least = summary(shares)
  local refusal, _, most_refused = summary(refused)
  local latency, _, longest = summary(latencies)
  local met = share >= case.share and refusal <= case.refused and latency <= case.latency
  if not met then missed = missed + 1 end
  print(("| %-32s | %5.1f %% (%5.1f) | %5.2f %% (%5.2f) | %5.2f (%5.2f) | %s |"):format(case.name, share * 100,
    least * 100, refusal * 100, most_refused * 100, latency, longest,
    (case.share == 0 or algorithm ~= "gates") and "" or met and "met" or "MISSED"))
  io.flush()
end

print(("%s, latencies %s, %d seeds; in brackets the worst seed"):format(algorithm, law, seeds))
print("| case                             | throughput      | 429s              | latency       | bar |")
print("|---|---|---|---|---|")
for _, case in ipairs(support.cases) do
  if case.name:find(pattern) then run(case) end
end
if algorithm == "gates" then print(("%d bars missed"):format(missed)) end
