-- SPDX-License-Identifier: MIT
--- Cache files in a folder that is gone after the test.
local neap = require "neap"
local tmp = require "spec.support.tmp"

local M = {}

local folder, path, opened

--- For before_each: a new folder; the path of a cache file in it, and its own.
---@return string path
---@return string folder
function M.start()
  folder, opened = tmp.dir(), {}
  path = folder .. "/cache"
  return path, folder
end

--- For after_each: closes what was opened and removes the folder.
function M.finish()
  for _, store in ipairs(opened) do store:close() end
  tmp.remove(folder)
end

--- Opens the cache file.
function M.open(opts)
  local store = assert(neap.cache.file(path, opts))
  opened[#opened + 1] = store
  return store
end

--- Closes it and opens it again.
function M.reopen(store, opts)
  assert(store:close())
  return M.open(opts)
end

--- What the cache file (or the file of that name) holds.
---@param name? string
---@return string
function M.bytes_of(name) return assert(tmp.read(name or path)) end

return M
