--- A router's endpoints as it keeps them, made from what the user declared.
--- Pure. Problems come back as text, for the constructor to raise.
local sorted = require "neap.sorted"

local M = {}

---@class neap.router.Member
---@field endpoint table the user's own, handed to the called function
---@field name string
---@field group? string
---@field weight number
---@field order number
---@field policy? neap.Policy|neap.policy.Layer
---@field index integer place in the list
---@field busy integer calls under way
---@field calls integer so far
---@field credit number smooth weighted round robin
---@field picked integer when it was chosen last, as a running number
---@field open boolean scratch of the choice being made

local function problem_of(i, field, wanted, got)
  return ("option 'endpoints': entry %d: '%s' must be %s, got %s"):format(i, field, wanted, tostring(got))
end

local function checked_fields(i, endpoint)
  for _, field in ipairs { "name", "group", "model" } do
    local value = endpoint[field]
    if value ~= nil and (type(value) ~= "string" or value == "") then
      return problem_of(i, field, "a string that is not empty", value)
    end
  end
  local weight, order = endpoint.weight, endpoint.order
  if weight ~= nil and not (type(weight) == "number" and weight >= 0 and weight < math.huge) then
    return problem_of(i, "weight", "a number of at least 0", weight)
  end
  if order ~= nil and not (type(order) == "number" and math.abs(order) < math.huge) then
    return problem_of(i, "order", "a number", order)
  end
end

local function new_member(i, endpoint)
  return {
    endpoint = endpoint, index = i, name = endpoint.name or endpoint.model,
    group = endpoint.group or endpoint.model, policy = endpoint.policy,
    weight = 1, order = endpoint.order or 1,
    busy = 0, calls = 0, credit = 0, picked = 0, open = false,
  }
end

--- The members of a list of endpoints.
---@param endpoints table[]
---@param is_policy fun(value: any): boolean
---@return neap.router.Member[]? members, string? problem
function M.build(endpoints, is_policy)
  local members, by_name = {}, {}
  for i, endpoint in ipairs(endpoints) do
    if type(endpoint) ~= "table" then
      return nil, ("option 'endpoints': entry %d must be a table, got %s"):format(i, type(endpoint))
    end
    local problem = checked_fields(i, endpoint)
    if problem then return nil, problem end
    if endpoint.policy ~= nil and not is_policy(endpoint.policy) then
      return nil, problem_of(i, "policy", "a neap.policy or a single policy", type(endpoint.policy))
    end
    local member = new_member(i, endpoint)
    if not member.name then
      return nil, ("option 'endpoints': entry %d needs a 'name' or a 'model'"):format(i)
    end
    if by_name[member.name] then
      return nil, ("option 'endpoints': entries %d and %d are both called '%s'; give each a 'name' of its own")
        :format(by_name[member.name], i, member.name)
    end
    by_name[member.name], members[i] = i, member
  end
  if #members == 0 then return nil, "option 'endpoints' must be an array of at least one endpoint" end
  return members
end

--- The weight of each member: the option's, else the endpoint's, else 1.
---@param members neap.router.Member[]
---@param weights table<string, number>
---@return number[]? weights, string? problem
function M.weights(members, weights)
  local list, known, any = {}, {}, false
  for i, member in ipairs(members) do
    known[member.name] = true
    list[i] = weights[member.name] or member.endpoint.weight or 1
    any = any or list[i] ~= 0
  end
  for name, weight in sorted.all(weights) do
    if not known[name] then return nil, ("option 'weights': there is no endpoint '%s'"):format(tostring(name)) end
    if type(weight) ~= "number" or not (weight >= 0 and weight < math.huge) then
      return nil, ("option 'weights': '%s' must be a number of at least 0, got %s"):format(name, tostring(weight))
    end
  end
  if not any then return nil, "at least one endpoint needs a weight above 0" end
  return list
end

--- Members by group; the group of all is under `false`.
---@param members neap.router.Member[]
---@return table<string|false, neap.router.Member[]>
function M.groups(members)
  local groups = { [false] = members }
  for _, member in ipairs(members) do
    if member.group then
      local list = groups[member.group]
      if not list then
        list = {}
        groups[member.group] = list
      end
      list[#list + 1] = member
    end
  end
  return groups
end

local function fallback_problem(groups, group, list)
  if type(group) ~= "string" or not groups[group] then
    return ("option 'fallbacks': no endpoint is of the group '%s'"):format(tostring(group))
  end
  if type(list) ~= "table" or #list == 0 then
    return ("option 'fallbacks': '%s' must be an array of groups, got %s"):format(group, type(list))
  end
  local seen = { [group] = true }
  for _, other in ipairs(list) do
    if type(other) ~= "string" or not groups[other] then
      return ("option 'fallbacks': '%s' names the group '%s', which no endpoint is of"):format(group, tostring(other))
    end
    if seen[other] then
      return ("option 'fallbacks': '%s' falls back to '%s' twice, or to itself"):format(group, other)
    end
    seen[other] = true
  end
end

--- For each group the lists of members to go through: its own, then those of its
--- fallbacks.
---@param groups table<string|false, neap.router.Member[]>
---@param fallbacks table<string, string[]>
---@return table<string|false, neap.router.Member[][]>? routes, string? problem
function M.routes(groups, fallbacks)
  for group, list in sorted.all(fallbacks) do
    local problem = fallback_problem(groups, group, list)
    if problem then return nil, problem end
  end
  local routes = {}
  for group, list in pairs(groups) do
    local route = { list }
    for _, other in ipairs(group and fallbacks[group] or {}) do route[#route + 1] = groups[other] end
    routes[group] = route
  end
  return routes
end

return M
