--- neap.cache.file: results in one append-only file, their places in memory. What
--- a file promises, and what happens to a damaged one: docs/api/cache.md.
---
--- Invariants: nothing is written but at the end, by one task at a time (`turn`);
--- what was asked for but is not written yet is in `pending` and wins over the
--- index; a place in the index is the start of a whole record of `file`.
local compact = require "neap.cache.compact"
local core = require "neap.core"
local errors = require "neap.error"
local flow = require "neap.flow"
local fs = require "neap.fs"
local lru = require "neap.cache.lru"
local options = require "neap.options"
local record = require "neap.cache.record"
local scan = require "neap.cache.scan"
local schema = require "neap.schema"
local scope = require "neap.scope"
local telemetry = require "neap.telemetry"
local values = require "neap.cache.values"

local M = {}

---@class neap.cache.Write what is to be written
---@field key string
---@field text string the record
---@field kept any nil: a deletion
---@field bytes number of `kept` in memory
---@field fresh number Unix time, seconds
---@field keep number Unix time, seconds
---@field done boolean it is in the file
---@field err? neap.Error why it is not

---@class neap.cache.File
---@field path string
---@field options neap.cache.file.Options
---@field dropped integer bytes of no record that the file had when it was opened
---@field package file neap.fs.File
---@field package index neap.cache.Lru entry.value is the record's place, entry.bytes its size
---@field package salt integer
---@field package size integer the file's bytes
---@field package turn neap.semaphore
---@field package queue neap.cache.Write[]
---@field package pending table<string, neap.cache.Write>
---@field package compaction? neap.task
---@field package retry_at integer bytes: after a failed compaction none begins below
---@field package closed boolean
local File = {}
File.__index = File

function File:__tostring() return ("neap.cache.file (%s)"):format(self.path) end

local function closed_error(self)
  return errors.new { kind = "closed", message = ("the cache file '%s' is closed"):format(self.path) }
end

--- Tells neap.telemetry. Never waits.
---@package
function File:emit(event, fields)
  if telemetry.active then telemetry.emit(self.path, "cache_file", event, fields) end
end

-- ---------------------------------------------------------------------------
-- Reading
-- ---------------------------------------------------------------------------

-- The whole record of an entry: its head and value; nil when what stands there is
-- not that record.
local function read_entry(self, entry)
  local text, err = self.file:read_at(entry.value, entry.bytes)
  if not text then return nil, nil, err end
  if #text < entry.bytes then return nil end
  local size = record.head_size(text, 1)
  local head = size and size <= #text and record.decode(text, 1, self.salt)
  if not head or head.key ~= entry.key or head.size ~= #text then return nil end
  return head, record.value(text, head)
end

local function give_up_entry(self, entry)
  self.index:delete(entry.key)
  self.corrupt = self.corrupt + 1
  self:emit("corrupt", { reason = "a record's sum is wrong", bytes = entry.bytes })
end

--- For neap.cache: what is kept, its bytes in memory, and until when (Unix time).
--- Nil when there is nothing, or it cannot be read: a cache then has a miss. Waits.
---@package
---@param key string
---@return any kept
---@return number? bytes
---@return number? fresh
---@return number? keep
function File:load(key)
  while not self.closed do
    local write = self.pending[key]
    if write then return write.kept, write.bytes, write.fresh, write.keep end
    local entry = self.index:get(key, core.time())
    if not entry then return nil end
    local file = self.file
    local head, value, err = read_entry(self, entry)
    local current = self.index:peek(key) == entry and not self.pending[key]
    if current and file == self.file then
      local kept, bytes
      if value then kept, bytes = values.decode(head.kind, value) end
      if kept ~= nil then return kept, bytes, entry.fresh, entry.keep end
      if not err then give_up_entry(self, entry) end
      return nil
    end
    -- Overwritten, deleted, or the file was written anew meanwhile: once more.
  end
end

--- What is kept for `key` and fresh, or nil. Waits.
---@param key string
---@return any value
function File:get(key)
  local kept, _, fresh = self:load(key)
  if kept == nil or core.time() >= fresh then return nil end
  return (values.thaw(kept, "fresh"))
end

-- ---------------------------------------------------------------------------
-- Writing
-- ---------------------------------------------------------------------------

