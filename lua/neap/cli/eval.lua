--- `neap -e CODE [-e CODE]... [args]`: code from the command line, where `neap`
--- is a global.
local run = require "neap.cli.run"

local M = {
  name = "-e",
  summary = "run code given on the command line",
  usage = "neap -e CODE [-e CODE]... [args]",
  options = {},
  raw = true, -- what follows the code belongs to the code
  tail = true,
}

--- Splits the leading `-e CODE` and `-eCODE` from the arguments of the code.
---@param argv string[]
---@return string[]? codes nil when CODE is missing
---@return string[] rest
function M.split(argv)
  local codes, at = {}, 1
  while argv[at] do
    local attached = argv[at]:match "^%-e(.+)$"
    if attached then
      codes[#codes + 1] = attached
      at = at + 1
    elseif argv[at] == "-e" then
      if argv[at + 1] == nil then return nil, {} end
      codes[#codes + 1] = argv[at + 1]
      at = at + 2
    else
      break
    end
  end
  if argv[at] == "--" then at = at + 1 end
  return codes, { unpack(argv, at) }
end

---@param _ table
---@param argv string[]
function M.main(_, argv)
  local codes, rest = M.split(argv)
  if not codes then return run.fail("-e needs code (try 'neap help')", 2) end
  local chunks = {}
  for i, code in ipairs(codes) do
    local chunk, message = loadstring(code, "=(command line)")
    if not chunk then return run.fail((message:gsub("\n", " ")), 1) end
    chunks[i] = chunk
  end
  rawset(_G, "neap", require "neap")
  run.set_arg("-e", rest)
  for i = 1, #chunks - 1 do chunks[i](unpack(rest)) end
  return chunks[#chunks](unpack(rest))
end

return M
