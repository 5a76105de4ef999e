--- A world over real sockets: `neap mock --world`. Each request goes to the upstream
--- that its Host header names, and meets the same law as in simulation; what a
--- socket of ours cannot do (refuse a connection, take long to stand) is a reset, and
--- costs what it costs.
local core = require "neap.core"
local errors = require "neap.error"
local held = require "neap.mock.held"
local serve = require "neap.serve"
local wait = require "neap.mock.wait"

local now = core.now

local M = {}

---@class neap.mock.WorldConfig
---@field world neap.world.World
---@field upstream? string the host that answers whatever the Host header says
---@field host? string address to listen on, default "127.0.0.1"
---@field port? integer default 0: picks one
---@field seed? integer default 1

---@class neap.mock.WorldMock
---@field server neap.serve.Server
---@field world neap.world.World
---@field package only neap.world.Upstream?
---@field package held neap.mock.Held
local Mock = {}
Mock.__index = Mock

--- "Name:port" as name and port; an address in brackets without them.
local function split(host)
  local name, port = host:match "^(.-):(%d+)$"
  name = name or host
  return (name:gsub("^%[(.*)%]$", "%1")), tonumber(port)
end

function Mock:upstream_of(request)
  if self.only then return self.only end
  return self.world:upstream("http", split(request.headers.host or ""))
end

--- What a world's law looks at.
local function question(request)
  local headers = request.headers
  local id = headers["x-client-request-id"]
  return { method = request.method, path = request.path, body = request.body, headers = headers, id = id,
    operation = headers["idempotency-key"] or id }
end

--- An outage has cut the stream off: it is reset, or nothing comes any more.
---@return true? gone
local function cut_off(request, fate)
  if fate.kind == "hang" then return request:wait_disconnect() end
  if wait.stay(request, fate.ends - now()) then return true end
  request.raw:abort()
end

--- Sends a stream's chunks at their times. What is left of the work is waited for.
---@return true? gone
local function play(request, answer, began, ends, fate)
  local writer = request:respond { status = answer.status, headers = answer.headers }
  if not writer then return true end
  local silent = fate and fate.silent or math.huge
  for _, chunk in ipairs(answer.chunks) do
    if began + chunk.after >= silent then return cut_off(request, fate) end
    if wait.stay(request, began + chunk.after - now()) then return true end
    if not writer:write(chunk.data) then return true end
  end
  local gone = wait.stay(request, ends - now())
  writer:close()
  return gone
end

--- Works for as long as the law says, and answers.
---@return true? gone the client has left
---@return table? answer
function Mock:work(request, upstream, fate, asked)
  if fate.state == "queued" and wait.in_line(upstream.law, request, fate) then return true end
  if fate.kind == "hang" and not fate.whole then
    self.held:hold(request)
    return true
  end
  local first = fate.first_byte and fate.began + fate.first_byte
  if wait.stay(request, (first or fate.ends) - now()) or request:disconnected() then return true end
  if fate.kind == "drop" and not fate.whole then
    request:drop()
    return nil
  end
  local answer = upstream:answer(now(), fate, asked)
  if answer.chunks then return play(request, answer, now(), fate.ends, fate) end
  return nil, answer
end

local function whole(answer)
  return answer and { status = answer.status, headers = answer.headers, body = answer.body } or nil
end

local function by_law(self, upstream, request)
  local asked = question(request)
  local fate = upstream:arrive(now(), asked, request.arrived)
  if not fate.state then
    if fate.kind ~= "drop" then return whole(upstream:answer(now(), fate, asked)) end
    request:drop()
    return nil
  end
  local gone, answer = self:work(request, upstream, fate, asked)
  upstream:leave(now(), fate, gone)
  if gone then request:drop() end
  return whole(answer)
end

--- What an outage of the host makes of a request to its handler: an outcome, and an
--- answer where there is one; nil: there is no outage.
local function in_outage(upstream, request)
  local outage = upstream.law.outage
  local window = outage and outage:at(now())
  if not window then return nil end
  if window.how == "hang" then
    request:wait_disconnect()
    return "hang"
  elseif window.how == "refuse" then
    request:drop()
    return "drop"
  end
  local headers = window.retry_after and { ["Retry-After"] = ("%d"):format(math.ceil(window.retry_after)) } or nil
  return window.status, { status = window.status, headers = headers, body = "" }
