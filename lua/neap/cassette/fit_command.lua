--- `neap lab fit cassette.jsonl > world.lua`.
local core = require "neap.core"
local reader = require "neap.cassette.reader"

local M = {}

local EXIT_USAGE = 2
local HOG_S = 3600 -- nobody else waits here

--- Prints the world on standard output, how well it fits on standard error.
---@param _ table options of `neap lab`
---@param rest string[] the cassette
---@return integer code
---@return string? message one line
function M.main(_, rest)
  if #rest ~= 1 then return EXIT_USAGE, "fit needs one cassette: neap lab fit cassette.jsonl > world.lua" end
  core.hog_threshold(HOG_S)
  local tape, message = reader.read(rest[1])
  if not tape then return EXIT_USAGE, message end
  local ok, fitted = pcall(require("neap.cassette.fit").of, tape)
  if not ok then return EXIT_USAGE, tostring(fitted) end
  io.stdout:write(fitted:world())
  io.stdout:flush()
  io.stderr:write(fitted:report())
  if tape.torn then io.stderr:write(tape.path, ": its last line is cut off; it does not count\n") end
  return 0
end

return M
