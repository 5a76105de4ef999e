--- What becomes of a run's operations: counts, latencies, the same by window, and
--- how many succeeded over time. Times are arguments.
local statistics = require "neap.lab.statistics"

local floor, max = math.floor, math.max

local M = {}

---@class neap.lab.Account
---@field begun integer
---@field succeeded integer
local Account = {}
Account.__index = Account

local function tally()
  return { begun = 0, ended = 0, succeeded = 0, waited = 0, latencies = {} }
end

--- To the clock's nanosecond: what is left of a difference of two times depends on
--- how late it is.
local function nanoseconds(seconds)
  return floor(seconds * 1e9 + 0.5) / 1e9
end

M.nanoseconds = nanoseconds

---@param measures neap.lab.Measures
---@param started number seconds, as core.now()
---@return neap.lab.Account
function M.new(measures, started)
  local self = setmetatable({ started = started, last = started, all = tally(), slot = measures.slot,
    timeline = measures.slot and {} or nil }, Account)
  for _, window in ipairs(measures.windows) do
    self.windows = self.windows or {}
    -- At the start itself nothing has arrived.
    self.windows[#self.windows + 1] = { name = window.name, from = window.from, to = window.to, tally = tally(),
      before = window.from == 0 and 0 or nil }
  end
  return self
end

--- The windows that an instant lies in; nil: there are none at all.
local function each_window(self, at, visit, ...)
  local elapsed = nanoseconds(at - self.started)
  for _, window in ipairs(self.windows) do
    if elapsed >= window.from and elapsed < window.to then visit(window.tally, ...) end
  end
end

local function count(one) one.begun = one.begun + 1 end

--- An operation begins; its number.
---@param at number
---@return integer
function Account:begin(at)
  local all = self.all
  all.begun = all.begun + 1
  if self.windows then each_window(self, at, count) end
  return all.begun
end

local function close(one, seconds, good)
  one.ended, one.waited = one.ended + 1, one.waited + seconds
  if not good then return end
  one.succeeded = one.succeeded + 1
  one.latencies[one.succeeded] = seconds
end

--- It has ended. It counts where it began.
---@param began number
---@param at number
---@param good boolean
function Account:finish(began, at, good)
  local seconds = nanoseconds(at - began)
  self.last = at
  close(self.all, seconds, good)
  if self.windows then each_window(self, began, close, seconds, good) end
  if self.timeline and good then
    local slot = floor(nanoseconds(at - self.started) / self.slot) + 1
    self.timeline[slot] = (self.timeline[slot] or 0) + 1
  end
end

--- Instants at which `sample` wants to know how many requests have arrived.
---@return number[] seconds since the start, above 0, ascending, each once
function Account:edges()
  local list, seen = {}, {}
  for _, window in ipairs(self.windows or {}) do
    for _, edge in ipairs { window.from, window.to } do
      if edge > 0 and not seen[edge] then list[#list + 1], seen[edge] = edge, true end
    end
  end
  table.sort(list)
  return list
end

--- So many requests had arrived at an edge.
---@param edge number
---@param sends integer
function Account:sample(edge, sends)
  for _, window in ipairs(self.windows) do
    if window.from == edge then window.before = sends end
    if window.to == edge then window.after = sends end
  end
end

local function measure(row, one, sends, suffix)
  table.sort(one.latencies)
  if one.begun > 0 then
    row["success" .. suffix] = one.succeeded / one.begun
    row["amplification" .. suffix] = sends / one.begun
  end
  if one.ended > 0 then row["wait" .. suffix] = nanoseconds(one.waited / one.ended) end
  row["p50" .. suffix] = statistics.percentile(one.latencies, 0.5)
  row["p99" .. suffix] = statistics.percentile(one.latencies, 0.99)
end

--- Successes a second, by slot.
local function timeline_of(self)
  local last, list = 0, {}
  for slot in pairs(self.timeline) do last = max(last, slot) end
  for slot = 1, last do list[slot] = (self.timeline[slot] or 0) / self.slot end
  return list
end

--- Writes all of it into a run's row, which has `sends`.
---@param row neap.lab.Row
---@param now number
function Account:fill(row, now)
  local all = self.all
  row.operations, row.succeeded, row.cut = all.begun, all.succeeded, all.begun - all.ended
  measure(row, all, row.sends, "")
  row.completion_time = nanoseconds((row.cut > 0 and now or self.last) - self.started)
  for _, window in ipairs(self.windows or {}) do
    -- A run may end inside a window, or before it.
    local before, after = window.before or row.sends, window.after or row.sends
    measure(row, window.tally, after - before, "@" .. window.name)
  end
  if self.timeline then row.timeline = timeline_of(self) end
end

return M
