--- `neap.serve` inside a simulated network: what runtime/bind/lua_server.c is for
--- sockets. A listener takes whole requests, hands out at most `max_concurrency`
--- at a time, and turns away what is too much.
local core = require "neap.core"
local exchanges = require "neap.sim.exchange"

local setmetatable = setmetatable

local M = {}

---@class neap.sim.Server
---@field host string
---@field listens boolean
---@field package config neap.core.ServerConfig
---@field package number integer its port
---@field package waiting neap.sim.Exchange[] first to last
---@field package first integer
---@field package last integer
---@field package finished table[] for on_finish
---@field package open integer requests that have no answer yet
---@field package queued integer of them in line
---@field package running integer
---@field package handed integer
---@field package exchanges table<neap.sim.Exchange, true> that have no answer yet
---@field package ended boolean?
---@field package next_id integer
---@field package refused integer
---@field package event neap.Event
---@field package on_stop fun(server: neap.sim.Server)
local Server = {}
Server.__index = Server

---@param config neap.core.ServerConfig
---@param port integer
---@param on_stop fun(server: neap.sim.Server) it listens no more
---@return neap.sim.Server
function M.new(config, port, on_stop)
  return setmetatable({ config = config, host = config.host, number = port, on_stop = on_stop, listens = true,
    waiting = {}, first = 1, last = 0, finished = {}, exchanges = {}, open = 0, queued = 0, running = 0, next_id = 0,
    handed = 0, refused = 0, event = core.event() }, Server)
end

local function refuse(self, slot, on_end, status, text)
  self.refused = self.refused + 1
  on_end("sent", status)
  core.sim_answer(slot, status, { "Content-Type", "text/plain; charset=utf-8" }, text)
end

--- For the network: a new connection costs nothing inside one machine.
function Server:connect()
  local idle = self.config.idle_timeout
  return { seconds = 0, keepalive = idle > 0 and idle or nil }
end

--- For the network: a request has arrived. Returns who is told of `due` and `gone`;
--- nil: it was turned away.
---@return neap.sim.Exchange? exchange
function Server:takes(slot, now, method, target, on_end)
  local config = self.config
  if not self.listens or self.queued >= config.max_waiting + config.max_concurrency - self.running then
    return refuse(self, slot, on_end, 503, "too many requests\n")
  end
  if #core.sim_body_of(slot) > config.max_body then
    return refuse(self, slot, on_end, 413, "the body is too large\n")
  end
  self.next_id = self.next_id + 1
  local exchange
  exchange = exchanges.new(slot, self.next_id, method, target, now, function(_, outcome, status)
    self.open = self.open - 1
    self.exchanges[exchange] = nil
    if not exchange.handed then self.queued = self.queued - 1 end
    if config.report then
      self.finished[#self.finished + 1] = { exchange.id, outcome, now, core.now(), handed = exchange.handed }
    end
    self.event:set()
    on_end(outcome, status)
  end)
  self.open, self.queued = self.open + 1, self.queued + 1
  self.exchanges[exchange] = true
  self.last = self.last + 1
  self.waiting[self.last] = exchange
  self.event:set()
  return exchange
end

--- The first in line whose client is still there.
local function take(self)
  while self.first <= self.last do
    local exchange = self.waiting[self.first]
    self.waiting[self.first] = nil
    self.first = self.first + 1
    if exchange.slot then return exchange end
  end
end

local function hand_out(self, exchange)
  self.running, self.handed, self.queued = self.running + 1, self.handed + 1, self.queued - 1
  exchange.handed = true
  exchange.place = function()
    self.running = self.running - 1
    self.event:set()
  end
  return exchange
end

local function next_finished(self)
  while self.finished[1] do
    local row = table.remove(self.finished, 1)
    if row.handed then return row end -- whoever left the line was never seen
  end
end

--- The next event, as the real server's `accept`. Waits.
function Server:accept()
  while not self.ended do
    local row = next_finished(self)
    if row then return false, row[1], row[2], row[3], row[4] end
    local exchange = self.running < self.config.max_concurrency and take(self)
    if exchange then return hand_out(self, exchange) end
    if not self.listens and self.open == 0 and self.running == 0 then return nil end
    self.event:clear()
    self.event:wait()
  end
  return nil
end

function Server:port()
  if not self.ended then return self.number end
end

function Server:stats()
  return { connections = self.open, running = self.running, waiting = self.queued,
    requests = self.handed, refused = self.refused }
end

function Server:stop()
  if not self.listens then return end
  self.listens = false
  self.on_stop(self)
  self.event:set()
end

function Server:close()
  self:stop()
  self.ended = true
  local left = {}
  for exchange in pairs(self.exchanges) do left[#left + 1] = exchange end
  table.sort(left, function(a, b) return a.id < b.id end)
  for i = 1, #left do left[i]:abort() end
  self.event:set()
end

return M
