--- neap.circuit_breaker: refuses calls while the upstream does not work.
--- docs/api/circuit_breaker.md tells the states.
local core = require "neap.core"
local error_class = require "neap.error"
local layer = require "neap.policy.layer"
local machines = require "neap.circuit_breaker.machine"
local options = require "neap.options"
local outcome = require "neap.policy.outcome"
local schema = require "neap.schema"

local M = {}

local now = core.now
local verdict = outcome.verdict

---@class neap.circuit_breaker.Event
---@field from neap.circuit_breaker.State
---@field to neap.circuit_breaker.State
---@field reason string
---@field key string the state's; "": that of no endpoint
---@field next_change number? seconds until it tries again, when it opened

---@class neap.circuit_breaker.Snapshot
---@field state neap.circuit_breaker.State
---@field reason string? of the last change
---@field next_change number? seconds until it tries again, when it is open
---@field calls integer in the window
---@field failed integer of those
---@field slow integer of those
---@field trials integer under way or ended, when it is half-open
---@field keys table<string, neap.circuit_breaker.Snapshot>? of the states that have a key

---@class neap.CircuitBreaker: neap.policy.Layer
---@field private machines table<string, neap.circuit_breaker.Machine> by key
---@field private isolated string? why all states are isolated, those to come too
local Breaker = layer.class "circuit_breaker"

--- The default `failure_on`: the upstream failed, or had too much to do. Pure.
---@param result any
---@param err any
---@return boolean
function M.failed(result, err)
  local found = verdict(result, err)
  return found == "failed" or found == "overloaded"
end

-- ---------------------------------------------------------------------------
-- Options
-- ---------------------------------------------------------------------------

--- `name` may not pass `bound`: raises, but moves a default out of the way, which
--- nobody asked for. `moved` is where such defaults stand now.
local function keep_to(opts, moved, name, bound, passes, relation)
  local default = schema.specs("circuit_breaker")[name].default
  if opts[name] == moved[name] then opts[name] = default end
  if not passes(opts[name], opts[bound]) then
    moved[name] = nil
    return
  end
  if opts[name] ~= default then
    options.fail(("neap.circuit_breaker: option '%s' must be at %s '%s' (%g), got %g")
      :format(name, relation, bound, opts[bound], opts[name]))
  end
  opts[name], moved[name] = opts[bound], opts[bound]
end

local function above(value, bound) return value > bound end
local function below(value, bound) return value < bound end

-- By options: those that come back when an update is undone bring theirs along.
local moved_in = setmetatable({}, { __mode = "k" })

local function check(opts, before)
  local moved = {}
  for name, value in pairs(moved_in[opts] or moved_in[before] or {}) do moved[name] = value end
  if opts.window == "count" then keep_to(opts, moved, "minimum_calls", "window_size", above, "most") end
  keep_to(opts, moved, "max_open_duration", "open_duration", below, "least")
  moved_in[opts] = moved
end

function Breaker:init()
  check(self.options)
  self.machines = {}
end

local function sorted_keys(machines_by_key)
  local keys = {}
  for key in pairs(machines_by_key) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

function Breaker:changed(old)
  check(self.options, old)
  for _, key in ipairs(sorted_keys(self.machines)) do self.machines[key]:retune(now(), self.options) end
end

-- ---------------------------------------------------------------------------
-- States
-- ---------------------------------------------------------------------------

local function note_change(self, key, machine, from, to, reason)
  local event = { key = key, from = from, to = to, reason = reason,
    next_change = machine.until_ and machine.until_ - now() or nil }
  self:emit(to, event)
  if self.options.on_change then self.options.on_change(event) end
end

local function machine_of(self, key)
  local machine = self.machines[key]
  if not machine then
    machine = machines.new(self.options, function(...) note_change(self, key, self.machines[key], ...) end)
    self.machines[key] = machine
    if self.isolated then machine:isolate(self.isolated) end
  end
  return machine
end

local function key_of(choose, call, ...)
  local key = choose(call, ...)
  if type(key) ~= "string" then
    error("neap.circuit_breaker: option 'key' must return a string, got " .. type(key), 0)
  end
  return key
end

-- ---------------------------------------------------------------------------
-- The layer
-- ---------------------------------------------------------------------------

local function refuse(machine, key)
  local whose = key == "" and "the breaker" or ("the breaker of '%s'"):format(key)
  local why = machine.state == "half_open" and "all trial calls are under way" or machine.reason
  return nil, error_class.new { kind = "circuit_open", sent = "no",
    retry_after = machine.until_ and machine.until_ - now() or nil,
    message = ("%s is %s: %s"):format(whose, machine.state:gsub("_", "-"), why) }
end

-- Seconds in which the call was not under way: what is slow then is our own line.
local function waited(call) return call.queue + call.pace + call.backoff end

