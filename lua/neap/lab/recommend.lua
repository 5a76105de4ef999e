--- Which policy to take: successive halving over the sweep space, then the winner and
--- the runner-up on fresh seeds, then the winner in worlds that are somewhat
--- different. What carries out the runs is an argument.
local compare = require "neap.lab.compare"
local core = require "neap.core"
local goals = require "neap.lab.goals"
local metrics = require "neap.lab.metrics"
local sweep = require "neap.lab.sweep"

local floor, min = math.floor, math.min

local M = {}

--- Candidates at first, seeds of the first round, and by how much each round has
--- fewer of the former and more of the latter.
M.CANDIDATES, M.FIRST_RUNS, M.FACTOR = 27, 4, 3
--- Seeds that the search has not seen, for winner and runner-up; and for the winner
--- in each changed world.
M.FRESH, M.PERTURBED = 200, 200
--- Either way.
M.PERTURBATION = 0.25

-- Where fresh seeds begin, and the stream that candidates are drawn from.
local FRESH_SEEDS, SAMPLING = 1000000, 1980

---@class neap.lab.Base a policy that is varied
---@field name string
---@field dimensions neap.lab.Dimension[]

---@class neap.lab.Search
---@field bases neap.lab.Base[]
---@field goals neap.lab.Goal[]
---@field constraints neap.lab.Constraint[]
---@field factors string[] what the world can be multiplied in
---@field seed integer the first one
---@field run fun(jobs: neap.lab.SearchJob[], what: string): neap.lab.Row[]|nil, string? in the order of the jobs; waits
---@field candidates? integer
---@field fresh? integer
---@field perturbed? integer
---@field measures? neap.lab.Measures default: the usual ones

---@class neap.lab.SearchJob
---@field variant neap.lab.Variant
---@field seed integer
---@field scale? table<string, number>

---@class neap.lab.Candidate
---@field variant neap.lab.Variant
---@field rows neap.lab.Row[]
---@field means table<string, number>

---@class neap.lab.Recommendation
---@field feasible boolean
---@field winner neap.lab.Candidate of no feasible policy: the nearest miss
---@field comparison neap.lab.Comparison winner and runner-up on fresh seeds
---@field worlds {factor: string, scale: number, means: table<string, number>, holds: boolean}[]
---@field searched integer candidates
---@field runs integer fresh seeds
---@field fresh_from integer the first of them
---@field search_runs integer seeds of the last round
---@field missed string[] texts of the constraints that the winner misses

-- ---------------------------------------------------------------------------
-- Candidates
-- ---------------------------------------------------------------------------

local function shuffled(count, random)
  local list = {}
  for i = 1, count do list[i] = i end
  for i = count, 2, -1 do
    local j = floor(random() * i) + 1
    list[i], list[j] = list[j], list[i]
  end
  return list
end

