-- SPDX-License-Identifier: MIT
--- What the specs of neap.batcher share.
local neap = require "neap"

local M = {}

--- A `run` that answers at once.
function M.echo(items)
  local results = {}
  for i, item in ipairs(items) do results[i] = "re " .. item end
  return results
end

--- A `run` that takes `seconds` and keeps what it was given.
function M.recorder(seconds, answer)
  local sent = { most = 0, running = 0, ended = 0 }
  return function(items, key)
    sent[#sent + 1] = { items = items, key = key, at = neap.now() }
    sent.running = sent.running + 1
    sent.most = math.max(sent.most, sent.running)
    if seconds then
      local ok, err = pcall(neap.sleep, seconds)
      sent.running = sent.running - 1
      if not ok then
        sent.cancelled = true
        error(err, 0)
      end
    else
      sent.running = sent.running - 1
    end
    sent.ended = sent.ended + 1
    return (answer or M.echo)(items)
  end, sent
end

--- Submits the items at once, each in a task of its own: what came of each.
function M.submit_all(batcher, items, opts)
  local got = {}
  neap.scope(function(s)
    for i, item in ipairs(items) do
      s:spawn(function()
        local result, err = batcher:submit(item, opts)
        got[i] = { result = result, err = err }
      end)
    end
  end)
  return got
end

--- The items of each batch that a recorder kept, as text.
function M.items_of(sent)
  local list = {}
  for i, batch in ipairs(sent) do list[i] = table.concat(batch.items, " ") end
  return list
end

return M
