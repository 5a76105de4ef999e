--- What every report opens with: what kind of load, where the world comes from,
--- seeds, version, command. Pure.
local core = require "neap.core"
local loads = require "neap.lab.load"
local printable = require "neap.printable"
local statistics = require "neap.lab.statistics"

local M = {}

---@class neap.lab.Header
---@field title string?
---@field load string
---@field world string
---@field source string where its figures come from
---@field first integer seed
---@field runs integer of each policy
---@field command string
---@field seeds string? instead of first and runs
---@field currency string?

local function quote(word)
  if word:match "^[%w_@%%+=:,./-]+$" then return word end
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

--- A command line as it can be typed.
---@param words string[]
---@return string
function M.command(words)
  local quoted = {}
  for i, word in ipairs(words) do quoted[i] = quote(word) end
  return table.concat(quoted, " ")
end

--- The command line of this process; of one that is not neap's own, what it calls the
--- script.
---@return string
local function own_command()
  local cli = package.loaded["neap.cli"]
  if type(cli) == "table" and cli.words then return "neap " .. M.command(cli.words) end
  local arg = rawget(_G, "arg") or {}
  local words = { "neap" }
  if arg[0] and arg[0] ~= "neap" and arg[-1] and arg[0] ~= arg[-1] then words[2] = arg[0] end
  for _, word in ipairs(arg) do words[#words + 1] = word end
  return M.command(words)
end

--- Of an experiment that runs in this process.
---@param experiment neap.lab.Experiment
---@return neap.lab.Header
function M.of_experiment(experiment)
  local world = experiment.make_world()
  return { title = experiment.title, load = loads.describe(experiment.load), world = world.path or "in the script",
    source = world:source(), first = experiment.seed, runs = experiment.runs, command = own_command() }
end

--- Of what a child has described.
---@param about table
---@param runs integer
---@param seed integer
---@param words string[] after the program's name
---@return neap.lab.Header
function M.of_description(about, runs, seed, words)
  return { title = about.title, load = about.load, world = about.world, source = about.source, first = seed,
    runs = runs, command = "neap " .. M.command(words) }
end

-- Characters of a line that a chart's width holds.
local CHARACTERS = 96

--- Adds a text, folded at blanks.
local function add_folded(list, rest)
  while #rest > CHARACTERS do
    local part = rest:sub(1, CHARACTERS):match "^(.*%S)%s%S*$"
    if not part or #part < CHARACTERS / 2 then part = rest:sub(1, CHARACTERS) end
    list[#list + 1] = part
    rest = "    " .. rest:sub(#part + 1):gsub("^%s+", "")
  end
  list[#list + 1] = rest
end

--- The same for charts: lines of text, the title first.
---@param header neap.lab.Header
---@return string[]
function M.texts(header)
  local list = {}
  add_folded(list, header.title or "Comparison")
  for _, line in ipairs(M.lines(header)) do add_folded(list, ("%s: %s"):format(line[1], line[2])) end
  return list
end

--- Name and value of each line.
---@param header neap.lab.Header
---@return {[1]: string, [2]: string}[]
function M.lines(header)
  local last = header.first + header.runs - 1
  local seeds = header.runs == 1 and ("%d"):format(header.first) or ("%d to %d"):format(header.first, last)
  local runs = header.seeds
    or ("%s: %d run%s of each policy"):format(seeds, header.runs, header.runs == 1 and "" or "s")
  local intervals = ("intervals are 95 %%, bootstrap of %d resamples"):format(statistics.RESAMPLES)
  if not header.seeds and header.runs < statistics.LEAST_RUNS then
    intervals = ("fewer than %d have no intervals"):format(statistics.LEAST_RUNS)
  end
  local list = {
    { "load", header.load },
    { "world", ("%s (%s)"):format(header.world, header.source) },
    { "seeds", ("%s, paired by seed; %s"):format(runs, intervals) },
    { "version", "neap " .. (core.versions.neap or "unknown") },
    { "command", header.command },
  }
  for _, line in ipairs(list) do line[2] = printable.line(line[2]) end
  return list
end

return M
