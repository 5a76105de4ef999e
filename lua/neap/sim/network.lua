--- The other side of the simulated wire. Requests reach it by host name: a world's
--- upstreams, laws or handlers, and the script's own `neap.serve`. The core
--- (runtime/net/sim.c) carries them, keeps connections and tells of arrivals and of
--- clients who leave; a law costs one call into here at the arrival of a request
--- and one at its answer, and no task.
local core = require "neap.core"
local handlers = require "neap.sim.handlers"
local listeners = require "neap.sim.listeners"
local operations = require "neap.sim.operations"
local players = require "neap.sim.players"
local sorted = require "neap.sorted"

local huge, max = math.huge, math.max
local find, lower, sub = string.find, string.lower, string.sub
local setmetatable, type = setmetatable, type
local wake, header_of = core.sim_wake, core.sim_header_of

local M = {}

local TICK = 1e-9 -- seconds: instants nearer to each other are the same

---@class neap.sim.Request what an upstream sees
---@field method string
---@field target string path, "?", query
---@field path string as sent, without the query
---@field headers table<string, string> lower-case names, repeated ones joined by ", "
---@field body string
---@field operation integer|string|nil what this is an attempt at
---@field attempt integer? how often that has come to this upstream
---@field package slot integer?

local Request = {}

function Request.headers(request)
  local flat, headers = request.slot and core.sim_headers_of(request.slot) or {}, {}
  for i = 1, #flat, 2 do
    local name, value = flat[i], flat[i + 1]
    headers[name] = headers[name] and headers[name] .. ", " .. value or value
  end
  return headers
end

function Request.body(request)
  return request.slot and core.sim_body_of(request.slot) or ""
end

function Request.path(request)
  local target = request.target
  local query = find(target, "?", 1, true)
  return query and sub(target, 1, query - 1) or target
end

--- What costs something is read when it is first asked for.
local request_class = { __index = function(request, key)
  local read = Request[key]
  if not read then return nil end
  local value = read(request)
  request[key] = value
  return value
end }

---@class neap.sim.Network
---@field world table?
---@field requests integer that have arrived
---@field statuses table<integer|string, integer> answers by status; "drop", "hang" and "gone" (the client left)
---@field operations neap.sim.Operations
---@field package counts table<integer, integer> requests, by a target's number
---@field package failed table<integer, integer> connections that were not made, likewise
---@field package unserved table<string, true> what has been warned of
---@field package targets table[] what answers, by its number in the core
---@field package secure table<integer, boolean> whether it is reached by https
---@field package numbers table<boolean, table<table, integer>>
local Network = {}
Network.__index = Network

--- Called with each network that goes down.
---@type nil|fun(network: neap.sim.Network)
M.on_down = nil

--- The network that is up, and what the requests under way are known by, by slot.
local current
local owners, fates, asked = {}, {}, {}
--- Slots that are something else: an object with due(slot, now), gone(slot, now).
local special = {}

local function count(outcome)
  local statuses = current.statuses
  statuses[outcome] = (statuses[outcome] or 0) + 1
end

local function forget(slot)
  local fate, request = fates[slot], asked[slot]
  owners[slot], fates[slot], asked[slot] = nil, nil, nil
  request.slot = nil -- the slot is somebody else's from now on
  if fate.slot then fate.slot, fate.on_start = nil, nil end
end

-- -- Laws -------------------------------------------------------------------

--- A line's next change that nobody in it causes: an upstream has one timer.
local Watcher = {}
Watcher.__index = Watcher

function Watcher:arm()
  local at = self.law:next_change()
  self.at = at
  wake(self.slot, at < huge and at or nil)
end

--- Not before the instant that was asked for, whatever the rounding: time has to go
--- on.
function Watcher:due(_, now)
  self.law:advance(max(now, self.at))
  self:arm()
end

local function watch(upstream)
  local watchers = current.watchers
  local watcher = watchers[upstream]
  if not watcher then
    watcher = setmetatable({ law = upstream.law, slot = core.sim_timer() }, Watcher)
    watchers[upstream], special[watcher.slot] = watcher, watcher
  end
  watcher:arm()
end

--- When the core is to call `due` for a fate that is being served; nil: never.
local function next_instant(fate)
  local ends = fate.ends or huge -- what is lost on its way in was never begun
  if fate.first_byte then
    local first = (fate.began or fate.arrived) + fate.first_byte
    if first < ends then return first end
  end
  if ends < huge then return ends end
end

