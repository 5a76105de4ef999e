--- The laws of a world, fitted to a cassette: by host, as worlds are, and for the
--- reader also by endpoint. Pure, and the same for the same cassette.
local core = require "neap.core"
local laws = require "neap.cassette.laws"
local quotas = require "neap.cassette.quota"
local rates = require "neap.rate_headers"
local world_text = require "neap.cassette.world_text"

local M = {}

local MAX_ENDPOINTS = 20 -- of a host that are fitted; the others are counted

---@class neap.cassette.FittedHost
---@field host string as a world names it: with its port where that does not go without saying
---@field requests integer sends that the host is judged by
---@field answers integer of them, below 400
---@field latency neap.cassette.Fit? nil: nothing was answered
---@field errors {status: integer, count: integer, probability: number, retry_after: number?,
---  latency: neap.cassette.Fit}[]
---@field limited integer answers 429
---@field rate_limit neap.world.RateLimit?
---@field drop number probability
---@field dropped integer sends that were lost, those included that libcurl made again unseen
---@field hang number probability
---@field connect neap.cassette.Fit? of new connections
---@field refuse number probability
---@field connect_hang number probability
---@field endpoints {name: string, requests: integer, latency: neap.cassette.Fit?}[] the most frequent first
---@field more integer endpoints beyond those
---@field left integer requests that the client gave up itself: they count for nothing
---@field notes string[]

---@class neap.cassette.Fitted
---@field hosts neap.cassette.FittedHost[] in the order of the first request
---@field source string "fitted from cassette.jsonl, 1,000 requests, 2026-11-23"
---@field seconds number from the first request to the last answer
local Fitted = {}
Fitted.__index = Fitted

local CONNECTING = { dns = true, connect = true, tls = true } -- kinds and phases
local LOST = { receive = true, send = true, protocol = true }
local DEFAULT_PORTS = { http = "80", https = "443" }

--- The host of an origin as a world names it.
---@param origin string
---@return string
function M.host(origin)
  local scheme, host, port = origin:match "^(%a+)://(.*):(%d+)$"
  host = host:gsub("^%[(.*)%]$", "%1")
  return DEFAULT_PORTS[scheme] == port and host or host .. ":" .. port
end

--- What became of a request, as a law has it: "answer", "error", "limit", "drop",
--- "hang", "refuse", "connect_hang"; "unreachable" (no name, no trust) and "left" say
--- nothing about the server.
---@param entry neap.cassette.Entry
---@return string
function M.outcome(entry)
  local err, status = entry.error, entry.status
  if err then
    if LOST[err.kind] then return "drop" end
    if err.kind == "connect" then return "refuse" end
    if CONNECTING[err.kind] then return "unreachable" end
    if err.kind == "timeout" then return CONNECTING[err.phase] and "connect_hang" or "hang" end
    return "left"
  end
  if status == 429 then return "limit" end
  return status >= 400 and "error" or "answer"
end

--- Seconds that a new connection took; nil: the request had one that was there.
---@param entry neap.cassette.Entry
---@return number?
function M.connect_seconds(entry)
  local timings = entry.timings
  if timings and timings.connect > 0 then return timings.dns + timings.connect + timings.tls end
end

