--- Which endpoints are in service. Pure: time and outcomes are arguments.
---
--- An endpoint is out for one of three reasons: it cools down (a server's hint, a
--- 429, too many failures within a minute), it is ejected as an outlier (Envoy's
--- rules: failures in a row, or the share of an interval's calls; each time for
--- longer), or somebody isolated it. Failures never take out the last one that is
--- in service, for somebody must find out when the upstream is back; a server's
--- own word does.
local M = {}

local floor, max, min = math.floor, math.max, math.min

---@class neap.router.Health
---@field members neap.router.Member[]
---@field options table of neap.router
---@field tell fun(member: neap.router.Member, event: string, fields: table)
---@field swept number when the present interval began
local Health = {}
Health.__index = Health

--- `tell(member, event, fields)` hears every change.
---@param members neap.router.Member[]
---@param options table
---@param now number
---@param tell fun(member: neap.router.Member, event: string, fields: table)
---@return neap.router.Health
function M.new(members, options, now, tell)
  for _, member in ipairs(members) do
    member.state, member.failures, member.ejections = "available", 0, 0
    member.fails, member.in_a_row = 0, 0
    member.seen, member.bad, member.back_at = 0, 0, now
  end
  return setmetatable({ members = members, options = options, tell = tell, swept = now }, Health)
end

local function put_back(self, member, reason)
  local was = member.state
  member.back_at = member.until_ or self.swept
  member.state, member.until_, member.reason = "available", nil, nil
  member.fails, member.in_a_row = 0, 0
  self.tell(member, "available", { reason = reason, was = was })
end

--- Whether calls may go to it. Puts it back into service when its time is up.
---@param member neap.router.Member
---@param now number
---@return boolean
function Health:available(member, now)
  if member.state ~= "available" then
    local until_ = member.until_
    if not until_ or now < until_ then return false end
    put_back(self, member, member.state .. " is over")
  end
  return member.weight > 0
end

--- Whether another one would be left without it.
local function dispensable(self, member, now)
  for _, other in ipairs(self.members) do
    if other ~= member and self:available(other, now) then return true end
  end
  return false
end

local function may_eject(self, member, now)
  local percent = self.options.ejection.max_percent
  if percent == 0 or not dispensable(self, member, now) then return false end
  local out = 0
  for _, other in ipairs(self.members) do
    if other.state == "ejected" and now < other.until_ then out = out + 1 end
  end
  return out + 1 <= max(1, floor(#self.members * percent / 100))
end

local function take_out(self, member, state, seconds, reason, now)
  member.state, member.until_, member.reason = state, now + seconds, reason
  member.fails, member.in_a_row = 0, 0
  self.tell(member, state, { reason = reason, seconds = seconds, until_ = member.until_, ejections = member.ejections })
end

local function eject(self, member, reason, now)
  if not may_eject(self, member, now) then return false end
  local opts = self.options.ejection
  member.ejections = member.ejections + 1
  take_out(self, member, "ejected", min(opts.max_time, opts.base_time * member.ejections), reason, now)
  return true
end

--- Out until the server's hint has passed; a longer one extends it.
local function cool_down(self, member, seconds, reason, now)
  if member.state == "isolated" or seconds <= 0 then return end
  if member.state ~= "available" and member.until_ >= now + seconds then return end
  if member.state == "ejected" then
    member.until_ = now + seconds -- longer than its ejection: the state stays
    return
  end
  take_out(self, member, "cooldown", seconds, reason, now)
end

-- One interval's rate, and the count of ejections that time in service pays off.
local function end_interval(self, member, intervals, now)
  local opts = self.options.ejection
  local seen, bad = member.seen, member.bad
  member.seen, member.bad = 0, 0
  if member.state ~= "available" then return end
  -- What was counted long ago says nothing about now.
  if intervals == 1 and seen >= opts.min_calls and bad / seen >= opts.failure_rate
    and eject(self, member, ("%d of %d calls failed"):format(bad, seen), now) then
    return
  end
  local since = max(self.swept, member.back_at)
  local healthy = min(intervals, floor((now - since) / opts.interval))
  member.ejections = max(0, member.ejections - healthy)
end

local function sweep(self, now)
  local interval = self.options.ejection.interval
  local intervals = floor((now - self.swept) / interval)
  if intervals < 1 then return end
  for _, member in ipairs(self.members) do
    self:available(member, now) -- puts it back if its time is up
    end_interval(self, member, intervals, now)
  end
  self.swept = self.swept + intervals * interval
end

local function count_failure(self, member, reason, now)
  local opts = self.options
  member.in_a_row = member.in_a_row + 1
  if member.fails == 0 or now - member.fails_since >= opts.fails_window then
    member.fails, member.fails_since = 0, now
  end
  member.fails = member.fails + 1
  if member.in_a_row >= opts.ejection.consecutive_failures
    and eject(self, member, ("%d failures in a row, the last one: %s"):format(member.in_a_row, reason), now) then
    return
  end
  if member.fails > opts.allowed_fails and dispensable(self, member, now) then
    cool_down(self, member, opts.cooldown, ("%d failures, the last one: %s"):format(member.fails, reason), now)
  end
end

--- Takes an outcome into account.
---@param member neap.router.Member
---@param verdict neap.policy.Verdict
---@param hint? number seconds that the server, or a breaker, asks to wait
---@param reason string what it was, in a word
---@param now number
function Health:record(member, verdict, hint, reason, now)
  self:available(member, now)
  sweep(self, now)
  local failed = verdict == "failed" or verdict == "overloaded"
  if hint then
    cool_down(self, member, hint, reason, now)
  elseif verdict == "throttled" then
    cool_down(self, member, self.options.cooldown, reason, now)
  end
  if verdict == "ok" then
    member.seen, member.in_a_row = member.seen + 1, 0
  elseif failed then
    member.failures = member.failures + 1
    member.seen, member.bad = member.seen + 1, member.bad + 1
    -- Of calls that were under way when it went out only hints are news.
    if member.state == "available" then count_failure(self, member, reason, now) end
  end
end

--- Takes it out until `restore`.
---@param member neap.router.Member
---@param reason string
function Health:isolate(member, reason)
  if member.state == "isolated" then return end
  member.state, member.until_, member.reason = "isolated", nil, reason
  self.tell(member, "isolated", { reason = reason })
end

--- Puts it back into service, whatever it was out for, and forgets its past.
---@param member neap.router.Member
---@param reason string
function Health:restore(member, reason)
  member.ejections = 0
  if member.state == "available" then return end
  put_back(self, member, reason)
end

--- When the first of them is in service again: seconds from now, 0 when one is;
--- nil when nobody knows.
---@param members neap.router.Member[]
---@param now number
---@return number?
function Health:soonest(members, now)
  local soonest
  for _, member in ipairs(members) do
    if member.weight > 0 then
      if member.state == "available" then return 0 end
      if member.until_ then soonest = min(soonest or math.huge, max(0, member.until_ - now)) end
    end
  end
  return soonest
end

return M
