--- An answer that takes its time: its head now, its body in pieces, or whole at the
--- end of the work.
local core = require "neap.core"

local max = math.max
local setmetatable = setmetatable

local M = {}

local TICK = 1e-9 -- seconds: instants nearer to each other are the same

---@class neap.sim.Player
---@field package chunks {after: number, data: string}[]
---@field package at integer of the chunk that comes next; 0: the head
local Player = {}
Player.__index = Player

--- chunks of an answer that has none: its body when the work ends.
local function pieces(fate, answer, now)
  return answer.chunks or { { after = max(0, (fate.whole or fate.ends) - now), data = answer.body or "" } }
end

---@param slot integer
---@param upstream table
---@param fate table
---@param answer table
---@param now number seconds: of the first byte
---@param forget fun(outcome: "drop"?) the slot is over
---@return neap.sim.Player
function M.new(slot, upstream, fate, answer, now, forget)
  return setmetatable({ slot = slot, upstream = upstream, fate = fate, answer = answer, began = now,
    chunks = pieces(fate, answer, now), at = 0, silent = fate.silent or math.huge, forget = forget }, Player)
end

local function finish(self, now)
  local upstream, fate = self.upstream, self.fate
  if fate.state then upstream:leave(now, fate, false) end
  self.forget()
  core.sim_end(self.slot)
end

--- Nothing comes through any more: a reset ends it, or its client when it has had
--- enough.
local function cut_off(self, now)
  local fate = self.fate
  if fate.kind ~= "drop" then return nil end
  if fate.ends > now + TICK then return fate.ends end
  self.upstream:leave(now, fate, false)
  self.forget "drop"
  core.sim_drop(self.slot, false)
end

--- For the network: the instant of the next piece.
---@return number? at when to be called again
function Player:due(slot, now)
  if self.at == 0 then
    local answer = self.answer
    core.sim_head(slot, answer.status, answer.headers, not answer.chunks and #self.chunks[1].data or nil)
    self.at = 1
  end
  while self.at <= #self.chunks do
    local chunk = self.chunks[self.at]
    local at = self.began + chunk.after
    if at >= self.silent then return cut_off(self, now) end
    if at > now + TICK then return at end
    core.sim_body(slot, chunk.data)
    self.at = self.at + 1
  end
  if self.fate.silent then return cut_off(self, now) end
  local ends = self.fate.ends
  if ends and ends > now + TICK and ends < math.huge then return ends end
  finish(self, now)
end

--- The client has left; the network tells the upstream.
function Player:gone() end

return M
