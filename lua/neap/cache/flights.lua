--- Single-flight: one call for all who want the same key at a time. The call runs
--- in a task of its own, so that it goes on while anybody waits for it, whoever
--- began it; when the last one leaves, it is cancelled.
local core = require "neap.core"
local errors = require "neap.error"
local scope = require "neap.scope"

local M = {}

local xpcall, pcall, note_traceback = xpcall, pcall, core.note_traceback

---@class neap.cache.Flight
---@field key string
---@field task neap.task
---@field waiting integer callers that would miss it
---@field joined boolean somebody came after the first
---@field ended boolean
---@field ok? boolean false: it raised `result`
---@field result any
---@field err any
---@field kept any what of it may be handed to the others; nil: nothing may
local Flight = {}
Flight.__index = Flight

---@class neap.cache.Flights
---@field private open table<string, neap.cache.Flight>
local Flights = {}
Flights.__index = Flights

---@return neap.cache.Flights
function M.new()
  return setmetatable({ open = {} }, Flights)
end

--- The task's body. `run(flight, ...)` gives a result or nil, err.
local function fly(flights, flight, run, ...)
  -- In a scope: what it starts ends before it does.
  local ok, result, err = xpcall(scope.timeout, note_traceback, math.huge, run, flight, ...)
  if flights.open[flight.key] == flight then flights.open[flight.key] = nil end
  -- Cancelled indeed, or does it only raise somebody else's cancel?
  if not ok and errors.is(result, "cancelled") and not pcall(core.sleep, 0) then return end
  flight.ok, flight.result, flight.err, flight.ended = ok, result, err, true
end

local function begin(self, key, waiting, run, ...)
  local flight = setmetatable({ key = key, waiting = waiting, joined = false, ended = false }, Flight)
  self.open[key] = flight
  flight.task = core.spawn_detached(fly, self, flight, run, ...)
  return flight
end

-- Nobody is left who wants it. Its end is waited for even so: what the call holds
-- is free when the caller has left.
local function abandon(self, flight)
  if self.open[flight.key] == flight then self.open[flight.key] = nil end
  flight.task:cancel()
  scope.shield(flight.task.await, flight.task)
end

--- The flight of `key` under way, or nil. Never waits.
---@param key string
---@return neap.cache.Flight?
function Flights:of(key)
  return self.open[key]
end

--- Starts `run(flight, ...)` for nobody in particular, unless one is under way.
--- Never waits.
---@return boolean started
function Flights:start(key, run, ...)
  if self.open[key] then return false end
  begin(self, key, 1, run, ...)
  return true
end

--- Waits for the flight of `key`, which begins as `run(flight, ...)` if none is
--- under way, also when that ends without an outcome because it was cancelled.
--- Raises what it raised. Waits.
---@param key string
---@param run fun(flight: neap.cache.Flight, ...): any, any
---@return neap.cache.Flight flight ended
---@return boolean leads this caller began it
function Flights:join(key, run, ...)
  while true do
    local flight, leads = self.open[key], false
    if flight then
      if flight.task == core.current() then
        error("neap.cache: the call that computes a key asks for the same key", 0)
      end
      flight.joined = true
    else
      flight, leads = begin(self, key, 0, run, ...), true
    end
    flight.waiting = flight.waiting + 1
    local ok, failure = pcall(flight.task.await, flight.task)
    flight.waiting = flight.waiting - 1
    if not ok then
      if flight.waiting == 0 and not flight.ended then abandon(self, flight) end
      error(failure, 0)
    end
    if flight.ended then
      if not flight.ok then error(flight.result, 0) end
      return flight, leads
    end
  end
end

--- Takes the flight of `key` out: its callers get its outcome, later ones begin
--- another, and it is not to be kept. Never waits.
---@param key string
function Flights:forget(key)
  self.open[key] = nil
end

--- The same for all. Never waits.
function Flights:forget_all()
  self.open = {}
end

--- Whether it is still the one of its key.
---@param flight neap.cache.Flight
---@return boolean
function Flights:is_current(flight)
  return self.open[flight.key] == flight
end

---@return integer
function Flights:count()
  local count = 0
  for _ in pairs(self.open) do count = count + 1 end
  return count
end

return M
