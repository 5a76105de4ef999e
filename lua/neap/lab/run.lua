--- One run: one policy, one seed, one world, in virtual time. The same seed gives
--- the same calls at the same times, and the k-th request of a call the same latency
--- and luck, whatever the policy did before.
local accounts = require "neap.lab.account"
local core = require "neap.core"
local errors = require "neap.error"
local loads = require "neap.lab.load"
local options = require "neap.options"
local policies = require "neap.lab.policies"
local prices = require "neap.price"
local scope = require "neap.scope"
local usage = require "neap.world.usage"

local abs, huge, max, now = math.abs, math.huge, math.max, core.now

local M = {}

---@class neap.lab.Env what a policy's function and `send` get
---@field world neap.world.World
---@field upstream neap.world.Upstream the first one
---@field upstreams table<string, neap.world.Upstream> by host
---@field seed integer
---@field policy string its name

---@class neap.lab.Job
---@field policy string
---@field seed integer
---@field changes? neap.lab.Change[]
---@field scale? table<string, number> what the world is multiplied by

---@class neap.lab.Row
---@field seed integer
---@field operations integer
---@field succeeded integer
---@field cut integer operations that the time limit ended; they count as failed
---@field sends integer requests that arrived
---@field success number? nil: there was no operation
---@field amplification number?
---@field wait number? nil: none has ended
---@field p50 number? nil: none succeeded
---@field p99 number?
---@field completion_time number
---@field work number server seconds
---@field wasted number server seconds of them
---@field input number tokens
---@field output number tokens
---@field cost number?
---@field timeline number[]? successes a second by slot
---@field [string] number? the measures of windows ("success@outage"), and the experiment's own

local function environment(world, job)
  local by_host = {}
  for _, upstream in ipairs(world.upstreams) do by_host[upstream.host] = upstream end
  return { world = world, upstream = world.upstreams[1], upstreams = by_host, seed = job.seed, policy = job.policy }
end

--- What a request of an item says besides its id.
local function direct(experiment, env)
  local upstream, request = env.upstream, experiment.request
  if not request then
    return function(item) return upstream:request { id = item } end
  end
  return function(item)
    local asked = {}
    for key, value in pairs(type(request) == "function" and request(item) or request) do asked[key] = value end
    asked.id = item
    return upstream:request(asked)
  end
end

--- With a limit of seconds for each request: what it cuts off may be sent again.
local function limited(send, seconds)
  local function finish(result, err, ...)
    if result == nil and errors.is(err, "timeout") and err.phase == "scope" then
      return nil, errors.new { kind = "timeout", phase = "first_byte", sent = "maybe", sends = 1, replay_safe = true,
        message = ("no answer after %g s"):format(seconds) }
    end
    return result, err, ...
  end
  return function(...) return finish(scope.timeout(seconds, send, ...)) end
end

local function has_succeeded(result)
  if not result then return false end
  local status = type(result) == "table" and result.status
  return type(status) ~= "number" or status < 400
end

--- Makes operations, and counts what becomes of them. Each one's number names its
--- requests to the network too, so that they have the same luck in every policy,
--- with and without one.
local function operator(experiment, policy, send, account, network)
  local judge = experiment.succeeded or has_succeeded
  local function note(began, result, err, ...)
    if network then network.operations:leave() end
    account:finish(began, now(), judge(result, err) and true or false)
    return result, err, ...
  end
  return function(item)
    local began = now()
    local number = account:begin(began)
    if network then network.operations:enter(number) end
    if item == nil then item = number end
    if policy then return note(began, policy:call(send, item)) end
    return note(began, send(item))
  end
end

local function totals(world)
  local sum = { sends = 0, work = 0, wasted = 0, input = 0, output = 0 }
  for _, upstream in ipairs(world.upstreams) do
    local law = upstream.law or {} -- a recording has none
    sum.sends = sum.sends + upstream.stats.count
    for _, key in ipairs { "work", "wasted", "input", "output" } do sum[key] = sum[key] + (law[key] or 0) end
  end
  return sum
end

--- What a run costs. Raises where something has no price.
local function cost_of(price, row, tally)
  local cost, message = prices.of(price, { sends = row.sends, input = row.input, output = row.output, work = row.work,
    models = tally and tally.models })
  return cost or error(message, 0)
end

local function row_of(experiment, job, account, env, tally)
  local row, nanoseconds = totals(env.world), accounts.nanoseconds
  row.seed = job.seed
  row.work, row.wasted = nanoseconds(row.work), nanoseconds(row.wasted)
  account:fill(row, now())
  row.cost = experiment.price and cost_of(experiment.price, row, tally) or nil
  for _, metric in ipairs(experiment.known.list) do
    local of = experiment.own[metric.key]
    if of then
      local value = of(env, row)
      if value ~= nil and (type(value) ~= "number" or value ~= value or abs(value) == huge) then
        error(("neap.lab: measure '%s' must return a finite number or nil, got %s"):format(metric.key,
          tostring(value)), 0)
      end
      row[metric.key] = value
    end
  end
  return row
end

--- Makes the calls, and notes at the edges of windows how many requests there were.
local function drive(experiment, job, account, operate, env)
  local function calls()
    scope.timeout(experiment.time_limit, loads.drive, experiment.load, job.seed, operate, env)
  end
  if not account.windows then return calls() end
  scope.scope(function(s)
    local watcher = s:spawn(function()
      for _, edge in ipairs(account:edges()) do
        core.sleep(max(0, account.started + edge - now()))
        account:sample(edge, totals(env.world).sends)
      end
    end)
    calls()
    watcher:cancel()
  end)
end

--- What a call does.
local function sender(experiment, env)
  if not experiment.send then return direct(experiment, env) end
  local send = experiment.send(env)
  if type(send) ~= "function" then
    options.fail("neap.lab: option 'send' must return the function that makes a call, got " .. type(send))
  end
  return send
end

--- A report about hosts that nobody serves would tell nothing.
local function check_served(network)
  local message = network:unserved_host()
  if message then error(errors.new { kind = "invalid", message = "neap.lab: " .. message }, 0) end
end

--- Runs it. Needs a virtual clock; draws of the runtime's own stream begin anew.
--- Waits; raises what the policy or the load raises.
---@param experiment neap.lab.Experiment
---@param job neap.lab.Job
---@return neap.lab.Row
function M.run(experiment, job)
  if not core.is_virtual() then
    options.fail "neap.lab runs in virtual time: use `neap lab`, `neap sim` or `neap test`"
  end
  local world = experiment.make_world()
  if job.scale then world = world:scaled(job.scale) end
  local seed_before = core.seed()
  core.reseed(job.seed)
  local network
  if experiment.send then
    network = require("neap.sim.network").up(world, job.seed)
  else
    world:start(now(), job.seed)
  end
  local env = environment(world, job)
  local send = sender(experiment, env)
  if experiment.attempt_timeout then send = limited(send, experiment.attempt_timeout) end
  local policy = policies.build(job.policy, experiment.by_name[job.policy], job.changes, env)
  local account = accounts.new(experiment.known, now())
  local tally = experiment.price and experiment.price.models and usage.watch(world)
  drive(experiment, job, account, operator(experiment, policy, send, account, network), env)
  if tally then tally:stop() end
  local row = row_of(experiment, job, account, env, tally)
  if network then
    check_served(network)
    require("neap.sim.network").down()
  end
  core.reseed(seed_before)
  return row
end

return M
