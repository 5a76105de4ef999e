-- Metastable collapse and recovery: a service slows down with its load, a spike of
-- five seconds makes calls time out, and their retries keep it down when the spike is
-- long over. Open load: Poisson, 40 calls a second, 80 from second 20 to 25. The world
-- is Brooker's simple_collapse_sim: 1 + 0.01 n seconds with n requests inside, hops of
-- Exp(0.1 s), timeouts of 3 s that the service does not notice, 3 attempts.
-- usage: neap sim scripts/labs/collapse.lua [SEED]
local core = require "neap.core"
local neap = require "neap"
local upstreams = require "neap.world.upstream"

local SEED, SECONDS, WINDOW = tonumber((...)) or 1, 80, 10

local function retry(base, budget)
  return neap.retry { max_attempts = 3, backoff = { base = base, max = 40 }, budget = budget,
    retry_on = function(res) return res == nil end }
end

local POLICIES = {
  { "at once", retry(0) },
  { "backoff of 0.5, 1 s", retry(0.5) },
  { "backoff of 20, 40 s", retry(20) },
  { "at once, with a budget", retry(0, { per_call = 0.1, cap = 5 }) },
}

--- Calls answered in time, a second, by windows of ten seconds; attempts a call.
local function run(policy)
  core.reseed(SEED)
  local gaps, hops = core.rng(SEED, 1), core.rng(SEED, 2)
  local function draw(rng, mean) return -mean * math.log(1 - rng:double()) end
  local upstream = upstreams.new { latency = 1.01, brownout = { knee = 1, slope = 0.01 / 1.01 },
    on_disconnect = "continue", seed = SEED }
  local row, calls, began = {}, 0, neap.now()
  for window = 1, SECONDS / WINDOW do row[window] = 0 end
  local function exchange()
    neap.sleep(draw(hops, 0.1))
    local res = upstream:request()
    neap.sleep(draw(hops, 0.1))
    return res
  end
  local function call()
    if not policy:call(neap.timeout, 3, exchange) then return end
    local window = math.floor((neap.now() - began) / WINDOW) + 1
    row[window] = row[window] + 1 / WINDOW
  end
  neap.timeout(SECONDS, function()
    while true do
      calls = calls + 1
      neap.spawn(call)
      local t = neap.now() - began
      neap.sleep(draw(gaps, 1 / (t >= 20 and t < 25 and 80 or 40)))
    end
  end)
  row.amplification = upstream.stats.count / calls
  return row
end

local rows = {}
print "| retries                | answers a second from 0 s | 10 | 20 | 30 | 40 | 50 | 60 | 70 | requests a call |"
print "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
for i, policy in ipairs(POLICIES) do
  local row = run(policy[2])
  row.name, rows[i] = policy[1], row
  print(("| %-22s | %25.0f | %2.0f | %2.0f | %2.0f | %2.0f | %2.0f | %2.0f | %2.0f | %15.2f |"):format(row.name, row[1],
    row[2], row[3], row[4], row[5], row[6], row[7], row[8], row.amplification))
end
return rows
