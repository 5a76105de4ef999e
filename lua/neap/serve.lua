--- An HTTP server whose handler is a coroutine. See docs/api/serve.md.
---
---   local server = assert(neap.serve { port = 8080, handler = function(request)
---     neap.sleep(0.1)
---     return 200, { hello = request.query.name }
---   end })
---
--- libmicrohttpd parses and sends (runtime/net/server.c); here is what surrounds
--- a handler: a task for each request, its errors, and an orderly end.
local core = require "neap.core"
local errors = require "neap.error"
local options = require "neap.options"
local reply = require "neap.service.reply"
local requests = require "neap.service.request"
local scope = require "neap.scope"

---@class neap.serve.Finished what `on_finish` learns when the answer is out, or never will be
---@field outcome "sent"|"disconnected"|"dropped"
---@field arrived number when the headers were in, seconds of `neap.now()`
---@field duration number seconds from headers in to answer out

---@class neap.serve.Options
---@field handler fun(request: neap.serve.Request): integer|table|nil, string|table|nil, table|nil
---@field host? string an IP address or "localhost"; default "127.0.0.1"
---@field port? integer default 0: the system picks one
---@field max_body? integer bytes; more is answered 413; default 100 MB
---@field max_connections? integer more wait in the listen backlog; default 10,000
---@field max_concurrency? integer handlers at a time; default 1,000
---@field max_waiting? integer requests beyond that; more are answered 503; default 10,000
---@field idle_timeout? number seconds without traffic on a connection that no handler works for; 0: none; default 60
---@field on_error? fun(request: neap.serve.Request, err: any): integer|table|nil, string|table|nil, table|nil
---@field on_finish? fun(request: neap.serve.Request, finished: neap.serve.Finished) must not wait

local MAX = 2 ^ 31 - 1

local specs = {
  handler = { type = "function", required = true },
  host = { type = "string", default = "127.0.0.1" },
  port = { type = "integer", default = 0, min = 0, max = 65535 },
  max_body = { type = "integer", default = 100 * 1024 * 1024, min = 0, max = 2 ^ 53 },
  max_connections = { type = "integer", default = 10000, min = 1, max = MAX },
  max_concurrency = { type = "integer", default = 1000, min = 1, max = MAX },
  max_waiting = { type = "integer", default = 10000, min = 0, max = MAX },
  idle_timeout = { type = "number", default = 60, min = 0, max = MAX },
  on_error = { type = "function" },
  on_finish = { type = "function" },
}

---@class neap.serve.Server
---@field package raw userdata
---@field package options table
---@field package task neap.Task
---@field package pending table<integer, neap.serve.Request> for on_finish
---@field package bound_port integer
local Server = {}
Server.__index = Server

local xpcall = xpcall

--- Without the query, which may hold a secret.
local function log_error(request, err)
  local path = request.target:gsub("?.*$", "")
  core.log("error", ("serve: %s %s: %s\n%s"):format(request.method, path, tostring(err), err.traceback or ""))
end

--- xpcall's handler around a request's code: a cancel passes as it is, anything
--- else gets its traceback.
local function with_traceback(err)
  if errors.is(err, "cancelled") then return err end
  return errors.wrap(err, debug.traceback("", 2):gsub("^\n", ""))
end

local function send(request, ...)
  local raw = request.raw
  if request.responded then
    local writer = rawget(request, "writer")
    if writer and not writer.closed then writer:close() end
    return
  end
  local status, flat, body = reply.read(...)
  raw:reply(status, flat, body) -- a client who has left needs no answer
  request.responded = true
end

--- on_error hears of it, and may answer unless half an answer is out already.
local function ask_on_error(server, request, err, broken)
  local ok, failure = xpcall(function()
    local status, body, headers = server.options.on_error(request, err)
    if not broken and (status ~= nil or request.responded) then send(request, status, body, headers) end
  end, with_traceback)
  if errors.is(failure, "cancelled") then error(failure, 0) end
  if not ok then log_error(request, failure) end
end

--- The handler failed: that is logged, or on_error's business. Without an answer
--- it is a 500; in the middle of one the connection is broken off, lest the client
--- take half an answer for a whole one.
local function send_error(server, request, err)
  local writer = rawget(request, "writer")
  local broken = writer and not writer.closed
  if server.options.on_error then
    ask_on_error(server, request, err, broken)
  else
    log_error(request, err)
  end
  if broken then
    request.raw:abort()
  elseif not request.responded then
    send(request, 500, "internal server error\n")
  end
end

local function run_handler(server, request)
  send(request, server.options.handler(request))
end

