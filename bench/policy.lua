-- What a stack of policies costs a call: the same function called bare and
-- through it, in turn, in one process. The function answers at once, so that what
-- is left is the policies' own work; nothing ever waits. Prints the microseconds
-- of CPU a call takes beyond the bare one: median, least and greatest of the
-- rounds.
-- usage: neap run bench/policy.lua [CALLS] [ROUNDS]
local neap = require "neap"

local CALLS = tonumber((...)) or 300000
local ROUNDS = tonumber((select(2, ...))) or 7
local BAR = 3 -- microseconds, of the full stack

local HEADERS = {}

local function answer(_, url)
  return { status = 200, headers = HEADERS, url = url }
end

local function limiter() return neap.rate_limiter { rate = 1e9, burst = 1e9 } end

local STACKS = {
  { "retry", function() return { neap.retry {} } end },
  { "retry with budget", function() return { neap.retry { budget = {} } } end },
  { "breaker", function() return { neap.circuit_breaker {} } end },
  { "limiter", function() return { limiter() } end },
  { "adaptive", function() return { neap.adaptive {} } end },
  { "retry, breaker, limiter, adaptive", function()
    return { neap.retry {}, neap.circuit_breaker {}, neap.adaptive {}, limiter() }
  end },
  { "the same, retry with budget", function()
    return { neap.retry { budget = {} }, neap.circuit_breaker {}, neap.adaptive {}, limiter() }
  end },
}

local function clock_of(fn, ...)
  collectgarbage()
  local began = os.clock()
  for _ = 1, CALLS do fn(...) end
  return (os.clock() - began) / CALLS * 1e6
end

local function bare() return clock_of(answer, nil, "/v1/x") end

local function stacked(policy)
  return clock_of(policy.call, policy, answer, nil, "/v1/x")
end

print(("%d calls a round, %d rounds; microseconds of CPU a call beyond the bare function"):format(CALLS, ROUNDS))
for _, stack in ipairs(STACKS) do
  local policy, costs = neap.policy(stack[2]()), {}
  for round = 1, ROUNDS + 1 do -- the first one compiles
    local cost = stacked(policy) - bare()
    if round > 1 then costs[#costs + 1] = cost end
  end
  table.sort(costs)
  local median = costs[math.ceil(#costs / 2)]
  print(("%-36s %5.2f  (%.2f to %.2f)%s"):format(stack[1], median, costs[1], costs[#costs],
    stack[1]:find "^retry, b" and (median <= BAR and "  bar 3: met" or "  bar 3: MISS") or ""))
end