local function group(entries, name_of)
  local names, by_name = {}, {}
  for _, entry in ipairs(entries) do
    local name = name_of(entry)
    if not by_name[name] then
      by_name[name] = {}
      names[#names + 1] = name
    end
    table.insert(by_name[name], entry)
  end
  return names, by_name
end

local OUTCOMES = { "answer", "error", "limit", "drop", "hang", "refuse", "connect_hang", "unreachable", "left" }

local function sort_out(entries)
  local sorted, connects = {}, {}
  for _, name in ipairs(OUTCOMES) do sorted[name] = {} end
  for _, entry in ipairs(entries) do
    table.insert(sorted[M.outcome(entry)], entry)
    connects[#connects + 1] = M.connect_seconds(entry)
  end
  return sorted, connects
end

local function seconds_of(entries)
  local list = {}
  for i, entry in ipairs(entries) do list[i] = entry.seconds end
  return list
end

local function fit_of(values, random)
  if #values > 0 then return laws.fit(values, random) end
end

local function share(count, of)
  return of > 0 and count / of or 0
end

--- The wait that most of the answers asked for; nil: most asked for none.
local function usual_wait(entries, unix)
  local counts, best, most = {}, nil, 0
  for _, entry in ipairs(entries) do
    local wait = rates.explicit_retry_after(entry.headers, unix + entry.arrived + entry.seconds) or false
    local count = (counts[wait] or 0) + 1
    counts[wait] = count
    if count > most or count == most and wait and (not best or wait > best) then best, most = wait, count end
  end
  return best or nil
end

--- Error statuses with their shares of what could fail so, and how long they took.
local function errors_of(list, of, unix, random)
  local statuses, by_status = group(list, function(entry) return entry.status end)
  table.sort(statuses)
  local rules = {}
  for i, status in ipairs(statuses) do
    local entries = by_status[status]
    rules[i] = { status = status, count = #entries, probability = share(#entries, of),
      retry_after = usual_wait(entries, unix), latency = fit_of(seconds_of(entries), random) }
  end
  return rules
end

--- Sends of these requests that were lost and made again unseen.
local function resends(sorted)
  local count = 0
  for _, name in ipairs { "answer", "error", "limit", "drop", "hang" } do
    for _, entry in ipairs(sorted[name]) do count = count + entry.sends - 1 end
  end
  return count
end

local function endpoints_of(entries, random)
  local names, by_name = group(entries, function(entry) return entry.endpoint end)
  table.sort(names, function(a, b)
    if #by_name[a] ~= #by_name[b] then return #by_name[a] > #by_name[b] end
    return a < b
  end)
  local list = {}
  for i = 1, math.min(#names, MAX_ENDPOINTS) do
    local sorted = sort_out(by_name[names[i]])
    list[i] = { name = names[i], requests = #by_name[names[i]], latency = fit_of(seconds_of(sorted.answer), random) }
  end
  return list, #names - #list
end

local function notes_of(host, sorted, assumed)
  local notes = assumed or {}
  local function note(count, text)
    if count > 0 then notes[#notes + 1] = text:format(count, count == 1 and "" or "s") end
  end
  if not host.rate_limit then
    note(#sorted.limit, "%d answer%s 429 without headers that tell the limit: here they are errors by chance, whatever "
      .. "the load; better say the limit: rate_limit = { rpm = ... }")
  end
  note(#sorted.hang, "%d request%s ran into the client's time limit: here they hang, for nobody knows when they would "
    .. "have been answered")
  note(#sorted.unreachable, "%d request%s found no address or failed in TLS: they do not count, for no law says that")
  note(#sorted.left, "%d request%s that the client gave up itself do not count")
  if #host.endpoints > 1 then
    notes[#notes + 1] = "a world has one latency a host: the mixture of its endpoints"
  end
  return notes
end

local function fit_host(name, entries, unix, random)
  local sorted, connects = sort_out(entries)
  local limit, assumed = quotas.of(entries, unix)
  local lost = resends(sorted)
  local reached = #entries + lost - #sorted.left - #sorted.refuse - #sorted.connect_hang - #sorted.unreachable
  -- The law asks in this order: limit, hang, drop, error. Each is a share of the rest.
  local rest = limit and reached - #sorted.limit or reached
  local not_hung = rest - #sorted.hang
  local dropped = #sorted.drop + lost
  local not_lost = not_hung - dropped
  local errors = sorted.error
  if not limit then
    errors = {}
    for _, outcome in ipairs { "error", "limit" } do
      for _, entry in ipairs(sorted[outcome]) do errors[#errors + 1] = entry end
    end
  end
  local tried = #connects + #sorted.refuse + #sorted.connect_hang
  local host = {
    host = name, requests = #entries, answers = #sorted.answer, limited = #sorted.limit, left = #sorted.left,
    rate_limit = limit, latency = fit_of(seconds_of(sorted.answer), random),
    hang = share(#sorted.hang, rest), drop = share(dropped, not_hung), dropped = dropped,
    errors = errors_of(errors, not_lost, unix, random),
    connect = fit_of(connects, random), refuse = share(#sorted.refuse, tried),
    connect_hang = share(#sorted.connect_hang, tried),
  }
  host.endpoints, host.more = endpoints_of(entries, random)
  host.notes = notes_of(host, sorted, assumed)
  return host
end

--- Fits all hosts of a tape. Raises one line when it has no request.
---@param tape neap.cassette.Tape
---@return neap.cassette.Fitted
function M.of(tape)
  if #tape.entries == 0 then error(tape.path .. ": has no requests to fit a world to", 0) end
  local generator = core.rng(1, 1)
  local function random() return generator:double() end
  local names, by_name = group(tape.entries, function(entry) return M.host(entry.origin) end)
  local self = setmetatable({ hosts = {}, seconds = 0 }, Fitted)
  for i, name in ipairs(names) do self.hosts[i] = fit_host(name, by_name[name], tape.unix, random) end
  local last = 0
  for _, entry in ipairs(tape.entries) do last = math.max(last, entry.arrived + entry.seconds) end
  self.seconds = last - tape.entries[1].start
  self.source = ("fitted from %s, %s requests, %s"):format(tape.path:match "[^/]+$" or tape.path,
    world_text.count(#tape.entries), tape.date)
  return self
end

--- A world file that has these laws, with comments that say how well they fit.
---@return string
function Fitted:world()
  return world_text.world(self)
end

--- The goodness of fit as lines for people.
---@return string
function Fitted:report()
  return world_text.report(self)
end

return M
