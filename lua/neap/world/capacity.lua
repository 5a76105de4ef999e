--- The slots of a server: so many requests are worked on at a time, a number that
--- may change by schedule. Who finds none free is turned away, or waits in line.
--- Pure: times are arguments, starts are told by a callback.
---
--- Invariant: while somebody waits in line, no slot is free. Changes that fall due
--- between two calls are carried out in order and at their own dates; so that a
--- call comes in time, the first in line who still has a client calls `advance` at
--- `next_change`, and `nudge` tells it when it has become that first, or when the
--- date has moved.
local dates = require "neap.world.dates"
local instant = require "neap.world.instant"

local huge, max = math.huge, math.max

local M = {}

---@class neap.world.Step
---@field at number seconds since the start; the first is at 0
---@field slots integer 0: an outage

---@class neap.world.Ticket what a request needs to know about its slot
---@field state? "serving"|"queued"|"left"
---@field began? number seconds, when its slot was given
---@field ends? number seconds, when its work ends; set by `begin`
---@field endless? boolean its work never ends
---@field ghost? true nobody waits for the answer any more

---@class neap.world.Callbacks
---@field begin fun(ticket: neap.world.Ticket, at: number) a slot was given at that date: sets `ends`
---@field nudge fun(ticket: neap.world.Ticket) look at `next_change` again

---@class neap.world.Capacity
---@field limit number slots at the moment
---@field busy integer slots in use
---@field waiting integer requests in line, those without a client included
---@field max_busy integer
local Capacity = {}
Capacity.__index = Capacity

---@param spec integer|neap.world.Step[]|nil nil: no limit
---@param over "reject"|"queue"
---@param start number seconds: the schedule's 0
---@param callbacks neap.world.Callbacks
---@param max_waiting? integer the longest line; who comes then is turned away; default: no limit
---@return neap.world.Capacity
function M.new(spec, over, start, callbacks, max_waiting)
  local steps = {}
  for i, step in ipairs(type(spec) == "table" and spec or { { at = 0, slots = spec or huge } }) do
    steps[i] = { at = instant.of(start + step.at), slots = step.slots }
  end
  return setmetatable({
    steps = steps, step = 1, limit = steps[1].slots, queues = over == "queue",
    max_waiting = max_waiting or huge,
    begin = callbacks.begin, nudge = callbacks.nudge,
    busy = 0, max_busy = 0, waiting = 0,
    line = {}, first = 1, last = 0, -- tickets; those who left stay until their turn
    first_client = 1, -- in line, of those who are neither gone nor ghosts
    ghosts = {}, -- dates at which slots without a client come free, as neap.world.dates has them
  }, Capacity)
end

local function serve(self, ticket, at)
  self.busy = self.busy + 1
  self.max_busy = max(self.max_busy, self.busy)
  ticket.state, ticket.began = "serving", at
  self.begin(ticket, at)
  if ticket.ghost then dates.add(self.ghosts, ticket.ends) end
end

local function forget_line(self)
  if self.first <= self.last then self.line, self.first, self.last, self.first_client = {}, 1, 0, 1 end
end

local function serve_line(self, at)
  while self.waiting > 0 and self.busy < self.limit do
    local ticket = self.line[self.first]
    self.line[self.first] = nil
    self.first = self.first + 1
    if ticket.state == "queued" then
      self.waiting = self.waiting - 1
      serve(self, ticket, at)
    end
  end
  if self.waiting == 0 then forget_line(self) end
end

local function first_client(self)
  local at, line = max(self.first, self.first_client), self.line
  while at <= self.last and (line[at].state ~= "queued" or line[at].ghost) do at = at + 1 end
  self.first_client = at
  return line[at]
end

local function nudge_first_client(self)
  if self:next_change() == huge then return end
  local ticket = first_client(self)
  if ticket then self.nudge(ticket) end
end

--- Whether it is this one in line who has to call `advance` at `next_change`. Who
--- becomes it later is nudged.
---@param ticket neap.world.Ticket
---@return boolean
function Capacity:is_first(ticket)
  return first_client(self) == ticket
end

--- When something will change by itself; huge: never.
---@return number seconds
function Capacity:next_change()
  local step, ghost = self.steps[self.step + 1], self.ghosts[1]
  local at = step and step.at or huge
  return ghost and ghost < at and ghost or at
end

--- Carries out what has fallen due. The other methods do it first.
---@param now number seconds
function Capacity:advance(now)
  local at = self:next_change()
  if at > now or at == huge then return end
  while at <= now and at < huge do
    local ghosts = self.ghosts
    if ghosts[1] == at then
      dates.take(ghosts)
      self.busy = self.busy - 1
    else
      self.step = self.step + 1
      self.limit = self.steps[self.step].slots
    end
    serve_line(self, at)
    at = self:next_change()
  end
  nudge_first_client(self)
end

--- A request asks for a slot. `since`: when its work counts from if it gets one
--- at once.
---@param now number seconds
---@param ticket neap.world.Ticket
---@param since? number seconds, default: now
---@return "serving"|"queued"|nil state nil: turned away
function Capacity:enter(now, ticket, since)
  self:advance(now)
  if self.busy < self.limit then
    serve(self, ticket, since or now)
  elseif self.queues and self.waiting < self.max_waiting then
    ticket.state = "queued"
    self.last = self.last + 1
    self.line[self.last] = ticket
    self.waiting = self.waiting + 1
  end
  return ticket.state
end

--- It is answered, or its client left and the work stops: its slot, or its place
--- in line, is free.
---@param now number seconds
---@param ticket neap.world.Ticket
function Capacity:leave(now, ticket)
  self:advance(now)
  if ticket.state == "serving" then
    self.busy = self.busy - 1
    ticket.state = "left"
    serve_line(self, now)
  elseif ticket.state == "queued" then
    self.waiting = self.waiting - 1
    ticket.state = "left"
    if self.waiting == 0 then forget_line(self) end
  end
  if self.waiting > 0 then nudge_first_client(self) end
end

--- Its client left and the work goes on: the slot is free when the work ends. What
--- would never end stops.
---@param now number seconds
---@param ticket neap.world.Ticket
function Capacity:abandon(now, ticket)
  self:advance(now)
  if ticket.endless then return self:leave(now, ticket) end
  if ticket.state == "serving" then dates.add(self.ghosts, ticket.ends) end
  ticket.ghost = true
  if self.waiting > 0 then nudge_first_client(self) end
end

return M
