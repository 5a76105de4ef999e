-- One server, exponential service, Poisson arrivals (an open load), and clients that
-- time out and retry: M/M/1 with retries, as tasks, a semaphore, neap.timeout and
-- neap.retry. bench/mm1_simpy.py and bench/mm1_loop.py are the same model; bench/run
-- mm1 runs the three in turn and compares both what they cost and what they say.
--
-- Services take 1 s, calls come every 1.25 s, an attempt is given up after 5 s (the
-- client then leaves the line, or the server), 3 attempts, full jitter below 2, then
-- 4 s. The calls are numbered, and 50 batches of consecutive ones give the errors.
-- usage: neap sim bench/mm1.lua [CALLS] [SEED]
local core = require "neap.core"
local neap = require "neap"

local CALLS, SEED = tonumber((...)) or 200000, tonumber((select(2, ...))) or 1
local GAP, SERVICE, TIMEOUT, BATCHES = 1.25, 1, 5, 50

local arrivals, services = core.rng(SEED, 1), core.rng(SEED, 2)
local server = neap.semaphore(1)
local seconds, answered, attempts = {}, {}, {}
for batch = 1, BATCHES do seconds[batch], answered[batch], attempts[batch] = 0, 0, 0 end

local function exponential(rng, mean) return -mean * math.log(1 - rng:double()) end

local function serve()
  neap.sleep(exponential(services, SERVICE))
  return true
end

local function attempt(batch)
  attempts[batch] = attempts[batch] + 1
  return neap.timeout(TIMEOUT, server.with, server, serve)
end

local retry = neap.retry {
  max_attempts = 3, backoff = { base = 2 },
  retry_on = function(served) return not served end,
}

local function call(batch)
  local began = neap.now()
  if retry:call(attempt, batch) then
    seconds[batch], answered[batch] = seconds[batch] + neap.now() - began, answered[batch] + 1
  end
end

local function mean_and_error(values)
  local sum, squares = 0, 0
  for _, value in ipairs(values) do sum = sum + value end
  local mean = sum / #values
  for _, value in ipairs(values) do squares = squares + (value - mean) ^ 2 end
  return ("%.6f\t%.6f"):format(mean, math.sqrt(squares / (#values - 1) / #values))
end

neap.scope(function(scope)
  for number = 0, CALLS - 1 do
    scope:spawn(call, math.floor(number * BATCHES / CALLS) + 1)
    neap.sleep(exponential(arrivals, GAP))
  end
end)

local times, shares, sends = {}, {}, {}
for batch = 1, BATCHES do
  times[batch] = seconds[batch] / answered[batch]
  shares[batch] = answered[batch] * BATCHES / CALLS
  sends[batch] = attempts[batch] * BATCHES / CALLS
end
print("time\t" .. mean_and_error(times))
print("answered\t" .. mean_and_error(shares))
print("attempts\t" .. mean_and_error(sends))
print(("%d done, 0 failed"):format(CALLS))
