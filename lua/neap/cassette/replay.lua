--- A world that answers as a cassette has it, with what is to be different: quotas
--- scaled, latencies scaled, failures injected, servers that get busy.
local core = require "neap.core"
local fit = require "neap.cassette.fit"
local options = require "neap.options"
local quotas = require "neap.cassette.quota"
local upstreams = require "neap.cassette.replay_upstream"
local world_text = require "neap.cassette.world_text"

local count = world_text.count

local M = {}

---@class neap.cassette.ReplayOptions
---@field scale? {quota: number?, latency: number?} what recorded figures are multiplied by
---@field inject? neap.world.ErrorRule[] failures by chance, before the recording is asked
---@field drop? number probability of a connection reset, likewise
---@field hang? number probability of no answer, likewise
---@field quota? neap.world.RateLimit|"recorded" the limit of hosts whose answers did not tell any; "recorded": 429s
---  come as they did, whatever the load
---@field load_model? "recorded"|"mm-c" "recorded" (default): latency does not react to load; "mm-c": so many servers
---  with a line, recorded seconds as their work
---@field servers? integer of each host, for mm-c; default: the most requests that it had at a time

local positive = { type = "number", above = 0 }
local probability = { type = "number", min = 0, max = 1 }
local OPTIONS = {
  scale = { type = "table", fields = { quota = positive, latency = positive } },
  inject = { type = "table" },
  drop = probability,
  hang = probability,
  quota = { type = "table|string" },
  load_model = { type = "string", one_of = { "recorded", "mm-c" }, default = "recorded" },
  servers = { type = "integer", min = 1 },
}

---@class neap.cassette.World
---@field path string of the cassette
---@field upstreams neap.cassette.Upstream[]
---@field tape neap.cassette.Tape
---@field package by_origin table<string, neap.cassette.Upstream>
---@field package options neap.cassette.ReplayOptions
local World = {}
World.__index = World

local LIMITS = { "rpm", "tpm", "itpm", "otpm", "rpd", "tpd" }

local function scaled(limit, factor)
  local result = {}
  for name, value in pairs(limit) do result[name] = value end
  for _, name in ipairs(LIMITS) do
    if result[name] then result[name] = result[name] * factor end
  end
  return result
end

local function has_limited(entries)
  for _, entry in ipairs(entries) do
    if fit.outcome(entry) == "limit" then return true end
  end
  return false
end

--- The limit of a host. Raises where one is needed and nobody says it.
local function limit_of(tape, host, entries, opts)
  local factor = opts.scale and opts.scale.quota
  local limit = quotas.of(entries, tape.unix)
  if limit then return scaled(limit, factor or 1), true end
  if opts.quota == "recorded" then
    if not factor then return nil end
    error(("%s: %s: --quota recorded has no quota to scale; say it: --quota rpm=600"):format(tape.path, host), 0)
  end
  if type(opts.quota) == "table" then return scaled(opts.quota, factor or 1) end
  if factor then
    error(("%s: %s has no rate-limit headers, so there is no quota to scale; say it: --quota rpm=600"):format(tape.path,
      host), 0)
  end
  if has_limited(entries) then
    error(("%s: %s answered 429 without rate-limit headers; say its quota: --quota rpm=600 (--quota recorded: 429s "
      .. "come as they did, whatever the load)"):format(tape.path, host), 0)
  end
end

