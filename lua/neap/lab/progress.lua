--- How many runs are done, on standard error: a bar on a terminal, else nothing.
local core = require "neap.core"

local M = {}

local WIDTH, INTERVAL = 30, 0.1 -- columns; seconds between two drawings

--- The bar. Pure.
---@param done integer
---@param total integer
---@param elapsed number seconds
---@param what? string
---@return string
function M.bar(done, total, elapsed, what)
  local share = total > 0 and done / total or 1
  local full = math.floor(WIDTH * share)
  local left = done > 0 and done < total and elapsed >= 1
    and ("  %.0f s left"):format(elapsed / done * (total - done)) or ""
  return ("[%s%s] %d/%d runs%s%s"):format(("#"):rep(full), ("."):rep(WIDTH - full), done, total, left,
    what and "  " .. what or "")
end

---@class neap.lab.Progress
local Progress = {}
Progress.__index = Progress

---@param enabled boolean
---@return neap.lab.Progress
function M.new(enabled)
  local shows = enabled and require("neap.uv").guess_handle(2) == "tty"
  return setmetatable({ shows = shows, done = 0, total = 0, started = core.now(), drawn = 0 }, Progress)
end

--- So many more runs are to come.
function Progress:expect(count, what)
  self.total, self.what = self.total + count, what
end

--- One is done.
function Progress:step()
  self.done = self.done + 1
  if not self.shows then return end
  local now = core.now()
  if now - self.drawn < INTERVAL and self.done < self.total then return end
  self.drawn = now
  io.stderr:write("\r\27[K", M.bar(self.done, self.total, now - self.started, self.what))
end

--- Removes the bar.
function Progress:clear()
  if self.shows and self.drawn > 0 then io.stderr:write("\r\27[K") end
end

return M
