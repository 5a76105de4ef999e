--- Hard outages: windows of time in which a server is not there. Pure.
---
---   "refuse"  it is down: connections are refused, and what comes over one that
---             stands is reset; what was in work when it went down is lost
---   "hang"    nothing comes through: connections and requests hang, answers that
---             would come out in the window are lost
---   "status"  something in front of it answers every request at once
local huge = math.huge

local M = {}

---@class neap.world.OutageRule
---@field from number seconds since the start
---@field to? number seconds since the start, default: for ever
---@field how? "refuse"|"hang"|"status" default "refuse", with a `status` "status"
---@field status? integer default 503
---@field retry_after? number seconds, with a status

---@class neap.world.Outage
local Outage = {}
Outage.__index = Outage

---@param rules neap.world.OutageRule|neap.world.OutageRule[] one, or several
---@param start number seconds: the windows' 0
---@return neap.world.Outage
function M.new(rules, start)
  if #rules == 0 then rules = { rules } end
  local windows = {}
  for i, rule in ipairs(rules) do
    local how = rule.how or (rule.status and "status" or "refuse")
    windows[i] = { from = start + rule.from, to = start + (rule.to or huge), how = how,
      status = how == "status" and (rule.status or 503) or nil, retry_after = rule.retry_after }
  end
  return setmetatable({ windows = windows }, Outage)
end

--- The outage at a time, or nil.
---@param now number seconds
---@return {how: string, status: integer?, retry_after: number?}?
function Outage:at(now)
  local windows = self.windows
  for i = 1, #windows do
    local window = windows[i]
    if now >= window.from and now < window.to then return window end
  end
end

--- Work that began at a time is lost where an outage meets it.
---@param fate neap.world.Fate its `ends` is set
---@param at number seconds
function Outage:cut(fate, at)
  local windows = self.windows
  for i = 1, #windows do
    local window = windows[i]
    local from, to = window.from, window.to
    if window.how == "refuse" and at < to and fate.ends > from then
      fate.kind, fate.status, fate.endless, fate.first_byte = "drop", nil, nil, nil
      fate.ends = from > at and from or at
    elseif window.how == "hang" and at < to and fate.ends >= from and fate.ends < to then
      fate.kind, fate.status, fate.endless, fate.first_byte = "hang", nil, true, nil
      fate.ends = huge
    end
  end
end

return M
