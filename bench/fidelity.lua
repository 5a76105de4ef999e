-- A script that calls an API, as it would in production: it does not know whether it
-- runs for real or in simulation. bench/fidelity_report.lua runs it both ways and
-- compares. Prints a line of JSON: how long it took, what it has sent, and the seconds of
-- each call that succeeded.
--
-- LOAD is also the world's name:
-- provider: closed load, 80 clients that think 0.05 s on average between two calls.
-- brownout: open load, Poisson, 350 calls a second; an attempt is given up after 0.8 s,
-- and at most 100 (the client's connections) are under way.
-- small: open load, a call every 2 ms, two attempts.
-- usage: neap run bench/fidelity.lua LOAD POLICY SEED CALLS http://127.0.0.1:PORT
--        neap sim --world FILE bench/fidelity.lua LOAD POLICY SEED CALLS http://api.example.com
local core = require "neap.core"
local neap = require "neap"

local load_name, policy_name, seed, calls, url = ...
local SEED, CALLS = assert(tonumber(seed), "SEED"), assert(tonumber(calls), "CALLS")

local closed, open -- below

-- The limiter keeps to 95 % of what the provider allows: at 100 % microseconds decide
-- whether there is a 429.
local loads = {
  provider = { make = function() closed(80, 0.05) end, timeout = 2, limiter = { requests_per_minute = 11400 } },
  brownout = { make = function() open(350) end, timeout = 0.8 },
  small = { make = function() open(500, true) end, timeout = 2, attempts = 2 },
}
local load = assert(loads[load_name], "LOAD")
local RETRY = { max_attempts = load.attempts or 4, backoff = { base = 0.1, max = 2 } }

local policies = {
  none = function() return nil end,
  retry = function() return neap.retry(RETRY) end,
  standard = function()
    return neap.policy.standard { retry = RETRY, adaptive = { min = 50, start = 60 },
      breaker = { open_duration = 0.5, max_open_duration = 1 }, limiter = load.limiter }
  end,
}

local policy = assert(policies[policy_name], "POLICY")()
local client = assert(neap.http.client { base_url = url, timeout = { total = load.timeout } })
local draw = core.rng(SEED, 1)
local sent, latencies = 0, {}

local function exponential(mean) return -mean * math.log(1 - draw:double()) end

local function attempt(item)
  local res, err = client:post("/v1/chat/completions", { idempotency_key = true, json = {
    model = "demo", max_tokens = 200, messages = { { role = "user", content = "Tide table " .. item } } } })
  sent = sent + (res or err).sends
  return res, err
end

local function ask(item)
  if policy then return policy:call(attempt, item) end
  return attempt(item)
end

local function call(item)
  local began = neap.now()
  local res = ask(item)
  if res and res.status == 200 then latencies[#latencies + 1] = neap.now() - began end
end

--- Clients that each wait for an answer before they call again.
function closed(clients, think)
  local item = 0
  local function work()
    while item < CALLS do
      item = item + 1
      call(item)
      neap.sleep(exponential(think))
    end
  end
  neap.scope(function(scope)
    for _ = 1, clients do scope:spawn(work) end
  end)
end

--- Calls that come when they come, whatever the service does.
function open(rate, even)
  neap.scope(function(scope)
    local at = neap.now()
    for item = 1, CALLS do
      at = at + (even and 1 / rate or exponential(1 / rate))
      neap.sleep(math.max(0, at - neap.now()))
      scope:spawn(call, item)
    end
  end)
end

local began = neap.now()
load.make()
local completion = neap.now() - began

for i, seconds in ipairs(latencies) do latencies[i] = ("%.6f"):format(seconds) end
print(('{"completion":%.6f,"calls":%d,"requests":%d,"cpu":%.3f,"latencies":[%s]}'):format(completion, CALLS, sent,
  os.clock(), table.concat(latencies, ",")))
