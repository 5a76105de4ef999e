--- Where a cache's entries are: in memory, and behind it perhaps in a file, from
--- which they come up again.
local core = require "neap.core"
local errors = require "neap.error"
local lru = require "neap.cache.lru"

local M = {}

local now = core.now

---@class neap.cache.Storage
---@field memory neap.cache.Lru times are neap.now()
---@field file? neap.cache.File times are neap.time()
---@field on_failure? fun(err: neap.Error) the file did not take something
local Storage = {}
Storage.__index = Storage

---@param max_entries number
---@param max_bytes number
---@param file? neap.cache.File
---@return neap.cache.Storage
function M.new(max_entries, max_bytes, file)
  return setmetatable({ memory = lru.new(max_entries, max_bytes), file = file }, Storage)
end

local function bring_up(self, key)
  local kept, bytes, fresh, keep = self.file:load(key)
  if kept == nil then return nil end
  local memory, at, wall = self.memory, now(), core.time()
  -- Somebody may have set it meanwhile.
  local entry = memory:get(key, at)
  if entry then return entry end
  fresh, keep = at + fresh - wall, at + keep - wall
  if memory:put(key, kept, bytes + #key, fresh, keep) then return memory:peek(key) end
  return { key = key, value = kept, bytes = bytes, fresh = fresh, keep = keep }
end

--- The entry of `key`, fresh or stale, or nil. Waits where there is a file and
--- memory does not have it.
---@param key string
---@return neap.cache.Entry?
function Storage:get(key)
  local entry = self.memory:get(key, now())
  if entry or not self.file then return entry end
  return bring_up(self, key)
end

--- Sets `key` for `ttl` seconds, and as a stale one for `stale` more. Waits where
--- there is a file. What is larger than the memory may hold is in the file only.
---@param key string
---@param kept any from neap.cache.values
---@param bytes number
---@param ttl number
---@param stale number
---@param volatile? boolean in memory only
---@return true? ok
---@return neap.Error? err kind "too_large", or the file's
function Storage:put(key, kept, bytes, ttl, stale, volatile)
  local fresh = now() + ttl
  local fits = self.memory:put(key, kept, bytes + #key, fresh, fresh + stale)
  if self.file then
    local ok, err
    if volatile then
      ok, err = self.file:delete(key)
    else
      local until_ = core.time() + ttl
      ok, err = self.file:save(key, kept, until_, until_ + stale)
    end
    if not ok and self.on_failure then self.on_failure(err) end
    return ok, err
  end
  if fits then return true end
  return nil, errors.new { kind = "too_large",
    message = ("a value of %d bytes is larger than the cache (max_bytes)"):format(bytes) }
end

--- Waits where there is a file.
---@param key string
---@return true? ok
---@return neap.Error? err the file's
function Storage:delete(key)
  self.memory:delete(key)
  if not self.file then return true end
  return self.file:delete(key)
end

--- Waits where there is a file.
---@return true? ok
---@return neap.Error? err the file's
function Storage:clear()
  self.memory:clear()
  if not self.file then return true end
  return self.file:clear()
end

return M
