--- Reads a cassette: what was recorded, request by request, in the order in which they
--- were sent. The last line may be torn (a program that was killed); any other that is
--- not understood is an error with its place.
local base64 = require "neap.base64"
local json = require "neap.json"
local key = require "neap.cassette.key"
local recorder = require "neap.cassette.recorder"
local whole = require "neap.fs.whole"

local M = {}

---@class neap.cassette.Entry a request that was sent
---@field n integer
---@field start number seconds since the recording began
---@field method string
---@field url string without secrets
---@field origin string "https://host:port"
---@field endpoint string "GET /items/{n}"
---@field key string method, url and body hash
---@field status integer? nil: no answer
---@field headers table<string, string|string[]>
---@field mark string? of the url, where secrets were removed from it
---@field sends integer times it went onto the wire; all but the last one were lost
---@field lost number seconds that a send took that was lost
---@field body string? nil: not kept
---@field body_left_out boolean? it was too long to be kept
---@field chunks {[1]: number, [2]: integer}[]? of a stream: seconds since the head, bytes
---@field timings table<string, number>? seconds by phase; nil: no answer
---@field error {kind: string, phase: string?, timeout: string?, sent: string?, after: number, queue: number?}?
---@field arrived number seconds since the recording began, when the server had all of it (without an answer: when
---  it left the client's own line)
---@field seconds number that the server took until the end of its answer; without one: that the client waited for it
---@field head number? seconds until the head of the answer

---@class neap.cassette.Tape
---@field path string
---@field date string "2026-11-23"
---@field unix number Unix time at which the recording began
---@field neap string the version that recorded it
---@field bodies "all"|"none"
---@field entries neap.cassette.Entry[]
---@field torn boolean its last line was cut off

local NUMBERS = { "queue", "dns", "connect", "tls", "send", "first_byte", "download", "total" }

local function is_amount(value)
  return type(value) == "number" and value >= 0 and value < math.huge
end

local function chunks_problem(chunks)
  if chunks == nil then return nil end
  if type(chunks) ~= "table" then return "chunks must be a list" end
  for i = 1, #chunks do
    local chunk = chunks[i]
    if type(chunk) ~= "table" or not is_amount(chunk[1]) or not is_amount(chunk[2]) then
      return ("chunks: entry %d must be [seconds, bytes]"):format(i)
    end
  end
end

--- What is wrong with a line's fields, or nil.
local function problem(row)
  if not is_amount(row.n) or not is_amount(row.start) then return "needs n and start, numbers" end
  if type(row.method) ~= "string" or type(row.url) ~= "string" then return "needs method and url, texts" end
  if not row.url:find "^https?://" or not key.origin(row.url) then
    return ("'%s' is no http address"):format(row.url)
  end
  for _, name in ipairs { "body_hash", "body", "body_base64", "url_mark" } do
    if row[name] ~= nil and type(row[name]) ~= "string" then return name .. " must be a text" end
  end
  if row.status == nil and type(row.error) ~= "table" then return "needs a status or an error" end
  if row.status ~= nil then
    if not is_amount(row.status) or row.status % 1 ~= 0 or row.status < 100 or row.status > 599 then
      return "status must be a whole number from 100 to 599"
    end
    if type(row.headers) ~= "table" or type(row.timings) ~= "table" then
      return "an answer needs headers and timings"
    end
    for _, name in ipairs(NUMBERS) do
      if not is_amount(row.timings[name]) then return ("timings.%s must be a number of seconds"):format(name) end
    end
  end
  if row.error ~= nil and (type(row.error.kind) ~= "string" or not is_amount(row.error.after)) then
    return "an error needs kind and after, the seconds until it"
  end
  if row.sends ~= nil and not is_amount(row.sends) then return "sends must be a number" end
  return chunks_problem(row.chunks)
end

local function body_of(row)
  if row.body_base64 then return (base64.decode(row.body_base64)) end
  if row.body then return row.body end
  if row.response_bytes == 0 then return "" end
end

---@return neap.cassette.Entry
local function entry_of(row)
  local timings, err = row.timings, row.error
  local entry = {
    n = row.n, start = row.start, method = row.method, url = row.url, origin = key.origin(row.url),
    endpoint = key.endpoint(row.method, row.url), key = key.of(row.method, row.url, row.body_hash),
    status = row.status, headers = row.headers or {}, body = body_of(row), chunks = row.chunks,
    timings = timings, error = err, arrived = row.start, mark = row.url_mark, sends = math.max(1, row.sends or 1),
    body_left_out = row.body_left_out,
  }
  local lost = 0
  if err then
    local queue = is_amount(err.queue) and math.min(err.queue, err.after) or 0
    entry.arrived = row.start + queue
    -- All its sends together: an even share each.
    entry.seconds = (err.after - queue) / entry.sends
    lost = entry.seconds
  end
  if timings then
    entry.arrived = row.start + timings.queue + timings.dns + timings.connect + timings.tls + timings.send
    entry.head = timings.first_byte
    entry.seconds = timings.first_byte + timings.download
    lost = (timings.total - (entry.arrived - row.start) - entry.seconds) / math.max(1, entry.sends - 1)
  end
  entry.lost = math.max(0, lost)
  return entry
end

local function check_header(path, row)
  if type(row) ~= "table" or row.neap_cassette == nil then
    return nil, path .. ":1: is no cassette of neap run --record"
  end
  if row.neap_cassette ~= recorder.VERSION then
    return nil, ("%s:1: is a cassette of version %s; this neap reads version %d"):format(path,
      tostring(row.neap_cassette), recorder.VERSION)
  end
  if type(row.date) ~= "string" or not is_amount(row.unix) then return nil, path .. ":1: needs date and unix" end
  return { path = path, date = row.date:sub(1, 10), unix = row.unix, neap = tostring(row.neap),
    bodies = row.bodies == "none" and "none" or "all", entries = {}, torn = false }
end

--- Reads a line of a request; what is wrong with it, and whether it is no JSON.
local function read_line(tape, text)
  if not text:find "%S" then return nil end
  local row, err = json.decode(text)
  if type(row) ~= "table" then return err and err.message or "is no JSON object", true end
  local message = problem(row)
  if message then return message end
  tape.entries[#tape.entries + 1] = entry_of(row)
end

--- Takes a text's lines apart; what comes after the last line end may be torn.
local function read_lines(path, text)
  if text == "" then return nil end
  local stop = text:find("\n", 1, true) or #text + 1
  local tape, message = check_header(path, (json.decode(text:sub(1, stop - 1))))
  if not tape then return nil, message end
  local number = 1
  while stop < #text do
    local at = stop + 1
    number = number + 1
    stop = text:find("\n", at, true) or #text + 1
    local wrong, broken = read_line(tape, text:sub(at, stop - 1))
    if broken and stop > #text then
      tape.torn = true
    elseif wrong then
      return nil, ("%s:%d: %s"):format(path, number, wrong)
    end
  end
  return tape
end

--- What a text says.
---@param path string for messages
---@param text string
---@return neap.cassette.Tape? tape
---@return string? message one line: "cassette.jsonl:3: ..."
function M.parse(path, text)
  local tape, message = read_lines(path, text)
  if not tape then return nil, message or path .. ": is empty" end
  table.sort(tape.entries, function(a, b) return a.n < b.n end)
  return tape
end

--- What a file says. Never waits.
---@param path string
---@return neap.cassette.Tape? tape
---@return string? message one line
function M.read(path)
  local text, message = whole.read(path)
  if not text then return nil, message end
  return M.parse(path, text)
end

return M
