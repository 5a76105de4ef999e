--- A raw HTTP/1.1 server on luv that does what a spec tells it, byte by byte: for
--- what no decent server would do. Runs in the test's own loop.
local uv = require "neap.uv"

local M = {}

---@class spec.BadRequest
---@field method string
---@field target string
---@field headers table<string, string> lower-case names
---@field head string the raw head
---@field body string
---@field connection integer the number of its connection, from 1
---@field n integer which request on that connection, from 1

---@class spec.BadConnection
---@field number integer
---@field requests integer complete ones so far
---@field closed boolean
---@field on_bytes? fun(bytes: string) takes all further bytes as they are
local Connection = {}
Connection.__index = Connection

--- Sends raw bytes.
function Connection:write(bytes)
  if not self.closed then self.socket:write(bytes) end
  return self
end

--- Ends the connection after what was written (FIN).
function Connection:close()
  if self.closed then return end
  self.closed = true
  self.socket:shutdown(function()
    if not self.socket:is_closing() then self.socket:close() end
  end)
  self.server.open[self] = nil
end

--- Ends the connection with a reset (RST), dropping what was not sent.
function Connection:reset()
  if self.closed then return end
  self.closed = true
  self.server.open[self] = nil
  self.socket:close_reset()
end

--- Calls `fn` in `seconds`, unless the connection is closed by then.
function Connection:after(seconds, fn)
  local timer = uv.new_timer()
  timer:start(math.ceil(seconds * 1000), 0, function()
    timer:close()
    if not self.closed then fn() end
  end)
end

--- Sends a decent response.
---@param status integer
---@param body string
---@param headers? string[] lines
function Connection:respond(status, body, headers)
  local lines = { ("HTTP/1.1 %d Whatever"):format(status), "Content-Length: " .. #body }
  for _, line in ipairs(headers or {}) do lines[#lines + 1] = line end
  return self:write(table.concat(lines, "\r\n") .. "\r\n\r\n" .. body)
end

--- The body at the start of `rest` and the bytes it takes; nil: not all there.
local function take_body(headers, rest)
  if (headers["transfer-encoding"] or ""):lower() == "chunked" then
    local at, parts = 1, {}
    while true do
      local size, from = rest:match("^(%x+)[^\r]*\r\n()", at)
      if not size then return nil end
      local length = tonumber(size, 16)
      if #rest < from + length + 1 then return nil end
      parts[#parts + 1] = rest:sub(from, from + length - 1)
      at = from + length + 2
      if length == 0 then return table.concat(parts), at - 1 end
    end
  end
  local length = tonumber(headers["content-length"] or 0)
  if #rest < length then return nil end
  return rest:sub(1, length), length
end

local function parse(buffer)
  local head, from = buffer:match "^(.-\r\n)\r\n()"
  if not head then return nil end
  local request = { head = head, headers = {} }
  request.method, request.target = head:match "^(%S+) (%S+)"
  for name, value in head:gmatch "\n([^:\r\n]+):[ \t]*([^\r\n]*)" do
    local key = name:lower()
    local old = request.headers[key]
    request.headers[key] = old and old .. ", " .. value or value
  end
  local rest = buffer:sub(from)
  local body, used = take_body(request.headers, rest)
  if not body then return nil, request end
  request.body = body
  return request, nil, rest:sub(used + 1)
end

function Connection:feed(bytes)
  local server = self.server
  server.received = server.received + #bytes
  self.buffer = self.buffer .. bytes
  while not self.closed and not self.on_bytes do
    local request, head_only, rest = parse(self.buffer)
    if head_only and not self.head_seen and server.on_head then
      self.head_seen = true
      server.on_head(self, head_only)
    end
    if not request then break end
    self.buffer, self.head_seen = rest, false
    self.requests = self.requests + 1
    request.connection, request.n = self.number, self.requests
    server.requests[#server.requests + 1] = request
    if server.on_request then server.on_request(self, request) end
  end
end

---@class spec.BadServer
---@field url string
---@field port integer
---@field requests spec.BadRequest[] complete ones, in order of arrival
---@field connections integer accepted so far
---@field received integer bytes
---@field open table<spec.BadConnection, true>
local Server = {}
Server.__index = Server

local function accept(self)
  local socket = uv.new_tcp()
  self.listener:accept(socket)
  self.connections = self.connections + 1
  local connection = setmetatable({
    server = self, socket = socket, number = self.connections,
    buffer = "", requests = 0, closed = false, head_seen = false,
  }, Connection)
  self.open[connection] = true
  if self.on_connect then self.on_connect(connection) end
  if connection.closed or self.deaf then return end
  socket:read_start(function(err, bytes)
    if bytes then
      if connection.on_bytes then return connection.on_bytes(bytes) end
      return connection:feed(bytes)
    end
    connection.ended = err or "eof"
    if self.on_end then self.on_end(connection) end
    if not connection.closed then
      connection.closed = true
      self.open[connection] = nil
      if not socket:is_closing() then socket:close() end
    end
  end)
end

--- Starts a server on a free loopback port. `handlers.request(connection, request)`
--- is called for each complete request, `connect(connection)` for each
--- connection, `head(connection, request)` when a head is there before its body,
--- `ended(connection)` when the client has left. With `deaf`, nothing is ever read.
---@param handlers {request: function?, connect: function?, head: function?, ended: function?, deaf: boolean?}|function
---@return spec.BadServer
function M.start(handlers)
  if type(handlers) == "function" then handlers = { request = handlers } end
  local listener = uv.new_tcp()
  assert(listener:bind("127.0.0.1", 0))
  local port = listener:getsockname().port
  local self = setmetatable({
    listener = listener, port = port, url = "http://127.0.0.1:" .. port,
    requests = {}, connections = 0, received = 0, open = {},
    on_request = handlers.request, on_connect = handlers.connect, on_head = handlers.head,
    on_end = handlers.ended, deaf = handlers.deaf,
  }, Server)
  assert(listener:listen(1024, function(err)
    assert(not err, err)
    accept(self)
  end))
  return self
end

--- How many connections are open now.
function Server:open_count()
  local count = 0
  for _ in pairs(self.open) do count = count + 1 end
  return count
end

--- Stops listening and resets what is open.
function Server:close()
  if not self.listener:is_closing() then self.listener:close() end
  local open = {}
  for connection in pairs(self.open) do open[#open + 1] = connection end
  for _, connection in ipairs(open) do connection:reset() end
end

--- A port that nobody listens on.
---@return integer
function M.free_port()
  local socket = uv.new_tcp()
  assert(socket:bind("127.0.0.1", 0))
  local port = socket:getsockname().port
  socket:close()
  return port
end

---@class spec.FullServer
---@field port integer
---@field close fun(self: spec.FullServer)

--- A listening socket whose backlog is full: connecting to it hangs. Waits.
---@return spec.FullServer
function M.full()
  local neap = require "neap"
  local listener = uv.new_tcp()
  assert(listener:bind("127.0.0.1", 0))
  local port = listener:getsockname().port
  assert(listener:listen(1, function() end)) -- never accepts
  local sockets = {}
  for i = 1, 6 do
    sockets[i] = uv.new_tcp()
    sockets[i]:connect("127.0.0.1", port, function() end)
    neap.sleep(0.01) -- one at a time: of a burst, some are dropped before it is full
  end
  return {
    port = port,
    close = function()
      for _, socket in ipairs(sockets) do socket:close() end
      listener:close()
    end,
  }
end

return M
