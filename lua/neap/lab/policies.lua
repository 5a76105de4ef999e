--- Policies of an experiment: made afresh for each run, with some of their options
--- changed where a sweep says so.
local options = require "neap.options"
local schema = require "neap.schema"

local M = {}

---@alias neap.lab.PolicySpec
---| fun(env: neap.lab.Env): neap.Policy makes it
---| table options of neap.policy.standard
---| false none: every call is one request

---@class neap.lab.Change an option that a sweep sets
---@field name string as in reports: "backoff.base"
---@field part string option of neap.policy.standard: "retry"
---@field path string[] inside it: { "backoff", "base" }
---@field value any

--- A part of neap.policy.standard, its schema, and the option that a bare value of
--- it stands for.
M.parts = {
  { "retry", "retry" }, { "budget", "retry_budget" }, { "deadline", "deadline", "seconds" },
  { "throttle", "throttle" }, { "hedge", "hedge" }, { "breaker", "circuit_breaker" }, { "adaptive", "adaptive" },
  { "bulkhead", "bulkhead", "limit" }, { "limiter", "rate_limiter" }, { "router", "router" }, { "cache", "cache" },
  { "fallback", "fallback", "with" },
}

local by_part = {}
for _, part in ipairs(M.parts) do by_part[part[1]] = part end

--- What is wrong with a policy, or nil.
---@param spec any
---@return string? problem
function M.problem(spec)
  if spec == false or type(spec) == "function" then return nil end
  if type(spec) == "table" and getmetatable(spec) == nil then return nil end
  if type(spec) == "table" then
    return "would be shared by all runs: give a function that makes it, or options of neap.policy.standard"
  end
  return "must be a function that makes it, options of neap.policy.standard, or false for none, got " .. type(spec)
end

local function copy(value)
  if type(value) ~= "table" or getmetatable(value) ~= nil then return value end
  local result = {}
  for key, inner in pairs(value) do result[key] = copy(inner) end
  return result
end

local function set(target, path, value)
  for i = 1, #path - 1 do
    if type(target[path[i]]) ~= "table" then target[path[i]] = {} end
    target = target[path[i]]
  end
  target[path[#path]] = value == "inf" and math.huge or value
end

--- Options with the changes in place.
---@param spec table
---@param changes neap.lab.Change[]
---@return table
function M.changed(spec, changes)
  local opts = copy(spec)
  for _, change in ipairs(changes) do
    local part, value = by_part[change.part], opts[change.part]
    if type(value) ~= "table" then
      local short = part[3]
      opts[change.part] = short and type(value) ~= "boolean" and value ~= nil and { [short] = value } or {}
    end
    set(opts[change.part], change.path, change.value)
  end
  return opts
end

local function find(policy, change)
  local kind = by_part[change.part][2]
  if type(policy.layer) == "function" then return policy:layer(kind) end
  return policy.kind == kind and policy or nil
end

--- Changes a policy that a function has made.
local function update(policy, changes)
  for _, change in ipairs(changes) do
    local layer, values = find(policy, change), {}
    if not layer then
      options.fail(("neap.lab: the policy has no %s whose option '%s' could be set"):format(
        by_part[change.part][2], change.name))
    end
    set(values, change.path, change.value)
    layer:update(values)
  end
end

--- Makes a policy; nil for none. Raises what its constructor raises.
---@param name string
---@param spec neap.lab.PolicySpec
---@param changes? neap.lab.Change[]
---@param env neap.lab.Env
---@return neap.Policy?
function M.build(name, spec, changes, env)
  if spec == false then return nil end
  local standard = require("neap.policy")
  if type(spec) == "table" then return standard.standard(M.changed(spec, changes or {})) end
  local policy = spec(env)
  if policy == false then return nil end
  if not standard.is(policy) then
    options.fail(("neap.lab: policy '%s': the function must return a policy, or false for none, got %s"):format(name,
      type(policy)))
  end
  if changes then update(policy, changes) end
  return policy
end

--- Which parts a policy has, by their names in neap.policy.standard.
---@param spec neap.lab.PolicySpec
---@param policy? neap.Policy as built
---@return table<string, boolean>
function M.parts_of(spec, policy)
  local has = {}
  if type(spec) == "table" then
    local opts = schema.check("policy", spec)
    for _, part in ipairs(M.parts) do has[part[1]] = opts[part[1]] ~= nil and opts[part[1]] ~= false end
    -- What a sweep sets is its own only where it is made here.
    for name in pairs(has) do
      if type(spec[name]) == "table" and getmetatable(spec[name]) ~= nil then has[name] = false end
    end
    if spec.bulkhead and spec.adaptive == nil then has.adaptive = false end
    if spec.retry == false and not spec.hedge then has.budget = false end
  elseif policy then
    for _, part in ipairs(M.parts) do has[part[1]] = find(policy, { part = part[1] }) ~= nil end
  end
  return has
end

return M
