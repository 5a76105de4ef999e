-- SPDX-License-Identifier: MIT
--- Where this repository's files are, from wherever the specs are run.
local M = {}

--- The repository's folder, with a "/" at its end.
M.root = debug.getinfo(1, "S").source:match "^@(.*/)spec/support/[^/]*$" or "./"

--- The whole text of a file; raises when there is none.
---@param path string below the repository's folder
---@return string
function M.read(path)
  local file = assert(io.open(M.root .. path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

return M
