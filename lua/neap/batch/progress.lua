--- How far a batch is, on standard error: a bar that redraws itself on a
--- terminal, else a line every few seconds. Drawing is pure: numbers in, text
--- out.
local neap = require "neap"

local M = {}

--- Seconds between two lines, and between two drawings of the bar.
M.LINE_INTERVAL, M.BAR_INTERVAL = 5, 0.1

--- "412", "41,200".
---@param n integer
---@return string
function M.thousands(n)
  local groups = ("%d"):format(n):reverse():gsub("%d%d%d", "%0,")
  return (groups:reverse():gsub("^,", ""))
end

--- "0:07", "12:30", "3:05:00".
---@param seconds number
---@return string
function M.duration(seconds)
  local s = math.floor(seconds + 0.5)
  if s < 3600 then return ("%d:%02d"):format(s / 60, s % 60) end
  return ("%d:%02d:%02d"):format(s / 3600, s % 3600 / 60, s % 60)
end

--- "238/s", "0.42/s".
---@param rate number
---@return string
function M.rate(rate)
  if rate >= 9.95 or rate == 0 then return M.thousands(math.floor(rate + 0.5)) .. "/s" end
  return ("%.2g/s"):format(rate)
end

---@class neap.batch.View what a drawing needs to know
---@field stats neap.batch.Stats
---@field elapsed number seconds
---@field rate number results per second, lately
---@field size? integer bytes of the input

-- The part of the input that is done, 0 to 1; nil where the size is unknown.
local function fraction(view)
  if not view.size or view.size == 0 then return nil end
  return math.min(1, view.stats.bytes / view.size)
end

-- Seconds to go; nil when that cannot be told yet.
local function remaining(view, part)
  if not part or part <= 0 or view.elapsed < 1 then return nil end
  return view.elapsed * (1 - part) / part
end

local function facts(view)
  local stats = view.stats
  local list = { M.thousands(stats.done) .. " done" }
  if stats.failed > 0 then list[#list + 1] = M.thousands(stats.failed) .. " failed" end
  list[#list + 1] = M.thousands(stats.in_flight - stats.waiting) .. " in flight"
  if stats.waiting > 0 then list[#list + 1] = M.thousands(stats.waiting) .. " waiting" end
  list[#list + 1] = M.rate(view.rate)
  return list
end

--- One line of text: "1,200 done, 3 failed, 64 in flight, 238/s, 41 %, 0:07 left".
---@param view neap.batch.View
---@return string
function M.line(view)
  local list, part = facts(view), fraction(view)
  if part then list[#list + 1] = ("%d %%"):format(part * 100) end
  local left = remaining(view, part)
  if left then list[#list + 1] = M.duration(left) .. " left" end
  return table.concat(list, ", ")
end

--- The bar for a terminal of `width` columns, shorter than that by one.
---@param view neap.batch.View
---@param width integer
---@return string
function M.bar(view, width)
  local part = fraction(view)
  local left = remaining(view, part)
  local text = table.concat(facts(view), "  ")
  if left then text = text .. "  " .. M.duration(left) .. " left" end
  if not part then return text:sub(1, width - 1) end
  local percent = ("%3d %%"):format(part * 100)
  local room = math.min(30, width - 1 - #text - #percent - 5)
  if room < 5 then return (percent .. "  " .. text):sub(1, width - 1) end
  local full = math.floor(room * part)
  return ("[%s%s] %s  %s"):format(("#"):rep(full), ("."):rep(room - full), percent, text)
end

---@class neap.batch.Screen where progress goes
---@field write fun(text: string)
---@field width fun(): integer? columns; nil: no terminal

---@class neap.batch.Progress
---@field private screen neap.batch.Screen
---@field private shown boolean whether a bar stands on the last line
local Progress = {}
Progress.__index = Progress

--- Progress of a job. With `enabled` false only messages are shown.
---@param stats neap.batch.Stats
---@param size? integer bytes of the input
---@param screen neap.batch.Screen
---@param enabled boolean
---@return neap.batch.Progress
function M.new(stats, size, screen, enabled)
  return setmetatable({ stats = stats, size = size, screen = screen, enabled = enabled, shown = false,
    marks = { { at = stats.started, done = 0 } } }, Progress)
end

local CLEAR = "\r\27[K"

--- Removes the bar, if one is there.
function Progress:clear()
  if self.shown then self.screen.write(CLEAR) end
  self.shown = false
end

--- Writes a line of its own above the bar.
---@param text string
function Progress:message(text)
  self:clear()
  self.screen.write(text .. "\n")
end

-- The rate over the last seconds: the whole run's says little after a pause.
local WINDOW = 10

function Progress:view()
  local now, marks = neap.now(), self.marks
  marks[#marks + 1] = { at = now, done = self.stats.done }
  while #marks > 2 and now - marks[1].at > WINDOW do table.remove(marks, 1) end
  local seconds = now - marks[1].at
  return {
    stats = self.stats, size = self.size, elapsed = now - self.stats.started,
    rate = seconds > 0 and (self.stats.done - marks[1].done) / seconds or 0,
  }
end

function Progress:draw(width)
  if width then
    self.screen.write(CLEAR .. M.bar(self:view(), width))
    self.shown = true
  else
    self.screen.write(M.line(self:view()) .. "\n")
  end
end

--- Draws until cancelled. Waits.
function Progress:run()
  if not self.enabled then return end
  while true do
    neap.sleep(self.screen.width() and M.BAR_INTERVAL or M.LINE_INTERVAL)
    self:draw(self.screen.width())
  end
end

return M
