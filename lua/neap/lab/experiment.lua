--- What is compared, checked: policies, the world that they meet, the load, and how
--- a run is judged. docs/lab.md has the table of options.
local goals = require "neap.lab.goals"
local loads = require "neap.lab.load"
local measures = require "neap.lab.measures"
local options = require "neap.options"
local policies = require "neap.lab.policies"
local prices = require "neap.price"
local sorted = require "neap.sorted"

local M = {}

---@class neap.lab.ExperimentOptions
---@field policies table<string, neap.lab.PolicySpec>|{[1]: string, [2]: neap.lab.PolicySpec}[] by name, or pairs
---@field world string|table|neap.world.World a file, a profile's name, an upstream's options, or a list of them
---@field load table|fun(call: function, env: table) see neap.lab.load
---@field runs? integer seeds of each policy; default 20
---@field seed? integer the first one; default 1
---@field send? fun(env: neap.lab.Env): fun(...): any makes what sends a request; default: to the world's upstream
---@field request? table|fun(item: any): table what `upstream:request` gets besides `id`
---@field attempt_timeout? number seconds for each request
---@field time_limit? number virtual seconds after which a run is cut; default 86400
---@field succeeded? fun(result: any, err: any): boolean default: a result without a status, or one below 400
---@field goal? string default "max success, min completion_time" (open load: p99)
---@field subject_to? string constraints for recommendations
---@field sweep? string[] as `--sweep`
---@field price? neap.Price
---@field measures? (string|neap.lab.OwnMeasure)[] columns of the report, in order; default: the usual ones
---@field windows? table<string, {from: number, to: number}> measures of what began then, besides
---@field timeline? number seconds of a slot: how many operations succeeded over time, besides
---@field title? string

local specs = {
  policies = { type = "table", required = true },
  world = { type = "string|table", required = true },
  load = { type = "table|function", required = true },
  runs = { type = "integer", min = 1, max = 1e6, default = 20 },
  seed = { type = "integer", min = 0, max = 2 ^ 52, default = 1 },
  send = { type = "function" },
  request = { type = "table|function" },
  attempt_timeout = { type = "number", above = 0 },
  time_limit = { type = "number", above = 0, default = 86400 },
  succeeded = { type = "function" },
  goal = { type = "string" },
  subject_to = { type = "string" },
  sweep = { type = "table" },
  price = { type = "table" },
  measures = { type = "table" },
  windows = { type = "table" },
  timeline = { type = "number", min = 0.01 },
  title = { type = "string" },
}

local count = { type = "number", min = 0 }
local request_specs = { tokens = count, input = count, max_tokens = count }

---@class neap.lab.Experiment: neap.lab.ExperimentOptions
---@field names string[] of the policies, in order
---@field by_name table<string, neap.lab.PolicySpec>
---@field load neap.lab.Load
---@field make_world fun(): neap.world.World made when it is first asked for
---@field known neap.lab.Measures
---@field own table<string, fun(env: neap.lab.Env, row: neap.lab.Row): number?> measures, by name
---@field goals neap.lab.Goal[]
---@field constraints neap.lab.Constraint[]

local WHERE = "neap.lab"

--- Names in order, and policies by name.
local function read_policies(given)
  local names, by_name = {}, {}
  local function add(name, policy)
    if type(name) ~= "string" or name == "" then
      options.fail(("%s: option 'policies': a name must be a text, got %s"):format(WHERE, tostring(name)))
    end
    if name:find "%c" then
      options.fail(("%s: option 'policies': a name must have no control characters: '%s'"):format(WHERE,
        (name:gsub("%c", "?"))))
    end
    if by_name[name] ~= nil then options.fail(("%s: option 'policies': '%s' is there twice"):format(WHERE, name)) end
    local problem = policies.problem(policy)
    if problem then options.fail(("%s: policy '%s': %s"):format(WHERE, name, problem)) end
    names[#names + 1], by_name[name] = name, policy
  end
  if given[1] ~= nil then
    for i, entry in ipairs(given) do
      if type(entry) ~= "table" then
        options.fail(("%s: option 'policies': entry %d must be { name, policy }, got %s"):format(WHERE, i, type(entry)))
      end
      add(entry[1], entry[2])
    end
  else
    for name, policy in sorted.pairs(given) do add(name, policy) end
  end
  if #names == 0 then options.fail(WHERE .. ": option 'policies' is empty") end
  return names, by_name
end

--- A world's file beside the script, else where the command was given.
local function find_file(path)
  local script = rawget(_G, "arg")
  local dir = type(script) == "table" and type(script[0]) == "string" and script[0]:match "^(.*/)[^/]*$"
  if not dir or path:sub(1, 1) == "/" or not path:find "[/.]" then return path end
  local file = io.open(dir .. path, "rb")
  if not file then return path end
  file:close()
  return dir .. path
end

--- A world, of whatever it was given as. One upstream needs no host: requests made
--- in this process go to the only one there is.
local function read_world(given)
  local worlds = require "neap.world"
  if type(given) == "string" then return worlds.load(find_file(given)) end
  if type(given.upstream) == "function" and given.upstreams then return given end
  if given[1] == nil then
    local spec = { host = "*" }
    for key, value in pairs(given) do spec[key] = value end
    given = { spec }
  end
  return worlds.new(given)
end

local function checked(parse, name, text, known)
  local list, message = parse(text, known)
  if not list then options.fail(("%s: option '%s': %s"):format(WHERE, name, message)) end
  return list
end

local function default_goal(load)
  return load.kind == "open" and "max success, min p99" or "max success, min completion_time"
end

--- Checks an experiment. Raises at the line of the script. Never waits.
---@param given neap.lab.ExperimentOptions
---@return neap.lab.Experiment
function M.new(given)
  local self = options.check(WHERE, given, specs)
  self.names, self.by_name = read_policies(self.policies)
  if self.title and self.title:find "%c" then
    options.fail(WHERE .. ": option 'title' must be one line without control characters")
  end
  if type(self.request) == "table" then options.check(WHERE .. ": request", self.request, request_specs) end
  self.load = loads.check(self.load, WHERE .. ": load")
  self.known, self.own = measures.read(self, WHERE)
  local list = self.known.list
  self.goals = checked(goals.goals, "goal", self.goal or default_goal(self.load), list)
  self.constraints = checked(goals.constraints, "subject_to", self.subject_to, list)
  if self.price then self.price = prices.check(self.price, WHERE .. ": price") end
  local world
  function self.make_world()
    world = world or read_world(self.world)
    if not self.send then M.check_direct(world) end
    return world
  end
  return self
end

--- Whether requests can be made without `send`.
---@param world neap.world.World
function M.check_direct(world)
  if #world.upstreams > 1 then
    options.fail(("%s: the world has %d upstreams: say with 'send' who is asked"):format(WHERE, #world.upstreams))
  end
  if world.upstreams[1] and world.upstreams[1].handler then
    options.fail(WHERE .. ": the world's upstream is a handler: ask it with 'send' and a neap.http.client")
  end
end

return M
