--- Who calls, and when. *Closed*: N clients, each of which waits for its answer
--- before it calls again, so that a slow service is called less. *Open*: calls come
--- at a rate of their own, however the service does, as from a crowd. Or a function
--- that makes the calls itself. When calls come depends on the seed alone, so that
--- all policies meet the same ones.
local core = require "neap.core"
local latencies = require "neap.world.latency"
local options = require "neap.options"
local scope = require "neap.scope"

local huge, log, max, pi, sin = math.huge, math.log, math.max, math.pi, math.sin

local M = {}

-- Streams of the run's seed; the world's have lower numbers.
local ARRIVALS, THINKING = 101, 2 ^ 20

---@class neap.lab.Spike
---@field from number seconds
---@field to number seconds
---@field rate number calls a second, instead of the usual

---@class neap.lab.Load
---@field kind "open"|"closed"|"script"
---@field clients? integer closed
---@field think? number|neap.world.Latency closed: seconds between an answer and the next call
---@field rate? number open: calls a second
---@field arrivals? "poisson"|"even" open
---@field spikes? neap.lab.Spike[] open
---@field diurnal? {amplitude: number, period: number, peak: number} open
---@field operations? integer how many there are
---@field duration? number seconds in which calls begin
---@field script? fun(call: fun(item: any), env: table) makes the calls itself

local spike_fields = {
  from = { type = "number", min = 0, required = true },
  to = { type = "number", above = 0, required = true },
  rate = { type = "number", min = 0, max = 1e6, required = true },
}

local specs = {
  kind = { type = "string", one_of = { "open", "closed" }, required = true },
  clients = { type = "integer", min = 1, max = 1e6 },
  think = { type = "number|table", min = 0 },
  rate = { type = "number", above = 0, max = 1e6 },
  arrivals = { type = "string", one_of = { "poisson", "even" } },
  spikes = { type = "table" },
  diurnal = { type = "table", fields = {
    amplitude = { type = "number", min = 0, max = 1, required = true },
    period = { type = "number", above = 0, default = 86400 },
    peak = { type = "number", min = 0, default = 0 },
  } },
  operations = { type = "integer", min = 1, max = 1e8 },
  duration = { type = "number", above = 0 },
}

local OF_KIND = {
  closed = { kind = true, clients = true, think = true, operations = true, duration = true },
  open = { kind = true, rate = true, arrivals = true, spikes = true, diurnal = true, operations = true,
    duration = true },
}

local function check_spikes(where, spikes)
  for i, spike in ipairs(spikes) do
    spikes[i] = options.check(("%s: spikes: entry %d"):format(where, i), spike, spike_fields)
    if spikes[i].to <= spikes[i].from then
      options.fail(("%s: spikes: entry %d: option 'to' must be above 'from' (%g), got %g"):format(where, i,
        spikes[i].from, spikes[i].to))
    end
  end
end

local function check_kind(where, load)
  for _, name in ipairs { "clients", "think", "rate", "arrivals", "spikes", "diurnal" } do
    if load[name] ~= nil and not OF_KIND[load.kind][name] then
      options.fail(("%s: option '%s' does not go with %s load"):format(where, name, load.kind))
    end
  end
  local needed = load.kind == "closed" and "clients" or "rate"
  if load[needed] == nil then options.fail(("%s: %s load needs the option '%s'"):format(where, load.kind, needed)) end
  if not load.operations and not load.duration then
    options.fail(where .. ": needs the option 'operations' or 'duration'")
  end
end

--- Checks a load as it was given. Raises at the line of the script.
---@param given table|fun(call: function, env: table)
---@param where string
---@return neap.lab.Load
function M.check(given, where)
  if type(given) == "function" then return { kind = "script", script = given } end
  local load = options.check(where, given, specs)
  check_kind(where, load)
  if load.spikes then check_spikes(where, load.spikes) end
  if type(load.think) == "table" then
    local message = latencies.problem(load.think)
    if message then options.fail(("%s: option 'think': %s"):format(where, message)) end
  end
  if load.kind == "open" then load.arrivals = load.arrivals or "poisson" end
  return load
end

