--- The flags of `neap sim --replay` as options of `neap.cassette.world`. Pure.
local options = require "neap.options"
local syntax = require "neap.mock.syntax"

local M = {}

local FACTORS = { quota = true, latency = true }

--- For neap.cli.args.
---@type neap.cli.Option[]
M.options = {
  { name = "replay", type = "string", metavar = "FILE",
    help = "answer as a cassette of neap run --record has it, see docs/cassette.md" },
  { name = "scale", type = "list", metavar = "WHAT=X", help = "--replay: multiply the recorded quota or latency by X" },
  { name = "inject", type = "list", metavar = "WHAT:P",
    help = "--replay: fail with probability P: STATUS:P, drop:P or hang:P (repeatable)" },
  { name = "quota", type = "string", metavar = "LIMITS",
    help = "--replay: rpm=N,tpm=N where no answer told it, or recorded: 429s as they came" },
  { name = "load-model", type = "string", choices = { "recorded", "mm-c" }, metavar = "MODEL",
    help = "--replay: recorded: latency does not react to load; mm-c: it does (default recorded)" },
  { name = "servers", type = "integer", min = 1, max = 2 ^ 31, metavar = "N",
    help = "--load-model mm-c: servers of each host (the most requests at a time)" },
}

--- "quota=0.5,latency=2" of several flags.
local function read_scale(texts)
  local scale
  for _, text in ipairs(texts) do
    if not text:find "%S" then return nil, "--scale: write quota=X or latency=X" end
    for part in text:gmatch "[^,]+" do
      local name, value = part:match "^%s*([%w_-]+)%s*=%s*(.-)%s*$"
      if not name or not FACTORS[name] then
        local hint = name and options.nearest(name, FACTORS)
        return nil, ("--scale: '%s' is not understood; write quota=X or latency=X%s"):format(part,
          hint and (" (did you mean '%s'?)"):format(hint) or "")
      end
      local factor = value:find "^[%d.eE+-]+$" and tonumber(value)
      if not factor or not (factor > 0 and factor < math.huge) then
        return nil, ("--scale: %s needs a number above 0, got '%s'"):format(name, value)
      end
      scale = scale or {}
      scale[name] = factor
    end
  end
  return scale
end

local function read_inject(texts, into)
  local sum = 0
  for _, text in ipairs(texts) do
    local kind, p = text:match "^(%a+):(.*)$"
    if kind == "drop" or kind == "hang" then
      local value, message = syntax.probability(p)
      if not value then return "--inject: " .. message end
      if into[kind] then return ("--inject: %s is there twice"):format(kind) end
      into[kind] = value
    elseif kind then
      return ("--inject: '%s' is not understood; write STATUS:P, drop:P or hang:P"):format(text)
    else
      local rule, message = syntax.error_rule(text)
      if not rule then return "--inject: " .. message end
      into.inject = into.inject or {}
      table.insert(into.inject, rule)
      sum = sum + rule.probability
    end
  end
  if sum > 1 then return ("--inject: the probabilities add up to %g, more than 1"):format(sum) end
end

--- The flags that go with --replay, as they were given.
local function given(opts)
  local names = {}
  for _, name in ipairs { "scale", "inject" } do
    if #opts[name] > 0 then names[#names + 1] = "--" .. name end
  end
  for _, name in ipairs { "quota", "load-model", "servers" } do
    if opts[name:gsub("-", "_")] ~= nil then names[#names + 1] = "--" .. name end
  end
  return names
end

--- Reads the flags.
---@param opts table as neap.cli.args parsed them
---@return neap.cassette.ReplayOptions? options nil: there is no --replay, or something is wrong
---@return string? message one line
function M.read(opts)
  if not opts.replay then
    local names = given(opts)
    return nil, #names > 0 and names[1] .. " needs --replay FILE" or nil
  end
  if opts.world then return nil, "--replay and --world are two worlds: give one of them" end
  local result = { load_model = opts.load_model }
  local scale, message = read_scale(opts.scale)
  result.scale = scale
  message = message or read_inject(opts.inject, result)
  if message then return nil, message end
  if opts.quota == "recorded" then
    result.quota = "recorded"
  elseif opts.quota then
    result.quota, message = syntax.rate_limit(opts.quota)
    if not result.quota then return nil, "--quota: " .. message end
  end
  if opts.servers and opts.load_model ~= "mm-c" then return nil, "--servers needs --load-model mm-c" end
  result.servers = opts.servers
  return result
end

--- The world that the flags ask for.
---@param opts table as neap.cli.args parsed them
---@return neap.cassette.World? world nil: none, or something is wrong
---@return string? message one line
function M.world(opts)
  local settings, message = M.read(opts)
  if not settings then return nil, message end
  local tape
  tape, message = require("neap.cassette.reader").read(opts.replay)
  if not tape then return nil, message end
  local ok, world = pcall(require("neap.cassette.replay").new, tape, settings)
  if not ok then return nil, (tostring(world):gsub("\n.*$", "")) end
  return world
end

return M
