--- A request as a handler of `neap.serve` sees it. What costs something (headers,
--- query, body) is read when it is first asked for.
local core = require "neap.core"
local headers = require "neap.http.headers"
local reply = require "neap.service.reply"
local sorted = require "neap.sorted"

local rawset, setmetatable, type = rawset, setmetatable, type

local M = {}

---@class neap.serve.Request
---@field id integer counts from 1 in order of arrival
---@field method string as sent
---@field target string the request target as sent: path, "?", query
---@field path string without the query, percent-decoded
---@field query table<string, string> decoded; of a repeated name the first value
---@field headers table<string, string> lower-case names, looked up in any case; repeated ones joined by ", "
---@field body string whole; "" when there is none
---@field remote string the client's IP address
---@field remote_port integer
---@field arrived number when the headers were in, in seconds of `neap.now()`
---@field server neap.serve.Server
---@field package raw userdata
---@field package responded boolean?
local Request = {}

local function unescape(text)
  return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

local function unescape_form(text)
  return unescape((text:gsub("%+", " ")))
end

local function each_parameter(text)
  local next_pair = text:gmatch "[^&]+"
  return function()
    local pair = next_pair()
    if not pair then return nil end
    local name, value = pair:match "^([^=]*)=?(.*)$"
    return unescape_form(name), unescape_form(value)
  end
end

--- `a=1&b=2` as a table; of a repeated name the first value counts, a name
--- without "=" has the value "".
---@param text string
---@return table<string, string>
function M.parse_query(text)
  local query = {}
  for name, value in each_parameter(text) do
    if query[name] == nil then query[name] = value end
  end
  return query
end

--- The same with all values of each name, in order.
---@param text string
---@return table<string, string[]>
function M.parse_query_all(text)
  local query = {}
  for name, value in each_parameter(text) do
    local values = query[name] or {}
    values[#values + 1], query[name] = value, values
  end
  return query
end

local lazy = {}

function lazy.headers(request) return headers.view(request.raw:headers()) end
function lazy.body(request) return request.raw:body() end
function lazy.path(request) return unescape((request.target:gsub("?.*$", ""))) end
function lazy.query(request) return M.parse_query(request.target:match "%?(.*)$" or "") end

function lazy.remote(request)
  local address, port = request.raw:remote()
  rawset(request, "remote_port", port)
  return address
end

function lazy.remote_port(request)
  return select(2, request.raw:remote())
end

local metatable = {
  __name = "neap.serve.Request",
  __index = function(request, key)
    local read = lazy[key]
    if not read then return Request[key] end
    local value = read(request)
    rawset(request, key, value)
    return value
  end,
}

--- The request around the core's userdata.
---@param raw userdata
---@param server neap.serve.Server
---@return neap.serve.Request
function M.new(raw, server)
  local id, method, target, arrived = raw:line()
  return setmetatable({
    raw = raw, server = server, id = id, method = method, target = target, arrived = arrived,
    responded = false,
  }, metatable)
end

--- Every value of one header, in order of arrival.
---@param name string in any case
---@return string[]
function Request:header_values(name)
  return headers.values(self.raw:headers(), name)
end

--- The body decoded as JSON. Never waits.
---@return any value, neap.Error? err kind "decode"
function Request:json()
  return require("neap.json").decode(self.body)
end

---@class neap.serve.Writer
---@field package raw userdata
---@field package closed boolean?
local Writer = {}
Writer.__index = Writer

--- Sends the next part of the body. Waits while more than 64 KB are unsent.
---@param chunk string
---@return true? ok, neap.Error? err kind "closed" when the client has left
function Writer:write(chunk)
  if self.closed then error("writer:write: the writer is closed", 2) end
  return self.raw:write(chunk)
end

--- Sends one server-sent event (`retry` in seconds), or just its data. Waits like `write`.
---@param event string|{data: string, event?: string, id?: string, retry?: number}
---@return true? ok, neap.Error? err kind "closed" when the client has left
function Writer:event(event)
  return self:write(reply.event(event))
end

--- Ends the body. Never waits. The handler's return does it too.
function Writer:close()
  self.closed = true
  self.raw:finish()
end

local function mark(request, what)
  if request.responded then error(what .. ": this request is answered already", 3) end
  request.responded = true
end

local function is_unknown(key) return key ~= "status" and key ~= "headers" end

--- Starts an answer whose body is written piece by piece. Never waits. A
--- Content-Length header is kept, else the body is sent in chunks.
---@param answer? {status?: integer, headers?: table<string, string|number|string[]>}
---@return neap.serve.Writer? writer, neap.Error? err kind "closed" when the client has left
function Request:respond(answer)
  answer = answer or {}
  if type(answer) ~= "table" then error("request:respond: expected a table", 2) end
  for key in pairs(answer) do
    if is_unknown(key) then
      error(("request:respond: field '%s' is unknown"):format(tostring(sorted.first(answer, is_unknown))), 2)
    end
  end
  local flat, length = reply.headers("request:respond", answer.headers)
  mark(self, "request:respond")
  local ok, err = self.raw:stream(answer.status or 200, flat, length)
  if not ok then return nil, err end
  local writer = setmetatable({ raw = self.raw }, Writer)
  rawset(self, "writer", writer)
  return writer
end

--- Whether the client has left; asks the socket. Never waits.
---@return boolean
function Request:disconnected()
  return self.raw:disconnected()
end

--- Waits until the client has left. The connection is closed then.
---@param timeout? number seconds; none: for ever
---@return true? ok, neap.Error? err kind "timeout"
function Request:wait_disconnect(timeout)
  return self.raw:wait_disconnect(timeout)
end

--- Resets the connection (TCP RST) instead of an answer, or in its middle. Never
--- waits.
function Request:drop()
  self.responded = true
  self.raw:drop()
end

--- Never answers: waits until the client has left.
function Request:hang()
  mark(self, "request:hang")
  self.raw:wait_disconnect()
end

--- Seconds since the headers were in.
---@return number
function Request:age()
  return core.now() - self.arrived
end

return M