local function count_hang(fate)
  if fate.kind ~= "hang" or fate.counted then return end
  fate.counted = true
  count "hang"
end

local function on_start(fate)
  if not fate.slot then return end
  if fate.state == "queued" then return watch(fate.upstream) end
  count_hang(fate)
  wake(fate.slot, next_instant(fate))
end

--- The head goes out, and the body after it.
local function play(slot, upstream, fate, answer, now)
  special[slot] = players.new(slot, upstream, fate, answer, now, function(outcome)
    special[slot] = nil
    forget(slot)
    if outcome then count(outcome) end
  end)
  return special[slot]:due(slot, now)
end

--- The answer is due. What it returns goes to the core as it is.
local function respond(slot, upstream, fate, request, now)
  if fate.whole then return play(slot, upstream, fate, upstream:answer(now, fate, request), now) end
  if fate.kind == "drop" then
    count "drop"
    if fate.state then upstream:leave(now, fate, false) end
    forget(slot)
    core.sim_drop(slot)
    return
  end
  local answer = upstream:answer(now, fate, request)
  local status = answer.status
  count(status)
  if answer.chunks or fate.first_byte and fate.ends and now + TICK < fate.ends then
    return play(slot, upstream, fate, answer, now)
  end
  if fate.state then upstream:leave(now, fate, false) end
  forget(slot)
  return status, answer.headers, answer.body or ""
end

local function ask_law(slot, upstream, now, request)
  local fate = upstream:arrive(now, request)
  owners[slot], fates[slot], asked[slot] = upstream, fate, request
  local state = fate.state
  if not state then
    if fate.kind == "hang" then
      count "hang"
      return
    end
    return respond(slot, upstream, fate, request, now)
  end
  count_hang(fate)
  if fate.first_byte then fate.arrived = now end
  if state == "queued" then
    fate.slot, fate.upstream, fate.on_start = slot, upstream, on_start
    watch(upstream)
    return
  end
  return next_instant(fate)
end

-- -- What the core says -------------------------------------------------------

local function arrive(slot, number, now, method, target, operation)
  local self = current
  local upstream = self.targets[number]
  self.requests = self.requests + 1
  self.counts[number] = (self.counts[number] or 0) + 1
  local key = operation == 0 and header_of(slot, "idempotency-key") or nil
  local op, attempt = self.operations:visit(operation, key, upstream)
  if upstream.takes then
    special[slot] = upstream:takes(slot, now, method, target, function(outcome, status)
      special[slot] = nil
      count(outcome == "sent" and status or outcome == "dropped" and "drop" or "gone")
    end, op, attempt)
    return
  end
  return ask_law(slot, upstream, now, setmetatable({
    slot = slot, method = method, target = target, operation = op, attempt = attempt }, request_class))
end

local function due(slot, now)
  local object = special[slot]
  if object then return object:due(slot, now) end
  local fate = fates[slot]
  if fate then return respond(slot, owners[slot], fate, asked[slot], now) end
end

local function gone(slot, now)
  local object, fate = special[slot], fates[slot]
  if object then
    special[slot] = nil
    object:gone(slot, now)
  end
  if not fate then return end
  local upstream = owners[slot]
  if fate.kind ~= "hang" and (not object or fate.whole) then count "gone" end
  forget(slot)
  if fate.state then upstream:leave(now, fate, true) end
end

local function split(host)
  local name, port = host:match "^(.*):(%d+)$"
  return lower((name:gsub("^%[(.*)%]$", "%1"))), tonumber(port)
end

--- By http and by https it has a number each: the cost of connections differs.
local function number_of(self, target, secure)
  local numbers = self.numbers[secure]
  local number = numbers[target]
  if not number then
    number = #self.targets + 1
    self.targets[number], self.secure[number], numbers[target] = target, secure, number
  end
  return number
end

local function nobody(self, scheme, name, port)
  if listeners.is_local(name) then
    return nil, "connect",
      ("cannot connect to %s:%d: nobody listens there in the simulated network"):format(name, port)
  end
  if not self.world then
    return nil, "connect", ("no network in simulated time: nothing answers for %s:%d (a world would: "
      .. "neap sim --world FILE)"):format(name, port)
  end
  local path = self.world.path or "the world"
  local message = ("%s: no upstream serves %s://%s:%d"):format(path, scheme, name, port)
  if not self.unserved[message] then
    self.unserved[message] = true
    core.log("warning", message) -- a script may hide its errors
  end
  return nil, "invalid", message
end

