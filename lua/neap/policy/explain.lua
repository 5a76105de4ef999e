--- neap.explain: which policy a call waits in, why, and until when.
local calls = require "neap.policy.call"
local core = require "neap.core"

local M = {}

---@class neap.policy.Explanation
---@field policy string? the layer's name; nil: inside the function itself
---@field kind string? its kind
---@field reason string
---@field until_? number neap.now() at which the wait is due, where that is known
---@field wait? number seconds left until then
---@field attempts integer so far
---@field endpoint string? the router's choice
---@field elapsed number seconds since the call began
---@field copies? neap.policy.Explanation[] of a hedged call

local function describe(call, now)
  local where = call.waits_in
  local found = { attempts = call.attempts, elapsed = now - call.started, endpoint = call.endpoint }
  if not where then
    found.reason = call.attempts > 0 and "in the function" or "in a policy, not waiting"
    return found
  end
  found.policy, found.kind, found.until_ = where.name, where.kind, call.waits_until
  found.reason = call.waits_why or (where.wait_reason and where:wait_reason(call)) or "waiting"
  if not found.until_ and where.wait_until then found.until_ = where:wait_until(call) end
  if found.until_ then found.wait = math.max(0, found.until_ - now) end
  return found
end

-- Tasks have no order; copies are told in that of their start.
local function older(a, b)
  if a.elapsed ~= b.elapsed then return a.elapsed > b.elapsed end
  if a.endpoint ~= b.endpoint then return (a.endpoint or "") < (b.endpoint or "") end
  if a.policy ~= b.policy then return (a.policy or "") < (b.policy or "") end
  return a.reason < b.reason
end

local function copies_of(call, now)
  local copies
  for _, other in pairs(calls.all()) do
    if other.parent == call then
      copies = copies or {}
      copies[#copies + 1] = describe(other, now)
    end
  end
  if copies then table.sort(copies, older) end
  return copies
end

--- "3.5 s", "12 min", "24 h".
local function duration(seconds)
  if seconds < 120 then return ("%.3g s"):format(seconds) end
  if seconds < 7200 then return ("%.0f min"):format(seconds / 60) end
  return ("%.3g h"):format(seconds / 3600)
end

local Explanation = {}

function Explanation:__tostring()
  local text = (self.policy and self.policy .. ": " or "") .. self.reason
  if self.endpoint then text = ("%s at '%s'"):format(text, self.endpoint) end
  if self.wait then text = ("%s, for %s more"):format(text, duration(self.wait)) end
  return ("%s (attempts %d, %.3g s so far)"):format(text, self.attempts, self.elapsed)
end

--- Which policy `task`'s call waits in and until when; nil when the task is in no
--- policy's call. `tostring` of it is one readable line. Never waits.
---@param task neap.task
---@return neap.policy.Explanation?
function M.explain(task)
  local call = calls.of(task)
  if not call then return nil end
  local now = core.now()
  local found = describe(call, now)
  found.copies = copies_of(call, now)
  return setmetatable(found, Explanation)
end

return M
