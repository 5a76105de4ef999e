-- SPDX-License-Identifier: MIT
--- What the specs of neap.circuit_breaker share.
local assert = require "luassert"
local neap = require "neap"

local M = {}

function M.status(code) return { status = code, headers = {} } end

--- A function that returns this status.
function M.answer(code) return function() return M.status(code) end end

--- A breaker that opens after two failures in a row, for ten seconds; nothing grows.
function M.quick(opts)
  local all = {
    consecutive_failures = 2, open_duration = 10, open_duration_factor = 1, max_open_duration = 1000,
    half_open_calls = 1,
  }
  for key, value in pairs(opts or {}) do all[key] = value end
  return neap.circuit_breaker(all)
end

function M.call_times(breaker, n, fn)
  for _ = 1, n do breaker:call(fn) end
end

--- Opens a `quick` breaker.
function M.open(breaker)
  M.call_times(breaker, 2, M.answer(500))
  assert.equal("open", breaker:state())
end

return M
