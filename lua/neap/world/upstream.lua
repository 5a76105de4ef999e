--- A simulated upstream, in this process: a law in front of nothing. Its requests
--- wait as real ones would, in virtual time (`neap sim`, specs) or real time.
---
---   local upstream = require("neap.world.upstream").new {
---     latency = { law = "lognormal", median = 0.1, sigma = 0.8 }, capacity = 50, over = "reject", seed = 1 }
---   local res, err = upstream:request { id = "item-17" }
---
--- Requests with an `id` draw at that key: the k-th request of an id has the same
--- latency and luck whoever came before, so that policies are compared on equal
--- terms. The others draw in order of arrival.
local core = require "neap.core"
local errors = require "neap.error"
local laws = require "neap.world.law"
local law_options = require "neap.world.options"
local options = require "neap.options"
local statistics = require "neap.world.stats"
local streams = require "neap.world.streams"

local huge, max = math.huge, math.max
local now, sleep = core.now, core.sleep
local error, pcall, setmetatable = error, pcall, setmetatable

local M = {}

---@class neap.world.UpstreamOptions: neap.world.LawSpec
---@field seed? integer default 1
---@field log? boolean keep a row of each request in `stats`; default false
---@field name? string default "upstream"; in error messages

---@class neap.world.Upstream
---@field stats neap.world.Stats
---@field law neap.world.Law
---@field name string
---@field package streams neap.world.Streams
local Upstream = {}
Upstream.__index = Upstream

local specs = { log = { type = "boolean", default = false }, name = { type = "string", default = "upstream" } }
for name, spec in pairs(law_options.specs) do specs[name] = spec end

--- An upstream. Its schedules and windows begin now. Never waits; raises on a
--- wrong option.
---@param opts? neap.world.UpstreamOptions
---@return neap.world.Upstream
function M.new(opts)
  local checked = options.check("neap.world.upstream", opts, specs)
  local message = law_options.problem(checked)
  if message then error("neap.world.upstream: " .. message, 2) end
  local source = streams.new(checked.seed, core.rng)
  return setmetatable({
    name = checked.name,
    streams = source,
    law = laws.new(checked, function(name) return source:stream(name) end, now()),
    stats = statistics.new(now(), checked.log),
  }, Upstream)
end

local function wake(fate)
  fate.event:set()
end

--- In line until the fate has its slot.
local function wait_in_line(law, fate)
  local event = core.event()
  fate.event, fate.on_start = event, wake
  while fate.state == "queued" do
    event:clear()
    local change = law:next_change()
    event:wait(change < huge and max(0, change - now()) or nil)
    law:advance(now())
  end
end

local function wait_for_end(law, fate)
  if fate.state == "queued" then wait_in_line(law, fate) end
  if fate.endless then core.event():wait() end
  local left = fate.ends - now()
  if left > 0 then sleep(left) end
end

local function lost(self)
  return nil, errors.new { kind = "receive", phase = "first_byte", sent = "maybe", sends = 1, replay_safe = true,
    message = self.name .. " reset the connection" }
end

local function arrive(self, id, tokens)
  if id ~= nil then self.streams:seek(id) end
  local fate = self.law:arrive(now(), tokens)
  if id ~= nil then self.streams:seek(nil) end
  return fate
end

---@class neap.world.Response
---@field status integer
---@field headers table<string, string> lower-case names
---@field replay_safe true
---@field sends 1

---@class neap.world.Request
---@field id? string|number the same for every attempt at the same thing
---@field tokens? number for the token limit; default 0

--- Sends a request. Waits. A reset connection is nil and an error of kind
--- "receive" (sent "maybe"); a request that hangs waits until it is cancelled; a
--- cancel is a client that leaves.
---@param request? neap.world.Request
---@return neap.world.Response? response
---@return neap.Error? err
function Upstream:request(request)
  local id, tokens = request and request.id, request and request.tokens or 0
  local law, stats, arrived = self.law, self.stats, now()
  local index = stats:arrive(id, "/", nil, arrived)
  stats:note_peak(stats.open)
  local fate = arrive(self, id, tokens)
  if fate.state then
    local ok, err = pcall(wait_for_end, law, fate)
    law:leave(now(), fate, not ok)
    if not ok then
      stats:finish(index, fate.kind == "hang" and "hang" or "disconnect", now() - arrived)
      error(err, 0)
    end
  end
  if fate.kind == "drop" then
    stats:finish(index, "drop", now() - arrived)
    return lost(self)
  end
  local status, headers = fate.status or 200, {}
  law:add_headers(now(), fate, headers)
  stats:finish(index, status, now() - arrived)
  return { status = status, headers = headers, replay_safe = true, sends = 1 }
end

return M
