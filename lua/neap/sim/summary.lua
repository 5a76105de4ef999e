--- What `neap sim` says at its end about the simulated network and the disk. Pure.
local M = {}

local NAMED = 5 -- of a list; the others are counted

local function list(names)
  local shown = {}
  for i = 1, math.min(#names, NAMED) do shown[i] = names[i] end
  if #names > NAMED then shown[#shown + 1] = ("%d more"):format(#names - NAMED) end
  return table.concat(shown, ", ")
end

--- "940 x 200, 40 x 429, 20 x drop"
local function outcomes(statuses)
  local names, parts = {}, {}
  for name in pairs(statuses) do names[#names + 1] = name end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for i, name in ipairs(names) do parts[i] = ("%d x %s"):format(statuses[name], name) end
  return table.concat(parts, ", ")
end

local function requests_line(network)
  if network.requests == 0 then return "no requests" end
  local answers = outcomes(network.statuses)
  return ("%d request%s (%s), %d x 429, amplification %.3g (requests per operation)"):format(network.requests,
    network.requests == 1 and "" or "s", answers == "" and "no answers" or answers, network.statuses[429] or 0,
    network:amplification())
end

--- What stood in for the network: each upstream and how often it was asked.
local function simulated_line(network)
  local parts = {}
  for _, target in ipairs(network:asked()) do parts[#parts + 1] = ("%s (%d)"):format(target.name, target.requests) end
  local world = network.world and (network.world.path or "a world") or nil
  if #parts == 0 then return world and world .. ", which nobody asked" or "time only" end
  return (world and world .. ": " or "") .. list(parts)
end

--- Lines for the end of a run.
---@param network neap.sim.Network
---@param read string[] names of files
---@return string[]
function M.lines(network, read)
  local lines = {
    requests_line(network),
    "simulated: " .. simulated_line(network),
    "read from disk: " .. (#read > 0 and list(read) or "the script alone"),
  }
  local world = network.world
  for _, line in ipairs(world and world.report and world:report() or {}) do lines[#lines + 1] = line end
  return lines
end

return M
