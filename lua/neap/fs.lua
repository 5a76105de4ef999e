--- Files off the loop: every operation runs on the thread pool while the task
--- waits and others go on. Failures are `nil, err`: kind "invalid", or "limit"
--- when the system has no room, with `code` (the system's name, "ENOENT") and
--- `path`. Wrong types raise.
local await = require "neap.await"
local call = require "neap.fs.call"
local core = require "neap.core"
local errors = require "neap.error"
local files = require "neap.fs.file"
local lines_of = require "neap.fs.lines"
local options = require "neap.options"
local uv = require "neap.uv"

local M = {}

local FILE_MODE, FOLDER_MODE = 420, 511 -- 0644 and 0777, less the umask

-- ---------------------------------------------------------------------------
-- Whole files
-- ---------------------------------------------------------------------------

local function read(path, base64)
  local bad = call.bad_path("read", path)
  if bad then return nil, bad end
  local data, errno = core.file_job(path, base64):read()
  if data then return data end
  local err = call.failure_of("read", path, (uv.translate_sys_error(errno)))
  if err.code == "EFBIG" then
    return nil, errors.new { kind = "too_large", code = err.code, path = path,
      message = ("cannot read '%s': more than 1 GB; read it in pieces"):format(path) }
  end
  return nil, err
end

--- The whole file, as it is. Waits.
---@param path string
---@return string? data
---@return neap.Error? err kind "too_large" beyond 1 GB
function M.read(path)
  call.check_path("read", path)
  return read(path, false)
end

--- The whole file as base64 (standard alphabet, padded), encoded on the thread
--- pool too. Waits.
---@param path string
---@return string? text
---@return neap.Error? err kind "too_large" beyond 1 GB
function M.read_base64(path)
  call.check_path("read_base64", path)
  return read(path, true)
end

local function write(path, data, mode, permissions)
  local file, err = files.open(path, mode, permissions)
  if not file then return nil, err end
  local ok, written, write_err = pcall(file.write, file, data)
  if not ok or not written then file:abandon() end
  if not ok then error(written, 0) end
  if not written then return nil, write_err end
  return file:close()
end

local write_options = {
  append = { type = "boolean", default = false },
  mode = { type = "string|number", doc = 'octal digits, for a new file; default "644"' },
}

--- Makes `data` the file's contents, or adds it at the end. Not atomic: a reader
--- may see a part. Waits.
---@param path string
---@param data string
---@param opts? {append?: boolean, mode?: string|integer} mode: permissions of a new file, octal digits
---@return true? ok
---@return neap.Error? err
function M.write(path, data, opts)
  call.check_path("write", path)
  if type(data) ~= "string" then error("neap.fs.write: expected a string, got " .. type(data), 2) end
  opts = options.check("neap.fs.write", opts, write_options)
  local permissions = call.permissions("write", opts.mode, FILE_MODE)
  local bad = call.bad_path("write", path)
  if bad then return nil, bad end
  return write(path, data, opts.append and "a" or "w", permissions)
end

--- Adds `data` at the end of a file, which is made if it is missing. Waits.
---@param path string
---@param data string
---@return true? ok
---@return neap.Error? err
function M.append(path, data)
  call.check_path("append", path)
  if type(data) ~= "string" then error("neap.fs.append: expected a string, got " .. type(data), 2) end
  local bad = call.bad_path("append to", path)
  if bad then return nil, bad end
  return write(path, data, "a", FILE_MODE)
end

-- ---------------------------------------------------------------------------
-- Open files and lines
-- ---------------------------------------------------------------------------

local MODES = {
  r = true, ["r+"] = true, w = true, ["w+"] = true, a = true, ["a+"] = true,
  wx = true, ["wx+"] = true, ax = true, ["ax+"] = true,
}

local open_options = { mode = write_options.mode }

--- Opens a file: "r" to read, "w" to write anew, "a" to append; "+" for both
--- reading and writing; "x" fails when the file exists. Waits.
---@param path string
---@param how? string default "r"
---@param opts? {mode?: string|integer} permissions of a new file, octal digits, default "644"
---@return neap.fs.File? file
---@return neap.Error? err
function M.open(path, how, opts)
  call.check_path("open", path)
  how = how or "r"
  if not MODES[how] then
    error(("neap.fs.open: unknown mode '%s'; use r, w or a, with x and + where wanted"):format(tostring(how)), 2)
  end
  opts = options.check("neap.fs.open", opts, open_options)
  local permissions = call.permissions("open", opts.mode, FILE_MODE)
  local bad = call.bad_path("open", path)
  if bad then return nil, bad end
  return files.open(path, how, permissions)
end

local lines_options = { max_line = { type = "integer", min = 1, default = 128 * 2 ^ 20, unit = "bytes" } }

--- An iterator over the lines, without their "\n" (a "\r" stays); a last line
--- without line end counts. Reads as it goes. A file that cannot be opened or
--- read, and a line beyond `max_line`, raise the error table, for a `for` cannot
--- return it. Waits, now and in the iterator.
---@param path string
---@param opts? {max_line?: integer} bytes, default 128 MiB
---@return fun(): string?
function M.lines(path, opts)
  call.check_path("lines", path)
  opts = options.check("neap.fs.lines", opts, lines_options)
  local bad = call.bad_path("open", path)
  local file, err
  if not bad then file, err = files.open(path, "r", FILE_MODE) end
  if not file then error(bad or err, 0) end
  return lines_of(file, opts.max_line)
end

-- ---------------------------------------------------------------------------
-- Names
-- ---------------------------------------------------------------------------

--- A function of one path: checks it, then waits for luv's.
local function by_path(name, verb, fn)
  return function(path)
    call.check_path(name, path)
    local bad = call.bad_path(verb, path)
    if bad then return nil, bad end
    return call.wait(verb, path, fn, path)
  end
end

---@class neap.fs.Stat
---@field type "file"|"directory"|"link"|"fifo"|"socket"|"char"|"block"|"unknown"
---@field size integer bytes
---@field mode integer permissions and type
---@field mtime {sec: integer, nsec: integer} last change
---@field dev integer with `ino`: which file it is
---@field ino integer

--- What the system knows about a file; of a symbolic link, about its target. Waits.
---@type fun(path: string): neap.fs.Stat?, neap.Error?
M.stat = by_path("stat", "stat", uv.fs_stat)

--- The same, but of the link itself. Waits.
---@type fun(path: string): neap.fs.Stat?, neap.Error?
M.lstat = by_path("lstat", "stat", uv.fs_lstat)

--- The absolute path without links and dots. Waits.
---@type fun(path: string): string?, neap.Error?
M.realpath = by_path("realpath", "resolve", uv.fs_realpath)

--- Whether there is a file or folder; nil, err when that cannot be told. Waits.
---@param path string
---@return boolean? exists
---@return neap.Error? err
function M.exists(path)
  call.check_path("exists", path)
  local stat, err = M.stat(path)
  if stat then return true end
  if err.code == "ENOENT" or err.code == "ENOTDIR" then return false end
  return nil, err
end

-- The request that luv gives the callback is the list itself.
local function start_list(resume, path) return uv.fs_scandir(path, resume) end

--- The names in a folder, sorted, without "." and "..". Waits.
---@param path string
---@return string[]? names
---@return neap.Error? err
function M.list(path)
  call.check_path("list", path)
  local bad = call.bad_path("list", path)
  if bad then return nil, bad end
  local text, request = await(start_list, path)
  if text then return nil, call.failure_of("list", path, text) end
  local names = {}
  while true do
    local name = uv.fs_scandir_next(request)
    if not name then break end
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

-- An existing folder is what was wanted; an existing file is not.
local function make_folder(path, permissions)
  local ok, err = call.wait("make", path, uv.fs_mkdir, path, permissions)
  if ok then return true end
  if err.code ~= "EEXIST" then return nil, err end
  local stat = M.stat(path)
  if stat and stat.type == "directory" then return true end
  return nil, err
end

local function make_folders(path, permissions)
  local ok, err = make_folder(path, permissions)
  if ok or err.code ~= "ENOENT" then return ok, err end
  local parent = path:match "^(.*[^/])/+[^/]+/*$"
  if not parent then return nil, err end
  ok, err = make_folders(parent, permissions)
  if not ok then return nil, err end
  return make_folder(path, permissions)
end

local mkdir_options = { parents = { type = "boolean", default = false }, mode = write_options.mode }

--- Makes a folder; with `parents` also those above it, and an existing folder is
--- no failure. Waits.
---@param path string
---@param opts? {parents?: boolean, mode?: string|integer} mode: octal digits, default "777" less the umask
---@return true? ok
---@return neap.Error? err
function M.mkdir(path, opts)
  call.check_path("mkdir", path)
  opts = options.check("neap.fs.mkdir", opts, mkdir_options)
  local permissions = call.permissions("mkdir", opts.mode, FOLDER_MODE)
  local bad = call.bad_path("make", path)
  if bad then return nil, bad end
  if opts.parents then return make_folders(path, permissions) end
  return call.wait("make", path, uv.fs_mkdir, path, permissions)
end

-- Links are removed, not followed.
local function remove(path, recursive)
  local stat, err = M.lstat(path)
  if not stat then
    err.message = err.message:gsub("^cannot stat", "cannot remove")
    return nil, err
  end
  if stat.type ~= "directory" then return call.wait("remove", path, uv.fs_unlink, path) end
  if recursive then
    local names
    names, err = M.list(path)
    if not names then return nil, err end
    for _, name in ipairs(names) do
      local ok
      ok, err = remove(path .. "/" .. name, true)
      if not ok then return nil, err end
    end
  end
  return call.wait("remove", path, uv.fs_rmdir, path)
end

local remove_options = { recursive = { type = "boolean", default = false } }

--- Removes a file or an empty folder; with `recursive` a folder with everything in
--- it (links in it are removed, not followed). Waits.
---@param path string
---@param opts? {recursive?: boolean}
---@return true? ok
---@return neap.Error? err
function M.remove(path, opts)
  call.check_path("remove", path)
  opts = options.check("neap.fs.remove", opts, remove_options)
  local bad = call.bad_path("remove", path)
  if bad then return nil, bad end
  return remove(path, opts.recursive)
end

--- Renames within a file system, at once; what was at `to` is replaced. Waits.
---@param from string
---@param to string
---@return true? ok
---@return neap.Error? err
function M.rename(from, to)
  call.check_path("rename", from)
  call.check_path("rename", to)
  local bad = call.bad_path("rename", from) or call.bad_path("rename to", to)
  if bad then return nil, bad end
  return call.wait("rename", from, uv.fs_rename, from, to)
end

--- Makes a new folder for temporary files and returns its path. Removing it is the
--- caller's. Waits.
---@return string? path
---@return neap.Error? err
function M.tmpdir()
  local template = uv.os_tmpdir() .. "/neap-XXXXXX"
  return call.wait("make", template, uv.fs_mkdtemp, template)
end

return M
