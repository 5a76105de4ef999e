--- Laws fitted to measured seconds by maximum likelihood, and how well they fit. Pure:
--- the generator of random numbers is an argument.
---
--- Of the laws the one with the smallest AIC is chosen (Akaike 1974: twice the number of
--- parameters less twice the log-likelihood). How far it is from the record is told by
--- the Kolmogorov-Smirnov distance D. Its p-value comes from a parametric bootstrap, for
--- the tabled one is too large where the parameters were fitted to the same values
--- (Lilliefors 1967): samples of the fitted law are fitted in turn, and the share whose
--- sqrt(n) D is at least the record's is p.
local latencies = require "neap.world.latency"

local abs, exp, floor, huge, log, max, min, pi, sqrt = math.abs, math.exp, math.floor, math.huge, math.log, math.max,
  math.min, math.pi, math.sqrt

local M = {}

local FEW = 30 -- values; with fewer every law fits
local REPLICATES, REPLICATE_SIZE = 200, 1000
local SAMPLES = 200 -- of an empirical law
local GOOD_P, GOOD_DISTANCE = 0.05, 0.05
local CONSTANT_SPREAD, CONSTANT_SECONDS = 0.01, 2e-4

---@class neap.cassette.Fit a law and how well it fits
---@field spec neap.world.Latency
---@field count integer values
---@field distance number? Kolmogorov-Smirnov's D; nil: a constant
---@field spread number? seconds between the least and the most, of a constant
---@field p number? of the bootstrap; nil: none was needed
---@field recorded {p50: number, p90: number, p99: number} seconds
---@field fitted {p50: number, p90: number, p99: number} seconds
---@field rejected {law: string, distance: number, p: number}? the best other law, where it was not good enough

-- -- The normal law -----------------------------------------------------------

--- P(Z <= z). The series of Phi about 0 (Marsaglia 2004) has positive terms only, so
--- that nothing is lost; beyond 7 there is nothing left to tell.
local function normal_cdf(z)
  if z < -7 then return 0 end
  if z > 7 then return 1 end
  local sum, term, k, square = z, z, 1, z * z
  repeat
    k = k + 2
    term = term * square / k
    local before = sum
    sum = sum + term
  until sum == before
  return 0.5 + sum * exp(-square / 2) / sqrt(2 * pi)
end

local function normal_quantile(p)
  local low, high = -7, 7
  for _ = 1, 60 do
    local middle = (low + high) / 2
    if normal_cdf(middle) < p then low = middle else high = middle end
  end
  return (low + high) / 2
end

-- -- Laws ---------------------------------------------------------------------

--- Each: fit(sorted) -> spec and log-likelihood, or nothing; parameters; cdf(spec, x);
--- quantile(spec, p).
local laws = {}

laws.uniform = { parameters = 2 }
function laws.uniform.fit(sorted)
  local n = #sorted
  local low, high = sorted[1], sorted[n]
  if high <= low then return nil end
  return { law = "uniform", min = low, max = high }, -n * log(high - low)
end
function laws.uniform.cdf(spec, x) return max(0, min(1, (x - spec.min) / (spec.max - spec.min))) end
function laws.uniform.quantile(spec, p) return spec.min + p * (spec.max - spec.min) end

laws.exponential = { parameters = 1 }
function laws.exponential.fit(sorted)
  local sum, n = 0, #sorted
  for i = 1, n do sum = sum + sorted[i] end
  if sum <= 0 then return nil end
  return { law = "exponential", mean = sum / n }, -n * log(sum / n) - n
end
function laws.exponential.cdf(spec, x) return 1 - exp(-max(0, x) / spec.mean) end
function laws.exponential.quantile(spec, p) return -log(1 - p) * spec.mean end

laws.lognormal = { parameters = 2 }
function laws.lognormal.fit(sorted)
  local n, sum, squares = #sorted, 0, 0
  if sorted[1] <= 0 then return nil end
  for i = 1, n do sum = sum + log(sorted[i]) end
  local mu = sum / n
  for i = 1, n do squares = squares + (log(sorted[i]) - mu) ^ 2 end
  local variance = squares / n
  if variance <= 0 then return nil end
  return { law = "lognormal", median = exp(mu), sigma = sqrt(variance) }, -sum - n / 2 * (log(2 * pi * variance) + 1)
end
function laws.lognormal.cdf(spec, x) return x <= 0 and 0 or normal_cdf(log(x / spec.median) / spec.sigma) end
function laws.lognormal.quantile(spec, p) return spec.median * exp(spec.sigma * normal_quantile(p)) end

laws.pareto = { parameters = 2 }
function laws.pareto.fit(sorted)
  local n, least, sum = #sorted, sorted[1], 0
  if least <= 0 then return nil end
  for i = 1, n do sum = sum + log(sorted[i] / least) end
  if sum <= 0 then return nil end
  local alpha, logs = n / sum, sum + n * log(least)
  return { law = "pareto", min = least, alpha = alpha }, n * log(alpha) + n * alpha * log(least) - (alpha + 1) * logs
