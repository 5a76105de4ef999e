--- What a new connection costs, and whether there is one. Pure.
local latencies = require "neap.world.latency"

local M = {}

---@class neap.world.ConnectSpec
---@field latency? neap.world.Latency|number seconds from the first packet to a connection that stands
---@field dns? number seconds of them for the name; default 0
---@field tls? number seconds of them for TLS; default: half of the rest, over https
---@field refuse? number probability that it is refused
---@field hang? number probability that nobody answers

---@class neap.world.Plan
---@field seconds number
---@field dns? number seconds
---@field tls? number seconds
---@field refused? boolean
---@field fails? "dns"|"tls" it never stands for this reason
---@field hang? boolean
---@field keepalive? number seconds that the server keeps it without requests

---@class neap.world.Connection
local Connection = {}
Connection.__index = Connection

local probability = { type = "number", min = 0, max = 1 }
local seconds = { type = "number", min = 0 }

--- For neap.options.
M.fields = { latency = { type = "table|number", min = 0 }, dns = seconds, tls = seconds, refuse = probability,
  hang = probability }

--- A number or a law stands for its `latency`.
---@param spec number|neap.world.Latency|neap.world.ConnectSpec|nil
---@return neap.world.ConnectSpec
function M.normalise(spec)
  if spec == nil then return {} end
  if type(spec) == "number" or spec.law then return { latency = spec } end
  return spec
end

---@param spec neap.world.ConnectSpec as `normalise` returns it
---@param keepalive number?
---@param stream fun(name: string): fun(): number
---@return neap.world.Connection
function M.new(spec, keepalive, stream)
  return setmetatable({
    sample = latencies.sampler(spec.latency or 0),
    refuse = spec.refuse or 0, hang = spec.hang or 0,
    draw = stream "connect", draw_refuse = stream "refuse", draw_hang = stream "connect_hang",
    plan = { dns = spec.dns, tls = spec.tls, keepalive = keepalive },
  }, Connection)
end

--- The next connection; the table is used again.
---@param outage {how: string}? that is under way
---@return neap.world.Plan
function Connection:next(outage)
  local plan, how = self.plan, outage and outage.how
  plan.seconds = self.sample(self.draw)
  plan.refused = (self.refuse > 0 and self.draw_refuse() < self.refuse) or how == "refuse"
  plan.hang = (self.hang > 0 and self.draw_hang() < self.hang) or how == "hang"
  if plan.hang then plan.refused = false end
  return plan
end

return M
