--- neap.cache: results kept for a while, by key; callers of one key share one
--- call. docs/api/cache.md says what is kept and what a caller gets.
local calls = require "neap.policy.call"
local core = require "neap.core"
local errors = require "neap.error"
local flights = require "neap.cache.flights"
local keys = require "neap.cache.key"
local layer = require "neap.policy.layer"
local options = require "neap.options"
local storage = require "neap.cache.storage"
local values = require "neap.cache.values"

local M = {}

local now, freeze, thaw = core.now, values.freeze, values.thaw

---@class neap.Cache: neap.policy.Layer
---@field storage neap.cache.Storage
---@field private flights neap.cache.Flights
---@field private hits integer
---@field private misses integer
---@field private stale integer
---@field private coalesced integer
---@field private revalidated integer
local Cache = layer.class "cache"

function Cache:init()
  local opts = self.options
  if opts.store and not opts.store.load then
    options.fail("neap.cache: option 'store' must be a neap.cache.file, got another table")
  end
  self.storage = storage.new(opts.max_entries, opts.max_bytes, opts.store)
  self.flights = flights.new()
  self.hits, self.misses, self.stale, self.coalesced, self.revalidated = 0, 0, 0, 0, 0
  self.storage.on_failure = function(err)
    self:emit("store_failed", { reason = err.message, error = err.kind })
  end
end

function Cache:changed()
  local memory = self.storage.memory
  memory.max_entries, memory.max_bytes = self.options.max_entries, self.options.max_bytes
  memory:trim()
end

-- ---------------------------------------------------------------------------
-- What is kept
-- ---------------------------------------------------------------------------

-- Failures of our own making: the next call may fare better at once.
local OURS = {
  cancelled = true, closed = true, queue_full = true, queue_timeout = true, circuit_open = true, budget = true,
  limit = true, internal = true,
}

--- The default `cacheable`.
---@param result any
---@param err any
---@return boolean
function M.default_cacheable(result, err)
  if result ~= nil then return true end
  if err == nil then return false end
  return not (type(err) == "table" and OURS[err.kind])
end

local function is_failure(result)
  if result == nil then return true end
  local status = type(result) == "table" and result.status
  return type(status) == "number" and status >= 400
end

--- Keeps an outcome where the options say so. Waits where there is a file.
local function keep(self, key, result, err, kept, bytes)
  local opts, failed = self.options, is_failure(result)
  local ttl = opts.ttl
  if failed then ttl = opts.negative_ttl end
  if not ttl or kept == nil or not (opts.cacheable or M.default_cacheable)(result, err) then return false end
  self.storage:put(key, kept, bytes, ttl, failed and 0 or opts.stale_while_revalidate, failed)
  return true
end

-- ---------------------------------------------------------------------------
-- Calls
-- ---------------------------------------------------------------------------

-- The inside of a flight. `next` is a pipeline's next step where there is a call,
-- else the function itself.
local function fly(flight, self, key, call, next, ...)
  local result, err
  if call then
    result, err = layer.protect(call:fork(), next, ...)
  else
    result, err = next(...)
  end
  local kept, bytes = freeze(result, err)
  flight.kept = kept
  -- A delete or a put came in between: what is there is newer. And a result that
  -- is stale is better than a failure.
  if self.flights:is_current(flight) and not (flight.renews and is_failure(result)) then
    flight.is_kept = keep(self, key, result, err, kept, bytes)
  end
  return result, err
end

local function reason_of(result, err)
  if type(err) == "table" then return err.kind or err.message end
  if err ~= nil then return tostring(err) end
  return type(result) == "table" and tostring(result.status) or "no result"
end

-- A flight that nobody waits for, unless the entry goes before it is back.
local function renew(flight, self, ...)
  flight.renews = true
  local ok, result, err = xpcall(fly, core.note_traceback, flight, self, ...)
  if not ok then
    if not errors.is(result, "cancelled") then
      core.log("error", "neap.cache: renewing a result failed: " .. tostring(result))
    end
    error(result, 0)
  end
  if is_failure(result) then self:emit("refresh_failed", { reason = reason_of(result, err) }) end
  return result, err
end

-- One value for a result, two for a failure.
local function outcome(result, err)
  if err == nil then return result end
  return result, err
end

local function hand_out(call, kept, from)
  if call and values.is_shared(kept) then call.shared = true end
  return thaw(kept, from)
end

-- The caller who began the flight gets its very result, the others what is kept.
local function land(call, flight, leads, next, ...)
  if leads then
    if call and (flight.is_kept or flight.joined) and values.is_shared(flight.kept) then call.shared = true end
    return outcome(flight.result, flight.err)
  end
  if flight.kept == nil then -- a stream is for one
    if call then return next(call, ...) end
    return next(...)
  end
  return hand_out(call, flight.kept, "shared")
end

local function compute(self, key, call, next, ...)
  if not self.options.singleflight then
    local result, err
    if call then
      result, err = next(call, ...)
    else
      result, err = next(...)
    end
    local kept, bytes = freeze(result, err)
    if keep(self, key, result, err, kept, bytes) and call and values.is_shared(kept) then call.shared = true end
    return outcome(result, err)
  end
  if self.flights:of(key) then self.coalesced = self.coalesced + 1 end
  if call then call:waiting(self, "the one call for this key") end
  local flight, leads = self.flights:join(key, fly, self, key, call, next, ...)
  if call then call:waiting(nil) end
  return land(call, flight, leads, next, ...)
end

