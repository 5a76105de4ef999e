-- How fast simulated time is: a million requests through client, retry, breaker
-- and limiter against an upstream that answers a twentieth of them with 503, and a
-- thousand tasks that do nothing but sleep. Prints both per second of CPU.
-- usage: neap sim bench/simulated.lua [REQUESTS] [TASKS] [SLEEPS]
local neap = require "neap"
local core = require "neap.core"
local network = require "neap.sim.network"

local REQUESTS = tonumber((...)) or 1e6
local TASKS = tonumber((select(2, ...))) or 1000
local SLEEPS = tonumber((select(3, ...))) or 2000
local CLIENTS = 100 -- tasks that send, one request after the other
local CPU_BAR, WAKE_BAR = 8, 2e6 -- seconds a million requests, wake-ups a second

local function verdict(met) return met and "met" or "MISSED" end

local WORLD = { host = "api.example.com", latency = { law = "lognormal", median = 0.1, sigma = 0.5 }, connect = 0.05,
  errors = { { status = 503, probability = 0.05 } } }

local function requests()
  local net = network.up(neap.world.new { WORLD }, 1)
  local client = neap.http.client { base_url = "https://api.example.com" }
  local policy = neap.policy { neap.retry { max_attempts = 4, backoff = { base = 0.1, max = 2 } },
    neap.circuit_breaker { failure_rate = 0.5 }, neap.rate_limiter { rate = 1e5, burst = 1e5 } }
  local sent, good = 0, 0
  local function get() return client:get "/v1/things" end
  local function work()
    while sent < REQUESTS do
      sent = sent + 1
      local res = policy:call(get)
      if res and res.status == 200 then good = good + 1 end
    end
  end
  local began, cpu = core.now(), core.cpu_time()
  neap.scope(function(s)
    for _ = 1, CLIENTS do s:spawn(work) end
  end)
  cpu = core.cpu_time() - cpu
  print(("%d operations, %d requests, %d good, %.0f s virtual"):format(sent, net.requests, good, core.now() - began))
  print(("%.2f s of CPU, %.2f us a request, %.0f simulated requests per CPU second; a million: %.2f s, bar %d s: %s")
    :format(cpu, cpu / net.requests * 1e6, net.requests / cpu, cpu / net.requests * 1e6, CPU_BAR,
      verdict(cpu / net.requests * 1e6 < CPU_BAR)))
  network.down()
end

--- Deadlines that coincide are the easiest case of a heap: the naps of different
--- tasks differ, unless told otherwise.
local function sleeps(what, nap_of)
  local function sleeper(i)
    local nap = nap_of(i)
    for _ = 1, SLEEPS do neap.sleep(nap) end
  end
  collectgarbage()
  local cpu = core.cpu_time()
  neap.scope(function(s)
    for i = 1, TASKS do s:spawn(sleeper, i) end
  end)
  cpu = core.cpu_time() - cpu
  local rate = TASKS * SLEEPS / cpu
  print(("%d tasks, %d sleeps each, %s: %.2f million wake-ups per CPU second, bar %.0f: %s"):format(TASKS, SLEEPS, what,
    rate / 1e6, WAKE_BAR / 1e6, verdict(rate >= WAKE_BAR)))
end

requests()
sleeps("all of one length", function() return 0.01 end)
sleeps("of different lengths", function(i) return 0.01 + i * 1e-6 end)
