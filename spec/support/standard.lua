-- SPDX-License-Identifier: MIT
--- What the specs of neap.policy.standard share.
local neap = require "neap"

local M = {}

function M.status(code) return { status = code, headers = {} } end

--- A standard policy with nothing but what is asked for.
function M.only(opts)
  local all = { adaptive = false, retry = false }
  for name, value in pairs(opts) do all[name] = value end
  return neap.policy.standard(all)
end

--- The kinds of a policy's layers, outermost first.
function M.kinds_of(policy)
  local kinds = {}
  for i, one in ipairs(policy.layers) do kinds[i] = one.kind end
  return kinds
end

--- What a call raises, which it must.
function M.message_of(...)
  local ok, message = pcall(...)
  if ok then error("nothing was raised", 2) end
  return message
end

--- Sends requests 1 to n to `upstream` at once, each one a call of `policy`; what came of each.
function M.send_all(policy, upstream, n)
  local answers, list = {}, {}
  for i = 1, n do list[i] = i end
  neap.map(list, function(i)
    local res, err = policy:call(upstream.request, upstream, { id = "item-" .. i })
    answers[i] = res or err
    return true
  end)
  return answers
end

return M