local function answer(self, key, call, next, ...)
  local entry = self.storage:get(key)
  if not entry then
    self.misses = self.misses + 1
    return compute(self, key, call, next, ...)
  end
  if now() < entry.fresh then
    self.hits = self.hits + 1
    return hand_out(call, entry.value, "fresh")
  end
  self.stale = self.stale + 1
  self.flights:start(key, renew, self, key, call, next, ...)
  return hand_out(call, entry.value, "stale")
end

local function key_of(self, fn, ...)
  local make = self.options.key
  if make then
    local key = make(...)
    if key ~= nil and type(key) ~= "string" then
      error("neap.cache: option 'key' must return a string or nil, got " .. type(key), 0)
    end
    return key
  end
  if self.options.store then
    error("neap.cache: option 'key' is needed beside 'store': functions have no names that outlive the process", 0)
  end
  local key, problem = keys.of(fn, ...)
  if problem then error(("neap.cache: option 'key' is needed: %s"):format(problem), 0) end
  return key
end

--- Answers from what is kept, else runs the rest of the pipeline. One result, or
--- nil, err. Waits.
function Cache:run(call, next, ...)
  local key = key_of(self, call.fn, ...)
  if key == nil then return next(call, ...) end
  return answer(self, key, call, next, ...)
end

-- ---------------------------------------------------------------------------
-- By key
-- ---------------------------------------------------------------------------

local function check_key(where, key)
  if type(key) ~= "string" then
    options.fail(("cache:%s: the key must be a string, got %s"):format(where, type(key)))
  end
end

local function skip_call(_, fn, ...) return fn(...) end

-- `fn(...)` as a part of the call `outer`, in whichever task.
local function within(outer, fn, ...)
  if core.current() == outer.task then return fn(...) end
  return layer.protect(outer:fork(), skip_call, fn, ...)
end

--- What is kept for `key`, or `fn(...)`, kept: as a call through the cache, with
--- the key given. Waits.
---@param key string
---@param fn fun(...): any, any a result, or nil and an error
---@return any result
---@return any err
function Cache:fetch(key, fn, ...)
  check_key("fetch", key)
  if type(fn) ~= "function" then options.fail("cache:fetch needs a function, got " .. type(fn)) end
  local outer = calls.of()
  if not outer then return answer(self, key, nil, fn, ...) end
  -- Inside a policy's call: what `fn` calls stays a part of it.
  return answer(self, key, nil, within, outer, fn, ...)
end

--- What is kept for `key` and fresh, or nil (and the error, of a failure). Waits
--- where the cache has a file, else never.
---@param key string
---@return any value
---@return any err
function Cache:get(key)
  check_key("get", key)
  local entry = self.storage:get(key)
  if not entry or now() >= entry.fresh then
    self.misses = self.misses + 1
    return nil
  end
  self.hits = self.hits + 1
  return thaw(entry.value, "fresh")
end

--- Keeps `value`. A call for the key that is under way will not be kept. Waits
--- where the cache has a file, else never.
---@param key string
---@param value any not nil; of a response a copy is kept, another table is kept as it is
---@param ttl? number seconds (the option's)
---@return true? ok
---@return neap.Error? err kind "too_large", "invalid" for what cannot be kept, or the file's
function Cache:put(key, value, ttl)
  check_key("put", key)
  if value == nil then options.fail("cache:put: the value is nil; use cache:delete") end
  if ttl ~= nil and (type(ttl) ~= "number" or ttl ~= ttl or ttl <= 0) then
    options.fail("cache:put: ttl must be seconds above 0, got " .. tostring(ttl))
  end
  local kept, bytes = freeze(value)
  if kept == nil then
    return nil, errors.new { kind = "invalid", message = "a streamed response cannot be kept; read it first" }
  end
  self.flights:forget(key)
  return self.storage:put(key, kept, bytes, ttl or self.options.ttl, self.options.stale_while_revalidate)
end

--- Drops `key`. A call for it that is under way will not be kept. Waits where the
--- cache has a file, else never.
---@param key string
---@return true? ok
---@return neap.Error? err the file's
function Cache:delete(key)
  check_key("delete", key)
  self.flights:forget(key)
  return self.storage:delete(key)
end

--- Drops everything. Waits where the cache has a file, else never.
---@return true? ok
---@return neap.Error? err the file's
function Cache:clear()
  self.flights:forget_all()
  return self.storage:clear()
end

--- Counts since the start, and what is there now. `entries` and `bytes` are those
--- in memory, what is over but not yet dropped included. Never waits.
---@return table
function Cache:snapshot()
  local memory, store = self.storage.memory, self.storage.file
  return {
    kind = self.kind, name = self.name, state = "ready", limit = self.options.max_entries,
    entries = memory.count, bytes = memory.bytes, evictions = memory.evictions, expirations = memory.expirations,
    hits = self.hits, misses = self.misses, stale = self.stale, coalesced = self.coalesced,
    revalidated = self.revalidated, flights = self.flights:count(), store = store and store:snapshot(),
  }
end

--- Notes an answer that the http client gave from what this cache holds.
---@package
---@param what "hits"|"misses"|"revalidated"
function Cache:count(what)
  self[what] = self[what] + 1
end

--- A cache. Raises on bad options. Never waits.
---@param opts? neap.cache.Options
---@return neap.Cache
function M.new(opts)
  return layer.new(Cache, opts)
end

--- Whether `value` is a cache.
---@param value any
---@return boolean
function M.is(value)
  return getmetatable(value) == Cache
end

--- Opens a file of results. Waits.
---@param path string
---@param opts? neap.cache.file.Options
---@return neap.cache.File? store
---@return neap.Error? err
function M.file(path, opts)
  return require("neap.cache.file").open(path, opts)
end

return setmetatable(M, { __call = function(_, opts) return layer.new(Cache, opts) end })
