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

---@class neap.sim.Tally of all networks of a run
---@field requests integer
---@field operations integer
---@field statuses table<integer|string, integer>
---@field targets {name: string, requests: integer, failed: integer}[]
---@field worlds string[]
---@field others boolean hosts were asked that nobody serves
---@field reports string[] what worlds say themselves
local Tally = {}
Tally.__index = Tally

---@return neap.sim.Tally
function M.tally()
  return setmetatable({ requests = 0, operations = 0, statuses = {}, targets = {}, worlds = {}, others = false,
    reports = {}, by_name = {} }, Tally)
end

function Tally:target(name)
  local row = self.by_name[name]
  if not row then
    row = { name = name, requests = 0, failed = 0 }
    self.by_name[name], self.targets[#self.targets + 1] = row, row
  end
  return row
end

local function add_once(names, name)
  for _, known in ipairs(names) do
    if known == name then return end
  end
  names[#names + 1] = name
end

--- Adds what there was in a network.
---@param network neap.sim.Network
function Tally:add(network)
  self.requests, self.operations = self.requests + network.requests, self.operations + network.operations.count
  for outcome, count in pairs(network.statuses) do self.statuses[outcome] = (self.statuses[outcome] or 0) + count end
  for _, asked in ipairs(network:asked()) do
    local row = self:target(asked.name)
    row.requests, row.failed = row.requests + asked.requests, row.failed + asked.failed
  end
  self.others = self.others or network:unserved_host() ~= nil
  local world = network.world
  if not world then return end
  add_once(self.worlds, world.path or "a world of the script")
  for _, line in ipairs(world.report and world:report() or {}) do self.reports[#self.reports + 1] = line end
end

local function requests_line(tally)
  local failed = 0
  for _, target in ipairs(tally.targets) do failed = failed + target.failed end
  local connections = failed > 0 and ("%d connection%s not made"):format(failed, failed == 1 and "" or "s")
  if tally.requests == 0 then return "no requests" .. (connections and ", " .. connections or "") end
  local answers = outcomes(tally.statuses)
  return ("%d request%s (%s), %d x 429%s, amplification %.3g (requests per operation)"):format(tally.requests,
    tally.requests == 1 and "" or "s", answers == "" and "no answers" or answers, tally.statuses[429] or 0,
    connections and ", " .. connections or "", tally.requests / math.max(1, tally.operations))
end

--- What stood in for the network: each upstream and how often it was asked.
local function simulated_line(tally)
  local parts = {}
  for i, target in ipairs(tally.targets) do
    parts[i] = ("%s (%d%s)"):format(target.name, target.requests,
      target.failed > 0 and (", %d not connected"):format(target.failed) or "")
  end
  local world = #tally.worlds > 0 and list(tally.worlds)
  if #parts > 0 then return (world and world .. ": " or "") .. list(parts) end
  if not world then return "time only" end
  return world .. (tally.others and ", none of whose hosts was asked" or ", which nobody asked")
end

--- Lines for the end of a run.
---@param tally neap.sim.Tally
---@param read string[] names of files
---@return string[]
function M.lines(tally, read)
  local lines = {
    requests_line(tally),
    "simulated: " .. simulated_line(tally),
    "read from disk: " .. (#read > 0 and list(read) or "the script alone"),
  }
  for _, line in ipairs(tally.reports) do lines[#lines + 1] = line end
  return lines
end

return M
