--- Hard outages: windows of time in which a server is not there. Pure.
---
---   "refuse"  it is down: connections are refused, and what comes over one that
---             stands is reset; what was in work when it went down is lost
---   "hang"    nothing comes through: connections and requests hang, answers that
---             would come out in the window are lost
---   "status"  something in front of it answers every request at once
local instant = require "neap.world.instant"

local huge, max, min = math.huge, math.max, math.min

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
    local from, to = instant.of(start + rule.from), instant.of(start + (rule.to or huge))
    windows[i] = { number = i, from = from, to = to, how = how,
      status = how == "status" and (rule.status or 503) or nil, retry_after = rule.retry_after }
  end
  -- What came first is first to be met, however they are written.
  local by_date = { unpack(windows) }
  table.sort(by_date, function(a, b)
    if a.from ~= b.from then return a.from < b.from end
    return a.number < b.number
  end)
  return setmetatable({ windows = windows, by_date = by_date }, Outage)
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

--- Nothing comes through from a date on. Of a stream that has begun by then the
--- client has what was sent before, and the answer's own end still says when that
--- was.
local function silence(fate, at, from)
  local first = fate.first_byte
  if first and at + first < from then
    fate.whole = fate.whole or fate.ends
    fate.silent = min(fate.silent or huge, from)
  else
    fate.first_byte, fate.whole, fate.silent = nil, nil, nil
  end
end

--- Work that began at a time is lost where an outage meets it.
---@param fate neap.world.Fate its `ends` is set
---@param at number seconds
function Outage:cut(fate, at)
  local windows = self.by_date
  for i = 1, #windows do
    local window = windows[i]
    local from, to = window.from, window.to
    if window.how == "refuse" and at < to and fate.ends > from then
      silence(fate, at, from)
      fate.kind, fate.status, fate.endless, fate.ends = "drop", nil, nil, max(from, at)
    elseif window.how == "hang" and fate.ends >= from
      and (fate.first_byte and at + fate.first_byte or fate.ends) < to and at < to then
      silence(fate, at, from)
      fate.kind, fate.status, fate.endless, fate.ends = "hang", nil, true, huge
    end
  end
end

return M
