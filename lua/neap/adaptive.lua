--- neap.adaptive: as many calls at a time as the upstream takes, as a policy.
--- docs/api/adaptive.md tells how it finds out and how well.
local core = require "neap.core"
local error_class = require "neap.error"
local layer = require "neap.policy.layer"
local options = require "neap.options"
local outcome = require "neap.policy.outcome"
local sorted = require "neap.sorted"

local M = {}

local now, verdict_of = core.now, outcome.verdict
local floor = math.floor

local CONTROLLERS = {
  gates = "neap.adaptive.gates",
  vegas = "neap.adaptive.vegas",
  gradient2 = "neap.adaptive.gradient2",
}

---@class neap.adaptive.Event
---@field key string
---@field from integer
---@field to integer
---@field reason string

---@class neap.adaptive.State
---@field key string
---@field controller table
---@field semaphore neap.semaphore
---@field limit integer the semaphore's; here without a call into C
---@field in_flight integer permits held
---@field used number neap.now() of the last call

---@class neap.Adaptive: neap.policy.Layer
---@field package states table<string, neap.adaptive.State>
---@field package count integer of keys
local Adaptive = layer.class "adaptive"

local function check(opts)
  for _, name in ipairs { "min", "start" } do
    if opts[name] > opts.max then
      options.fail(("neap.adaptive: option '%s' must be at most 'max' (%d), got %d"):format(name, opts.max, opts[name]))
    end
  end
  if opts.start < opts.min then
    options.fail(("neap.adaptive: option 'start' must be at least 'min' (%d), got %d"):format(opts.min, opts.start))
  end
end

function Adaptive:init()
  check(self.options)
  self.states, self.count = {}, 0
end

local function apply(self, state)
  local from, to = state.limit, floor(state.controller.limit)
  if from == to then return end
  state.limit = to
  state.semaphore:set_limit(to)
  local event = { key = state.key, from = from, to = to, reason = state.controller.reason }
  self:emit("limit", event)
  if self.options.on_change then self.options.on_change(event) end
end

function Adaptive:changed()
  local opts = self.options
  check { min = opts.min, max = opts.max, start = math.max(opts.min, math.min(opts.max, opts.start)) }
  for _, state in sorted.pairs(self.states) do
    local controller = state.controller
    controller.opts = opts
    local limit = math.max(opts.min, math.min(opts.max, controller.limit))
    if limit ~= controller.limit then controller.limit, controller.reason = limit, "manual" end
    apply(self, state)
  end
end

--- Forgets the key that was not used for longest, unless all are in use.
local function forget_one(self)
  local oldest
  for _, state in pairs(self.states) do
    local idle = state.semaphore:held() == 0 and state.semaphore:waiting() == 0
    local earlier = not oldest or state.used < oldest.used or (state.used == oldest.used and state.key < oldest.key)
    if idle and earlier then oldest = state end
  end
  if oldest then
    self.states[oldest.key] = nil
    self.count = self.count - 1
  end
end

local function new_state(self, key)
  if self.count >= self.options.max_keys then forget_one(self) end
  local controller = require(CONTROLLERS[self.options.algorithm]).new(self.options, now())
  local state = {
    key = key, controller = controller, used = now(), limit = floor(controller.limit), in_flight = 0,
    semaphore = core.semaphore(floor(controller.limit), self.options.max_waiting),
  }
  self.states[key], self.count = state, self.count + 1
  return state
end

local function default_key(call)
  local endpoint, account = call.endpoint, call.account
  if not account then return endpoint or "" end
  return (endpoint or "") .. "\0" .. account
end

function Adaptive:state_of(call, ...)
  local key_of = self.options.key
  local key
  if key_of then
    key = key_of(call, ...)
    if type(key) ~= "string" then
      error("neap.adaptive: option 'key' must return a string, got " .. type(key), 0)
    end
  else
    key = default_key(call)
  end
  return self.states[key] or new_state(self, key)
end

local function refused(self, call, err)
  local places = self:wait_reason(call)
  if err.kind == "queue_full" then
    return nil, error_class.new { kind = "queue_full", phase = "adaptive", sent = "no",
      message = "no room in the adaptive limit's line: " .. places }
  end
  return nil, error_class.new { kind = "queue_timeout", phase = "adaptive", timeout = "queue", sent = "no",
    message = ("no place within the adaptive limit after %g s: %s"):format(self.options.timeout, places) }
