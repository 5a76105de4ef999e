-- What a mock says about the batch it has just served: the bound that nobody can
-- beat, and where the rest of the time went. Prints one line of numbers, in
-- seconds: time, bound, before the first arrival, from it to the last answer,
-- after that, mean lateness of the mock a request.
-- usage: neap run case1.lua URL SLOTS SEED MEDIAN SIGMA STARTED ENDED
local core = require "neap.core"
local latency = require "neap.world.latency"
local neap = require "neap"

local url = ...
local slots, seed, median, sigma, started, ended = unpack(arg, 2, 7)
slots, seed, median, sigma = tonumber(slots), tonumber(seed), tonumber(median), tonumber(sigma)
started, ended = tonumber(started), tonumber(ended)

local client = neap.http.client { base_url = url }
local asked = neap.time()
local stats = assert(assert(client:get "/stats?full=1"):json())
local requests = stats.full

-- Greedy list scheduling: each request, in order of arrival, goes to the slot
-- that is free first. `free` is small, so a scan is heap enough.
local function bound()
  local free, finish = {}, 0
  for i = 1, slots do free[i] = 0 end
  for _, request in ipairs(requests) do
    local first = 1
    for i = 2, slots do
      if free[i] < free[first] then first = i end
    end
    free[first] = free[first] + request.duration
    finish = math.max(finish, free[first])
  end
  return finish
end

-- The latencies that the law drew for this seed, summed; stream 1 is the
-- mock's stream of latencies (lua/neap/world/streams.lua).
local function drawn_sum()
  local rng = core.rng(seed, 1)
  local sample = latency.sampler { law = "lognormal", median = median, sigma = sigma }
  local sum = 0
  for _ = 1, #requests do sum = sum + sample(function() return rng:double() end) end
  return sum
end

local reported, first, last = 0, math.huge, 0
for _, request in ipairs(requests) do
  assert(request.status == 200, "a request of the batch was not answered with 200")
  reported = reported + request.duration
  first = math.min(first, request.arrived)
  last = math.max(last, request.arrived + request.duration)
end
local mock_started = asked - stats.uptime
print(("%.6f\t%.6f\t%.6f\t%.6f\t%.6f\t%.9f"):format(ended - started, bound(), mock_started + first - started,
  last - first, ended - (mock_started + last), (reported - drawn_sum()) / #requests))