end

--- The handler's answer; counted as the simulated network does.
local function by_handler(upstream, request)
  local stats = upstream.stats
  local headers = request.headers
  local id = headers["x-client-request-id"]
  rawset(request, "operation", headers["idempotency-key"] or id)
  local index = stats:arrive(id, request.path, nil, request.arrived)
  stats:note_peak(stats.open)
  local outcome, instead = in_outage(upstream, request)
  if outcome then
    stats:finish(index, outcome, now() - request.arrived)
    return instead
  end
  local ok, status, body, more = pcall(upstream.handler, request)
  if not ok then
    stats:finish(index, errors.is(status, "cancelled") and "disconnect" or 500, now() - request.arrived)
    error(status, 0)
  end
  if type(status) == "table" and status.chunks then
    local answer = { status = status.status or 200, headers = status.headers or {}, chunks = status.chunks }
    local gone = play(request, answer, now(), now())
    stats:finish(index, gone and "disconnect" or answer.status, now() - request.arrived)
    return nil
  end
  local number = type(status) == "table" and (status.status or 200) or status
  stats:finish(index, number, now() - request.arrived)
  return status, body, more
end

function Mock:handle(request)
  if request.path == "/stats" then return 200, self:summary() end
  local upstream = self:upstream_of(request)
  if not upstream then
    local name = split(request.headers.host or "")
    return 421, { error = { message = ("the world serves no host '%s'"):format(name:gsub("[^%w%.%-_]", "?")) } }
  end
  if upstream.handler then return by_handler(upstream, request) end
  return by_law(self, upstream, request)
end

--- What GET /stats answers: by host, what `neap mock` tells of itself.
---@return table
function Mock:summary()
  local hosts = {}
  for _, upstream in ipairs(self.world.upstreams) do
    local summary, law = upstream.stats:summary(now()), upstream.law
    law:advance(now())
    summary.work, summary.wasted = law.work, law.wasted
    if upstream.spec.capacity then
      summary.slots = { limit = law.capacity.limit, busy = law.capacity.busy, waiting = law.capacity.waiting }
    end
    hosts[upstream.host] = summary
  end
  return { hosts = hosts }
end

--- One line for people, by host.
---@return string
function Mock:line()
  local lines = {}
  for i, upstream in ipairs(self.world.upstreams) do
    lines[i] = upstream.host .. ": " .. upstream.stats:line()
  end
  return table.concat(lines, "; ")
end

--- The server's idle timeout: the shortest keep-alive of the world's hosts, which
--- share a port here; a second at least, for libmicrohttpd counts in whole ones; 0:
--- none of them has a limit.
local function keepalive(world, only)
  local least
  for _, upstream in ipairs(only and { only } or world.upstreams) do
    local seconds = upstream.spec.keepalive
    if seconds and (not least or seconds < least) then least = math.max(1, seconds) end
  end
  return least or 0
end

--- Starts it; it runs in the caller's scope until `stop`. Schedules and windows
--- begin now. Needs real time.
---@param config neap.mock.WorldConfig
---@return neap.mock.WorldMock? mock
---@return neap.Error? err as of neap.serve; kind "invalid": no such upstream
function M.start(config)
  local world = config.world
  local only = config.upstream and world:upstream("http", split(config.upstream))
  if config.upstream and not only then
    return nil, errors.new { kind = "invalid", message = ("%s: there is no upstream '%s'"):format(
      world.path or "the world", config.upstream) }
  end
  local mock = setmetatable({ world = world, only = only, held = held.new() }, Mock)
  local err
  mock.server, err = serve {
    host = config.host, port = config.port,
    max_concurrency = 2 ^ 30, max_connections = 2 ^ 20, max_body = 2 ^ 30,
    idle_timeout = keepalive(world, only),
    handler = function(request) return mock:handle(request) end,
  }
  if not mock.server then return nil, err end
  world:start(now(), config.seed or 1)
  return mock
end

--- Stops taking requests, lets go of those that hang, and waits up to `timeout`
--- seconds for the others. Waits.
---@param timeout? number seconds; none: for ever
---@return true? ok, neap.Error? err kind "timeout" when requests had to be broken off
function Mock:stop(timeout)
  return self.held:stop(self.server, timeout)
end

return M
