--- What a simulated request is an attempt at, so that a world's draws can be keyed
--- by it. The calls of policies are numbered as their first requests go out; every
--- attempt, and every copy of a hedge, has its call's number. A call inside an
--- attempt of another one is the same operation in each of the outer attempts.
local calls = require "neap.policy.call"
local core = require "neap.core"

local M = {}

local active, current = calls.all(), core.current

---@class neap.sim.Operations
---@field count integer operations so far, those without a number included
---@field package next integer
---@field package holders table<integer, table> by number: who remembers its visits
---@field package keys table<string, table> by idempotency key
---@field package openers table<string, table> by idempotency key: connections opened
---@field package named table<neap.task, table> who has a number from `enter`
local Operations = {}
Operations.__index = Operations

---@return neap.sim.Operations
function M.new()
  return setmetatable({ count = 0, next = 0, holders = setmetatable({}, { __mode = "v" }), keys = {}, openers = {},
    named = setmetatable({}, { __mode = "k" }) }, Operations)
end

-- Where numbers begin beside those that somebody else gives.
local BESIDE = 2 ^ 31

--- Until `leave`, what the running task asks for is operation `number`: the first
--- policy call that it makes, and its requests outside of policies. Never waits.
---@param number integer 1 to 2^31, each once
function Operations:enter(number)
  local holder = { operation = number }
  self.named[current()], self.holders[number] = holder, holder
  self.next, self.count = math.max(self.next, BESIDE), self.count + 1
end

--- The running task is through with it.
function Operations:leave()
  self.named[current()] = nil
end

local function give_number(self, holder)
  local task = holder.task
  local number = task and self.named[task]
  if number then
    number, self.named[task] = number.operation, nil
  else
    number = self.next + 1
    self.next, self.count = number, self.count + 1
  end
  holder.operation = number
  self.holders[number] = holder
  return number
end

--- The number of the call inside an attempt of `outer`: kept there, for the next
--- attempt makes the call anew.
local function number_inside(self, call, outer)
  outer = outer:root()
  local inside = outer.operations
  if not inside then
    inside = {}
    outer.operations = inside
  end
  local holder = inside[call.number]
  if not holder then
    holder = {}
    inside[call.number] = holder
    give_number(self, holder)
  end
  call.operation = holder.operation
  return holder.operation
end

--- The operation of the request that the running task is about to send; 0: it is
--- not inside a policy. Never waits.
---@return integer
function Operations:identify()
  local call = active[current()]
  if not call then
    local named = self.named[current()]
    return named and named.operation or 0
  end
  if call.parent then call = call:root() end
  local number = call.operation
  if number then return number end
  if call.outer then return number_inside(self, call, call.outer) end
  return give_number(self, call)
end

local function count_visit(holder, upstream)
  local visit = (holder[upstream] or 0) + 1
  holder[upstream] = visit
  return visit
end

--- A request opens a connection. Returns what names its operation, and how many
--- connections that has opened to this upstream; nothing when there is no telling.
---@param number integer of `identify`
---@param key string? its idempotency key, when the number is 0
---@param upstream table
---@return integer|string? operation
---@return integer? nth
function Operations:open(number, key, upstream)
  local holder = number > 0 and self.holders[number]
  if number > 0 then
    if not holder then return number, 1 end
    holder.openings = holder.openings or {}
    return number, count_visit(holder.openings, upstream)
  end
  if not key then return nil end
  self.openers[key] = self.openers[key] or {}
  return key, count_visit(self.openers[key], upstream)
end

--- A request has arrived. Returns what names its operation, and how often that
--- came to this upstream; nothing when there is no telling.
---@param number integer of `identify`
---@param key string? its idempotency key, when the number is 0
---@param upstream table
---@return integer|string? operation
---@return integer? attempt
function Operations:visit(number, key, upstream)
  if number > 0 then
    local holder = self.holders[number]
    return number, holder and count_visit(holder, upstream) or 1
  end
  if not key then
    self.count = self.count + 1
    return nil
  end
  local holder = self.keys[key]
  if not holder then
    holder = {}
    self.keys[key], self.count = holder, self.count + 1
  end
  return key, count_visit(holder, upstream)
end

return M
