--- A small world by hand, for specs of the simulated network: what it takes for
--- upstreams to be reached by host name, and nothing else.
local core = require "neap.core"
local laws = require "neap.world.law"
local statistics = require "neap.world.stats"
local streams = require "neap.world.streams"

local M = {}

local Upstream = {}
Upstream.__index = Upstream

function Upstream:connect(now)
  local plan = self.spec.connect
  if type(plan) == "function" then return plan(now) end
  return plan or { seconds = 0 }
end

function Upstream:arrive(now, request)
  self.seen[#self.seen + 1] = { method = request.method, path = request.path, operation = request.operation,
    attempt = request.attempt, at = now,
    body = self.spec.reads and request.body, headers = self.spec.reads and request.headers }
  self.streams:seek(request.operation)
  local fate = self.law:arrive(now, 0)
  self.streams:seek(nil)
  fate.first_byte = self.spec.first_byte
  return fate
end

function Upstream:answer(now, fate, request)
  if self.spec.answer then return self.spec.answer(now, fate, request) end
  local headers = {}
  self.law:add_headers(fate, headers)
  return { status = fate.status or 200, headers = headers, body = fate.status and "no" or "yes" }
end

function Upstream:leave(now, fate, gone)
  self.left[#self.left + 1] = { at = now, gone = gone }
  self.law:leave(now, fate, gone)
end

--- An upstream: the options of a law, and connect (a plan, or a function of the
--- time), first_byte, answer, handler, reads.
---@param spec table
---@return table
function M.upstream(spec)
  local source = streams.new(spec.seed or 1, core.rng)
  return setmetatable({ spec = spec, host = spec.host, handler = spec.handler, seen = {}, left = {}, streams = source,
    law = laws.new(spec, function(name) return source:stream(name) end, core.now()),
    stats = statistics.new(core.now(), false) }, Upstream)
end

--- A world of upstreams by host; "*" catches the rest.
---@param hosts table<string, table> options of `upstream`, or an upstream
---@return table
function M.new(hosts)
  local world = { path = "worlds/hand.lua", upstreams = {}, by_host = {} }
  for host, spec in pairs(hosts) do
    local upstream = getmetatable(spec) == Upstream and spec or M.upstream(spec)
    upstream.host = host
    world.by_host[host] = upstream
    world.upstreams[#world.upstreams + 1] = upstream
  end
  function world:start(now, seed) self.started, self.seed = now, seed end
  function world:upstream(_, host) return self.by_host[host] or self.by_host["*"] end
  return world
end

return M
