--- Means and their uncertainty over runs that are paired by seed. Pure: randomness
--- is an argument.
local abs, ceil, exp, floor, sort, sqrt = math.abs, math.ceil, math.exp, math.floor, table.sort, math.sqrt

local M = {}

--- How often a sample is drawn anew.
M.RESAMPLES = 2000
--- Runs that an interval needs. The bootstrap's lies between the smallest and the
--- largest value, and of five fair differences all are of one sign once in 16: no
--- interval of them could be right in 95 of 100 cases. Of six they are once in 32.
M.LEAST_RUNS = 6
-- Of the standard normal distribution: 2.5 % are above it.
local Z = 1.959964
-- Times are exact to a nanosecond: a smaller difference is none.
local NOISE = 1e-8

---@class neap.lab.Estimate
---@field mean number
---@field low number? of the 95 % interval; nil: fewer than `LEAST_RUNS`
---@field high number?
---@field count integer runs that have a value

---@param values number[]
---@return number
function M.mean(values)
  local sum = 0
  for i = 1, #values do sum = sum + values[i] end
  return sum / #values
end

--- The value that a share `p` of them does not exceed (nearest rank); nil where
--- there are none.
---@param sorted number[] ascending
---@param p number 0 to 1
---@return number?
function M.percentile(sorted, p)
  local count = #sorted
  if count == 0 then return nil end
  -- 0.29 * 100 is a little more than 29.
  return sorted[math.max(1, math.min(count, ceil(p * count - 1e-9)))]
end

---@class neap.lab.Resamples which of `size` values each resample takes
---@field size integer
---@field count integer
---@field [integer] integer

--- Draws resamples of `size` values with replacement. The same ones serve every
--- quantity of the same runs.
---@param size integer
---@param random fun(): number uniform in [0, 1)
---@param count? integer
---@return neap.lab.Resamples
function M.resamples(size, random, count)
  count = count or M.RESAMPLES
  local list = { size = size, count = count }
  for i = 1, size * count do list[i] = floor(random() * size) + 1 end
  return list
end

--- The point that 2.5 % of Student's t distribution are above, by its expansion for
--- large degrees of freedom (Abramowitz and Stegun 26.7.5). From five on it is right to
--- 0.2 %.
local function student(freedom)
  local z2 = Z * Z
  return Z * (1 + (z2 + 1) / (4 * freedom) + (5 * z2 ^ 2 + 16 * z2 + 3) / (96 * freedom ^ 2)
    + (3 * z2 ^ 3 + 19 * z2 ^ 2 + 17 * z2 - 15) / (384 * freedom ^ 3))
end

--- The share of the standard normal distribution below -x, for x above 0 (Abramowitz and
--- Stegun 26.2.17; to 1e-7).
local function normal_below_minus(x)
  local t = 1 / (1 + 0.2316419 * abs(x))
  local poly = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
  return 0.3989422804 * exp(-x * x / 2) * poly
end

--- The share of resamples to leave out at either end for a 95 % interval of `size`
--- values. Resamples of few values spread too little, and their middle 95 % miss the mean
--- too often: the expanded percentile interval (Hesterberg, "What Teachers Should Know
--- About the Bootstrap", The American Statistician 69, 2015, section 4.4) takes more of
--- them, as many as Student's t and the lost degree of freedom ask for.
---@param size integer
---@return number
function M.tail(size)
  return normal_below_minus(sqrt(size / (size - 1)) * student(size - 1))
end

--- The mean, and the expanded percentile bootstrap's 95 % interval of it.
---@param values number[]
---@param resamples neap.lab.Resamples of as many values
---@return neap.lab.Estimate
function M.estimate(values, resamples)
  local size = #values
  local result = { mean = M.mean(values), count = size }
  if size < M.LEAST_RUNS then return result end
  if resamples.size ~= size then error("resamples of " .. resamples.size .. " values for " .. size, 2) end
  local means, at = {}, 0
  for i = 1, resamples.count do
    local sum = 0
    for j = at + 1, at + size do sum = sum + values[resamples[j]] end
    at = at + size
    means[i] = sum / size
  end
  sort(means)
  local tail = M.tail(size)
  local rank = math.max(1, ceil(tail * #means - 1e-9))
  result.low, result.high = means[rank], means[#means + 1 - rank]
  return result
end

--- Resamples by size, drawn when they are first needed, each size from a stream of
--- its own: how many sizes were asked for before changes none.
---@param stream fun(number: integer): fun(): number
---@return fun(size: integer): neap.lab.Resamples
function M.source(stream)
  local by_size = {}
  return function(size)
    local list = by_size[size]
    if not list then
      list = M.resamples(size, stream(size))
      by_size[size] = list
    end
    return list
  end
end

--- The estimate of one column of runs. Runs without a value are left out; nil: none
--- has one.
---@param runs table[]
---@param key string
---@param source fun(size: integer): neap.lab.Resamples
---@return neap.lab.Estimate?
function M.column(runs, key, source)
  local values = {}
  for i = 1, #runs do values[#values + 1] = runs[i][key] end
  if #values == 0 then return nil end
  return M.estimate(values, source(#values))
end

--- The estimate of `a - b`, seed by seed; nil where no seed has both.
---@param a table[] runs with `seed`
---@param b table[]
---@param key string
---@param source fun(size: integer): neap.lab.Resamples
---@return neap.lab.Estimate?
function M.difference(a, b, key, source)
  local by_seed, values = {}, {}
  for i = 1, #b do by_seed[b[i].seed] = b[i][key] end
  for i = 1, #a do
    local value, other = a[i][key], by_seed[a[i].seed]
    if value and other then
      local difference = value - other
      values[#values + 1] = abs(difference) > NOISE and difference or 0
    end
  end
  if #values == 0 then return nil end
  return M.estimate(values, source(#values))
end

--- Whether a difference may be none at all: its interval contains 0, or there is no
--- interval to tell by.
---@param difference neap.lab.Estimate?
---@return boolean
function M.may_be_none(difference)
  if not difference or not difference.low then return true end
  return difference.low <= 0 and difference.high >= 0
end

return M
