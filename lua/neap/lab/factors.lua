--- Which figures of a world there are to be wrong about: what a recommendation is
--- tried with 25 % more and less of. Pure.
local M = {}

--- As `world:scaled` names them.
M.names = { "latency", "errors", "quota", "capacity" }

local function has(spec, name)
  if name == "latency" then return spec.latency ~= nil or spec.load ~= nil end
  if name == "errors" then return spec.errors ~= nil or spec.drop ~= nil or spec.hang ~= nil end
  if name == "quota" then return spec.rate_limit ~= nil or spec.quota ~= nil end
  return spec.capacity ~= nil
end

--- The figures that a world has.
---@param definition neap.world.Definition
---@return string[]
function M.of(definition)
  local list = {}
  for _, name in ipairs(M.names) do
    for _, item in ipairs(definition and definition.upstreams or {}) do
      if has(item.checked, name) then
        list[#list + 1] = name
        break
      end
    end
  end
  return list
end

return M
