--- Records what a program sends and what comes back. A recording puts itself between
--- neap.http's clients and the core's (`http.on_client`), for clients that are made
--- while it is on; each send, redirects and retries included, becomes a line of JSON
--- when it is over. docs/cassette.md has the format.
local base64 = require "neap.base64"
local core = require "neap.core"
local errors = require "neap.error"
local flow = require "neap.flow"
local fs = require "neap.fs"
local http = require "neap.http"
local json = require "neap.json"
local key = require "neap.cassette.key"
local redact = require "neap.cassette.redact"
local scope = require "neap.scope"
local uv = require "neap.uv"

local floor = math.floor
local now = core.now

local M = {}

--- The format's version.
M.VERSION = 1

local MAX_BODY = 16 * 2 ^ 20 -- bytes of an answer that are kept; beyond that none is
local SORTED = { sort_keys = true }

---@class neap.cassette.Recording
---@field path string
---@field requests integer sends so far
---@field bodies "all"|"none"
---@field failed? neap.Error why nothing more is written
---@field package file neap.fs.File
---@field package lines string[] not yet written
---@field package turn neap.Semaphore who writes
---@field package writer neap.Task?
---@field package open table<integer, table> streams that are still being read, by number
---@field package secrets neap.cassette.Secrets known so far
---@field package stopped boolean?
local Recording = {}
Recording.__index = Recording

--- Whole nanoseconds: there is no more in them.
local function round(seconds)
  return floor(seconds * 1e9 + 0.5) / 1e9
end

-- -- Writing ------------------------------------------------------------------

local function flush(self)
  while #self.lines > 0 and not self.failed do
    local text = table.concat(self.lines)
    self.lines = {}
    local ok, err = self.file:write(text)
    if not ok then self.failed = err end
  end
end

local function write_out(self)
  self.turn:with(scope.shield, flush, self)
  self.writer = nil
end

