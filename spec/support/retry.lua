-- SPDX-License-Identifier: MIT
--- What the specs of neap.retry share: functions that return what a list holds, its
--- entries, and retries without jitter.
local errors = require "neap.error"
local neap = require "neap"

local M = {}

--- A function that returns what the list holds, one entry a call: { result, err }.
function M.script_of(list)
  local calls = { n = 0, at = {} }
  return function(...)
    calls.n = calls.n + 1
    calls.at[calls.n] = neap.now()
    calls.args = { n = select("#", ...), ... }
    local entry = list[math.min(calls.n, #list)]
    return entry[1], entry[2]
  end, calls
end

--- An entry: a response.
function M.status(code, headers, fields)
  local res = { status = code, headers = headers or {} }
  for key, value in pairs(fields or {}) do res[key] = value end
  return { res }
end

--- An entry: an error.
function M.failure(fields) return { nil, errors.new(fields) } end

M.OK = { { status = 200, headers = {} } }

--- A retry that waits 1, 2, 4 ... seconds.
function M.fixed(options)
  options.backoff = options.backoff or { base = 1, factor = 2, max = 60, jitter = "none" }
  return neap.retry(options)
end

return M
