--- One recorded host, answering as it did. The law of worlds decides about rate limits,
--- injected failures and the line at the servers; what remains an answer is taken from
--- the recording: the n-th request of the same method, url and body gets what the n-th
--- got then. Past the recording an entry of the same endpoint is drawn.
local core = require "neap.core"
local fit = require "neap.cassette.fit"
local key = require "neap.cassette.key"
local laws = require "neap.world.law"
local rates = require "neap.rate_headers"
local readers = require "neap.world.answers"
local redact = require "neap.cassette.redact"
local sorted = require "neap.sorted"
local statistics = require "neap.world.stats"
local streams = require "neap.world.streams"

local floor, max = math.floor, math.max

local M = {}

local MIN_DOWNLOAD = 0.001 -- seconds; a shorter one is not told apart from the head

--- Of an answer, but not of another one with the same body.
local NOT_KEPT = { ["content-length"] = true, ["content-encoding"] = true, ["transfer-encoding"] = true,
  connection = true, ["keep-alive"] = true, date = true }

---@class neap.cassette.Upstream
---@field host string as a world names it
---@field origin string
---@field stats neap.world.Stats
---@field law neap.world.Law
---@field counts neap.cassette.Counts
---@field servers integer? of load model mm-c
---@field rate_limit neap.world.RateLimit?
---@field package spec neap.world.LawSpec
---@field package takes_tokens boolean
---@field package by_key table<string, neap.cassette.Entry[]> by what was recorded, and by that and the url's mark
---@field package opened neap.cassette.Opening[] new connections, in order of time
---@field package pools table<string, neap.cassette.Entry[]> by endpoint
---@field package pool neap.cassette.Entry[]
---@field package secrets neap.cassette.Secrets of what was sent so far
local Upstream = {}
Upstream.__index = Upstream

---@class neap.cassette.Counts
---@field recorded integer answered as the recording has it
---@field past integer drawn: more of this request than were recorded
---@field unknown integer drawn from other endpoints: none of this one was recorded
---@field unfinished integer drawn: when it would have been answered was not recorded
---@field limited integer
---@field injected integer
---@field failed_connects integer connections that failed as recorded
---@field empty integer answers whose bodies were too long to be kept

---@class neap.cassette.Opening what became of a new connection
---@field at number seconds since the recording began
---@field entry neap.cassette.Entry
---@field how "stands"|"refused"|"hang"|"dns"|"tls"

