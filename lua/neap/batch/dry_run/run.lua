--- One run of a dry run: the batch's own reader, job, retries and client over the
--- input file, in virtual time, against a world. Results go nowhere.
local batch = require "neap.batch"
local core = require "neap.core"
local jobs = require "neap.batch.job"
local network = require "neap.sim.network"
local reader = require "neap.batch.reader"
local usage = require "neap.world.usage"
local worlds = require "neap.world"

local M = {}

local CHUNK = 64 * 1024

---@class neap.batch.DryJob
---@field input string path
---@field world string a file or a profile's name
---@field base_url string
---@field headers table<string, string>
---@field concurrency integer
---@field max_attempts integer
---@field timeout number seconds for one attempt
---@field pace boolean wait as the server's rate-limit headers say
---@field seed integer
---@field scale? table<string, number> what the world is multiplied by

---@class neap.batch.DryRow
---@field seed integer
---@field seconds number from the start to the last result
---@field sends integer requests that arrived
---@field limited integer answers with status 429
---@field failed integer items without an answer from 200 to 299, bad lines included
---@field input integer tokens of prompts that were answered
---@field output integer tokens of answers
---@field work number server seconds
---@field other integer answers whose tokens nobody counts
---@field too_large string[] custom_ids of items that no limit will ever let in
---@field models table<string, {input: integer, output: integer}>
---@field failures table<string, integer> how failed items ended: a status, or an error kind

local Source = {}
Source.__index = Source

-- Lua's own reads: virtual time must not wait for a thread.
function Source:read()
  return self.file:read(CHUNK)
end

function Source:close()
  self.file:close()
end

local function open(path)
  local file, message = io.open(path, "rb")
  if not file then error("cannot read " .. message, 0) end
  return setmetatable({ file = file }, Source)
end

local nowhere = {}

function nowhere.append() return true end

local function failures_of(stats)
  local counts = {}
  for status, count in pairs(stats.statuses) do
    if status < 200 or status >= 300 then counts[tostring(status)] = count end
  end
  for kind, count in pairs(stats.errors) do counts[kind] = count end
  return counts
end

--- To the clock's nanosecond: what is left of a difference depends on how late it is.
local function nanoseconds(seconds)
  return math.floor(seconds * 1e9 + 0.5) / 1e9
end

local function row_of(request, stats, net, tally)
  local row = { seed = request.seed, sends = net.requests, limited = net.statuses[429] or 0, failed = stats.failed,
    other = tally.other, too_large = tally.too_large, models = tally.models,
    failures = failures_of(stats), input = 0, output = 0, work = 0,
    seconds = nanoseconds(core.now() - stats.started) }
  for _, upstream in ipairs(net.world.upstreams) do
    local law = upstream.law
    row.input, row.output, row.work = row.input + law.input, row.output + law.output, row.work + law.work
  end
  row.work = nanoseconds(row.work)
  return row
end

--- Does one run. Needs a virtual clock. Waits; raises one line.
---@param request neap.batch.DryJob
---@return neap.batch.DryRow
function M.run(request)
  local world = worlds.load(request.world)
  if request.scale then world = world:scaled(request.scale) end
  core.reseed(request.seed)
  local net, tally = network.up(world, request.seed), usage.watch(world)
  local client, err = batch.client(request)
  if not client then error(err.message, 0) end
  local source = reader.new(open(request.input))
  local job = jobs.new({ client = client, reader = source, writer = nowhere }, {
    base_url = request.base_url, concurrency = request.concurrency, max_attempts = request.max_attempts,
    pace = request.pace,
  })
  job:run()
  if job.read_error then error(job.read_error.message, 0) end
  local row = row_of(request, job.stats, net, tally)
  source:close()
  client:close()
  network.down()
  return row
end

return M
