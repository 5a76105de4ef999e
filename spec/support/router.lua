--- A router in front of endpoints that do as they are told.
local neap = require "neap"

local M = {}

--- A response with this status.
function M.response(status, fields)
  local res = { status = status, headers = {}, replay_safe = true }
  for key, value in pairs(fields or {}) do res[key] = value end
  return res
end

--- How often each name is in the list.
function M.count(list)
  local counts = {}
  for _, name in ipairs(list) do counts[name] = (counts[name] or 0) + 1 end
  return counts
end

--- Endpoints by these names.
function M.endpoints(names)
  local list = {}
  for name in names:gmatch "%S+" do list[#list + 1] = { name = name } end
  return list
end

--- A router whose endpoints answer what `answers[name]` says (a status, a function
--- or nothing: 200), and the names in the order in which they were called.
function M.new(opts)
  local router = neap.router(opts)
  local world = { router = router, answers = {}, sent = {} }
  function world.fn(endpoint, ...)
    local name = endpoint.name or endpoint.model
    world.sent[#world.sent + 1] = name
    local answer = world.answers[name]
    if type(answer) == "function" then return answer(endpoint, ...) end
    return M.response(answer or 200, { from = name })
  end
  function world.call(...) return router:call(world.fn, ...) end
  function world.calls(n)
    world.sent = {}
    for _ = 1, n do world.call() end
    return table.concat(world.sent, " ")
  end
  function world.spread(n)
    world.calls(n)
    return M.count(world.sent)
  end
  function world.state(name)
    for _, state in ipairs(router:snapshot().endpoints) do
      if state.name == name then return state end
    end
  end
  return world
end

return M
