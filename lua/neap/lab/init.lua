--- neap.lab: policies compared in virtual time. docs/lab.md.
---
---   print(neap.lab.compare {
---     policies = { patient = { retry = { max_attempts = 5 } }, none = false },
---     world = { latency = 0.1, errors = { { status = 503, probability = 0.2 } } },
---     load = { kind = "open", rate = 20, duration = 60 },
---   })
local compare = require "neap.lab.compare"
local experiments = require "neap.lab.experiment"
local options = require "neap.options"
local runs = require "neap.lab.run"
local sweep = require "neap.lab.sweep"

local M = {}

-- While `neap lab` reads a script: what it declares. Else nil.
local collecting

local Comparison = {}

function Comparison.__tostring(comparison)
  return require("neap.lab.report.text").of(comparison)
end

--- What `neap.lab.compare` was called with by `chunk`, which ends there; else what
--- the chunk returns. For `neap lab`.
---@param chunk function
---@param ... any its arguments
---@return any
function M.declared(chunk, ...)
  local marker = {}
  collecting = marker
  local ok, result = pcall(chunk, ...)
  collecting = nil
  if marker.given then return marker.given end
  if not ok then error(result, 0) end
  return result
end

--- Variants of an experiment in this process: with its sweeps, if it has any.
local function variants_of(experiment)
  local policies = require "neap.lab.policies"
  local parts = {}
  local world = experiment.make_world()
  for _, name in ipairs(experiment.names) do
    local env = { world = world, upstream = world.upstreams[1], upstreams = {}, seed = experiment.seed, policy = name }
    for _, upstream in ipairs(world.upstreams) do env.upstreams[upstream.host] = upstream end
    parts[name] = policies.parts_of(experiment.by_name[name],
      policies.build(name, experiment.by_name[name], nil, env))
  end
  local dimensions, message = sweep.parse_all(experiment.sweep or {}, parts)
  local variants
  if dimensions then variants, message = sweep.variants(experiment.names, parts, dimensions) end
  if not variants then options.fail("neap.lab: option 'sweep': " .. message) end
  return variants
end

--- Runs every policy with every seed, one after the other in this process, and
--- compares them. Needs virtual time (`neap sim`, `neap test`); `neap lab` spreads
--- the same script over the cores. Waits; raises on wrong options and what policies
--- raise.
---@param given neap.lab.ExperimentOptions
---@return neap.lab.Comparison
function M.compare(given)
  if collecting then
    local marker = collecting
    experiments.new(given) -- what is wrong is told at the script's line
    marker.given = given
    error("neap.lab.compare: read by neap lab", 0)
  end
  local experiment = experiments.new(given)
  local variants, rows = variants_of(experiment), {}
  for i, variant in ipairs(variants) do
    rows[i] = {}
    for k = 1, experiment.runs do
      rows[i][k] = runs.run(experiment, { policy = variant.policy, changes = variant.changes,
        seed = experiment.seed + k - 1 })
    end
  end
  local header = require("neap.lab.report.header").of_experiment(experiment)
  header.currency = experiment.price and experiment.price.currency
  return setmetatable(compare.of(variants, rows, experiment.goals, header, experiment.known), Comparison)
end

return M
