--- The globals of a simulated script: Lua's, with whatever depends on the machine
--- (its clock, its memory, its other programs) replaced or refused. neap's own
--- modules keep Lua's plain globals.
local clock = require "neap.sim.clock"
local core = require "neap.core"
local ordered = require "neap.sim.ordered"
local refusals = require "neap.sim.refusals"
local simulated_uv = require "neap.sim.uv"
local stable = require "neap.sim.stable"

local M = {}

local floor = math.floor

-- What install replaces, to be put back; nil: not installed.
local before

local function copy(t)
  local new = {}
  for key, value in pairs(t) do new[key] = value end
  return new
end

local function simulated_os(raw)
  local new = copy(raw)
  for name, fn in pairs(clock.functions(raw)) do new[name] = fn end
  new.execute = refusals.of("os.execute", refusals.PROGRAMS)
  return new
end

-- ---------------------------------------------------------------------------
-- The libraries
-- ---------------------------------------------------------------------------

--- A script's own seed is mixed with the run's: scripts seed with the time, which
--- is the same in all runs.
local function simulated_math(raw)
  local new = copy(raw)
  function new.randomseed(number)
    raw.randomseed(floor(core.rng(core.seed(), 1):double() * 2 ^ 32) + (tonumber(number) or 0))
  end
  if core.is_traced() then
    local counter, random = core.rng(0, 0), raw.random -- a draw of its own tells the trace
    function new.random(...)
      counter:double()
      local ok, value = pcall(random, ...)
      if not ok then error((value:gsub("'%?'", "'random'")), 2) end
      return value
    end
  end
  return new
end

local function simulated_io(raw)
  local new = copy(raw)
  new.popen = refusals.of("io.popen", refusals.PROGRAMS)
  return new
end

--- Functions of C appear in tracebacks by their address.
local function simulated_debug(raw)
  local new = copy(raw)
  local function without_addresses(text)
    return type(text) == "string" and text:gsub("(%[%a+#?%d*%]): at 0x%x+", "%1: at ?") or text
  end
  -- One level more where levels are counted: this function.
  function new.traceback(...)
    local first, second, third = ...
    if type(first) == "thread" then return without_addresses(raw.traceback(first, second, third)) end
    if select("#", ...) == 0 then return (without_addresses(raw.traceback("", 2)):gsub("^\n", "")) end
    return without_addresses(raw.traceback(first, (second or 1) + 1))
  end
  return new
end

local function simulated_table(raw)
  local new = copy(raw)
  new.foreach = ordered.foreach
  return new
end

--- `require` gives the script's libraries, not neap's; package.loaded shows the
--- same.
local function simulated_require(substitutes)
  local raw_require = require
  local loaded = setmetatable({}, {
    __index = function(_, name)
      if refusals.modules[name] then return nil end
      if substitutes[name] ~= nil then return substitutes[name] end
      return package.loaded[name]
    end,
    __newindex = package.loaded,
  })
  local function simulated(name)
    local reason = refusals.of_module(name)
    if reason then error(reason, 2) end
    if substitutes[name] ~= nil then return substitutes[name] end
    return raw_require(name)
  end
  return simulated, setmetatable({ loaded = loaded }, { __index = package, __newindex = package })
end

local function environment()
  local env = copy(_G)
  env._G = env
  env.pairs, env.next = ordered.pairs, ordered.next
  env.tostring = stable.tostring
  env.os, env.math, env.io = simulated_os(os), simulated_math(math), simulated_io(io)
  env.debug, env.table = simulated_debug(debug), simulated_table(table)
  local uv = simulated_uv.new()
  env.require, env.package = simulated_require {
    _G = env, os = env.os, math = env.math, io = env.io, debug = env.debug, table = env.table,
    ["neap.uv"] = uv, luv = uv,
  }
  return env
end

-- ---------------------------------------------------------------------------
-- Putting it in place
-- ---------------------------------------------------------------------------

--- Makes what the running task loads from now on, and the tasks it spawns, run
--- with the globals of a simulation. A chunk that is loaded already gets them with
--- `setfenv(chunk, env)`. JSON is written with sorted keys, and texts of tables,
--- functions and threads are stable, for neap's own modules too. Never waits.
---@return table env the globals
function M.install()
  if before then error("neap.sim: the simulation's globals are installed already", 2) end
  local neap = require "neap"
  before = {
    globals = getfenv(0), tostring = tostring, format = string.format, uv = rawget(neap, "uv"),
    sorts = core.json_sort_keys(true), preload = package.preload.ffi,
  }
  -- neap's own modules have it; who looks for it behind require's back has not.
  require "ffi"
  package.preload.ffi = function() error(refusals.of_module "ffi", 2) end
  local env = environment()
  stable.reset()
  rawset(_G, "tostring", stable.tostring)
  string.format = stable.format -- luacheck: ignore 122
  rawset(neap, "uv", env.require "neap.uv")
  setfenv(0, env)
  return env
end

--- Puts Lua's own globals back, in the task that called install. Never waits.
function M.uninstall()
  if not before then return end
  local neap = require "neap"
  setfenv(0, before.globals)
  rawset(_G, "tostring", before.tostring)
  string.format = before.format -- luacheck: ignore 122
  core.json_sort_keys(before.sorts)
  package.preload.ffi = before.preload
  rawset(neap, "uv", before.uv)
  before = nil
end

--- Whether the simulation's globals are installed.
---@return boolean
function M.is_installed()
  return before ~= nil
end

return M