function Recording:write(line)
  if self.failed then return end
  self.lines[#self.lines + 1] = line .. "\n"
  if not self.writer then self.writer = core.spawn_detached(write_out, self) end
end

-- -- Lines --------------------------------------------------------------------

local function content_type(list)
  for i = 1, #list, 2 do
    if list[i]:lower() == "content-type" then return list[i + 1] end
  end
end

--- What the entry's request carries is known before its answer, and those of others.
local function learn(self, entry)
  local body = entry.sent
  if body and #body > MAX_BODY then body = body:sub(1, MAX_BODY) end
  self.secrets:learn(entry.url, entry.list, entry.names, body, body and content_type(entry.list))
  entry.generation = self.secrets.generation
end

--- A request is about to be sent.
local function begin(self, names, method, url, list, body)
  self.requests = self.requests + 1
  local entry = { n = self.requests, at = now(), method = method, url = url, list = list or {}, names = names,
    sent = body }
  learn(self, entry)
  return entry
end

local function put_body(self, row, body, length)
  row.response_bytes = length
  if self.bodies == "none" or length == 0 then return end
  if length > MAX_BODY then
    row.body_left_out = true
    return
  end
  body = redact.body(body, self.secrets)
  if core.utf8_clean(body) == body then
    row.body = body
  else
    row.body_base64 = base64.encode(body)
  end
end

local function timings_of(raw)
  local timings = core.http_timings(raw)
  timings.pace = nil -- not the request's
  for phase, seconds in pairs(timings) do timings[phase] = round(seconds) end
  return timings
end

local function put_answer(self, row, entry, res)
  row.status, row.version, row.sends = res.status, res.version, res.sends
  row.headers = redact.headers(core.http_headers(res.raw), self.secrets, entry.names)
  row.timings = timings_of(res.raw)
  local chunks = entry.chunks
  if not chunks then return put_body(self, row, res.body, #res.body) end
  row.chunks = json.array(entry.times)
  put_body(self, row, table.concat(chunks), entry.received)
end

local function put_error(row, entry, err)
  if errors.is(err) then
    row.error = { kind = err.kind, phase = err.phase, timeout = err.timeout, sent = err.sent,
      retryable = err.retryable, queue = err.queue and round(err.queue) }
    row.sends = row.sends or err.sends
  else
    row.error = { kind = "internal" }
  end
  row.error.after = round(now() - entry.at)
end

--- It is over: an answer, an error, or an answer that broke off.
local function note(self, entry, res, err)
  if self.stopped or entry.noted then return end
  entry.noted = true
  self.open[entry.n] = nil
  local kind = content_type(entry.list)
  local parts = entry.parts and entry.parts[1]
  if parts then entry.sent = table.concat(entry.parts) end
  if parts or entry.generation ~= self.secrets.generation then learn(self, entry) end
  local url = redact.scrub(key.url(entry.url), self.secrets)
  local row = { n = entry.n, start = round(entry.at - self.began), method = entry.method, url = url,
    url_mark = key.mark(entry.url, url) }
  if entry.sent then
    row.body_hash = key.body_hash(entry.sent, kind, entry.sent_bytes)
    row.request_bytes = entry.sent_bytes or #entry.sent
  end
  if res then put_answer(self, row, entry, res) end
  if err then put_error(row, entry, err) end
  local line, problem = json.encode(row, SORTED)
  if line then
    self:write(line)
  else
    self.failed = problem
  end
end

-- -- In the place of the core's client ----------------------------------------

local Call = {}
Call.__index = Call

--- Calls a method of the call; a raised error, a cancel mostly, ends the record too.
local function guarded(call, method, ...)
  local ok, result, err = pcall(call.native[method], call.native, ...)
  if ok then return result, err end
  note(call.recording, call.entry, call.res, result)
  error(result, 0)
end

function Call:head()
  local res, err = guarded(self, "head")
  if not res then
    note(self.recording, self.entry, nil, err)
    return nil, err
  end
  self.res, self.entry.head_at = res, now()
  return res
end

function Call:read()
  local chunk, err = guarded(self, "read")
  local entry = self.entry
  if not chunk then
    note(self.recording, entry, self.res, err)
    return nil, err
  end
  entry.received = entry.received + #chunk
  entry.times[#entry.times + 1] = { round(now() - (entry.head_at or entry.at)), #chunk }
  if entry.received <= MAX_BODY and self.recording.bodies == "all" then
    entry.chunks[#entry.chunks + 1] = chunk
  elseif entry.chunks[1] then
    entry.chunks = {}
  end
  return chunk
end

function Call:write(chunk)
  local entry = self.entry
  local bytes = entry.sent_bytes or 0
  if bytes < key.MAX_CANONICAL then entry.parts[#entry.parts + 1] = chunk end
  entry.sent_bytes = bytes + #chunk
  return guarded(self, "write", chunk)
end

function Call:finish() return self.native:finish() end

local LEFT = errors.new { kind = "closed", phase = "download", sent = "yes", message = "the stream was left" }

--- Whoever closes a stream before its end has left it.
function Call:close()
  self.native:close()
  note(self.recording, self.entry, self.res, LEFT)
end

local Native = {}
Native.__index = Native

function Native:send(method, url, list, body, spec)
  local recording = self.recording
  if recording.stopped then return self.native:send(method, url, list, body, spec) end
  local entry = begin(recording, self.names, method, url, list, body)
  local ok, res, err = pcall(self.native.send, self.native, method, url, list, body, spec)
  if not ok then
    note(recording, entry, nil, res)
    error(res, 0)
  end
  note(recording, entry, res, err)
  return res, err
end

function Native:open(method, url, list, body, spec)
  local recording = self.recording
  if recording.stopped then return self.native:open(method, url, list, body, spec) end
  local entry = begin(recording, self.names, method, url, list, type(body) == "string" and body or nil)
  entry.chunks, entry.times, entry.parts, entry.received = {}, {}, {}, 0
  local call = setmetatable({ native = self.native, recording = recording, entry = entry }, Call)
  local native, err = guarded(call, "open", method, url, list, body, spec)
  if not native then
    note(recording, entry, nil, err)
    return nil, err
  end
  call.native = native
  recording.open[entry.n] = call
  return call
end

function Native:close() return self.native:close() end

function Native:stats() return self.native:stats() end

-- -- On and off ----------------------------------------------------------------

local function header(self)
  return json.encode({ neap_cassette = M.VERSION, neap = core.versions.neap, seed = core.seed(), bodies = self.bodies,
    unix = round(core.time()), date = os.date("!%Y-%m-%dT%H:%M:%SZ", floor(core.time())) }, SORTED)
end

--- Whether a file begins as cassettes do: nothing else is replaced.
local function is_cassette(path)
  local file = fs.open(path, "r")
  if not file then return true end -- it cannot be read, and whether it can be removed will be seen
  local head = file:read(512)
  file:close()
  return type(head) == "string" and head:find '^{[^\n]*"neap_cassette":' ~= nil
end

--- A new file that its owner only can read. A file that is there is replaced, for it
--- would keep its mode; what is not a plain file of this user's is written to as it is.
local function open_private(path)
  local stat = fs.lstat(path)
  if stat and stat.type == "directory" then return fs.open(path, "w") end -- says why not
  if stat and (stat.type ~= "file" or stat.uid ~= uv.getuid()) then
    core.log("warning", ("the cassette '%s' is not a plain file of this user's: who may read it is not up to neap")
      :format(path))
    return fs.open(path, "w", { mode = "600" })
  end
  if stat then
    if stat.size > 0 and not is_cassette(path) then
      return nil, errors.new { kind = "invalid",
        message = ("'%s' is there already and is no cassette; give another name, or remove it"):format(path) }
    end
    local ok, err = fs.remove(path)
    if not ok and err.code ~= "ENOENT" then return nil, err end
  end
  return fs.open(path, "wx", { mode = "600" })
end

--- Begins a recording into a new file. Waits.
---@param path string
---@param bodies "all"|"none"
---@return neap.cassette.Recording? recording
---@return neap.Error? err the file cannot be written; "invalid": one is on already
function M.start(path, bodies)
  if http.on_client then
    return nil, errors.new { kind = "invalid", message = "there is a recording already; stop it first" }
  end
  local file, err = open_private(path)
  if not file then return nil, err end
  local self = setmetatable({ path = path, bodies = bodies, requests = 0, began = now(), file = file, lines = {},
    turn = flow.semaphore(1), open = {}, secrets = redact.memory() }, Recording)
  self:write(header(self))
  function http.on_client(native, names)
    return setmetatable({ native = native, recording = self, names = names }, Native)
  end
  return self
end

local function finish(self)
  local numbers = {}
  for n in pairs(self.open) do numbers[#numbers + 1] = n end
  table.sort(numbers)
  for _, n in ipairs(numbers) do
    local call = self.open[n]
    note(self, call.entry, call.res, LEFT)
  end
  self.stopped, http.on_client = true, nil
  self.turn:with(flush, self)
  local ok, err = self.file:close()
  if self.failed then return nil, self.failed end
  return ok, err
end

--- Ends the recording: what is still being read is noted as left, all is written.
--- Clients go on without it. Again: nothing. Waits.
---@return true? ok
---@return neap.Error? err why the file is not whole
function Recording:stop()
  if self.stopped then return true end
  return scope.shield(finish, self)
end

return M
