--- One run: one policy, one seed, one world, in virtual time. The same seed gives
--- the same calls at the same times, and the k-th request of a call the same latency
--- and luck, whatever the policy did before.
local core = require "neap.core"
local errors = require "neap.error"
local loads = require "neap.lab.load"
local policies = require "neap.lab.policies"
local prices = require "neap.lab.price"
local scope = require "neap.scope"
local statistics = require "neap.lab.statistics"

local floor, now = math.floor, core.now

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
---@field p50 number? nil: none succeeded
---@field p99 number?
---@field completion_time number
---@field work number server seconds
---@field wasted number server seconds of them
---@field input number tokens
---@field output number tokens
---@field cost number?

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

--- To the clock's nanosecond: what is left of a difference of two times depends on
--- how late it is.
local function nanoseconds(seconds)
  return floor(seconds * 1e9 + 0.5) / 1e9
end

--- Counts what becomes of operations.
local function operator(experiment, policy, send, account)
  local judge = experiment.succeeded or has_succeeded
  local latencies = account.latencies
  local function note(started, result, err, ...)
    account.ended = account.ended + 1
    account.last = now()
    if judge(result, err) then
      account.succeeded = account.succeeded + 1
      latencies[#latencies + 1] = nanoseconds(account.last - started)
    end
    return result, err, ...
  end
  return function(item)
    account.begun = account.begun + 1
    if item == nil then item = account.begun end
    if policy then return note(now(), policy:call(send, item)) end
    return note(now(), send(item))
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

local function row_of(experiment, job, account, world)
  local row = totals(world)
  local cut = account.begun - account.ended
  table.sort(account.latencies)
  row.seed, row.operations, row.succeeded, row.cut = job.seed, account.begun, account.succeeded, cut
  if account.begun > 0 then
    row.success = account.succeeded / account.begun
    row.amplification = row.sends / account.begun
  end
  row.p50 = statistics.percentile(account.latencies, 0.5)
  row.p99 = statistics.percentile(account.latencies, 0.99)
  row.completion_time = nanoseconds((cut > 0 and now() or account.last) - account.started)
  row.work, row.wasted = nanoseconds(row.work), nanoseconds(row.wasted)
  row.cost = experiment.price and prices.of(experiment.price, row) or nil
  return row
end

--- Runs it. Needs a virtual clock; draws of the runtime's own stream begin anew.
--- Waits; raises what the policy or the load raises.
---@param experiment neap.lab.Experiment
---@param job neap.lab.Job
---@return neap.lab.Row
function M.run(experiment, job)
  if not core.is_virtual() then
    error("neap.lab runs in virtual time: use `neap lab`, `neap sim` or `neap test`", 0)
  end
  local world = experiment.make_world()
  if job.scale then world = world:scaled(job.scale) end
  local seed_before = core.seed()
  core.reseed(job.seed)
  local network
  if experiment.send then
    network = require "neap.sim.network"
    network.up(world, job.seed)
  else
    world:start(now(), job.seed)
  end
  local env = environment(world, job)
  local send = experiment.send and experiment.send(env) or direct(experiment, env)
  if experiment.attempt_timeout then send = limited(send, experiment.attempt_timeout) end
  local policy = policies.build(job.policy, experiment.by_name[job.policy], job.changes, env)
  local started = now()
  local account = { begun = 0, ended = 0, succeeded = 0, latencies = {}, started = started, last = started }
  local operate = operator(experiment, policy, send, account)
  scope.timeout(experiment.time_limit, loads.drive, experiment.load, job.seed, operate, env)
  local row = row_of(experiment, job, account, world)
  if network then network.down() end
  core.reseed(seed_before)
  return row
end

return M