local function finish(self, call, machine, generation, began, trial, ...)
  local opts, result, err = self.options, ...
  local failure_on, found = opts.failure_on, verdict(result, err)
  local failed
  if failure_on then
    failed = failure_on(result, err) and true or false
  else
    failed = found == "failed" or found == "overloaded"
  end
  -- Only now: had the judging raised, the pipeline would give the place back.
  if trial then call:release(self) end
  if found == "neutral" and not failed then
    machine:forget(generation)
    return ...
  end
  local ended, slow_after = now(), opts.slow_call_duration
  local slow = began and slow_after and ended - waited(call) - began > slow_after or false
  machine:record(ended, generation, failed, slow)
  return ...
end

--- Runs the rest of the pipeline, or refuses: `nil, err` of kind "circuit_open",
--- whose `retry_after` is the time until it tries again, where that is known. Waits
--- where the rest does.
function Breaker:run(call, next, ...)
  local opts = self.options
  local key = opts.key and key_of(opts.key, call, ...) or call.endpoint or ""
  local machine = self.machines[key] or machine_of(self, key)
  local generation = machine.state == "closed" and machine.generation or machine:admit(now())
  if not generation then return refuse(machine, key) end
  local began = opts.slow_call_duration and now() - waited(call)
  local trial = machine.state == "half_open"
  if trial then
    -- One that is cut off must give its place to another.
    if not call.trials then call.trials = {} end
    call.trials[self] = { machine = machine, generation = generation }
    call:hold(self)
  end
  return finish(self, call, machine, generation, began, trial, next(call, ...))
end

--- A trial call was cut off or raised: another one may take its place.
function Breaker:give_back(call)
  local trial = call.trials[self]
  trial.machine:forget(trial.generation)
end

-- ---------------------------------------------------------------------------
-- By hand
-- ---------------------------------------------------------------------------

local function check_text(method, name, value)
  if value ~= nil and type(value) ~= "string" then
    options.fail(("neap.circuit_breaker: %s: %s must be a string, got %s"):format(method, name, type(value)))
  end
end

--- Refuses everything until `reset`: for maintenance, or an operator. Calls under
--- way go on. Never waits.
---@param reason? string
---@param key? string only this state; default: all of them, those to come too
function Breaker:isolate(reason, key)
  check_text("isolate", "reason", reason)
  check_text("isolate", "key", key)
  reason = reason or "isolated by hand"
  if key then return machine_of(self, key):isolate(reason) end
  self.isolated = reason
  machine_of(self, "")
  for _, known in ipairs(sorted_keys(self.machines)) do self.machines[known]:isolate(reason) end
end

--- Closes it, whatever it was, and forgets the calls so far. Never waits.
---@param key? string only this state; default: all of them
function Breaker:reset(key)
  check_text("reset", "key", key)
  if key then return machine_of(self, key):reset "reset by hand" end
  self.isolated = nil
  for _, known in ipairs(sorted_keys(self.machines)) do self.machines[known]:reset "reset by hand" end
end

--- The state as of now. Never waits.
---@param key? string default: that of no endpoint
---@return neap.circuit_breaker.State
function Breaker:state(key)
  local machine = self.machines[key or ""]
  if not machine then return self.isolated and "isolated" or "closed" end
  machine:look(now())
  return machine.state
end

local GRAVITY = { closed = 1, half_open = 2, open = 3, isolated = 4 }

local function show(machine)
  machine:look(now())
  local window = machine.window
  window:look(now())
  return {
    state = machine.state, reason = machine.reason, calls = window.total, failed = window.failed, slow = window.slow,
    trials = machine.state == "half_open" and machine.issued or nil,
    next_change = machine.until_ and machine.until_ - now() or nil,
  }
end

--- Plain data: the gravest of the states, and under `keys` each one that has a
--- key. Never waits.
---@return neap.circuit_breaker.Snapshot
function Breaker:snapshot()
  machine_of(self, "")
  local worst, keys
  for _, key in ipairs(sorted_keys(self.machines)) do
    local shown = show(self.machines[key])
    if not worst or GRAVITY[shown.state] > GRAVITY[worst.state] then worst = shown end
    if key ~= "" then
      keys = keys or {}
      keys[key] = shown
    end
  end
  local found = {}
  for name, value in pairs(worst) do found[name] = value end
  found.kind, found.name, found.keys = self.kind, self.name, keys
  return found
end

--- A policy: `neap.circuit_breaker{ failure_rate = 0.5, open_duration = 5 }`, one
--- for an upstream; behind a router it keeps one state an endpoint.
---@param opts? neap.circuit_breaker.Options
---@return neap.CircuitBreaker
function M.new(opts)
  return layer.new(Breaker, opts)
end

return M
