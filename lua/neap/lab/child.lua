--- One process of the laboratory: `neap sim --lab-job JSON` reads the script, does
--- one job in a fresh virtual runtime and writes one line of JSON.
local core = require "neap.core"
local errors = require "neap.error"
local json = require "neap.json"
local sorted = require "neap.sorted"

local M = {}

--- What the line with the result begins with: scripts may print.
M.MARK = "\30neap-lab "

---@class neap.lab.ChildJob
---@field what "describe"|"check"|"run"|"show"|"batch" of "batch": the fields of neap.batch.DryJob besides
---@field parent integer process id of who asks; `pool.ask` writes it
---@field path string the script
---@field args string[]
---@field world? string instead of the script's
---@field price? neap.Price
---@field job? neap.lab.Job of "run"
---@field variant? neap.lab.Variant of "show"
---@field variants? neap.lab.Variant[] of "check"

local function read(path, args)
  local run = require "neap.cli.run"
  local chunk, message = run.load(path)
  if not chunk then error(message, 0) end
  run.set_arg(path, args)
  setfenv(chunk, require("neap.sim.determinism").install())
  local lab = require "neap.lab"
  local given = lab.declared(chunk, unpack(args))
  if type(given) ~= "table" or given.policies == nil and given.world == nil and given.load == nil then
    error(("%s: is no experiment: it must return { policies =, world =, load = } or call neap.lab.compare")
      :format(path), 0)
  end
  return given
end

local function experiment_of(request)
  local given = read(request.path, request.args or {})
  if request.world or request.price then
    local changed = {}
    for key, value in pairs(given) do changed[key] = value end
    -- A file named on the command line is where that was given, not beside the script.
    if request.world then changed.world = require("neap.world").load(request.world) end
    changed.price = request.price or changed.price
    given = changed
  end
  return require("neap.lab.experiment").new(given)
end

--- Options whose values a recommendation may vary: what the policy sets as a number,
--- and the retry's own.
local function settings(spec)
  local list = {}
  local function walk(value, path)
    for key, inner in sorted.pairs(value) do
      if type(key) == "string" and type(inner) == "table" and getmetatable(inner) == nil then
        local deeper = { unpack(path) }
        deeper[#deeper + 1] = key
        walk(inner, deeper)
      elseif type(key) == "string" and type(inner) == "number" and inner > 0 and inner < math.huge then
        list[#list + 1] = { path = table.concat(path, ".") .. (#path > 0 and "." or "") .. key, value = inner }
      end
    end
  end
  if type(spec) == "table" then walk(spec, {}) end
  return list
end

--- The same of a policy that a function has made: what its retry is set to.
local function made_settings(policy)
  local find = type(policy) == "table" and policy.layer
  local retry = type(find) == "function" and policy:layer "retry" or policy and policy.kind == "retry" and policy
  if not retry then return {} end
  local opts, list = retry.options, {}
  if opts.max_attempts < math.huge then
    list[1] = { path = "retry.max_attempts", value = opts.max_attempts }
  end
  for _, name in ipairs { "base", "max" } do
    local value = type(opts.backoff) == "table" and opts.backoff[name] or 0
    if value > 0 then list[#list + 1] = { path = "retry.backoff." .. name, value = value } end
  end
  return list
end

local doing = {}

--- What a policy's function gets where nothing is run.
local function environment(experiment, world)
  local env = { world = world, upstream = world.upstreams[1], upstreams = {}, seed = experiment.seed }
  for _, upstream in ipairs(world.upstreams) do env.upstreams[upstream.host] = upstream end
  return env
end

--- What the parent must know of the experiment; a wrong policy is found here.
function doing.describe(experiment, request)
  local goals, load, policies = require "neap.lab.goals", require "neap.lab.load", require "neap.lab.policies"
  local world = experiment.make_world()
  local result = { names = experiment.names, parts = {}, settings = {}, load = load.describe(experiment.load),
    load_kind = experiment.load.kind, source = world:source(),
    world = world.path or request.world or "in " .. request.path, runs = experiment.runs, seed = experiment.seed,
    goal = goals.text(experiment.goals), subject_to = experiment.subject_to, sweep = experiment.sweep,
    title = experiment.title, measures = experiment.known, currency = experiment.price and experiment.price.currency,
    factors = require("neap.lab.factors").of(world.definition) }
  local env = environment(experiment, world)
  for _, name in ipairs(experiment.names) do
    local spec = experiment.by_name[name]
    env.policy = name
    local policy = policies.build(name, spec, nil, env)
    result.parts[name] = policies.parts_of(spec, policy)
    result.settings[name] = type(spec) == "function" and made_settings(policy) or settings(spec)
  end
  return result
end

--- Whether every variant can be made: values that do not go together are found before
--- the first run.
function doing.check(experiment, request)
  local policies = require "neap.lab.policies"
  local env = environment(experiment, experiment.make_world())
  for _, variant in ipairs(request.variants) do
    if variant.changes then
      env.policy = variant.policy
      local spec = experiment.by_name[variant.policy]
      local ok, message = pcall(policies.build, variant.policy, spec, variant.changes, env)
      if not ok then error(("'%s': %s"):format(variant.name, errors.text(message)), 0) end
    end
  end
  return true
end

function doing.run(experiment, request)
  return require("neap.lab.run").run(experiment, request.job)
end

--- What needs no script.
local alone = {}

--- One run of `neap batch --dry-run`.
function alone.batch(request)
  return require("neap.batch.dry_run.run").run(request)
end

--- The Lua to paste for a variant.
function doing.show(experiment, request)
  local variant = request.variant
  return { text = require("neap.lab.paste").text(experiment.by_name[variant.policy], variant) }
end

local function one_line(raised)
  local message = errors.is(raised) and raised.message or errors.text(raised)
  return (message:match "^[^\n]*")
end

--- A message with the script's name, where it has no place of its own.
local function with_place(message, path)
  if not path or message:find "^[^\n]-:%d+:" or message:find(path, 1, true) then return message end
  return path .. ": " .. message
end

--- Does a job. Waits.
---@param text string JSON
function M.main(text)
  local request = assert(json.decode(text))
  core.host.die_with_parent(request.parent)
  local ok, result = true, request
  if not alone[request.what] then ok, result = pcall(experiment_of, request) end
  local answer
  if not ok then
    answer = { error = with_place(one_line(result), request.path) }
  else
    local trace
    ok, result = xpcall(alone[request.what] or doing[request.what], function(err)
      trace = debug.traceback("", 2)
      return err
    end, result, request)
    answer = ok and { result = result }
      or { error = with_place(one_line(result), request.path),
        -- Wrong input is one line; what a script's function has raised needs its place.
        trace = request.what == "run" and not errors.is(result, "invalid") and (errors.text(result) .. trace) or nil }
  end
  io.stdout:write(M.MARK, assert(json.encode(answer)), "\n")
  io.stdout:flush()
  core.host.set_exit_code(0)
end

return M