end

--- First the lesson, then the permit: a lower limit holds before the next in line
--- could go.
local function finish(self, call, state, wire, in_flight, ...)
  local result, err = ...
  -- The function's own time: what a limiter further in made it wait is no latency
  -- of the upstream. Asking for the time again would cost more than all the rest.
  local took = call.wire - wire
  local verdict, ended = verdict_of(result, err), took > 0 and call.returned or now()
  local hint = verdict == "throttled" and outcome.hint(result, err, core.time()) or nil
  local controller = state.controller
  controller:sample(ended, verdict, ended - took, in_flight, hint)
  state.used = ended
  if floor(controller.limit) ~= state.limit then apply(self, state) end
  if call:release(self) then
    state.in_flight = state.in_flight - 1
    state.semaphore:release()
  end
  return ...
end

--- Waits for a permit, then runs the rest and learns from its outcome.
function Adaptive:run(call, next, ...)
  local state = self:state_of(call, ...)
  call[self] = state
  -- A free permit does not wait. (One that a waiter has been given and not yet
  -- taken looks free too: then the wait is real, and only not accounted for.)
  local asked = state.in_flight >= state.limit and now()
  if asked then call:waiting(self) end
  local ok, err = state.semaphore:acquire(1, self.options.timeout, call.front)
  if asked then
    call:waiting(nil)
    call.queue = call.queue + now() - asked
  end
  if not ok then return refused(self, call, err) end
  local in_flight = state.in_flight + 1
  state.in_flight = in_flight
  call:hold(self)
  return finish(self, call, state, call.wire, in_flight, next(call, ...))
end

function Adaptive:give_back(call)
  local state = call[self]
  state.in_flight = state.in_flight - 1
  state.semaphore:release()
end

--- Takes the permit again, at the head of the line. Waits.
function Adaptive:take_back(call)
  local asked = now()
  call:waiting(self)
  local state = call[self]
  state.semaphore:acquire(1, nil, true)
  state.in_flight = state.in_flight + 1
  call:waiting(nil)
  call.queue = call.queue + now() - asked
end

function Adaptive:wait_reason(call)
  local semaphore = call[self].semaphore
  return ("%d calls in flight, the limit is %d, %d in line"):format(semaphore:held(), semaphore:limit(),
    semaphore:waiting())
end

--- Sets a limit by hand; it goes on adapting from there. Never waits.
---@param limit integer
---@param key? string default: the one of no endpoint and no account
function Adaptive:set_limit(limit, key)
  if type(limit) ~= "number" or limit % 1 ~= 0 or limit < self.options.min or limit > self.options.max then
    options.fail(("adaptive:set_limit: the limit must be a whole number from %d to %d, got %s"):format(
      self.options.min, self.options.max, tostring(limit)))
  end
  local state = self.states[key or ""] or new_state(self, key or "")
  state.controller:force(limit)
  apply(self, state)
end

--- The limit of a key without calls.
local function first_limit(opts)
  return math.max(opts.min, math.min(opts.max, opts.start))
end

--- The present limit. Never waits.
---@param key? string
---@return integer
function Adaptive:limit(key)
  local state = self.states[key or ""]
  return state and state.semaphore:limit() or first_limit(self.options)
end

local function describe(state)
  local semaphore, at = state.semaphore, state.controller:next_change()
  return { limit = semaphore:limit(), held = semaphore:held(), waiting = semaphore:waiting(),
    reason = state.controller.reason, next_change = at and math.max(0, at - now()) or nil,
    state = semaphore:held() >= semaphore:limit() and "full" or "open" }
end

--- The state of the key of no endpoint and no account, and all under `keys` where
--- there are others.
function Adaptive:snapshot()
  local found = self.states[""] and describe(self.states[""])
    or { limit = first_limit(self.options), held = 0, waiting = 0, state = "open", reason = "start" }
  for key, state in pairs(self.states) do
    if key ~= "" then
      found.keys = found.keys or {}
      found.keys[(key:gsub("%z", "/"))] = describe(state)
    end
  end
  found.kind, found.name = self.kind, self.name
  return found
end

--- An adaptive limit: `neap.adaptive{ max = 200 }`.
---@param opts? neap.adaptive.Options
---@return neap.Adaptive
function M.new(opts)
  return layer.new(Adaptive, opts)
end

return M
