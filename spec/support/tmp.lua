--- Temporary directories and small files for specs.
local uv = require "neap.uv"

local M = {}

local function remove(path)
  local stat = uv.fs_lstat(path)
  if not stat then return end
  if stat.type == "directory" then
    local request = assert(uv.fs_scandir(path))
    for name in function() return uv.fs_scandir_next(request) end do remove(path .. "/" .. name) end
    assert(uv.fs_rmdir(path))
  else
    assert(uv.fs_unlink(path))
  end
end

--- A new empty directory.
---@return string path
function M.dir()
  return assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/neap-spec-XXXXXX"))
end

--- Removes a directory made by `M.dir` and everything in it.
---@param path string
function M.remove(path)
  assert(path:find("neap-spec-", 1, true), "not a directory of ours: " .. path)
  remove(path)
end

---@param path string
---@param content string
---@return string path
function M.write(path, content)
  local file = assert(io.open(path, "wb"))
  file:write(content)
  file:close()
  return path
end

---@param path string
---@return string? content nil when there is no such file
function M.read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local content = file:read "*a"
  file:close()
  return content
end

return M
