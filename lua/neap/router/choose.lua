--- Which of the endpoints that may be called is called. Pure: state is in the
--- members. All strategies look only at those of the lowest `order` that has any.
local M = {}

local huge = math.huge

--- Smooth weighted round robin (nginx): each gains its weight, the richest is
--- chosen and pays the sum. In a round of the weights' sum everybody is chosen as
--- often as its weight says, spread out as evenly as can be.
local function smooth(members, order, even)
  local best, total = nil, 0
  for i = 1, #members do
    local member = members[i]
    if member.open and member.order == order then
      local weight = even and 1 or member.weight
      total = total + weight
      member.credit = member.credit + weight
      if not best or member.credit > best.credit then best = member end
    end
  end
  best.credit = best.credit - total
  return best
end

local strategies = {}

function strategies.weighted(members, order) return smooth(members, order, false) end

function strategies.round_robin(members, order) return smooth(members, order, true) end

--- The fewest calls under way for its weight, this one counted; among equals the
--- one that was chosen longest ago.
function strategies.least_busy(members, order)
  local best, least = nil, huge
  for i = 1, #members do
    local member = members[i]
    if member.open and member.order == order then
      local load = (member.busy + 1) / member.weight
      if load < least or load == least and member.picked < best.picked then best, least = member, load end
    end
  end
  return best
end

function strategies.order(members, order)
  for i = 1, #members do
    local member = members[i]
    if member.open and member.order == order then return member end
  end
end

--- Chooses among the members for which `may(member)` holds; nil when there is none.
---@param strategy string
---@param members neap.router.Member[]
---@param may fun(health: table, member: neap.router.Member, now: number): boolean
---@param health table first argument of `may`
---@param now number
---@param except? table<neap.router.Member, boolean>
---@param avoid? table<neap.router.Member, boolean>
---@return neap.router.Member?
function M.pick(strategy, members, may, health, now, except, avoid)
  local order = huge
  for i = 1, #members do
    local member = members[i]
    local open = not (except and except[member]) and not (avoid and avoid[member]) and may(health, member, now)
    member.open = open
    if open and member.order < order then order = member.order end
  end
  if order == huge then return nil end
  return strategies[strategy](members, order)
end

return M
