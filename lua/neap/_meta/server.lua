---@meta
--- The server underneath neap.serve: what runtime/bind/lua_server.c gives it.
--- Scripts use `neap.serve`; nothing here checks its caller's manners.

local core = {}

---@class neap.core.ServerConfig
---@field host string an IP address or "localhost"
---@field port integer 0: the system picks one
---@field max_body integer bytes
---@field max_connections integer
---@field max_concurrency integer
---@field max_waiting integer
---@field idle_timeout integer seconds; 0: none
---@field report boolean whether `accept` tells of finished requests

--- Listens. Never waits.
---@param config neap.core.ServerConfig
---@return neap.server? server
---@return neap.Error? err kinds "invalid", "connect", "limit"
function core.server_new(config) end

---@class neap.server
local server = {}

--- The next event. Waits; raises when another task waits here.
---@return neap.server_request|false|nil request false: no new request; nil: stopped and drained, or closed
---@return integer? id of a request that has finished
---@return "sent"|"disconnected"|"dropped"? outcome
---@return number? arrived seconds
---@return number? done seconds
function server:accept() end

--- The port; nil once closed. Never waits.
---@return integer?
function server:port() end

---@return {connections: integer, running: integer, waiting: integer, requests: integer, refused: integer}
function server:stats() end

--- Stops listening; requests that are here are still handed out. Never waits.
function server:stop() end

--- Closes everything at once. Never waits.
function server:close() end

---@class neap.server_request
local request = {}

---@return integer id
---@return string method
---@return string target
---@return number arrived seconds
function request:line() end

---@return string[] flat {"name", "value", ...}, names in lower case
function request:headers() end

---@return string
function request:body() end

---@return string address
---@return integer port
function request:remote() end

--- Whether the client has left. Never waits.
---@return boolean
function request:disconnected() end

--- Waits until the client has left.
---@param timeout? number seconds
---@return true? ok
---@return neap.Error? err kind "timeout"
function request:wait_disconnect(timeout) end

--- Answers. Raises when it was answered before, or for a bad status or header.
--- Never waits.
---@param status integer 200 to 999
---@param headers? string[] flat
---@param body? string
---@return true? ok
---@return neap.Error? err kind "closed"
function request:reply(status, headers, body) end

--- Starts a streamed answer; raises as `reply` does. Never waits.
---@param status integer
---@param headers? string[] flat
---@param length? integer of the body; none: chunks
---@return true? ok
---@return neap.Error? err kind "closed"
function request:stream(status, headers, length) end

--- Sends a part of a streamed answer. Waits while much is unsent.
---@param chunk string
---@return true? ok
---@return neap.Error? err kind "closed"
function request:write(chunk) end

--- Ends a streamed answer. Never waits.
function request:finish() end

--- Closes the connection, answered or not. Never waits.
function request:abort() end

--- Resets the connection. Never waits.
function request:drop() end

--- Gives the place among max_concurrency back. Never waits.
function request:release() end

return core
