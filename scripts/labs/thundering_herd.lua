-- A thundering herd: 300 clients lose their connection at the same moment and all come
-- back at once, to a service that takes 20 at a time and refuses the others.
-- Closed load: each client wants one answer. The world is made up.
-- usage: neap sim scripts/labs/thundering_herd.lua [SEED]
local core = require "neap.core"
local neap = require "neap"
local upstreams = require "neap.world.upstream"

local SEED, CLIENTS = tonumber((...)) or 1, 300

local function retry(backoff, hints)
  return neap.retry { max_attempts = math.huge, backoff = backoff, respect_retry_after = hints or false }
end

local POLICIES = {
  { "every 0.5 s", retry { kind = "fixed", base = 0.5, jitter = "none" } },
  { "when told to (Retry-After)", retry({ base = 0, jitter = "none" }, true) },
  { "exponential, no jitter", retry { base = 0.5, max = 10, jitter = "none" } },
  { "exponential, equal jitter", retry { base = 0.5, max = 10, jitter = "equal" } },
  { "exponential, full jitter", retry { base = 0.5, max = 10, jitter = "full" } },
  { "full jitter and 20 at a time", neap.policy { retry { base = 0.5, max = 10 }, neap.bulkhead { limit = 20 } } },
}

--- Requests to the service, the most of them within a tenth of a second after the
--- first one, and the seconds until everybody has an answer.
local function run(policy)
  core.reseed(SEED)
  local upstream = upstreams.new { latency = { law = "lognormal", median = 0.1, sigma = 0.3 }, capacity = 20,
    over = "reject", retry_after = 1, seed = SEED }
  local began, tenths, peak = neap.now(), {}, 0
  local function ask(client)
    local tenth = math.floor((neap.now() - began) * 10)
    tenths[tenth] = (tenths[tenth] or 0) + 1
    if tenth > 0 then peak = math.max(peak, tenths[tenth]) end
    return upstream:request { id = client }
  end
  neap.scope(function(scope)
    for client = 1, CLIENTS do scope:spawn(policy.call, policy, ask, client) end
  end)
  return { sends = upstream.stats.count, peak = peak, seconds = neap.now() - began }
end

local rows = {}
print "| clients come back            | requests | most in 0.1 s | all served after |"
print "|---|--:|--:|--:|"
for i, policy in ipairs(POLICIES) do
  local row = run(policy[2])
  row.name, rows[i] = policy[1], row
  print(("| %-28s | %8d | %13d | %14.1f s |"):format(row.name, row.sends, row.peak, row.seconds))
end
return rows