--- Who answers for "name:port": a listener of the script's own, then the world.
local function find_target(scheme, host)
  local self = current
  local name, port = split(host)
  local target = self.listeners:find(name, port, true)
  if not target and self.world then
    target = self.world:upstream(scheme, name, port)
    if target and target.handler then target = handlers.of(target) end
  end
  target = target or self.listeners:find(name, port, false)
  if target then return number_of(self, target, scheme == "https") end
  return nobody(self, scheme, name, port)
end

--- How the seconds of a new connection are spent: half of them on TLS where the
--- plan does not say.
local function connect(number, now, slot, operation, method, target)
  local upstream = current.targets[number]
  local key = operation == 0 and header_of(slot, "idempotency-key") or nil
  local plan
  if upstream.plans then
    plan = upstream:plans(slot, now, method, target)
  else
    plan = upstream:connect(now, current.operations:open(operation or 0, key, upstream))
  end
  local what = plan.hang and "hang" or plan.refused and "refused" or plan.fails or "stands"
  if what ~= "stands" then current.failed[number] = (current.failed[number] or 0) + 1 end
  local seconds = plan.seconds or 0
  local dns = plan.dns or 0
  local tls = plan.tls or current.secure[number] and what == "stands" and (seconds - dns) / 2 or 0
  return what, dns, seconds - dns - tls, tls, plan.keepalive
end

-- -- Up and down ------------------------------------------------------------

local function identify()
  return current.operations:identify()
end

local function put_up(self)
  current = self
  core.sim_up { find = find_target, connect = connect, arrive = arrive, due = due, gone = gone, identify = identify }
end

--- Puts a network in the place of the real one, for every client on a virtual
--- clock. Another one that is up goes down. The world's schedules begin now. Never
--- waits.
---@param world? table see docs/sim/network.md; none: only what the script serves itself
---@param seed? integer default: the runtime's
---@return neap.sim.Network
function M.up(world, seed)
  M.down()
  local self = setmetatable({
    world = world, requests = 0, counts = {}, failed = {}, statuses = {}, operations = operations.new(),
    targets = {}, unserved = {}, numbers = { [true] = {}, [false] = {} }, secure = {},
    watchers = {}, listeners = listeners.new(core.sim_reroute),
  }, Network)
  if world then world:start(core.now(), seed or core.seed()) end
  put_up(self)
  return self
end

--- Puts one up again that went down: its world goes on as it is; connections and servers
--- inside are gone. Another one that is up goes down. Never waits.
---@param self neap.sim.Network
function M.resume(self)
  M.down()
  self.watchers, self.listeners = {}, listeners.new(core.sim_reroute)
  put_up(self)
end

local function slots_of(list)
  local slots = {}
  for slot in pairs(list) do slots[#slots + 1] = slot end
  table.sort(slots)
  return slots
end

--- Takes the network down: requests under way end with kind "closed", handlers are
--- cancelled, servers stop. Harmless when there is none. Never waits.
function M.down()
  local self = current
  if not self then return end
  if M.on_down then M.on_down(self) end
  core.sim_down()
  for _, slot in ipairs(slots_of(special)) do
    local object = special[slot]
    if object and object.gone then object:gone(slot, core.now()) end
  end
  for _, list in ipairs { owners, fates, asked, special } do
    for slot in pairs(list) do list[slot] = nil end
  end
  self.listeners:close()
  handlers.cancel()
  current = nil
end

--- The network that is up, or nil.
---@return neap.sim.Network?
function M.current()
  return current
end

--- For neap.serve: listens inside the network.
---@param config neap.core.ServerConfig
---@return neap.sim.Server? server
---@return neap.Error? err kind "connect": the port is taken
function M.listen(config)
  return current.listeners:listen(config)
end

local function name_of(target)
  if type(target.upstream) == "table" then target = target.upstream end
  if target.number then return ("the script's own server on port %d"):format(target.number) end
  return tostring(target.host or target.name or "an upstream")
end

--- Who was asked, in the order of the first connection, how often, and how many
--- connections were not made.
---@return {name: string, requests: integer, failed: integer}[]
function Network:asked()
  local list = {}
  for number, target in ipairs(self.targets) do
    local requests, failed = self.counts[number] or 0, self.failed[number] or 0
    if requests + failed > 0 then
      list[#list + 1] = { name = name_of(target), requests = requests, failed = failed }
    end
  end
  return list
end

--- Of the hosts that were asked and that nobody serves the first by name, in words; nil:
--- there is none.
---@return string?
function Network:unserved_host()
  return (sorted.first(self.unserved, function() return true end))
end

return M
