--- Writes a file of results anew without its garbage, beside it, and puts it in
--- its place. Readers go on all the time; writers wait only for the last part.
---
--- The copy is in the order of use, so that it survives: what was used longest ago
--- comes first, as in the index that is made of it.
local core = require "neap.core"
local errors = require "neap.error"
local fs = require "neap.fs"
local record = require "neap.cache.record"
local scope = require "neap.scope"

local M = {}

local PIECE = 256 * 1024

local function copy_path(store) return store.path .. ".compact" end

--- Removes what a compaction left that was cut off with its program. Waits.
---@param store neap.cache.File
function M.remove_left_over(store)
  fs.remove(copy_path(store))
end

-- ---------------------------------------------------------------------------
-- The copy
-- ---------------------------------------------------------------------------

---@class neap.cache.Copy
---@field file neap.fs.File
---@field size integer bytes, those not yet written included
---@field places table<neap.cache.Entry, integer> where a copied entry is
---@field entries neap.cache.Entry[] in the order of their places
---@field parts string[] not yet written
---@field part_bytes integer

local function open_copy(store)
  local file, err = fs.open(copy_path(store), "ax+")
  if not file then return nil, err end
  local copy = { file = file, size = 0, places = {}, entries = {}, parts = {}, part_bytes = 0 }
  local header
  header, err = store.file:read_at(0, record.HEADER_BYTES)
  if not header then return copy, err end
  copy.parts[1], copy.size, copy.part_bytes = header, #header, #header
  -- From the moment it takes the file's place it must be locked.
  local taken
  taken, err = file:lock()
  if not taken then err = err or errors.new { kind = "internal", message = "the copy is locked" } end
  return copy, err
end

local function write_parts(copy)
  if copy.part_bytes == 0 then return true end
  local text = table.concat(copy.parts)
  copy.parts, copy.part_bytes = {}, 0
  return copy.file:write(text)
end

local function add(copy, text)
  copy.parts[#copy.parts + 1] = text
  copy.size, copy.part_bytes = copy.size + #text, copy.part_bytes + #text
  if copy.part_bytes >= PIECE then return write_parts(copy) end
  return true
end

--- Copies the entries that the copy does not have yet.
local function catch_up(store, copy)
  local keys, wall = store.index:keys(), core.time()
  for i = #keys, 1, -1 do
    local entry = store.index:peek(keys[i])
    if entry and not copy.places[entry] and wall < entry.keep then
      local text, err = store.file:read_at(entry.value, entry.bytes)
      if not text then return nil, err end
      local ok
      if #text == entry.bytes then
        copy.places[entry] = copy.size
        copy.entries[#copy.entries + 1] = entry
        ok, err = add(copy, text)
        if not ok then return nil, err end
      end
    end
  end
  return true
end

-- Entries that were deleted after they had been copied would come back.
local function note_deletions(store, copy)
  for _, entry in ipairs(copy.entries) do
    if not store.index:peek(entry.key) then
      local ok, err = add(copy, record.encode(store.salt, record.DELETED, entry.key, "", 0, 0))
      if not ok then return nil, err end
    end
  end
  return true
end

-- The rest, with the turn, in a shield: nothing is written meanwhile.
local function finish(store, copy)
  local ok, err = catch_up(store, copy)
  if ok then ok, err = note_deletions(store, copy) end
  if ok then ok, err = write_parts(copy) end
  if ok then ok, err = copy.file:sync() end
  if ok then ok, err = fs.rename(copy_path(store), store.path) end
  if not ok then return nil, err end
  local old, before = store.file, store.size
  store.file, store.size = copy.file, copy.size
  copy.taken = true
  for _, key in ipairs(store.index:keys()) do
    local entry = store.index:peek(key)
    if copy.places[entry] then
      entry.value = copy.places[entry]
    else
      store.index:delete(key) -- over, or its record cannot be read
    end
  end
  old:close()
  store.compactions = store.compactions + 1
  store:emit("compacted", { reason = "garbage", before = before, after = store.size })
  return true
end

local function make(store, copy)
  local ok, err = catch_up(store, copy)
  if ok then ok, err = write_parts(copy) end
  -- The most of it is on the disk before the writers have to wait.
  if ok then ok, err = copy.file:sync() end
  if not ok then return nil, err end
  return store.turn:with(scope.shield, finish, store, copy)
end

local function discard(store, copy)
  if not copy or copy.taken then return end
  copy.file:close()
  fs.remove(copy_path(store))
end

local function run(store)
  local copy, err = open_copy(store)
  local ran, ok = true, nil
  if copy and not err then ran, ok, err = pcall(make, store, copy) end
  if not ran or not ok then scope.shield(discard, store, copy) end
  if not ran then error(ok, 0) end
  return ok, err
end

-- The task's body: no error leaves it.
local function body(store)
  local ran, ok, err = pcall(run, store)
  if not ran then ok, err = nil, errors.wrap(ok) end
  store.compaction, store.compacted, store.compact_error = nil, ok, err
  if not ok and err.kind ~= "cancelled" then
    store.retry_at = store.size * 2
    core.log("warning", ("the cache file '%s' cannot be compacted: %s"):format(store.path, tostring(err)))
    store:emit("failed", { reason = err.message })
  end
end

--- Begins a compaction, unless one is under way. Never waits.
---@param store neap.cache.File
function M.start(store)
  if store.compaction then return end
  store.compacted, store.compact_error = nil, nil
  store.compaction = core.spawn_detached(body, store)
end

--- Ends the one under way, if any. Waits.
---@param store neap.cache.File
function M.stop(store)
  local task = store.compaction
  if not task then return end
  task:cancel()
  scope.shield(task.await, task)
end

return M