end
function laws.pareto.cdf(spec, x) return x <= spec.min and 0 or 1 - (spec.min / x) ^ spec.alpha end
function laws.pareto.quantile(spec, p) return spec.min * (1 - p) ^ (-1 / spec.alpha) end

local ORDER = { "exponential", "lognormal", "pareto", "uniform" } -- the first of equals

--- Kolmogorov and Smirnov's distance: the most by which the shares differ.
---@param sorted number[]
---@param cdf fun(x: number): number
---@param below? fun(x: number): number the share below x, of a law that has steps; default: `cdf`
---@return number
function M.distance(sorted, cdf, below)
  local n, most, first = #sorted, 0, 1
  for i = 1, n do
    local value = sorted[i]
    if value ~= sorted[i + 1] then -- the last one of equals
      most = max(most, abs(i / n - cdf(value)), abs((first - 1) / n - (below or cdf)(value)))
      first = i + 1
    end
  end
  return most
end

--- The value that a share of them does not exceed.
---@param sorted number[]
---@param p number
---@return number
function M.quantile(sorted, p)
  local at = 1 + (#sorted - 1) * p
  local low = floor(at)
  local upper = sorted[min(#sorted, low + 1)]
  return sorted[low] + (upper - sorted[low]) * (at - low)
end

-- -- Choosing -----------------------------------------------------------------

local function distance_of(name, spec, sorted)
  local cdf = laws[name].cdf
  return M.distance(sorted, function(x) return cdf(spec, x) end)
end

--- The share of samples of the law, fitted as the record was, that are as far off.
local function bootstrap(name, spec, n, distance, random)
  local sample, size = latencies.sampler(spec), min(n, REPLICATE_SIZE)
  local beyond, bound = 0, distance * sqrt(n)
  for _ = 1, REPLICATES do
    local values = {}
    for i = 1, size do values[i] = sample(random) end
    table.sort(values)
    local fitted = laws[name].fit(values)
    if fitted and distance_of(name, fitted, values) * sqrt(size) >= bound then beyond = beyond + 1 end
  end
  return beyond / REPLICATES
end

--- The law with the smallest AIC.
local function best(sorted)
  local chosen, spec_of, least = nil, nil, huge
  for _, name in ipairs(ORDER) do
    local spec, likelihood = laws[name].fit(sorted)
    if spec then
      local aic = 2 * laws[name].parameters - 2 * likelihood
      if aic < least then chosen, spec_of, least = name, spec, aic end
    end
  end
  return chosen, spec_of
end

local function quantiles(at)
  return { p50 = at(0.5), p90 = at(0.9), p99 = at(0.99) }
end

--- The record itself, thinned out to evenly spaced quantiles.
local function empirical(sorted)
  local samples, n = {}, #sorted
  local count = min(n, SAMPLES)
  for i = 1, count do samples[i] = count == n and sorted[i] or M.quantile(sorted, (i - 0.5) / count) end
  --- The share of samples up to x, or of those below it.
  local function share(x, below)
    local low, high = 0, count
    while low < high do
      local middle = floor((low + high + 1) / 2)
      if samples[middle] < x or not below and samples[middle] == x then low = middle else high = middle - 1 end
    end
    return low / count
  end
  local function below(x) return share(x, true) end
  return { spec = { law = "empirical", samples = samples }, count = n,
    distance = count == n and 0 or M.distance(sorted, share, below),
    fitted = quantiles(function(p) return samples[min(count, floor(p * count) + 1)] end) }
end

local function constant(sorted)
  local middle = M.quantile(sorted, 0.5)
  local spread = sorted[#sorted] - sorted[1]
  if spread > max(CONSTANT_SECONDS, CONSTANT_SPREAD * middle) then return nil end
  return { spec = { law = "constant", seconds = middle }, count = #sorted, spread = spread,
    fitted = quantiles(function() return middle end) }
end

local function parametric(sorted, random)
  local name, spec = best(sorted)
  if not name then return nil end
  local distance = distance_of(name, spec, sorted)
  return { spec = spec, count = #sorted, distance = distance,
    p = bootstrap(name, spec, #sorted, distance, random),
    fitted = quantiles(function(p) return laws[name].quantile(spec, p) end) }
end

--- The law of some seconds: a constant where they hardly differ (by 1 %, or 0.2 ms);
--- else the best of uniform, exponential, log-normal and Pareto where that is good
--- (p at least 0.05, or D at most 0.05); else, and of fewer than 30 values, they
--- themselves (empirical).
---@param values number[] seconds, at least one; they stay as they are
---@param random fun(): number uniform in [0, 1)
---@return neap.cassette.Fit
function M.fit(values, random)
  local sorted = {}
  for i = 1, #values do sorted[i] = values[i] end
  table.sort(sorted)
  local fit = constant(sorted)
  if not fit and #sorted >= FEW then
    fit = parametric(sorted, random)
    if fit and fit.p < GOOD_P and fit.distance > GOOD_DISTANCE then
      local rejected = { law = fit.spec.law, distance = fit.distance, p = fit.p }
      fit = empirical(sorted)
      fit.rejected = rejected
    end
  end
  fit = fit or empirical(sorted)
  fit.recorded = quantiles(function(p) return M.quantile(sorted, p) end)
  return fit
end

return M
