-- Regional failover: of two regions one fails for half a minute, slowly: each call
-- there takes 2 s and ends in 503. Open load: Poisson, 50 calls a second for 90 s; the
-- outage is from second 30 to 60. The world is made up.
-- usage: neap sim scripts/labs/failover.lua [SEED]
local core = require "neap.core"
local neap = require "neap"
local upstreams = require "neap.world.upstream"

local SEED, RATE, SECONDS, FROM, TO = tonumber((...)) or 1, 50, 90, 30, 60

local function router(opts)
  opts.endpoints = { { name = "eu" }, not opts.alone and { name = "us" } or nil }
  opts.alone = nil
  return neap.policy { neap.retry { max_attempts = 3, budget = { per_call = 0.1 } }, neap.router(opts) }
end

local FORGETS = { max_percent = 0 }
local POLICIES = {
  { "one region", router { alone = true } },
  { "two, without failover", router { max_failovers = 0, ejection = FORGETS, allowed_fails = math.huge } },
  { "failover call by call", router { ejection = FORGETS, allowed_fails = math.huge } },
  { "failover that remembers", router {} },
}

--- Of the calls made during the outage: the share answered, the mean and the 99th
--- percentile of their seconds, and how many requests went to the region that was down.
local function run(policy)
  core.reseed(SEED)
  local outage = { from = FROM, to = TO, latency = 20, error = 1 }
  local regions = { eu = upstreams.new { latency = 0.1, brownout = outage }, us = upstreams.new { latency = 0.1 } }
  local gaps, answered, lost, times, sum, began = core.rng(SEED, 1), 0, 0, {}, 0, neap.now()
  local function down(at) return at - began >= FROM and at - began < TO end
  local function ask(endpoint, number)
    if endpoint.name == "eu" and down(neap.now()) then lost = lost + 1 end
    return regions[endpoint.name]:request { id = number }
  end
  local function call(number)
    local start = neap.now()
    local res = policy:call(ask, number)
    if not down(start) then return end
    times[#times + 1], sum = neap.now() - start, sum + neap.now() - start
    answered = answered + (res and res.status == 200 and 1 or 0)
  end
  neap.scope(function(scope)
    local number = 0
    while neap.now() - began < SECONDS do
      number = number + 1
      scope:spawn(call, number)
      neap.sleep(-math.log(1 - gaps:double()) / RATE)
    end
  end)
  table.sort(times)
  return { share = answered / #times, mean = sum / #times, p99 = times[math.ceil(#times * 0.99)], lost = lost }
end

local rows = {}
print "| during the outage       | answered | mean   | 99th percentile | requests to the dead region |"
print "|---|--:|--:|--:|--:|"
for i, policy in ipairs(POLICIES) do
  local row = run(policy[2])
  row.name, rows[i] = policy[1], row
  print(("| %-23s | %6.1f %% | %4.2f s | %13.2f s | %27d |"):format(row.name, row.share * 100, row.mean, row.p99,
    row.lost))
end
return rows
