---@meta
--- Jobs on the thread pool, and base64: what runtime/bind/lua_work.c gives
--- lua/neap/fs.lua and base64.lua.

local core = {}

---@class neap.file_job
local file_job = {}

--- The whole file (as base64 if asked for), read on the thread pool. Waits; a
--- cancel leaves the thread to itself.
---@return string? data
---@return integer? errno EFBIG beyond 1 GB
function file_job:read() end

--- A job that is not begun. Never waits.
---@param path string
---@param base64 boolean
---@return neap.file_job
function core.file_job(path, base64) end

--- Takes the lock (flock) of an open file, not waiting for it.
---@param fd integer
---@return integer? errno nothing when taken; EAGAIN when somebody else has it
function core.file_lock(fd) end

---@param data string
---@param url boolean the alphabet for URLs, without padding
---@return string text
function core.base64_encode(data, url) end

---@param text string
---@param url boolean
---@return string? data
---@return integer? position of the first wrong byte, from 1
function core.base64_decode(text, url) end
