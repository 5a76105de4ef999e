--- A map with times and two caps, entries and bytes: what was used longest ago
--- makes room. Pure: time comes in as an argument.
local M = {}

---@class neap.cache.Entry
---@field key string
---@field value any
---@field bytes number
---@field fresh number seconds: until then it is the answer
---@field keep number seconds: until then it is there, as a stale one
---@field private newer neap.cache.Entry?
---@field private older neap.cache.Entry?

---@class neap.cache.Lru
---@field count integer entries, those not yet found to be over included
---@field bytes number
---@field evictions integer entries that made room
---@field expirations integer entries that were found to be over
---@field max_entries number
---@field max_bytes number
---@field private index table<string, neap.cache.Entry>
---@field private newest neap.cache.Entry?
---@field private oldest neap.cache.Entry?
local Lru = {}
Lru.__index = Lru

---@param max_entries number
---@param max_bytes number
---@return neap.cache.Lru
function M.new(max_entries, max_bytes)
  return setmetatable({
    index = {}, count = 0, bytes = 0, evictions = 0, expirations = 0,
    max_entries = max_entries, max_bytes = max_bytes,
  }, Lru)
end

local function unlink(self, entry)
  local newer, older = entry.newer, entry.older
  if newer then newer.older = older else self.newest = older end
  if older then older.newer = newer else self.oldest = newer end
  entry.newer, entry.older = nil, nil
end

local function push(self, entry)
  local newest = self.newest
  entry.older, entry.newer = newest, nil
  if newest then newest.newer = entry else self.oldest = entry end
  self.newest = entry
end

local function drop(self, entry)
  unlink(self, entry)
  self.index[entry.key] = nil
  self.count, self.bytes = self.count - 1, self.bytes - entry.bytes
end

--- The entry of `key`, which becomes the most recently used; nil when there is
--- none, or none any more.
---@param key string
---@param now number seconds
---@return neap.cache.Entry?
function Lru:get(key, now)
  local entry = self.index[key]
  if not entry then return nil end
  if now >= entry.keep then
    self.expirations = self.expirations + 1
    drop(self, entry)
    return nil
  end
  if self.newest ~= entry then
    unlink(self, entry)
    push(self, entry)
  end
  return entry
end

--- The same without a look at the time and without using it.
---@param key string
---@return neap.cache.Entry?
function Lru:peek(key)
  return self.index[key]
end

--- Drops what was used longest ago until both caps hold.
function Lru:trim()
  while self.count > self.max_entries or self.bytes > self.max_bytes do
    self.evictions = self.evictions + 1
    drop(self, self.oldest)
  end
end

--- Sets `key`; it is the most recently used then, and others make room. False
--- when it is larger than the whole: then what was there before is gone, too.
---@param key string
---@param value any
---@param bytes number
---@param fresh number seconds
---@param keep number seconds, not before `fresh`
---@return boolean kept
function Lru:put(key, value, bytes, fresh, keep)
  local entry = self.index[key]
  if entry then drop(self, entry) end
  if bytes > self.max_bytes then return false end
  -- A new table each time: who holds the old one keeps what it saw.
  entry = { key = key, value = value, bytes = bytes, fresh = fresh, keep = keep }
  self.index[key] = entry
  self.count, self.bytes = self.count + 1, self.bytes + bytes
  push(self, entry)
  self:trim()
  return true
end

--- Drops `key`. True when it was there.
---@param key string
---@return boolean
function Lru:delete(key)
  local entry = self.index[key]
  if not entry then return false end
  drop(self, entry)
  return true
end

--- Drops everything.
function Lru:clear()
  self.index, self.count, self.bytes, self.newest, self.oldest = {}, 0, 0, nil, nil
end

--- The keys, the most recently used one first.
---@return string[]
function Lru:keys()
  local keys, entry = {}, self.newest
  while entry do
    keys[#keys + 1] = entry.key
    entry = entry.older
  end
  return keys
end

return M
