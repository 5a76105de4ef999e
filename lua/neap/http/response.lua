--- What a response can do. The core makes the table with status, body, sends and raw;
--- everything else is worked out when it is first asked for.
local core = require "neap.core"
local error_module = require "neap.error"
local headers = require "neap.http.headers"
local lines = require "neap.http.lines"
local sse = require "neap.http.sse"

local M = {}

---@class neap.http.Timings seconds spent in each phase, all hops of a redirected call together
---@field queue number waiting for a connection of the pool
---@field pace number waiting for a rate limit
---@field dns number
---@field connect number
---@field tls number
---@field send number
---@field first_byte number from the request sent to the complete head
---@field download number
---@field total number

---@class neap.http.Response
---@field status integer
---@field headers table<string, string> lower-case names, looked up in any case; repeated ones joined by ", "
---@field body string? the whole body; nil while it is streamed
---@field version string "1.0", "1.1" or "2"
---@field sends integer times the call went onto the wire, redirect hops included
---@field url string the address that answered, after redirects
---@field timings neap.http.Timings
---@field replay_safe true? the request may be sent again without harm
---@field from_cache? "fresh"|"stale"|"shared"|"revalidated" not from a send of its own; see docs/api/cache.md
---@field package raw userdata? of one that the core made
---@field package flat string[]? the headers of one that was kept in a cache
---@field package call userdata? the transfer of a streamed body
---@field package earlier neap.http.Timings? of the hops before
---@field package max_body number? bytes that `read_all` may collect
---@field package body_read boolean?
local Response = {}

local lazy = {}

local PHASES = { "queue", "pace", "dns", "connect", "tls", "send", "first_byte", "download", "total" }

--- The headers in order of arrival: {name, value, ...}, names in lower case.
---@param res neap.http.Response
---@return string[]
function M.flat_headers(res)
  return rawget(res, "flat") or core.http_headers(res.raw)
end

--- The seconds of a response by itself, earlier hops left out.
---@param res neap.http.Response
---@return neap.http.Timings
function M.own_timings(res)
  local raw = rawget(res, "raw")
  if raw then return core.http_timings(raw) end
  local timings = {}
  for _, phase in ipairs(PHASES) do timings[phase] = 0 end
  return timings
end

function lazy.headers(res)
  local view = headers.view(M.flat_headers(res))
  rawset(res, "headers", view)
  return view
end

function lazy.version(res)
  local raw = rawget(res, "raw")
  return raw and core.http_version(raw)
end

function lazy.timings(res)
  local timings = M.own_timings(res)
  local earlier = rawget(res, "earlier")
  if earlier then M.add_timings(timings, earlier) end
  timings.pace = timings.pace + (rawget(res, "paced") or 0) -- neap.pace's note
  -- A stream's go on changing until it has ended.
  if not rawget(res, "call") then rawset(res, "timings", timings) end
  return timings
end

--- Adds the seconds of `more` to those of `timings`.
---@param timings neap.http.Timings
---@param more neap.http.Timings
function M.add_timings(timings, more)
  for phase, seconds in pairs(more) do timings[phase] = (timings[phase] or 0) + seconds end
end

--- Every value of one header, in order of arrival: for headers whose values hold
--- commas, such as Set-Cookie.
---@param name string in any case
---@return string[]
function Response:header_values(name)
  return headers.values(M.flat_headers(self), name)
end

--- The body decoded as JSON. Never waits. A streamed body must have been collected
--- by `read_all` first.
---@return any value, neap.Error? err kind "decode"
function Response:json()
  local body = rawget(self, "body")
  if body == nil then error("response:json: the body is streamed; call response:read_all() first", 2) end
  return require("neap.json").decode(body)
end

--- The next bytes of the body, decoded. Waits. A response that was not streamed
--- gives its whole body as one chunk.
---@return string? chunk nil at the end
---@return neap.Error? err why the body broke off
function Response:read()
  local call = rawget(self, "call")
  if call then return call:read() end
  if rawget(self, "body_read") then return nil end
  rawset(self, "body_read", true)
  local body = rawget(self, "body")
  if body ~= "" then return body end
end

