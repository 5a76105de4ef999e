-- SPDX-License-Identifier: MIT
--- What the specs of neap.rate_limiter share: dates to the nanosecond.
local neap = require "neap"

local M = {}

--- Seconds in whole nanoseconds.
function M.to_ns(seconds) return math.floor(seconds * 1e9 + 0.5) end

function M.ns_since(start) return M.to_ns(neap.now() - start) end

--- Lets other tasks run until they wait.
function M.settle() for _ = 1, 3 do neap.sleep(0) end end

--- Dates of `count` grants of `amounts` in ns since the first call.
function M.dates(limiter, count, amounts)
  local start, list = M.to_ns(neap.now()), {}
  for i = 1, count do list[i] = M.to_ns(assert(limiter:acquire(amounts)):date()) - start end
  return list
end

return M
