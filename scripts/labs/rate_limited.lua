-- A provider with a rate limit: 600 requests a minute, checked by the second, and a
-- batch of 600 requests, 50 at a time; nothing can end before 59 s. Closed load. The
-- world is made up; its 429s say when to come back (Retry-After, whole seconds).
-- usage: neap sim scripts/labs/rate_limited.lua [SEED]
local core = require "neap.core"
local neap = require "neap"
local upstreams = require "neap.world.upstream"

local SEED, ITEMS, CONCURRENCY = tonumber((...)) or 1, 600, 50

local function retry(base, hints)
  return neap.retry { max_attempts = 5, backoff = { base = base, max = 20 }, respect_retry_after = hints }
end

local POLICIES = {
  { "retries at once", function() return retry(0, false) end },
  { "backoff", function() return retry(0.5, false) end },
  { "backoff and Retry-After", function() return retry(0.5, true) end },
  { "the same, 10 at a time", function() return neap.policy { retry(0.5, true), neap.bulkhead { limit = 10 } } end },
  { "the same, paced at 99 %", function()
    return neap.policy { retry(0.5, true), neap.rate_limiter { requests_per_minute = 594 } }
  end },
}

--- Items answered, requests sent, 429s among them, seconds.
local function run(policy)
  core.reseed(SEED)
  local upstream = upstreams.new { latency = { law = "lognormal", median = 0.8, sigma = 0.5 },
    rate_limit = { rpm = 600, window = 1 }, seed = SEED }
  local items, answered, began = {}, 0, neap.now()
  for item = 1, ITEMS do items[item] = item end
  local function ask(item) return upstream:request { id = item } end
  neap.map(items, function(item)
    local res = policy:call(ask, item)
    if res and res.status == 200 then answered = answered + 1 end
    return true
  end, { concurrency = CONCURRENCY })
  return { answered = answered, sends = upstream.stats.count, refused = upstream.stats.statuses["429"] or 0,
    seconds = neap.now() - began }
end

local rows = {}
print "| policy                     | answered | requests | 429s | seconds |"
print "|---|--:|--:|--:|--:|"
for i, policy in ipairs(POLICIES) do
  local row = run(policy[2]())
  row.name, rows[i] = policy[1], row
  print(("| %-26s | %8d | %8d | %4d | %7.1f |"):format(row.name, row.answered, row.sends, row.refused, row.seconds))
end
return rows