local function group(tape)
  local origins, by_origin = {}, {}
  for _, entry in ipairs(tape.entries) do
    if not by_origin[entry.origin] then
      by_origin[entry.origin] = {}
      origins[#origins + 1] = entry.origin
    end
    table.insert(by_origin[entry.origin], entry)
  end
  return origins, by_origin
end

local function check(opts)
  opts = options.check("neap.cassette.world", opts, OPTIONS)
  if type(opts.quota) == "string" and opts.quota ~= "recorded" then
    options.fail(("neap.cassette.world: option 'quota' must be a table or \"recorded\", got '%s'"):format(opts.quota))
  end
  if opts.servers and opts.load_model ~= "mm-c" then
    options.fail "neap.cassette.world: option 'servers' needs load_model = \"mm-c\""
  end
  local law = require "neap.world.options"
  local message = law.problem { errors = opts.inject or {} }
  if message then
    options.fail("neap.cassette.world: " .. message:gsub("option 'errors'", "option 'inject'", 1))
  end
  message = type(opts.quota) == "table" and law.problem { rate_limit = opts.quota }
  if message then
    options.fail("neap.cassette.world: " .. message:gsub("option 'rate_limit'", "option 'quota'", 1))
  end
  return opts
end

--- A world of a tape. Begins now, with seed 1. Raises one line.
---@param tape neap.cassette.Tape
---@param opts? neap.cassette.ReplayOptions
---@return neap.cassette.World
function M.new(tape, opts)
  opts = check(opts)
  if #tape.entries == 0 then error(tape.path .. ": has no requests to replay", 0) end
  local self = setmetatable({ path = tape.path, tape = tape, options = opts, upstreams = {}, by_origin = {} }, World)
  local origins, by_origin = group(tape)
  local needed = false
  for i, origin in ipairs(origins) do
    local entries = by_origin[origin]
    local limit, told = limit_of(tape, fit.host(origin), entries, opts)
    needed = needed or not told
    local upstream = upstreams.new(origin, entries, { rate_limit = limit, errors = opts.inject or {}, drop = opts.drop,
      hang = opts.hang, latency = opts.scale and opts.scale.latency or 1, unix = tape.unix,
      servers = opts.load_model == "mm-c" and (opts.servers or true) or nil })
    if upstream:is_silent() then
      error(("%s: %s never gave an answer that could be replayed"):format(tape.path, upstream.host), 0)
    end
    self.upstreams[i], self.by_origin[origin] = upstream, upstream
  end
  if opts.quota and not needed then
    error(tape.path .. ": every host told its quota in its answers; change it with --scale quota=FACTOR instead of "
      .. "--quota", 0)
  end
  self:start(core.now(), 1)
  return self
end

--- Begins, or begins anew: the next request is the first again.
---@param now number seconds
---@param seed integer
function World:start(now, seed)
  for _, upstream in ipairs(self.upstreams) do upstream:start(now, seed) end
end

--- Who answered for a host when it was recorded; nil: nobody.
---@param scheme string
---@param host string
---@param port? integer
---@return neap.cassette.Upstream?
function World:upstream(scheme, host, port)
  if host:find(":", 1, true) then host = "[" .. host .. "]" end
  local origin = core.url_origin(("%s://%s%s"):format(scheme, host, port and (":%d"):format(port) or ""))
  return origin and self.by_origin[origin]
end

--- Where the figures come from.
---@return string
function World:source()
  return ("replayed from %s, %s requests, %s"):format(self.tape.path:match "[^/]+$" or self.tape.path,
    count(#self.tape.entries), self.tape.date)
end

-- -- The end of a run ---------------------------------------------------------

local NAMES = { { "past", "past the recording" }, { "unknown", "of endpoints that were not recorded" },
  { "unfinished", "that the client had given up before an answer" } }

local function totals(world)
  local sums = { recorded = 0, past = 0, unknown = 0, unfinished = 0, limited = 0, injected = 0, failed_connects = 0,
    empty = 0 }
  for _, upstream in ipairs(world.upstreams) do
    for name in pairs(sums) do sums[name] = sums[name] + upstream.counts[name] end
  end
  return sums
end

local function requests_line(world)
  local sums = totals(world)
  local drawn = sums.past + sums.unknown + sums.unfinished
  local all = drawn + sums.recorded + sums.limited + sums.injected
  local parts = { ("%s of %s requests as recorded"):format(count(sums.recorded), count(all)) }
  if drawn > 0 then
    local kinds = {}
    for _, name in ipairs(NAMES) do
      if sums[name[1]] > 0 then kinds[#kinds + 1] = count(sums[name[1]]) .. " " .. name[2] end
    end
    parts[2] = ("%s extrapolated (%.1f %%: %s)"):format(count(drawn), 100 * drawn / all, table.concat(kinds, ", "))
  else
    parts[2] = "none extrapolated"
  end
  if sums.limited > 0 then parts[#parts + 1] = count(sums.limited) .. " x 429 by quota" end
  if sums.injected > 0 then parts[#parts + 1] = count(sums.injected) .. " injected failures" end
  if sums.failed_connects > 0 then parts[#parts + 1] = count(sums.failed_connects) .. " failed connections" end
  if sums.empty > 0 then parts[#parts + 1] = count(sums.empty) .. " bodies empty that were too long to be kept" end
  return table.concat(parts, ", ")
end

local function load_line(world)
  if world.options.load_model == "recorded" then
    return "latency does not react to load (--load-model recorded)"
  end
  local parts = {}
  for i, upstream in ipairs(world.upstreams) do
    parts[i] = ("%s %d server%s"):format(upstream.host, upstream.servers, upstream.servers == 1 and "" or "s")
  end
  return ("latency reacts to load (--load-model mm-c): %s%s"):format(table.concat(parts, ", "),
    world.options.servers and "" or ", the most requests at a time when recorded")
end

local function quota_line(world)
  local parts = {}
  for _, upstream in ipairs(world.upstreams) do
    local limit, values = upstream.rate_limit, {}
    for _, name in ipairs(LIMITS) do
      if limit and limit[name] then values[#values + 1] = ("%s=%.10g"):format(name, limit[name]) end
    end
    if limit then parts[#parts + 1] = upstream.host .. " " .. table.concat(values, " ") end
  end
  return #parts > 0 and "quota: " .. table.concat(parts, ", ") or "quota: none"
end

--- Lines for the end of a run: how much of it was as recorded, and what is assumed.
---@return string[]
function World:report()
  local first = ("replayed %s (%s): %s"):format(self.tape.path, self.tape.date, requests_line(self))
  if self.tape.torn then first = first .. "; the cassette's last line is cut off" end
  return { first, load_line(self), quota_line(self) }
end

return M
