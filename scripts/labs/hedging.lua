-- Hedging the tail: a service of 20 workers with a line; a request takes 0.05 s at
-- least and 0.13 s on average, but one in a hundred longer than 0.9 s (Pareto). It does
-- not notice that a client has left. Open load: Poisson, at 40 % and at 60 % of
-- what it can do, 20 s. The world is made up.
-- usage: neap sim scripts/labs/hedging.lua [SEED]
local core = require "neap.core"
local neap = require "neap"
local upstreams = require "neap.world.upstream"

local SEED, SECONDS, WORKERS = tonumber((...)) or 1, 20, 20
local LATENCY = { law = "pareto", min = 0.05, alpha = 1.6 }
local MEAN = 0.05 * 1.6 / 0.6 -- seconds

local POLICIES = {
  { "none" },
  { "1 % more load", function() return neap.hedge { max_extra_load = 0.01 } end },
  { "5 % more load", function() return neap.hedge { max_extra_load = 0.05 } end },
  { "every call twice", function() return neap.hedge { delay = 0, max_extra_load = 1, burst = 1e6 } end },
}

--- Seconds of a call (median, 99th percentile, slowest), and requests by call.
local function run(policy, load)
  core.reseed(SEED)
  local upstream = upstreams.new { latency = LATENCY, capacity = WORKERS, over = "queue",
    on_disconnect = "continue", seed = SEED }
  local gaps, times, began = core.rng(SEED, 1), {}, neap.now()
  local function ask(number) return upstream:request { id = number } end
  local function call(number)
    local start = neap.now()
    if policy then policy:call(ask, number) else ask(number) end
    times[#times + 1] = neap.now() - start
  end
  neap.scope(function(scope)
    local number = 0
    while neap.now() - began < SECONDS do
      number = number + 1
      scope:spawn(call, number)
      neap.sleep(-math.log(1 - gaps:double()) * MEAN / WORKERS / load)
    end
  end)
  table.sort(times)
  local function percentile(p) return times[math.ceil(#times * p)] end
  return { load = load, p50 = percentile(0.5), p99 = percentile(0.99), slowest = times[#times],
    amplification = upstream.stats.count / #times }
end

local rows = {}
print "| load | hedging          | median  | 99 %    | slowest | requests a call |"
print "|--:|---|--:|--:|--:|--:|"
for _, load in ipairs { 0.4, 0.6 } do
  for _, policy in ipairs(POLICIES) do
    local row = run(policy[2] and policy[2](), load)
    row.name, rows[#rows + 1] = policy[1], row
    print(("| %2.0f %% | %-16s | %5.2f s | %5.2f s | %5.2f s | %15.2f |"):format(load * 100, row.name, row.p50, row.p99,
      row.slowest, row.amplification))
  end
end
return rows
