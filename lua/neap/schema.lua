--- The options of every policy, declared once: constructors check against the
--- files in schema/, and docs/policies.md, the editor stubs and sweeps read the
--- same ones.
local options = require "neap.options"
local sorted = require "neap.sorted"

local M = {}

---@class neap.schema.Option: neap.OptionSpec
---@field [1] string the option's name
---@field source string where the default, or the idea, is from; "neap": our choice
---@field live? boolean false: `update` cannot change it

---@class neap.schema.Definition
---@field name string the public constructor
---@field about string
---@field options neap.schema.Option[] in the order of the docs

--- Every schema, in the order of the docs.
M.names = {
  "policy", "retry", "retry_budget", "throttle", "circuit_breaker", "hedge", "fallback", "deadline", "bulkhead",
  "adaptive", "pace", "router", "cache", "cache_file", "rate_limiter", "semaphore", "queue", "batcher", "chunks", "llm",
}

--- Those that declare a policy: all of these take a `name`.
M.layers = {
  retry = true, throttle = true, circuit_breaker = true, hedge = true, fallback = true, deadline = true,
  bulkhead = true, adaptive = true, pace = true, router = true, cache = true,
}

local NAME = {
  "name", type = "string", live = false, source = "neap",
  doc = "what it is called in telemetry, `describe` and `update`; default: its kind",
}

---@type table<string, neap.schema.Definition>
local loaded = {}
---@type table<string, table<string, neap.OptionSpec>>
local checkable = {}

--- An array of declarations as `neap.options` wants them.
local function by_name(list)
  local specs = {}
  for _, declared in ipairs(list) do
    local spec = {}
    for key, value in pairs(declared) do
      if key ~= 1 then spec[key] = value end
    end
    if spec.fields then spec.fields = by_name(spec.fields) end
    specs[declared[1]] = spec
  end
  return specs
end

--- The definition called `name`, as its file has it.
---@param name string
---@return neap.schema.Definition
function M.get(name)
  local definition = loaded[name]
  if not definition then
    definition = require("neap.schema." .. name)
    if M.layers[name] then table.insert(definition.options, NAME) end
    loaded[name] = definition
  end
  return definition
end

--- The declarations of `name` by option name, for `neap.options`.
---@param name string
---@return table<string, neap.OptionSpec>
function M.specs(name)
  local specs = checkable[name]
  if not specs then
    specs = by_name(M.get(name).options)
    checkable[name] = specs
  end
  return specs
end

--- Checks options against the schema `name` and fills in the defaults. Raises at
--- the line of the script that gave them.
---@param name string
---@param opts table?
---@return table
function M.check(name, opts)
  return options.check(M.get(name).name, opts, M.specs(name))
end

--- `current` with `changes` in place, nested tables field by field.
local function merge(current, changes)
  local merged = {}
  for key, value in pairs(current) do merged[key] = value end
  for key, value in pairs(changes) do
    local nested = type(value) == "table" and type(merged[key]) == "table" and #value == 0
    merged[key] = nested and getmetatable(value) == nil and merge(merged[key], value) or value
  end
  return merged
end

--- Checked options with changes applied: what `update` puts in place. Raises on
--- an option that cannot change while it is in use.
---@param name string
---@param current table what `check` returned
---@param changes table
---@return table
function M.change(name, current, changes)
  local where, specs = M.get(name).name .. ": update", M.specs(name)
  if type(changes) ~= "table" then
    options.fail(("%s: changes must be a table, got %s"):format(where, type(changes)))
  end
  for key in sorted.all(changes) do
    if specs[key] and specs[key].live == false then
      options.fail(("%s: option '%s' cannot change while it is in use"):format(where, key))
    end
  end
  return options.check(where, merge(current, changes), specs)
end

return M