local function value_at(dimension, share)
  if dimension.low then return sweep.point(dimension, share) end
  return dimension.values[min(#dimension.values, floor(share * #dimension.values) + 1)]
end

--- A Latin hypercube: each stratum of each dimension has one candidate.
local function sample(base, count, random, add)
  local columns = {}
  for i = 1, #base.dimensions do columns[i] = shuffled(count, random) end
  for row = 1, count do
    local values = {}
    for i, dimension in ipairs(base.dimensions) do
      values[i] = value_at(dimension, (columns[i][row] - random()) / count)
    end
    add(sweep.variant(base.name, base.dimensions, values))
  end
end

local function grid_size(base)
  local size = 1
  for _, dimension in ipairs(base.dimensions) do
    if dimension.low then return math.huge end
    size = size * #dimension.values
  end
  return size
end

--- Candidates: each policy as it is, and variants of it. Equal seeds give equal ones.
---@param search neap.lab.Search
---@return neap.lab.Candidate[]
function M.candidates(search)
  local rng = core.rng(search.seed, SAMPLING)
  local function random() return rng:double() end
  local list, seen = {}, {}
  local function add(variant)
    if seen[variant.name] then return end
    seen[variant.name] = true
    list[#list + 1] = { variant = variant, rows = {} }
  end
  local varied = 0
  for _, base in ipairs(search.bases) do varied = varied + (#base.dimensions > 0 and 1 or 0) end
  -- A policy with nothing to vary is one candidate.
  local share = math.ceil(((search.candidates or M.CANDIDATES) - #search.bases + varied) / math.max(1, varied))
  for _, base in ipairs(search.bases) do
    add { name = base.name, policy = base.name }
    if #base.dimensions > 0 then
      if grid_size(base) < share then
        local parts = { [base.name] = {} }
        for _, dimension in ipairs(base.dimensions) do parts[base.name][dimension.part] = true end
        for _, variant in ipairs(sweep.variants({ base.name }, parts, base.dimensions)) do add(variant) end
      else
        sample(base, share - 1, random, add)
      end
    end
  end
  return list
end

-- ---------------------------------------------------------------------------
-- Halving
-- ---------------------------------------------------------------------------

--- Means by metric; of values that there are.
---@param search neap.lab.Search
---@param rows neap.lab.Row[]
---@return table<string, number>
function M.means(search, rows)
  local means = {}
  for _, metric in ipairs(search.measures and search.measures.list or metrics.list) do
    local sum, count = 0, 0
    for _, row in ipairs(rows) do
      local value = row[metric.key]
      if value then sum, count = sum + value, count + 1 end
    end
    if count > 0 then means[metric.key] = sum / count end
  end
  return means
end

local function rank(search, list)
  local place = {}
  for i, candidate in ipairs(list) do
    candidate.means = M.means(search, candidate.rows)
    place[candidate] = i
  end
  table.sort(list, function(a, b)
    if goals.is_better(search.goals, search.constraints, a.means, b.means) then return true end
    if goals.is_better(search.goals, search.constraints, b.means, a.means) then return false end
    return place[a] < place[b]
  end)
end

--- Runs the candidates with seeds `from` to `to`, counted from 1.
local function more_runs(search, list, from, to, what)
  local jobs = {}
  for _, candidate in ipairs(list) do
    for k = from, to do jobs[#jobs + 1] = { variant = candidate.variant, seed = search.seed + k - 1 } end
  end
  local rows, message = search.run(jobs, what)
  if not rows then return nil, message end
  local at = 0
  for _, candidate in ipairs(list) do
    for _ = from, to do
      at = at + 1
      candidate.rows[#candidate.rows + 1] = rows[at]
    end
  end
  return true
end

--- The best three, best first. The seeds of a round are those of the one before and
--- more.
local function halve(search, list)
  local done, runs = 0, M.FIRST_RUNS
  while true do
    local ok, message = more_runs(search, list, done + 1, runs, ("%d candidates"):format(#list))
    if not ok then return nil, message end
    rank(search, list)
    done = runs
    if #list <= M.FACTOR then return list, done end
    local kept = {}
    for i = 1, math.max(M.FACTOR, math.ceil(#list / M.FACTOR)) do kept[i] = list[i] end
    list, runs = kept, runs * M.FACTOR
  end
end

-- ---------------------------------------------------------------------------
-- The checks
-- ---------------------------------------------------------------------------

--- The two best on seeds that the search has not seen, where it had no luck to pick
--- from: the better one there wins.
local function check_fresh(search, finalists)
  local runs, jobs = search.fresh or M.FRESH, {}
  local count = min(2, #finalists)
  for i = 1, count do
    for k = 1, runs do
      jobs[#jobs + 1] = { variant = finalists[i].variant, seed = search.seed + FRESH_SEEDS + k - 1 }
    end
  end
  local rows, message = search.run(jobs, "fresh seeds")
  if not rows then return nil, message end
  local list = {}
  for i = 1, count do
    list[i] = { variant = finalists[i].variant, rows = { unpack(rows, (i - 1) * runs + 1, i * runs) } }
    list[i].means = M.means(search, list[i].rows)
  end
  local first, second = list[1], list[2]
  if second and goals.is_better(search.goals, search.constraints, second.means, first.means) then
    list[1], list[2] = second, first
  end
  return list
end

local function check_worlds(search, winner)
  local jobs, worlds = {}, {}
  local runs = search.perturbed or M.PERTURBED
  for _, factor in ipairs(search.factors) do
    for _, scale in ipairs { 1 - M.PERTURBATION, 1 + M.PERTURBATION } do
      worlds[#worlds + 1] = { factor = factor, scale = scale }
      for k = 1, runs do
        jobs[#jobs + 1] = { variant = winner.variant, seed = search.seed + FRESH_SEEDS + k - 1,
          scale = { [factor] = scale } }
      end
    end
  end
  if #jobs == 0 then return worlds end
  local rows, message = search.run(jobs, "changed worlds")
  if not rows then return nil, message end
  for i, world in ipairs(worlds) do
    world.means = M.means(search, { unpack(rows, (i - 1) * runs + 1, i * runs) })
    world.holds = goals.total_miss(search.constraints, world.means) == 0
  end
  return worlds
end

local function missed(search, means)
  local list = {}
  for _, constraint in ipairs(search.constraints) do
    if goals.miss(constraint, means[constraint.metric.key]) > 0 then list[#list + 1] = constraint.text end
  end
  return list
end

--- Searches. Waits for the runs.
---@param search neap.lab.Search
---@return neap.lab.Recommendation? recommendation
---@return string? message where a run failed
function M.find(search)
  local candidates = M.candidates(search)
  local finalists, search_runs = halve(search, candidates)
  if not finalists then return nil, search_runs end
  local fresh, worlds, message
  fresh, message = check_fresh(search, finalists)
  if not fresh then return nil, message end
  local winner = fresh[1]
  local feasible = goals.total_miss(search.constraints, winner.means) == 0
  worlds = {}
  if feasible then
    worlds, message = check_worlds(search, winner)
    if not worlds then return nil, message end
  end
  local variants, rows = {}, {}
  for i, candidate in ipairs(fresh) do variants[i], rows[i] = candidate.variant, candidate.rows end
  local comparison = compare.of(variants, rows, search.goals, nil, search.measures)
  return { feasible = feasible, winner = winner, comparison = comparison, worlds = worlds, searched = #candidates,
    search_runs = search_runs, fresh_from = search.seed + FRESH_SEEDS,
    missed = missed(search, winner.means), runs = #winner.rows }
end

return M
