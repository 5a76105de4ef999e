-- Tuning a breaker: a service that fails one call in twenty on good days, and is down
-- from second 60 to 90, when each call hangs for 2 s and fails. Open load: Poisson, 20
-- calls a second for 180 s, no retries. The world is made up.
-- usage: neap sim scripts/labs/breaker.lua [SEED]
local core = require "neap.core"
local neap = require "neap"
local upstreams = require "neap.world.upstream"

local SEED, RATE, SECONDS, FROM, TO = tonumber((...)) or 1, 20, 180, 60, 90

local function breaker(opts) return function() return neap.circuit_breaker(opts) end end

local POLICIES = {
  { "no breaker" },
  { "opens at 10 % of 20 calls", breaker { failure_rate = 0.1, window_size = 20 } },
  { "opens after 2 in a row", breaker { consecutive_failures = 2 } },
  { "opens at 50 % of 20 calls", breaker { window_size = 20 } },
  { "opens at 50 % of 1000 calls", breaker { window_size = 1000, minimum_calls = 1000 } },
  { "at 50 % of 20, always 5 s", breaker { window_size = 20, open_duration_factor = 1 } },
  { "at 50 % of 20, for 60 s", breaker { window_size = 20, open_duration = 60 } },
}

--- What was refused on good days, the calls that waited for the dead service, and the
--- seconds from its return to the first answer.
local function run(policy)
  core.reseed(SEED)
  local upstream = upstreams.new { latency = 0.1, errors = { { status = 503, probability = 0.05 } },
    brownout = { from = FROM, to = TO, latency = 20, error = 1 }, seed = SEED }
  local gaps, began = core.rng(SEED, 1), neap.now()
  local row = { calls = 0, refused = 0, waited = 0 }
  local function ask(number) return upstream:request { id = number } end
  local function call(number)
    local start = neap.now() - began
    local res, err
    if policy then res, err = policy:call(ask, number) else res = ask(number) end
    if start < FROM then
      row.calls = row.calls + 1
      if err then row.refused = row.refused + 1 end
    elseif start < TO then
      if not err then row.waited = row.waited + 1 end
    elseif res and res.status == 200 then
      row.back = row.back or neap.now() - began - TO
    end
  end
  neap.scope(function(scope)
    local number = 0
    while neap.now() - began < SECONDS do
      number = number + 1
      scope:spawn(call, number)
      neap.sleep(-math.log(1 - gaps:double()) / RATE)
    end
  end)
  return row
end

local rows = {}
print "| breaker                     | refused before | calls that waited in vain | first answer after |"
print "|---|--:|--:|--:|"
for i, policy in ipairs(POLICIES) do
  local row = run(policy[2] and policy[2]())
  row.name, rows[i] = policy[1], row
  print(("| %-27s | %12.1f %% | %25d | %16.1f s |"):format(row.name, row.refused / row.calls * 100, row.waited,
    row.back))
end
return rows
