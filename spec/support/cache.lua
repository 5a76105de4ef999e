-- SPDX-License-Identifier: MIT
--- What the specs of neap.cache share: things to cache.
local neap = require "neap"
local responses = require "neap.http.response"

local M = {}

--- A response as a client gives it.
function M.response(status, body, flat)
  return responses.of { status = status, body = body or "", version = "1.1", sends = 1, flat = flat or {} }
end

--- A function that takes `seconds` and counts: calls started, ended, cancelled.
function M.slow(seconds, result, err)
  local work = { started = 0, ended = 0, cancelled = 0 }
  return function(...)
    work.started = work.started + 1
    local ok, failure = pcall(neap.sleep, seconds)
    if not ok then
      work.cancelled = work.cancelled + 1
      error(failure, 0)
    end
    work.ended = work.ended + 1
    if type(result) == "function" then return result(work.started, ...) end
    return result, err
  end, work
end

--- For `slow`: a result that tells the calls apart.
function M.numbered(n) return "result " .. n end

return M
