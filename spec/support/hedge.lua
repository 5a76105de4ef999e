-- SPDX-License-Identifier: MIT
--- What the specs of neap.hedge share: functions to hedge that take and return what
--- they are told, and hedges that may double every call.
local assert = require "luassert"
local errors = require "neap.error"
local hedge = require "neap.hedge"
local neap = require "neap"

local M = {}

M.failure = { kind = "connect", message = "refused" }

--- A function whose n-th send takes the n-th time and returns the n-th outcome: a
--- status, or fields of an error.
function M.sends_of(list)
  local sends = { n = 0, at = {}, cancelled = 0 }
  function sends.call(...)
    sends.n = sends.n + 1
    local n = sends.n
    local entry = list[math.min(n, #list)]
    sends.at[n] = neap.now() - sends.began
    sends.args = { n = select("#", ...), ... }
    local ok, err = pcall(neap.sleep, entry[1])
    if not ok then
      sends.cancelled = sends.cancelled + 1
      error(err, 0)
    end
    local what = entry[2] or 200
    if type(what) == "function" then return what() end
    if type(what) == "table" then return nil, errors.new { kind = what.kind, message = what.message, send = n } end
    return { status = what, send = n, replay_safe = true }
  end
  sends.began = neap.now()
  return sends
end

--- A hedge that may double every call.
function M.generous(opts)
  opts.max_extra_load, opts.burst = opts.max_extra_load or 10, opts.burst or 1e6
  if not opts.percentile then opts.delay = opts.delay or 1 end
  return hedge.new(opts)
end

--- The same numbers, but for rounding.
function M.near(expected, got)
  assert.equal(#expected, #got)
  for i, value in ipairs(expected) do assert.near(value, got[i], 1e-6) end
end

--- Seconds since the function was made.
function M.elapsed_in(sends) return neap.now() - sends.began end

return M
