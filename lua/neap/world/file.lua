--- World files: Lua in an environment of its own, which has `upstream{}`, `outage{}`
--- and `brownout{}`, and none of what would make a world depend on anything but
--- itself and the seed.
local core = require "neap.core"
local define = require "neap.world.define"
local options = require "neap.options"
local profiles = require "neap.world.profiles"
local sorted = require "neap.sorted"
local whole = require "neap.fs.whole"

local M = {}

local HANDLERS = 21 -- the stream of random numbers that handlers draw from

--- Lua's random numbers, on a generator of our own.
local function random_of(generator)
  return function(low, high)
    local u = generator():double()
    if not low then return u end
    if not high then low, high = 1, low end
    if low > high then error("bad argument to 'random' (interval is empty)", 2) end
    return low + math.floor(u * (high - low + 1))
  end
end

local function copy(source)
  local result = {}
  for key, value in pairs(source) do result[key] = value end
  return result
end

--- What handlers have of neap: to wait, to tell the time, to read and write JSON.
local neap = setmetatable({ sleep = core.sleep, now = core.now, time = core.time }, { __index = function(_, name)
  if name == "json" then return require "neap.json" end
end })

local function environment(definition)
  local generator = core.rng(1, HANDLERS)
  function definition.random(seed) generator = core.rng(seed, HANDLERS) end
  local numbers = copy(math)
  numbers.random, numbers.randomseed = random_of(function() return generator end), nil
  local env = { assert = assert, error = error, ipairs = ipairs, next = next, pairs = pairs, pcall = pcall,
    select = select, tonumber = tonumber, tostring = tostring, type = type, unpack = unpack,
    string = copy(string), table = copy(table), math = numbers, neap = neap }
  env.string.dump = nil
  function env.upstream(opts) define.upstream(definition, opts) end
  function env.outage(opts) define.share(definition, "outage", opts) end
  function env.brownout(opts) define.share(definition, "brownout", opts) end
  return env
end

--- A global of a world file that it does not have: a misspelt name, or what worlds
--- must not use.
local barred = { __index = function(_, name)
  error(("'%s' is not available in a world file"):format(tostring(name)), 2)
end }

--- Globals of its own are the file's business, but for a misspelt `source`.
local function check_globals(path, env, known)
  for name in sorted.pairs(env) do
    if type(name) == "string" and name ~= "source" and known[name] == nil and options.nearest(name, { source = true })
    then
      error(("%s: '%s' is no setting of a world file; did you mean 'source'?"):format(path, name), 0)
    end
  end
end

local function run(path, text)
  if text:sub(1, 1) == "\27" then error(path .. ": a world file is Lua's source, not bytecode", 0) end
  local chunk, message = loadstring(text, "@" .. path)
  if not chunk then error(message, 0) end
  local definition = define.new { dir = path:match "^(.*/)[^/]*$", path = path }
  local env = environment(definition)
  -- `source` may be set in the file; every other global stays there.
  local known = copy(env)
  setfenv(chunk, setmetatable(env, barred))
  local ok, failure = pcall(chunk)
  if not ok then error(type(failure) == "string" and failure or path .. ": " .. tostring(failure), 0) end
  check_globals(path, env, known)
  definition.source = rawget(env, "source")
  if definition.source ~= nil and type(definition.source) ~= "string" then
    error(path .. ": source must be a text", 0)
  end
  return definition
end

--- What a file says, or a profile's name. Raises one line.
---@param path string
---@return neap.world.Definition
---@return string? path nil: it was a profile
function M.load(path)
  if type(path) ~= "string" then error("neap.world.load: needs a path, got " .. type(path), 0) end
  local text, message = whole.read(path)
  if text then return run(path, text), path end
  if not path:find("[/.]") then
    local profile, problem = profiles.find(path)
    if not profile then error(("neap.world: %s, and %s"):format(message, problem), 0) end
    local definition = define.new()
    define.upstream(definition, { host = "*", profile = path })
    return definition
  end
  error("neap.world: " .. message, 0)
end

return M
