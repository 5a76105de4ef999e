--- A service that collapses under its clients' retries (Brooker,
--- simple_collapse_sim): an answer takes 1 + 0.01 n seconds, n being the requests
--- inside when this one arrives, itself included; a hop to the service and one back
--- take Exp(0.1 s) each; clients give an attempt 3 s, and the service does not
--- notice that they have left. Open load: Poisson, 40 calls a second, 80 from
--- second 20 to 25. Used by the spec and by bench/collapse.lua. Virtual time only.
local core = require "neap.core"
local neap = require "neap"
local upstreams = require "neap.world.upstream"

local M = {}

local BASE, SPIKE, FROM, TO = 40, 80, 20, 25 -- calls a second; seconds
local HOP, TIMEOUT, END = 0.1, 3, 80 -- seconds
local ATTEMPTS = 3
local RECOVERED = 34 -- answers a second, means of 5 s

local function failed(res) return res == nil end

local function retry(backoff, budget)
  return function()
    return neap.retry { max_attempts = ATTEMPTS, backoff = backoff, retry_on = failed,
      budget = budget and neap.retry_budget(budget) }
  end
end

--- What clients may do about a timeout: each makes a policy that all calls share.
---@type {name: string, make: fun(): neap.Retry}[]
M.policies = {
  { name = "no backoff", make = retry { base = 0 } },
  { name = "full jitter, 0.1 to 1 s", make = retry { base = 0.1, factor = 10, max = 1 } },
  { name = "full jitter, 1 then 2 s", make = retry { base = 1, max = 2 } },
  { name = "full jitter, 20 then 40 s", make = retry { base = 20, max = 40 } },
  { name = "budget of 0.1 a call", make = retry({ base = 0 }, { per_call = 0.1, cap = 5 }) },
}

local function exponential(rng, mean) return -mean * math.log(1 - rng:double()) end

--- A service: `request()` waits for an answer.
local function service(seed)
  -- 1 + 0.01 n, written as the law has it: base * (1 + slope * (n - 1)).
  return upstreams.new { latency = 1.01, brownout = { knee = 1, slope = 0.01 / 1.01 }, on_disconnect = "continue",
    seed = seed }
end

---@class spec.Collapse
---@field arrivals integer[] by second, from 1: of 0 to 1 s
---@field answers integer[] in time, by second
---@field attempts integer[] by second

--- One run of 80 seconds. Waits.
---@param policy neap.Retry
---@param seed integer
---@return spec.Collapse
function M.run(policy, seed)
  local upstream, gaps, hops = service(seed), core.rng(seed, 101), core.rng(seed, 102)
  local result = { arrivals = {}, answers = {}, attempts = {} }
  for second = 1, END do result.arrivals[second], result.answers[second], result.attempts[second] = 0, 0, 0 end
  local began = neap.now()
  local function count(what)
    local second = math.floor(neap.now() - began) + 1
    if second <= END then what[second] = what[second] + 1 end
  end
  local function exchange()
    neap.sleep(exponential(hops, HOP))
    local res = upstream:request()
    neap.sleep(exponential(hops, HOP))
    return res
  end
  local function attempt()
    count(result.attempts)
    return neap.timeout(TIMEOUT, exchange)
  end
  local function call()
    count(result.arrivals)
    if policy:call(attempt) then count(result.answers) end
  end
  neap.timeout(END, function()
    while true do
      neap.spawn(call)
      local t = neap.now() - began
      neap.sleep(exponential(gaps, 1 / ((t < FROM or t > TO) and BASE or SPIKE)))
    end
  end)
  return result
end

local function sum(list, from, to)
  local total = 0
  for second = from + 1, to do total = total + list[second] end
  return total
end

--- The share of the calls from second 30 to 80 that got an answer.
---@param result spec.Collapse
---@return number
function M.goodput(result)
  return sum(result.answers, 30, END) / sum(result.arrivals, 30, END)
end

--- Seconds after the spike from which on the means of 5 s are all at or above 34
--- answers a second; nil: never.
---@param result spec.Collapse
---@return number?
function M.recovery(result)
  local since
  for from = END - 5, TO, -5 do
    if sum(result.answers, from, from + 5) / 5 < RECOVERED then break end
    since = from - TO
  end
  return since
end

---@class spec.CollapseSummary
---@field collapsed integer runs that answered less than 20 % of the calls from second 30 to 80
---@field goodput number their mean share
---@field recovery number median seconds, math.huge where most never recovered
---@field amplification number attempts by call

--- Runs it with several seeds. Waits.
---@param make fun(): neap.Retry
---@param seeds integer
---@return spec.CollapseSummary
function M.summary(make, seeds)
  local recoveries, collapsed, goodput, attempts, arrivals = {}, 0, 0, 0, 0
  for seed = 1, seeds do
    core.reseed(seed)
    local result = M.run(make(), seed)
    local share = M.goodput(result)
    if share < 0.2 then collapsed = collapsed + 1 end
    goodput = goodput + share
    recoveries[seed] = M.recovery(result) or math.huge
    attempts, arrivals = attempts + sum(result.attempts, 0, END), arrivals + sum(result.arrivals, 0, END)
  end
  table.sort(recoveries)
  local low, high = recoveries[math.ceil(seeds / 2)], recoveries[math.floor(seeds / 2) + 1]
  return { collapsed = collapsed, goodput = goodput / seeds, recovery = (low + high) / 2,
    amplification = attempts / arrivals }
end

return M
