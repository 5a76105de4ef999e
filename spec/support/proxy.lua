--- A small HTTP proxy on luv: tunnels CONNECT to loopback ports and answers other
--- requests itself, so that a spec sees what reached it.
local badserver = require "spec.support.badserver"
local uv = require "neap.uv"

local M = {}

local function tunnel(connection, port)
  local far = uv.new_tcp()
  local function close()
    if not far:is_closing() then far:close() end
    connection:close()
  end
  far:connect("127.0.0.1", port, function(err)
    if err then return close() end
    connection:write "HTTP/1.1 200 Connection established\r\nX-Proxy: yes\r\n\r\n"
    connection.on_bytes = function(bytes) far:write(bytes) end
    far:read_start(function(_, bytes)
      if bytes then connection:write(bytes) else close() end
    end)
  end)
  connection.far_close = close
end

--- Starts a proxy. With `credentials` ("user:password" in base64), others get 407.
---@param credentials? string
---@return spec.BadServer
function M.start(credentials)
  return badserver.start {
    request = function(connection, request)
      if credentials and request.headers["proxy-authorization"] ~= "Basic " .. credentials then
        return connection:respond(407, "", { 'Proxy-Authenticate: Basic realm="x"' })
      end
      if request.method == "CONNECT" then
        return tunnel(connection, tonumber(request.target:match ":(%d+)$"))
      end
      connection:respond(200, "proxied " .. request.target)
    end,
    ended = function(connection)
      if connection.far_close then connection.far_close() end
    end,
  }
end

return M
