--- neap.router: chooses an endpoint for each call, keeps away from those that
--- fail, and tries another one when a call fails. docs/api/router.md tells how.
local choose = require "neap.router.choose"
local core = require "neap.core"
local error_class = require "neap.error"
local health_rules = require "neap.router.health"
local layer = require "neap.policy.layer"
local members_module = require "neap.router.members"
local options = require "neap.options"
local outcome = require "neap.policy.outcome"

local M = {}

local now = core.now
local verdict_of, hint_of = outcome.verdict, outcome.hint

---@class neap.Router: neap.policy.Layer
---@field members neap.router.Member[]
---@field health neap.router.Health
local Router = layer.class "router"
local Layer = getmetatable(Router)

--- The default `failover_on`: what `neap.retry` would repeat, so nothing that may
--- have been processed and must not be twice.
M.default_failover_on = outcome.may_repeat

-- ---------------------------------------------------------------------------
-- Options
-- ---------------------------------------------------------------------------

function Router:init()
  local members, problem = members_module.build(self.options.endpoints, require("neap.policy").is)
  if not members then options.fail("neap.router: " .. problem) end
  self.members, self.by_name = members, {}
  for _, member in ipairs(members) do self.by_name[member.name] = member end
  self.groups = members_module.groups(members)
  self.serial = 0
  -- Key in a call: what its hedges use already.
  self.used_key = {}
  self.health = health_rules.new(members, self.options, now(), function(member, event, fields)
    fields.endpoint = member.name
    self:emit(event, fields)
  end)
  self:changed()
end

local function problem_of_options(self, opts)
  local weights, routes, problem
  weights, problem = members_module.weights(self.members, opts.weights)
  if problem then return problem end
  routes, problem = members_module.routes(self.groups, opts.fallbacks)
  if problem then return problem end
  local group = opts.group
  if type(group) == "string" and not self.groups[group] then
    return ("option 'group': no endpoint is of the group '%s'"):format(group)
  end
  if opts.ejection.base_time > opts.ejection.max_time then
    return ("ejection: option 'base_time' must be at most 'max_time' (%s), got %s")
      :format(opts.ejection.max_time, opts.ejection.base_time)
  end
  return nil, weights, routes
end

function Router:changed()
  local opts = self.options
  local problem, weights, routes = problem_of_options(self, opts)
  if problem then options.fail("neap.router: " .. problem) end
  for i, member in ipairs(self.members) do
    if member.weight ~= weights[i] then member.weight, member.credit = weights[i], 0 end
  end
  self.routes, self.health.options = routes, opts
  self.failover_on = opts.failover_on or M.default_failover_on
end