--- Collects the rest of a streamed body, makes it `body` and returns it. Waits.
---@return string? body, neap.Error? err kind "too_large" beyond `max_body`, or why it broke off
function Response:read_all()
  local body = rawget(self, "body")
  if body then return body end
  local chunks, size, limit = {}, 0, rawget(self, "max_body")
  while true do
    local chunk, err = self:read()
    if err then return nil, err end
    if not chunk then break end
    size = size + #chunk
    if limit and size > limit then
      self:close()
      return nil, error_module.new {
        kind = "too_large", phase = "download", sent = "yes", sends = self.sends,
        message = ("the body is longer than %d bytes (max_body)"):format(limit),
      }
    end
    chunks[#chunks + 1] = chunk
  end
  body = table.concat(chunks)
  rawset(self, "body", body)
  return body
end

--- Reads one chunk for an iterator. A `for` loop is left when its iterator raises,
--- so nobody could read on: the transfer is closed.
local function read_or_raise(res)
  local ok, chunk, err = pcall(res.read, res)
  if ok and not err then return chunk end
  res:close()
  error(ok and err or chunk, 0)
end

--- Iterates over the body's chunks as they come. Waits; raises the error table when
--- the body breaks off. Leave early with `response:close()`.
---@return fun(): string?
function Response:chunks()
  return function() return read_or_raise(self) end
end

--- Iterates over what `feed` makes of the chunks; `finish` gives the last item.
local function iterate(res, feed, next_item, finish)
  local ended = false
  return function()
    while true do
      local item = next_item()
      if item ~= nil then return item end
      if ended then return nil end
      local chunk = read_or_raise(res)
      if chunk then
        local ok, err = pcall(feed, chunk)
        if not ok then
          res:close()
          error(err, 0)
        end
      else
        ended = true
        if finish then finish() end
      end
    end
  end
end

--- Iterates over the body's lines, without their LF or CRLF; a last line without
--- one counts. Waits; raises the error table when the body breaks off, kind
--- "too_large" for a line over 16 MB. Leave early with `response:close()`.
---@return fun(): string?
function Response:lines()
  local splitter = lines.new(false)
  local queue, first, last = {}, 1, 0
  local function emit(line)
    last = last + 1
    queue[last] = line
  end
  local function next_line()
    if first > last then
      first, last = 1, 0
      return nil
    end
    local line = queue[first]
    queue[first] = nil
    first = first + 1
    return line
  end
  return iterate(self, function(chunk) splitter:feed(chunk, emit) end, next_line, function()
    local rest = splitter:rest()
    if rest then emit(rest) end
  end)
end

--- Iterates over a stream of server-sent events. An event that the end cuts off is
--- dropped. The status is not looked at: check it first. Waits; raises the error
--- table when the body breaks off, kind "too_large" for an event over 16 MB. Leave
--- early with `response:close()`.
---@return fun(): neap.http.Event?
function Response:events()
  local parser = sse.new()
  return iterate(self, function(chunk) parser:feed(chunk) end, function() return parser:next() end)
end

--- Ends a streamed transfer at once; later reads give kind "closed". Idempotent,
--- never waits, does nothing to a response that was not streamed.
function Response:close()
  local call = rawget(self, "call")
  if call then call:close() end
end

local metatable = core.http_response_metatable

function metatable.__index(res, key)
  local method = Response[key]
  if method then return method end
  local compute = lazy[key]
  return compute and compute(res)
end

function metatable.__tostring(res)
  local body = rawget(res, "body")
  return ("http response %d (%s)"):format(res.status, body and #body .. " bytes" or "streamed")
end

--- Whether `value` is a response.
---@param value any
---@return boolean
function M.is(value)
  return getmetatable(value) == metatable
end

--- Whether its body is, or was, read in pieces.
---@param res neap.http.Response
---@return boolean
function M.is_stream(res)
  return rawget(res, "call") ~= nil or rawget(res, "body") == nil
end

--- A response made of what was kept of one: status, body, version, url, sends and
--- `flat`, its headers. The table becomes the response.
---@param fields table
---@return neap.http.Response
function M.of(fields)
  return setmetatable(fields, metatable)
end

return M