local function apply(self, write, place)
  write.done = true
  if self.pending[write.key] == write then self.pending[write.key] = nil end
  if write.kept == nil then
    self.index:delete(write.key)
  else
    self.index:put(write.key, place, #write.text, write.fresh, write.keep)
  end
end

local function fail(self, batch, err)
  for _, write in ipairs(batch) do
    write.err = err
    if self.pending[write.key] == write then self.pending[write.key] = nil end
  end
  -- What may stand there of a record: the next one must not come behind it.
  local ok = self.file:truncate(self.size)
  if not ok then self.failed = err end
  self:emit("failed", { reason = err.message })
end

-- Appends all that is in the queue; in a shield, with the turn.
local function flush(self)
  local batch, texts = self.queue, {}
  if #batch == 0 then return end
  self.queue = {}
  for i, write in ipairs(batch) do texts[i] = write.text end
  local text = table.concat(texts)
  local ok, err = nil, self.failed
  if not err then ok, err = self.file:write(text) end
  if ok and self.options.sync then ok, err = self.file:sync() end
  if not ok then return fail(self, batch, err) end
  for _, write in ipairs(batch) do
    apply(self, write, self.size)
    self.size = self.size + #write.text
  end
end

--- The share of the file that no living record takes.
local function garbage_share(self)
  return 1 - (self.index.bytes + record.HEADER_BYTES) / self.size
end

local function wants_compaction(self)
  return not self.closed and not self.compaction and self.size >= math.max(self.options.min_compact, self.retry_at)
    and garbage_share(self) >= self.options.garbage
end

-- Another one's flush may have taken it along.
local function flush_for(self, write)
  if not write.done and not write.err then scope.shield(flush, self) end
end

local function append(self, write)
  self.queue[#self.queue + 1] = write
  self.pending[write.key] = write
  self.turn:with(flush_for, self, write)
  if wants_compaction(self) then compact.start(self) end
  if write.done then return true end
  return nil, write.err
end

--- For neap.cache: keeps what `values.freeze` made. Waits.
---@package
---@param key string
---@param kept any
---@param fresh number Unix time, seconds
---@param keep number Unix time, seconds
---@return true? ok
---@return neap.Error? err
function File:save(key, kept, fresh, keep)
  if self.closed then return nil, closed_error(self) end
  local kind, text = values.encode(kept)
  if not kind then return nil, text end
  local size = record.HEAD_BYTES + #key + #text
  if size > math.min(self.options.max_bytes, record.MAX_PART) then
    return nil, errors.new { kind = "too_large",
      message = ("a value of %d bytes is larger than the cache file may be (max_bytes)"):format(#text) }
  end
  return append(self, {
    key = key, kept = kept, bytes = #text, fresh = fresh, keep = keep, done = false,
    text = record.encode(self.salt, kind, key, text, fresh, keep),
  })
end

local function check_key(where, key)
  if type(key) ~= "string" then
    options.fail(("%s: the key must be a string, got %s"):format(where, type(key)))
  end
end

--- Keeps a string, a response, or a value that JSON can say. Waits until it is in
--- the file.
---@param key string
---@param value any
---@param ttl? number seconds; default: until it must make room
---@return true? ok
---@return neap.Error? err "invalid" for what cannot be kept, "too_large", "limit" for a full disk, "closed"
function File:put(key, value, ttl)
  check_key("file:put", key)
  if value == nil then options.fail("file:put: the value is nil; use file:delete") end
  if ttl ~= nil and (type(ttl) ~= "number" or ttl ~= ttl or ttl <= 0) then
    options.fail("file:put: ttl must be seconds above 0, got " .. tostring(ttl))
  end
  local kept = values.freeze(value)
  if kept == nil then
    return nil, errors.new { kind = "invalid", message = "a streamed response cannot be kept; read it first" }
  end
  local until_ = core.time() + (ttl or math.huge)
  return self:save(key, kept, until_, until_)
end

--- Drops `key`. Waits until that is in the file.
---@param key string
---@return true? ok
---@return neap.Error? err
function File:delete(key)
  check_key("file:delete", key)
  if self.closed then return nil, closed_error(self) end
  -- Of a key that has made room a record may stand in the file even so.
  if self.index.evictions == 0 and not self.pending[key] and not self.index:peek(key) then return true end
  self.index:delete(key)
  return append(self, { key = key, done = false, text = record.encode(self.salt, record.DELETED, key, "", 0, 0) })
end

-- ---------------------------------------------------------------------------
-- The whole
-- ---------------------------------------------------------------------------

local function cut_off_all(self)
  flush(self)
  local ok, err = self.file:truncate(record.HEADER_BYTES)
  if not ok then return nil, err end
  self.size = record.HEADER_BYTES
  self.index:clear()
  return true
end

--- Drops everything. Waits.
---@return true? ok
---@return neap.Error? err
function File:clear()
  if self.closed then return nil, closed_error(self) end
  compact.stop(self)
  return self.turn:with(scope.shield, cut_off_all, self)
end

--- Writes the file anew without its garbage, now. Readers go on. Waits.
---@return true? ok
---@return neap.Error? err
function File:compact()
  if self.closed then return nil, closed_error(self) end
  if not self.compaction then compact.start(self) end
  local task = self.compaction
  task:await()
  return self.compacted, self.compact_error
end

local function finish(self)
  flush(self)
  return self.file:close()
end

--- Writes what waits to be written, and closes. Later calls fail with kind
--- "closed", reads find nothing. Waits.
---@return true? ok
---@return neap.Error? err
function File:close()
  if self.closed then return true end
  self.closed = true
  compact.stop(self)
  return self.turn:with(scope.shield, finish, self)
end

--- Plain data. Never waits.
---@return table
function File:snapshot()
  local index = self.index
  return {
    state = self.closed and "closed" or self.failed and "failed" or self.compaction and "compacting" or "ready",
    path = self.path, entries = index.count, bytes = index.bytes, file_bytes = self.size,
    garbage = self.size > 0 and garbage_share(self) or 0, dropped = self.dropped, corrupt = self.corrupt,
    evictions = index.evictions, expirations = index.expirations, compactions = self.compactions,
    reason = self.failed and self.failed.message,
  }
end

-- ---------------------------------------------------------------------------
-- Opening
-- ---------------------------------------------------------------------------

local function in_use(path)
  return nil, errors.new { kind = "invalid", code = "EBUSY", path = path,
    message = ("the cache file '%s' is in use by another program, or open already"):format(path) }
end

-- The file, locked; not one that was replaced by a compaction in between.
local function open_locked(path)
  while true do
    local file, err = fs.open(path, "a+")
    if not file then return nil, err end
    local ok, taken, lock_err = pcall(file.lock, file)
    if not ok then error(taken, 0) end
    if not taken then
      file:close()
      if lock_err then return nil, lock_err end
      return in_use(path)
    end
    local mine, there = file:stat(), fs.stat(path)
    if mine and there and mine.ino == there.ino and mine.dev == there.dev then return file, nil, mine.size end
    file:close()
  end
end

-- Reads the header, or writes it into a file that has none yet.
local function read_header(self)
  local text, err = self.file:read_at(0, record.HEADER_BYTES)
  if not text then return nil, err end
  local salt = record.salt(text)
  if salt == nil then
    return nil, errors.new { kind = "invalid", path = self.path,
      message = ("'%s' is not a cache file"):format(self.path) }
  end
  if salt then
    self.salt = salt
    return true
  end
  local header
  header, self.salt = record.header(core.random)
  local ok
  ok, err = self.file:truncate(0)
  if ok then ok, err = self.file:write(header) end
  if not ok then return nil, err end
  self.size = #header
  return true
end

-- A whole head does not say that the value was written: after a power cut the
-- tail may be anything.
local function drop_torn_value(self, found)
  local head = found.last
  if not head or head.kind == record.DELETED then return end
  local entry = { key = head.key, value = found.last_at, bytes = head.size }
  local _, value = read_entry(self, entry)
  if value then return end
  found.size = found.last_at
  local known = self.index:peek(head.key)
  if known and known.value == found.last_at then self.index:delete(head.key) end
end

local function mend(self, found)
  drop_torn_value(self, found)
  local torn = self.size - found.size
  self.dropped = torn + found.skipped
  if torn > 0 then
    local ok, err = self.file:truncate(found.size)
    if not ok then return nil, err end
    self.size = found.size
  end
  if self.dropped > 0 then
    -- A torn tail is what a killed program leaves; anything else is damage.
    core.log(found.skipped > 0 and "warning" or "info",
      ("the cache file '%s' had %d bytes that belong to no whole record"):format(self.path, self.dropped))
    self:emit("mended", { reason = "bytes that belong to no whole record", bytes = self.dropped, tail = torn })
  end
  return true
end

local function load_index(self)
  local wall = core.time()
  local found, err = scan.run(self.file, self.size, self.salt, function(head, place)
    if head.kind == record.DELETED or head.keep <= wall then
      self.index:delete(head.key)
    else
      self.index:put(head.key, place, head.size, head.fresh, head.keep)
    end
  end)
  if not found then return nil, err end
  return mend(self, found)
end

local function set_up(self)
  local ok, err = read_header(self)
  if ok then ok, err = load_index(self) end
  if not ok then return nil, err end
  compact.remove_left_over(self)
  return true
end

--- Opens the file, which is made when it is missing: reads where everything is and
--- mends what is damaged. Misuse raises. Waits.
---@param path string
---@param opts? neap.cache.file.Options
---@return neap.cache.File? store
---@return neap.Error? err
function M.open(path, opts)
  if type(path) ~= "string" then
    options.fail("neap.cache.file: the path must be a string, got " .. type(path))
  end
  local checked = schema.check("cache_file", opts)
  local file, err, size = open_locked(path)
  if not file then return nil, err end
  local self = setmetatable({
    path = path, options = checked, file = file, size = size, dropped = 0, corrupt = 0, compactions = 0, retry_at = 0,
    index = lru.new(checked.max_entries, checked.max_bytes), turn = flow.semaphore(1),
    queue = {}, pending = {}, closed = false,
  }, File)
  local ran, ok, problem = pcall(set_up, self)
  if ran and ok then
    if wants_compaction(self) then compact.start(self) end
    return self
  end
  scope.shield(file.close, file)
  if not ran then error(ok, 0) end
  return nil, problem
end

return M
