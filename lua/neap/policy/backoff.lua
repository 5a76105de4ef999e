--- How long to wait between attempts. Pure: randomness is an argument.
local M = {}

---@class neap.retry.Backoff
---@field kind? "exponential"|"linear"|"fixed" ("exponential")
---@field base? number seconds: the bound of the first wait (0.5)
---@field factor? number the bound grows by it with every attempt (2)
---@field max? number seconds: the bound stops there (20)
---@field jitter? "full"|"equal"|"decorrelated"|"none" ("full")

local bounds = {}

function bounds.exponential(backoff, n) return backoff.base * backoff.factor ^ (n - 1) end

function bounds.linear(backoff, n) return backoff.base * n end

function bounds.fixed(backoff) return backoff.base end

--- The wait after the n-th failed attempt in seconds, hints aside. Full jitter
--- is U(0, v), equal jitter v/2 + U(0, v/2) with v the bound; decorrelated jitter
--- is min(max, U(base, 3 * the wait before)) (Brooker, "Exponential Backoff And
--- Jitter", 2015).
---@param backoff neap.retry.Backoff with all fields
---@param n integer failed attempts so far, from 1
---@param random fun(): number uniform in [0, 1)
---@param previous? number the wait before (decorrelated jitter)
---@return number
function M.wait(backoff, n, random, previous)
  local base = backoff.base
  if base == 0 then return 0 end
  if backoff.jitter == "decorrelated" then
    return math.min(backoff.max, base + random() * (3 * (previous or base) - base))
  end
  local bound = math.min(backoff.max, bounds[backoff.kind or "exponential"](backoff, n))
  if backoff.jitter == "full" then return random() * bound end
  if backoff.jitter == "equal" then return bound / 2 + random() * bound / 2 end
  return bound
end

--- Backoff and the server's hint together: at least the longer of the two, and
--- a hint is spread a little, for it wakes everybody at the same time.
---@param backoff number seconds
---@param hint? number seconds
---@param jitter string? as in the options
---@param random fun(): number
---@return number
function M.with_hint(backoff, hint, jitter, random)
  if not hint then return backoff end
  local spread = jitter == "none" and 0 or random() * math.min(1, hint / 10)
  return math.max(backoff, hint) + spread
end

return M