local function extent(load)
  local parts = {}
  if load.operations then
    parts[1] = load.operations == 1 and "1 operation" or ("%d operations"):format(load.operations)
  end
  if load.duration then parts[#parts + 1] = ("%g s"):format(load.duration) end
  return table.concat(parts, " or ")
end

--- One line: "open (Poisson, 40/s, 80/s from 20 to 25 s; 80 s)".
---@param load neap.lab.Load
---@return string
function M.describe(load)
  if load.kind == "script" then return "the script itself, which says when it calls" end
  if load.kind == "closed" then
    local think = load.think and load.think ~= 0 and ", thinking in between" or ""
    return ("closed (%d client%s%s; %s)"):format(load.clients, load.clients == 1 and "" or "s", think, extent(load))
  end
  local text = ("open (%s, %g/s"):format(load.arrivals == "poisson" and "Poisson" or "even", load.rate)
  for _, spike in ipairs(load.spikes or {}) do
    text = text .. (", %g/s from %g to %g s"):format(spike.rate, spike.from, spike.to)
  end
  if load.diurnal then
    text = text .. (", +-%g %% every %g s"):format(load.diurnal.amplitude * 100, load.diurnal.period)
  end
  return ("%s; %s)"):format(text, extent(load))
end

--- Calls a second at a time.
---@param load neap.lab.Load
---@param t number seconds since the start
---@return number
function M.rate_at(load, t)
  for _, spike in ipairs(load.spikes or {}) do
    if t >= spike.from and t < spike.to then return spike.rate end
  end
  local diurnal = load.diurnal
  if not diurnal then return load.rate end
  local phase = (t - diurnal.peak) / diurnal.period
  return load.rate * (1 + diurnal.amplitude * sin(2 * pi * (phase + 0.25)))
end

local function highest_rate(load)
  local highest = load.rate * (1 + (load.diurnal and load.diurnal.amplitude or 0))
  for _, spike in ipairs(load.spikes or {}) do highest = max(highest, spike.rate) end
  return highest
end

--- An iterator over the times of an open load's calls. Poisson by thinning: a
--- process of the highest rate, of which each point stays with the probability
--- rate/highest.
---@param load neap.lab.Load
---@param random fun(): number uniform in [0, 1)
---@return fun(): number? seconds since the start
function M.arrivals(load, random)
  local count, t = 0, 0
  local last, most = load.duration or huge, load.operations or huge
  local highest, constant = highest_rate(load), not (load.spikes or load.diurnal)
  local progress = 0 -- even: the integral of the rate; a call is due at each whole number
  local step = 1 / highest
  return function()
    if count >= most then return nil end
    if load.arrivals == "even" and constant then
      t = count / load.rate
    elseif load.arrivals == "even" then
      while progress < count and t < last do
        local gained = M.rate_at(load, t) * step / 16
        t, progress = t + step / 16, progress + gained
      end
    else
      repeat
        t = t - log(1 - random()) / highest
      until t >= last or constant or random() * highest < M.rate_at(load, t)
    end
    if t >= last then return nil end
    count = count + 1
    return t
  end
end

local function drive_open(load, seed, operate, started)
  local rng = core.rng(seed, ARRIVALS)
  scope.scope(function(s)
    local item = 0
    for at in M.arrivals(load, function() return rng:double() end) do
      local wait = started + at - core.now()
      if wait > 0 then core.sleep(wait) end
      item = item + 1
      s:spawn(operate, item)
    end
  end)
end

local function thinker(load, seed)
  local think = load.think
  if not think or think == 0 then return nil end
  if type(think) == "number" then return function() return think end end
  local sample = latencies.sampler(think)
  -- Keyed by the operation: who thinks before it differs between policies.
  return function(item)
    local rng = core.rng(seed, THINKING + item)
    return sample(function() return rng:double() end)
  end
end

local function drive_closed(load, seed, operate, started)
  local think, item = thinker(load, seed), 0
  local last, most = started + (load.duration or huge), load.operations or huge
  local function client()
    while item < most and core.now() < last do
      item = item + 1
      local mine = item
      operate(mine)
      if think then core.sleep(think(mine)) end
    end
  end
  scope.scope(function(s)
    for _ = 1, math.min(load.clients, most) do s:spawn(client) end
  end)
end

--- Makes the calls: `operate(item)` for each; returns when all have ended. Waits.
---@param load neap.lab.Load
---@param seed integer
---@param operate fun(item: any): any
---@param env table for a script's load
function M.drive(load, seed, operate, env)
  if load.kind == "script" then
    return scope.scope(function() load.script(operate, env) end)
  end
  local drive = load.kind == "open" and drive_open or drive_closed
  drive(load, seed, operate, core.now())
end

return M