--- The policies of the endpoints, for the checks of the pipeline.
function Router:nested()
  local list = {}
  for _, member in ipairs(self.members) do list[#list + 1] = member.policy end
  return list
end

-- ---------------------------------------------------------------------------
-- Choosing
-- ---------------------------------------------------------------------------

local function first_table(...)
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    if type(value) == "table" then return value end
  end
end

--- The group that a call is for: false is all endpoints.
local function group_of(self, ...)
  local group = self.options.group
  if type(group) == "function" then
    group = group(...)
  elseif group == nil then
    local request = first_table(...)
    group = request and rawget(request, "model")
  end
  return group or false
end

local function route_of(self, group)
  local route, names = self.routes[group], {}
  if route then return route end
  for name in pairs(self.groups) do
    if name then names[#names + 1] = name end
  end
  -- Endpoints without groups are for everything.
  if #names == 0 then return self.routes[false] end
  table.sort(names)
  return nil, error_class.new { kind = "invalid", sent = "no",
    message = ("%s: no endpoint has the group '%s'; there are %s"):format(self.name, tostring(group),
      table.concat(names, ", ")) }
end

local function pick_from(self, members, tried, avoid)
  local health = self.health
  local member = choose.pick(self.options.strategy, members, health.available, health, now(), tried, avoid)
  if member then
    self.serial = self.serial + 1
    member.picked = self.serial
  end
  return member
end

--- The next endpoint of a route, or nil. A hedge's copy goes where no other one
--- is, if it can.
local function pick(self, route, tried, used)
  if used then
    local member = pick_from(self, route[1], tried, used)
    if member then return member end
    for one in pairs(used) do used[one] = nil end
  end
  for i = 1, #route do
    local member = pick_from(self, route[i], tried)
    if member then return member end
  end
end

local function state_text(member, time)
  if member.weight == 0 then return member.name .. " has weight 0" end
  local text = ("%s: %s"):format(member.name, member.state)
  if member.until_ then text = ("%s for %.3g s more"):format(text, math.max(0, member.until_ - time)) end
  return member.reason and ("%s (%s)"):format(text, member.reason) or text
end

--- Seconds until one of the route's endpoints is in service, where that is known.
local function soonest(self, route)
  local least
  for _, members in ipairs(route) do
    local seconds = self.health:soonest(members, now())
    if seconds and (not least or seconds < least) then least = seconds end
  end
  return least
end

local function none_left(self, route)
  local texts = {}
  for _, members in ipairs(route) do
    for _, member in ipairs(members) do texts[#texts + 1] = state_text(member, now()) end
  end
  local wait = soonest(self, route)
  return error_class.new { kind = "circuit_open", sent = "no", retry_after = wait,
    message = ("%s: no endpoint is in service (%s)"):format(self.name, table.concat(texts, "; ")) }
end

-- ---------------------------------------------------------------------------
-- A call
-- ---------------------------------------------------------------------------

local function reason_of(result, err)
  if type(result) == "table" and result.status then return tostring(result.status) end
  if type(err) == "table" then return tostring(err.status or err.kind or "failed") end
  return "failed"
end

local function judge(self, member, result, err)
  local verdict = verdict_of(result, err)
  local hint
  if verdict ~= "ok" and (verdict ~= "neutral" or type(err) == "table" and err.kind == "circuit_open") then
    hint = hint_of(result, err, core.time())
  end
  self.health:record(member, verdict, hint, verdict == "ok" and "ok" or reason_of(result, err), now())
end

function Router:give_back(call)
  local member = call[self]
  member.busy = member.busy - 1
  call.endpoint = call[member] or nil
end

function Router:take_back(call)
  local member = call[self]
  member.busy = member.busy + 1
  call.endpoint = member.name
end

local function leave(self, call, member, ...)
  if call:release(self) then self:give_back(call) end
  judge(self, member, ...)
  return { n = select("#", ...), ... }
end

--- Runs the call at one endpoint; what came back, packed.
local function attempt(self, call, next, member, ...)
  member.calls = member.calls + 1
  -- What `give_back` needs to know when the call is cut off.
  call[self], call[member] = member, call.endpoint or false
  self:take_back(call)
  call:hold(self)
  local policy, endpoint = member.policy, member.endpoint
  if policy then return leave(self, call, member, layer.through(policy, call, next, endpoint, ...)) end
  return leave(self, call, member, next(call, endpoint, ...))
end

--- The endpoints that copies of the same call were sent to.
local function used_by_copies(self, call)
  local origin = call.parent
  if not origin then return nil end
  local used = origin[self.used_key]
  if not used then
    used = {}
    origin[self.used_key] = used
  end
  return used
end

--- The outcome that comes back asks to wait no longer than until an endpoint is in
--- service again.
local function shorten_hint(self, route, results)
  local out = results[1] or results[2]
  local hint = type(out) == "table" and hint_of(results[1], results[2], core.time())
  if not hint then return end
  local wait = soonest(self, route)
  -- Zero would be no hint at all, and the headers' would count.
  if wait and wait < hint then out.retry_after = math.max(wait, 1e-3) end
end

local function fail_over(self, call, member, other, results)
  self:emit("failover", { reason = reason_of(results[1], results[2]), endpoint = member.name, to = other.name })
  outcome.discard(results[1])
  call:resume()
end

--- Runs the call at one endpoint after the other until one does not fail. Waits
--- as long as they do, and never between them.
function Router:run(call, next, ...)
  local route, problem = route_of(self, group_of(self, ...))
  if not route then return nil, problem end
  local used, tried = used_by_copies(self, call), nil
  local member = pick(self, route, nil, used)
  if not member then return nil, none_left(self, route) end
  local left = self.options.max_failovers
  while true do
    if used then used[member] = true end
    local results = attempt(self, call, next, member, ...)
    if not self.failover_on(results[1], results[2]) then return unpack(results, 1, results.n) end
    tried = tried or {}
    tried[member] = true
    local other = left > 0 and pick(self, route, tried, used)
    if not other then
      shorten_hint(self, route, results)
      return unpack(results, 1, results.n)
    end
    fail_over(self, call, member, other, results)
    member, left = other, left - 1
  end
end

-- ---------------------------------------------------------------------------
-- For people
-- ---------------------------------------------------------------------------

local function member_or_raise(self, method, name)
  local member = self.by_name[name]
  if member then return member end
  local names = {}
  for i, one in ipairs(self.members) do names[i] = one.name end
  options.fail(("neap.router: %s: there is no endpoint '%s'; there are %s"):format(method, tostring(name),
    table.concat(names, ", ")))
end

--- Takes an endpoint out until `restore`; calls under way go on. Never waits.
---@param name string
---@param reason? string ("manual")
function Router:isolate(name, reason)
  self.health:isolate(member_or_raise(self, "isolate", name), reason or "manual")
end

--- Puts an endpoint back into service at once, whatever took it out. Never waits.
---@param name string
function Router:restore(name)
  self.health:restore(member_or_raise(self, "restore", name), "manual")
end

---@class neap.router.EndpointState
---@field name string
---@field group? string
---@field state "available"|"cooldown"|"ejected"|"isolated"
---@field reason? string
---@field next_change? number seconds until it is in service again
---@field weight number
---@field order number
---@field busy integer calls under way
---@field calls integer
---@field failures integer
---@field ejections integer that have not been paid off yet

local function snapshot_of(self, member, time)
  self.health:available(member, time)
  return {
    name = member.name, group = member.group, state = member.state, reason = member.reason,
    next_change = member.until_ and member.until_ - time, weight = member.weight, order = member.order,
    busy = member.busy, calls = member.calls, failures = member.failures, ejections = member.ejections,
  }
end

--- Plain data: `state` is "ready", "degraded" (some are out) or "unavailable"
--- (all are), `endpoints` a list of neap.router.EndpointState. Never waits.
---@return table
function Router:snapshot()
  local time, endpoints, out, usable, next_change = now(), {}, {}, false, nil
  for i, member in ipairs(self.members) do
    local state = snapshot_of(self, member, time)
    endpoints[i] = state
    if state.state ~= "available" then
      out[#out + 1] = state_text(member, time)
      if state.next_change then next_change = math.min(next_change or math.huge, state.next_change) end
    elseif member.weight > 0 then
      usable = true
    end
  end
  return {
    kind = self.kind, name = self.name,
    state = not usable and "unavailable" or #out > 0 and "degraded" or "ready",
    reason = #out > 0 and table.concat(out, "; ") or nil, next_change = next_change, endpoints = endpoints,
  }
end

--- One line; of the endpoints it says the names only, for they may hold keys.
---@return string
function Router:describe()
  local shown = {}
  for key, value in pairs(self.options) do shown[key] = value end
  shown.endpoints = {}
  for i, member in ipairs(self.members) do shown.endpoints[i] = member.name end
  if next(shown.weights) == nil then shown.weights = nil end
  if next(shown.fallbacks) == nil then shown.fallbacks = nil end
  return Layer.describe { kind = self.kind, name = self.name, options = shown }
end

--- A router: a policy that calls what is inside it with an endpoint as the first
--- argument.
---@param opts neap.router.Options
---@return neap.Router
function M.new(opts)
  return layer.new(Router, opts)
end

return M
