--- A small file at once, for what is read before anything runs: worlds, prices,
--- cassettes. Holds the loop meanwhile, and needs no task; neap.fs is for all else.
local M = {}

--- Never waits.
---@param path string
---@return string? text
---@return string? message "cannot read PATH: why"
function M.read(path)
  local file, message = io.open(path, "rb")
  if not file then return nil, "cannot read " .. message end
  local text, reason = file:read "*a"
  -- A folder opens; LuaJIT reads "" of it, and says why only when asked for a byte.
  if text == "" then
    local _, failure = file:read(1)
    if failure then text, reason = nil, failure end
  end
  file:close()
  if not text then return nil, ("cannot read %s: %s"):format(path, reason or "it is no file") end
  return text
end

return M
