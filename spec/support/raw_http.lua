--- A raw HTTP/1.1 client on luv, byte by byte, for what no decent client would do:
--- pipelining, silence, resets, requests cut in the middle. Waits like a task.
local neap = require "neap"
local uv = require "neap.uv"

local M = {}

---@class spec.RawConnection
---@field buffer string what came and was not read yet
---@field ended "eof"|string|nil how it ended: "eof", or luv's error name ("ECONNRESET")
local Connection = {}
Connection.__index = Connection

--- Connects to 127.0.0.1; raises luv's error name when refused.
---@param port integer
---@return spec.RawConnection
function M.connect(port)
  local socket = uv.new_tcp()
  local err = neap.await(function(resume) socket:connect("127.0.0.1", port, resume) end)
  if err then
    socket:close()
    error(err, 0)
  end
  local self = setmetatable({ socket = socket, buffer = "" }, Connection)
  self:listen()
  return self
end

function Connection:listen()
  self.socket:read_start(function(err, data)
    if data then self.buffer = self.buffer .. data else self.ended = err or "eof" end
    local wake = self.wake
    self.wake = nil
    if wake then wake() end
  end)
end

--- Stops reading, so that the kernel's buffers fill up.
function Connection:deafen()
  self.socket:read_stop()
end

---@param bytes string
function Connection:send(bytes)
  if not self.socket:is_closing() then self.socket:write(bytes) end
  return self
end

--- Waits until `condition()` holds or the connection has ended.
function Connection:wait_until(condition)
  while not condition() and not self.ended do
    neap.await(function(resume) self.wake = resume end)
  end
  return condition()
end

--- Takes and returns `n` bytes; fewer when the connection ends before.
function Connection:take(n)
  self:wait_until(function() return #self.buffer >= n end)
  local bytes = self.buffer:sub(1, n)
  self.buffer = self.buffer:sub(n + 1)
  return bytes
end

--- Takes everything up to `mark`, which is dropped; nil when it never comes.
function Connection:take_to(mark)
  if not self:wait_until(function() return self.buffer:find(mark, 1, true) end) then return nil end
  local at, stop = self.buffer:find(mark, 1, true)
  local bytes = self.buffer:sub(1, at - 1)
  self.buffer = self.buffer:sub(stop + 1)
  return bytes
end

--- Waits for the end; returns what was left, and how it ended.
---@return string bytes
---@return string ended "eof" or luv's error name
function Connection:rest()
  self:wait_until(function() return false end)
  return self.buffer, self.ended
end

local function read_chunks(connection)
  local parts = {}
  while true do
    local size = connection:take_to "\r\n"
    if not size then return table.concat(parts), false end
    local n = tonumber(size, 16)
    if n == 0 then
      connection:take(2)
      return table.concat(parts), true
    end
    parts[#parts + 1] = connection:take(n)
    connection:take(2)
  end
end

---@class spec.RawResponse
---@field status integer
---@field headers table<string, string> lower-case names
---@field head string
---@field body string
---@field whole boolean whether the body was complete

--- Reads one response; nil when the connection ends before its head is complete.
---@param bodiless? boolean it answers a HEAD request
---@return spec.RawResponse?
function Connection:response(bodiless)
  local head = self:take_to "\r\n\r\n"
  if not head then return nil end
  local res = { head = head, status = tonumber(head:match "^HTTP/1%.%d (%d+)"), headers = {}, body = "", whole = true }
  for name, value in head:gmatch "\r\n([^:\r\n]+):%s*([^\r\n]*)" do res.headers[name:lower()] = value end
  local length = tonumber(res.headers["content-length"])
  if bodiless or res.status == 204 then return res end
  if res.headers["transfer-encoding"] == "chunked" then
    res.body, res.whole = read_chunks(self)
  elseif length then
    res.body = self:take(length)
    res.whole = #res.body == length
  else
    res.body = self:rest()
  end
  return res
end

function Connection:close()
  if not self.socket:is_closing() then self.socket:close() end
end

--- Ends the connection with a reset.
function Connection:reset()
  if not self.socket:is_closing() then self.socket:close_reset() end
end

--- A request's bytes.
---@param method string
---@param target string
---@param opts? {headers: string[]?, body: string?}
---@return string
function M.request(method, target, opts)
  opts = opts or {}
  local lines = { ("%s %s HTTP/1.1"):format(method, target), "Host: localhost" }
  for _, line in ipairs(opts.headers or {}) do lines[#lines + 1] = line end
  if opts.body then lines[#lines + 1] = "Content-Length: " .. #opts.body end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (opts.body or "")
end

--- One request on a connection of its own.
---@return spec.RawResponse?
---@return string? ended
function M.fetch(port, method, target, opts)
  local connection = M.connect(port)
  local res = connection:send(M.request(method, target, opts)):response(method == "HEAD")
  connection:close()
  return res, connection.ended
end

return M