--- Most requests at a time; ends come before starts.
local function most_at_once(entries)
  local events = {}
  for _, entry in ipairs(entries) do
    events[#events + 1] = { entry.arrived, 1 }
    events[#events + 1] = { entry.arrived + entry.seconds, -1 }
  end
  table.sort(events, function(a, b)
    if a[1] ~= b[1] then return a[1] < b[1] end
    return a[2] < b[2]
  end)
  local open, most = 0, 1
  for _, event in ipairs(events) do
    open = open + event[2]
    most = max(most, open)
  end
  return most
end

local function push(lists, name, entry)
  lists[name] = lists[name] or {}
  table.insert(lists[name], entry)
end

local FAILED = { refuse = "refused", connect_hang = "hang" }

--- How a request's connection came about; nil: it had one that was there.
local function opening(entry, outcome)
  if outcome == "unreachable" then return entry.error.kind end
  return FAILED[outcome] or fit.connect_seconds(entry) and "stands"
end

--- A send that was lost, and made again by libcurl unseen.
local function lost_send(entry)
  return { error = { kind = "receive", phase = "first_byte", sent = "maybe", after = entry.lost }, seconds = entry.lost,
    endpoint = entry.endpoint }
end

local function note_entry(self, entry)
  local lists = { entry.key, entry.mark and entry.key .. " " .. entry.mark }
  for _, name in ipairs(lists) do
    for _ = 2, entry.sends do push(self.by_key, name, lost_send(entry)) end
    push(self.by_key, name, entry)
  end
end

--- Puts each entry where it will be found again.
local function sort_in(self, entries)
  for _, entry in ipairs(entries) do
    local outcome = fit.outcome(entry)
    local how = opening(entry, outcome)
    if how then self.opened[#self.opened + 1] = { at = entry.arrived, entry = entry, how = how } end
    if outcome == "refuse" or outcome == "connect_hang" or outcome == "unreachable" then
      self.failures = self.failures + 1 -- its request never came
    elseif outcome == "limit" and self.rate_limit then
      self.limit_body = self.limit_body or entry -- the law limits; this is what it says
    elseif not (outcome == "left" and entry.error.sent == "no") then
      self.served[#self.served + 1] = entry
      note_entry(self, entry)
      if outcome ~= "left" then
        push(self.pools, entry.endpoint, entry)
        self.pool[#self.pool + 1] = entry
      end
    end
  end
  table.sort(self.opened, function(a, b)
    if a.at ~= b.at then return a.at < b.at end
    return a.entry.n < b.entry.n
  end)
end

---@param origin string
---@param entries neap.cassette.Entry[]
---@param setting {rate_limit: neap.world.RateLimit?, errors: neap.world.ErrorRule[], drop: number?, hang: number?,
---  latency: number, unix: number, servers: integer|true|nil}
---@return neap.cassette.Upstream
function M.new(origin, entries, setting)
  local self = setmetatable({ host = fit.host(origin), name = fit.host(origin), origin = origin, by_key = {},
    pools = {}, pool = {}, opened = {}, served = {}, failures = 0, unix = setting.unix, latency = setting.latency,
    rate_limit = setting.rate_limit }, Upstream)
  sort_in(self, entries)
  local limit = setting.rate_limit
  self.takes_tokens = limit ~= nil and (limit.tpm or limit.tpd or limit.itpm or limit.otpm) ~= nil
  if setting.servers then
    self.servers = setting.servers == true and most_at_once(self.served) or setting.servers
  end
  self.spec = { rate_limit = limit, errors = setting.errors, drop = setting.drop, hang = setting.hang,
    capacity = self.servers, over = "queue", on_disconnect = "continue" }
  return self
end

--- Whether there is nothing to replay: limits at most, and requests that their client
--- left.
---@return boolean
function Upstream:is_silent()
  return #self.pool == 0 and self.failures == 0
end

--- Begins, or begins anew.
---@param now number seconds
---@param seed integer
function Upstream:start(now, seed)
  local source = streams.new(streams.host_seed(seed, self.host), core.rng)
  local law = laws.new(self.spec, function(name) return source:stream(name) end, now, core.time() - now)
  local decide = law.decide
  function law.decide(...)
    local fate = decide(...)
    if fate.kind == "answer" then
      self:play(fate)
    elseif fate.kind == "limit" then
      self.counts.limited = self.counts.limited + 1
    else
      self:inject(fate)
    end
    return fate
  end
  self.streams, self.law, self.stats, self.visits = source, law, statistics.new(now, false), {}
  self.secrets = redact.memory()
  self.draw, self.draw_connect, self.connections = source:stream "id", source:stream "connect", 0
  self.counts = { recorded = 0, past = 0, unknown = 0, unfinished = 0, limited = 0, injected = 0, failed_connects = 0,
    empty = 0 }
end

-- -- What is to come ----------------------------------------------------------

local function one_of(list, u)
  return list[floor(u * #list) + 1]
end

--- A request's url as the cassette would have it, and its mark.
local function url_of(self, request)
  local address, flat = self.origin .. request.target, {}
  for name, value in sorted.pairs(request.headers) do
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  self.secrets:learn(address, flat)
  local url = redact.scrub(key.url(address), self.secrets)
  return url, key.mark(address, url)
end

--- An injected failure takes as long as an answer of the endpoint.
---@package
function Upstream:inject(fate)
  self.counts.injected = self.counts.injected + 1
  local url = url_of(self, self.request)
  local pool = self.pools[key.endpoint(self.request.method, url)] or self.pool
  local entry = one_of(pool, self.draw())
  fate.latency = entry and entry.seconds * self.latency or 0
end

--- The recorded entry that a request gets, and how it was found; no entry where the host
--- never answered.
local function find(self, request)
  local url, mark = url_of(self, request)
  local name = key.of(request.method, url, key.body_hash(request.body, request.headers["content-type"]))
  -- With another secret than the recorded ones it is the n-th of those that look alike.
  if mark and self.by_key[name .. " " .. mark] then name = name .. " " .. mark end
  local visit = (self.visits[name] or 0) + 1
  self.visits[name] = visit
  local entries, u = self.by_key[name], self.draw()
  if entries and entries[visit] then return entries[visit], "recorded", u end
  local pool = self.pools[key.endpoint(request.method, url)]
  if pool then return one_of(pool, u), "past", u end
  return one_of(self.pool, u), "unknown", u
end

--- An answer of the same endpoint that took longer than the client waited; nil: none.
local function longer(self, entry, u)
  local list = {}
  for _, other in ipairs(self.pools[entry.endpoint] or {}) do
    if other.status and not other.error and other.seconds > entry.error.after then list[#list + 1] = other end
  end
  return one_of(list, u)
end

--- Turns the fate of an answer into what was recorded.
---@package
function Upstream:play(fate)
  local entry, how, u = find(self, self.request)
  local outcome = entry and fit.outcome(entry) or "hang"
  if entry and not entry.status and (outcome == "hang" or outcome == "left") then
    if how == "recorded" then how = "unfinished" end
    entry = longer(self, entry, u)
    outcome = entry and "answer" or "hang"
  end
  self.counts[how] = self.counts[how] + 1
  local scale = self.latency
  if outcome == "hang" or outcome == "drop" then
    fate.kind = outcome
    fate.endless = outcome == "hang" or nil
    fate.latency = entry and entry.seconds * scale or 0
    -- A connection that broke within the answer: what had come by then comes.
    if outcome == "drop" and entry.error.phase == "download" then
      fate.entry, fate.broken, fate.first_byte = entry, true, (entry.head or 0) * scale
    end
    return
  end
  if entry.body_left_out then self.counts.empty = self.counts.empty + 1 end
  fate.entry, fate.status, fate.latency = entry, entry.status, entry.seconds * scale
  if entry.chunks or entry.seconds - entry.head >= MIN_DOWNLOAD then fate.first_byte = entry.head * scale end
end

-- -- The contract of worlds ---------------------------------------------------

--- What becomes of a new connection: the n-th one is as the n-th that was recorded;
--- past those, one of them.
---@param now number seconds
---@return neap.world.Plan
function Upstream:connect(now)
  local _ = now
  local u = self.draw_connect()
  self.connections = self.connections + 1
  local made = self.opened[self.connections] or one_of(self.opened, u)
  if not made then return { seconds = 0 } end
  local timings, scale, how = made.entry.timings, self.latency, made.how
  if how == "stands" then
    return { seconds = (timings.dns + timings.connect + timings.tls) * scale, dns = timings.dns * scale,
      tls = timings.tls * scale }
  end
  self.counts.failed_connects = self.counts.failed_connects + 1
  return { seconds = made.entry.seconds * scale, refused = how == "refused", hang = how == "hang",
    fails = (how == "dns" or how == "tls") and how or nil }
end

---@param now number seconds
---@param request neap.sim.Request
---@return neap.world.Fate
function Upstream:arrive(now, request)
  local tokens, work = 0, nil
  if self.takes_tokens then
    local asked = readers.read(nil, request)
    tokens, work = asked and asked.tokens or readers.count(request.body), asked and asked.work
  end
  self.request = request
  self.streams:seek(request.operation, request.attempt)
  local fate = self.law:arrive(now, tokens, nil, work)
  self.streams:seek(nil)
  self.request = nil
  fate.arrived = now
  -- In a line nobody knows yet when it will be: there it just breaks.
  if fate.broken and fate.state == "serving" then
    fate.whole, fate.silent = fate.ends, math.huge
  elseif fate.broken then
    fate.first_byte = nil
  end
  fate.index = self.stats:arrive(nil, "/", nil, now)
  self.stats:note_peak(self.stats.open)
  if not fate.state then self.stats:finish(fate.index, fate.status or fate.kind, 0) end
  return fate
end

--- The headers of an entry as they are sent again; dates count from the recording.
local function headers_of(self, entry)
  local headers = {}
  for name, value in pairs(entry.headers) do
    local of_limits = self.rate_limit and name:find("ratelimit", 1, true)
    if not NOT_KEPT[name] and not of_limits then headers[name] = value end
  end
  local after = headers["retry-after"]
  if type(after) == "string" and not tonumber(after) then
    local seconds = rates.explicit_retry_after(entry.headers, self.unix + entry.arrived + entry.seconds)
    headers["retry-after"] = seconds and ("%d"):format(math.ceil(seconds)) or nil
  end
  return headers
end

local function chunks_of(self, entry)
  local chunks, at, body = {}, 1, entry.body or ""
  for i, chunk in ipairs(entry.chunks) do
    local stop = i == #entry.chunks and #body or at + chunk[2] - 1
    chunks[i] = { after = chunk[1] * self.latency, data = body:sub(at, stop) }
    at = stop + 1
  end
  return chunks
end

local function refusal(self, fate)
  local entry = fate.kind == "limit" and self.limit_body
  if entry then
    local headers = headers_of(self, entry)
    headers["retry-after"] = nil
    return { status = 429, headers = headers, body = entry.body or "" }
  end
  return { status = fate.status, headers = { ["content-type"] = "application/json" },
    body = ('{"error":{"status":%d}}'):format(fate.status) }
end

---@param now number seconds
---@param fate neap.world.Fate
---@return neap.world.Answer
function Upstream:answer(_, fate)
  local entry = fate.entry
  local answer
  if entry then
    answer = { status = entry.status or 200, headers = headers_of(self, entry) }
    if entry.chunks then answer.chunks = chunks_of(self, entry) else answer.body = entry.body or "" end
  else
    answer = refusal(self, fate)
  end
  self.law:add_headers(fate, answer.headers)
  return answer
end

---@param now number seconds
---@param fate neap.world.Fate
---@param gone? boolean its client has left
function Upstream:leave(now, fate, gone)
  self.law:leave(now, fate, gone)
  self.stats:finish(fate.index, gone and "disconnect" or fate.kind == "drop" and "drop" or fate.status or 200,
    now - fate.arrived)
end

return M
