--- The model of "Exponential Backoff And Jitter" (Brooker, 2015): clients that each
--- update one row under optimistic concurrency control, through neap's own tasks
--- and neap.retry. Used by the spec and by bench/aws_backoff.lua. Virtual time only.
---
--- A hop over the network takes |Normal(10, 2)| ms. A client reads (a hop there, one
--- back), then writes (the same); the write succeeds if nobody else wrote in
--- between. Otherwise it waits the backoff, and reads again, a hop away as ever.
local core = require "neap.core"
local neap = require "neap"

local M = {}

local abs, cos, log, pi, sqrt = math.abs, math.cos, math.log, math.pi, math.sqrt
local sleep = neap.sleep

--- The policies of the article, with its figures: base 5 ms that the first retry
--- doubles, at most 2 s. Decorrelated jitter begins at 5 ms and is never reset.
---@type {name: string, backoff: table}[]
M.policies = {
  { name = "None", backoff = { base = 0 } },
  { name = "Exponential", backoff = { base = 0.01, max = 2, jitter = "none" } },
  { name = "Decorrelated", backoff = { base = 0.005, max = 2, jitter = "decorrelated" } },
  { name = "Equal", backoff = { base = 0.01, max = 2, jitter = "equal" } },
  { name = "Full", backoff = { base = 0.01, max = 2, jitter = "full" } },
}

--- What the article's own program says, 1,000 repetitions: mean and standard
--- deviation of the milliseconds until all have succeeded, and of the writes.
---@type table<integer, table<string, number[]>>
M.table = {
  [10] = { None = { 380.9, 33.9, 51.00, 4.00 }, Exponential = { 3489.6, 1279, 50.85, 4.10 },
    Decorrelated = { 437.8, 85.4, 37.66, 2.21 }, Equal = { 729.7, 187.7, 42.41, 2.57 },
    Full = { 466.3, 104.0, 39.12, 2.24 } },
  [50] = { None = { 1140.8, 43.8, 690.24, 18.1 }, Exponential = { 36322, 3155, 621.75, 28.1 },
    Decorrelated = { 2222.4, 496.5, 374.66, 13.0 }, Equal = { 4278.0, 566.0, 347.12, 5.84 },
    Full = { 2895.3, 560.7, 332.63, 5.00 } },
  [100] = { None = { 2028.2, 43.7, 2421.81, 31.6 }, Exponential = { 63501, 3702, 1857.58, 57.8 },
    Decorrelated = { 4578.8, 681.2, 1001.04, 29.3 }, Equal = { 6630.8, 663.7, 812.07, 7.47 },
    Full = { 4911.8, 542.9, 795.82, 6.97 } },
}
M.table_runs = 1000

--- Draws hops: |Normal(10, 2)| ms (Box and Muller, 1958; both numbers are used).
local function hops(rng)
  local spare
  return function()
    local z = spare
    if z then
      spare = nil
    else
      local radius, angle = sqrt(-2 * log(1 - rng:double())), 2 * pi * rng:double()
      z, spare = radius * cos(angle), radius * math.sin(angle)
    end
    return abs(10 + 2 * z) / 1000
  end
end

local function failed(written) return not written end

--- A policy's retry: it never gives up.
---@param policy {backoff: table}
---@return neap.Retry
function M.retry(policy)
  return neap.retry { max_attempts = math.huge, backoff = policy.backoff, retry_on = failed }
end

--- One repetition. Waits.
---@param clients integer
---@param retry neap.Retry
---@param hop fun(): number seconds
---@return number seconds until the last client has its success
---@return integer writes
local function repetition(clients, retry, hop)
  local row, writes, began = 0, 0, neap.now()
  local function update()
    sleep(hop())
    local seen = row
    sleep(hop())
    sleep(hop())
    writes = writes + 1
    local written = row == seen
    if written then row = row + 1 end
    sleep(hop())
    return written
  end
  local function client() retry:call(update) end
  neap.scope(function(scope)
    for _ = 1, clients do scope:spawn(client) end
  end)
  return neap.now() - began, writes
end

--- Sums up what it is told: mean, standard deviation.
local function summary()
  local n, mean, m2 = 0, 0, 0
  return function(value)
    n = n + 1
    local delta = value - mean
    mean = mean + delta / n
    m2 = m2 + delta * (value - mean)
  end, function() return mean, sqrt(m2 / (n - 1)) end
end

--- Repeats it: mean and standard deviation of the milliseconds and of the writes.
---@param clients integer
---@param policy {name: string, backoff: table}
---@param runs integer
---@param seed integer of the hops; the backoff draws from the runtime's own stream
---@return number[] four, as in `table`
function M.measure(clients, policy, runs, seed)
  local hop, retry = hops(core.rng(seed, clients)), M.retry(policy)
  local add_time, time = summary()
  local add_writes, writes = summary()
  for _ = 1, runs do
    local seconds, count = repetition(clients, retry, hop)
    add_time(seconds * 1000)
    add_writes(count)
  end
  local result = { time() }
  result[3], result[4] = writes()
  return result
end

--- How far a figure may be from the table's: a share of it, or 4 standard errors of
--- both together, whichever is more.
---@param column integer 1 time, 3 writes
---@param measured number[]
---@param expected number[]
---@param runs integer
---@param share? number 0: standard errors only
---@return number
function M.bound(column, measured, expected, runs, share)
  local error_here, error_there = measured[column + 1] ^ 2 / runs, expected[column + 1] ^ 2 / M.table_runs
  return math.max((share or 0) * expected[column], 4 * sqrt(error_here + error_there))
end

return M
