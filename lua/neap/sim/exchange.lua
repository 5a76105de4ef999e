--- A simulated request in the hands of a handler: the methods that a request of
--- the real server has (runtime/bind/lua_server.c), over the simulated wire.
local core = require "neap.core"
local errors = require "neap.error"

local setmetatable, error = setmetatable, error

local M = {}

local UNREAD_MAX = 64 * 1024 -- bytes; a writer waits while more are on their way

---@class neap.sim.Exchange
---@field slot integer? nil: over
---@field id integer
---@field method string
---@field target string
---@field arrived number seconds of neap.now()
---@field flat string[] headers, name and value in turn
---@field text string the body
---@field away boolean? its client has left
---@field answered boolean?
---@field streams boolean? an answer is being written
---@field on_end fun(exchange: neap.sim.Exchange, outcome: string, status: integer?)
---@field package status integer?
---@field package missing integer? bytes of the body that its Content-Length has still to come
---@field package room neap.Event? set when a writer may go on
---@field package left neap.Event? set when the client leaves
local Exchange = {}
Exchange.__index = Exchange

--- All of the request is read now: its client may leave at any time.
---@param slot integer
---@param id integer
---@param method string
---@param target string
---@param now number seconds
---@param on_end fun(exchange: neap.sim.Exchange, outcome: "sent"|"disconnected"|"dropped", status: integer?)
---@return neap.sim.Exchange
function M.new(slot, id, method, target, now, on_end)
  return setmetatable({ slot = slot, id = id, method = method, target = target, arrived = now, on_end = on_end,
    flat = core.sim_headers_of(slot), text = core.sim_body_of(slot) }, Exchange)
end

local function over(self, outcome)
  self.slot, self.streams = nil, nil
  self:on_end(outcome, self.status)
end

--- For the network: the client has left.
function Exchange:gone()
  self.away = true
  if self.room then self.room:set() end
  if self.left then self.left:set() end
  if self.slot then over(self, "disconnected") end
end

--- For the network: all that was unread has been taken.
function Exchange:due()
  if self.room then self.room:set() end
end

function Exchange:line() return self.id, self.method, self.target, self.arrived end

function Exchange:headers() return self.flat end

function Exchange:body() return self.text end

--- Everybody calls from the same machine; the port tells two requests apart.
function Exchange:remote() return "127.0.0.1", 32768 + self.id % 28232 end

function Exchange:disconnected()
  if self.slot and not core.sim_is_there(self.slot) then return true end
  return self.away == true
end

local function wait_for(self, field, timeout)
  local event = self[field]
  if not event then
    event = core.event()
    self[field] = event
  end
  return event:wait(timeout)
end

function Exchange:wait_disconnect(timeout)
  if self:disconnected() then return true end
  if wait_for(self, "left", timeout) then return true end
  return nil, errors.new { kind = "timeout", phase = "wait_disconnect",
    message = "timed out waiting for wait_disconnect" }
end

local function closed(phase)
  return nil, errors.new { kind = "closed", phase = phase, message = "the client has left" }
end

local function begin(self, status)
  if self.answered then
    error("the request is answered already, or its status or a header is not valid", 3)
  end
  self.answered, self.status = true, status
end

function Exchange:reply(status, flat, body)
  begin(self, status)
  if self:disconnected() then return closed "respond" end
  core.sim_answer(self.slot, status, flat, body or "")
  over(self, "sent")
  return true
end

function Exchange:stream(status, flat, length)
  begin(self, status)
  if self:disconnected() then return closed "respond" end
  self.streams, self.missing = true, self.method ~= "HEAD" and length or nil
  core.sim_head(self.slot, status, flat, length)
  return true
end

function Exchange:write(chunk)
  if self:disconnected() then return closed "write" end
  if not self.streams then error("this answer is not a stream, or was closed", 2) end
  if self.missing then
    chunk = chunk:sub(1, self.missing) -- a client reads no further
    self.missing = self.missing - #chunk
  end
  local unread = core.sim_body(self.slot, chunk)
  if unread <= UNREAD_MAX then return true end
  core.sim_wake_when_read(self.slot)
  if self.room then self.room:clear() end
  wait_for(self, "room")
  if self:disconnected() then return closed "write" end
  return true
end

function Exchange:finish()
  if not self.streams then return end
  if (self.missing or 0) > 0 then return self:abort() end
  core.sim_end(self.slot)
  over(self, "sent")
end

--- What is not finished breaks off.
function Exchange:abort()
  if not self.slot then return end
  core.sim_drop(self.slot, true)
  over(self, "disconnected")
end

function Exchange:drop()
  if not self.slot then return end
  self.answered = true
  core.sim_drop(self.slot, false)
  over(self, "dropped")
end

function Exchange:release()
  local place = self.place
  self.place = nil
  if place then place() end
  if self.slot and not self.streams and not self.answered then self:abort() end
end

return M