--- In a scope of its own: a task that the handler has spawned and that fails is
--- this request's failure, not the server's. The answer goes out before such
--- tasks have ended.
local function answer(server, request)
  scope.scope(function()
    local ok, err = xpcall(run_handler, with_traceback, server, request)
    if not ok then error(err, 0) end -- a table by now, with its traceback
  end)
end

--- The task of one request.
local function handle(server, raw)
  local request = requests.new(raw, server)
  if server.pending then server.pending[request.id] = request end
  local ok, err = xpcall(answer, with_traceback, server, request)
  if not ok and not errors.is(err, "cancelled") then
    ok, err = xpcall(send_error, with_traceback, server, request, err)
  end
  if not ok then raw:abort() end -- cancelled: its work is in an unknown state
  raw:release()
  if not ok then error(err, 0) end
end

local function finished(server, id, outcome, arrived, done)
  local request = server.pending[id]
  server.pending[id] = nil
  local ok, err = xpcall(server.options.on_finish, with_traceback, request,
    { outcome = outcome, arrived = arrived, duration = done - arrived })
  if not ok then log_error(request, err) end
end

local function accept_loop(server, s)
  local raw = server.raw
  while true do
    local request, id, outcome, arrived, done = raw:accept()
    if request then
      s:spawn(handle, server, request)
    elseif request == nil then
      return
    elseif id then
      finished(server, id, outcome, arrived, done)
    end
  end
end

--- The server's task: ends when it was stopped and its last request has ended.
local function run(server)
  local ok, err = pcall(scope.scope, function(s) accept_loop(server, s) end)
  server.raw:close()
  if not ok then error(err, 0) end
end

--- The port that it listens on.
---@return integer
function Server:port()
  return self.bound_port
end

--- Its address, "http://127.0.0.1:8080".
---@return string
function Server:url()
  local host = self.options.host
  if host:find(":", 1, true) then host = "[" .. host .. "]" end
  return ("http://%s:%d"):format(host, self.bound_port)
end

--- Counts: connections (open), running (handlers), waiting (requests beyond
--- max_concurrency), requests (handed to handlers so far), refused (413, 503).
---@return {connections: integer, running: integer, waiting: integer, requests: integer, refused: integer}
function Server:stats()
  return self.raw:stats()
end

--- Takes no new requests; those that are here are served, and then the server
--- ends. Never waits; safe in a handler.
function Server:shutdown()
  self.raw:stop()
end

--- Shuts down and waits until every request has its answer. After `timeout` the
--- handlers that still run are cancelled and their connections closed. Waits; not
--- for handlers, which it would wait for (they call `shutdown`).
---@param timeout? number seconds; none: for ever
---@return true? ok, neap.Error? err kind "timeout" when handlers had to be cancelled
function Server:stop(timeout)
  self.raw:stop()
  if timeout == nil then
    self.task:await()
    return true
  end
  local _, err = scope.timeout(timeout, function() self.task:await() end)
  if not errors.is(err, "timeout") then return true end
  self.task:cancel()
  self.task:await()
  return nil, err
end

--- Waits until the server has ended: after `stop` or `shutdown`, or when its
--- scope was cancelled.
---@return true? ok, neap.Error? err why it ended otherwise
function Server:wait()
  local ok, err = self.task:await()
  if ok == nil and err ~= nil then return nil, err end
  return true
end

--- On a virtual clock a simulated network, where there is one, takes the place of
--- the sockets.
local function new_server()
  if not core.is_virtual() then return core.server_new end
  local network = require "neap.sim.network"
  return network.current() and network.listen or core.server_new
end

--- Listens and returns at once; the server runs in the scope of the caller, which
--- ends only when the server has. In virtual time it listens inside the simulated
--- network; without one it is nil, err (kind "invalid").
---@param opts neap.serve.Options
---@return neap.serve.Server? server
---@return neap.Error? err kinds "connect" (the port is taken), "invalid" (host, virtual time), "limit"
return function(opts)
  local checked = options.check("neap.serve", opts, specs)
  local raw, err = new_server() {
    host = checked.host, port = checked.port,
    max_body = checked.max_body, max_connections = checked.max_connections,
    max_concurrency = checked.max_concurrency, max_waiting = checked.max_waiting,
    idle_timeout = math.ceil(checked.idle_timeout),
    report = checked.on_finish ~= nil,
  }
  if not raw then return nil, err end
  local server = setmetatable({
    raw = raw, options = checked, bound_port = raw:port(),
    pending = checked.on_finish and {} or nil,
  }, Server)
  server.task = core.spawn(run, server)
  server.task:set_name(("server on port %d"):format(server.bound_port))
  return server
end
