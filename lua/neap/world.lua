--- A world: the simulated upstreams that a script's requests reach by host name,
--- through the simulated network (`neap sim --world`) or over real sockets
--- (`neap mock --world`). See docs/world.md.
---
---   local world = neap.world.load "worlds/brownout.lua"
---   local world = neap.world.new { { host = "api.example.com", latency = 0.1, capacity = 50, over = "queue" } }
local core = require "neap.core"
local define = require "neap.world.define"
local upstreams = require "neap.world.upstream"

local lower = string.lower
local setmetatable = setmetatable

local M = {}

---@class neap.world.World
---@field path string? of its file
---@field upstreams neap.world.Upstream[]
---@field definition neap.world.Definition what it was made of
---@field package by_host table<string, neap.world.Upstream>
local World = {}
World.__index = World

--- A world of a definition that has been checked. It begins now, with seed 1; who
--- carries requests there starts it anew.
---@param definition neap.world.Definition
---@param path? string
---@return neap.world.World
local function of(definition, path)
  local self = setmetatable({ path = path, definition = definition, upstreams = {}, by_host = {},
    random = definition.random }, World)
  for i, spec in ipairs(define.finish(definition)) do
    local upstream = upstreams.of(spec)
    upstream.options = definition.upstreams[i].given
    self.upstreams[i], self.by_host[spec.host] = upstream, upstream
  end
  self:start(core.now(), 1)
  return self
end

--- A world of upstreams that are given as tables, as in a world file; besides,
--- `outages` and `brownouts` that several share, and `source`. Never waits; raises
--- on a wrong option.
---@param spec neap.world.WorldOptions
---@return neap.world.World
function M.new(spec)
  return of(define.read(spec))
end

--- A world from a file, or of one profile (`"openai-tier1"`) for every host. Never
--- waits; raises one line that names file, line and option.
---@param path string
---@return neap.world.World
function M.load(path)
  local files = require "neap.world.file"
  local definition, source = files.load(path)
  return of(definition, source)
end

--- Begins, or begins anew: schedules and windows count from `now`, draws are keyed
--- by the seed.
---@param now number seconds
---@param seed integer
function World:start(now, seed)
  if self.random then self.random(seed) end
  for i = 1, #self.upstreams do self.upstreams[i]:start(now, seed) end
end

--- Who answers for a host: the upstream of that name (with the port, then without),
--- else the one that is called "*"; nil: nobody.
---@param _ string scheme
---@param host string
---@param port? integer
---@return neap.world.Upstream?
function World:upstream(_, host, port)
  local by_host, name = self.by_host, lower(host)
  return port and by_host[name .. ":" .. port] or by_host[name] or by_host["*"]
end

--- Where the figures come from: what the file says, else the profiles that it uses,
--- else "guessed".
---@return string
function World:source()
  if self.definition.source then return self.definition.source end
  local sources, seen = {}, {}
  for _, item in ipairs(self.definition.upstreams) do
    local source = item.source or "guessed"
    if not seen[source] then sources[#sources + 1] = source end
    seen[source] = true
  end
  return table.concat(sources, "; ")
end

--- The same world with some of its figures multiplied: `latency`, `errors` (their
--- probabilities, drops and hangs too), `quota` (rate limits and quotas), `output`
--- (tokens) and `capacity`.
---@param factors {latency?: number, errors?: number, quota?: number, output?: number, capacity?: number}
---@return neap.world.World
function World:scaled(factors)
  return of(require("neap.world.scale").definition(self.definition, factors), self.path)
end

return M
