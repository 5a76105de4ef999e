--- luv on the runtime's loop: files, processes, sockets, signals, timers. Its own
--- documentation holds (luv 1.44), but for what is below. Callbacks run outside
--- any task: they cannot wait, but they may `neap.spawn`, or resume a
--- `neap.await`. What a callback raises ends the program. On a virtual clock file
--- operations happen one after the other, see below; `neap sim` refuses what would
--- bring the machine's own time and order in (lua/neap/sim/determinism.lua).
local core = require "neap.core"
local errors = require "neap.error"

local uv = core.uv_open(function(err)
  return errors.wrap(err, debug.traceback("", 2):gsub("^\n", "") .. "\n\tin a luv callback")
end)

--- What a script must not do to a loop that neap runs.
local refused = {
  run = "neap runs the loop; a task waits for a callback with neap.await",
  stop = "neap runs the loop; a program ends when its tasks have",
  loop_close = "neap closes the loop when the runtime ends",
  walk = "the loop has handles that are neap's own",
}

for name, reason in pairs(refused) do
  uv[name] = function() error(("neap.uv.%s cannot be used here: %s"):format(name, reason), 2) end
end

--- On a virtual clock a file operation with a callback is done at once, and its
--- callback comes in the loop's next round: in the order of submission and at the
--- same virtual instant, however long the disk takes.
local function answer(callback, value, text, code, ...)
  if value == nil and code ~= nil then return core.uv_later(callback, text) end
  if code ~= nil then return core.uv_later(callback, nil, value, text, code, ...) end
  if text ~= nil then return core.uv_later(callback, nil, value, text) end
  core.uv_later(callback, nil, value)
end

local function in_order(raw)
  return function(...)
    local count = select("#", ...)
    local callback = count > 0 and select(count, ...) or nil
    if type(callback) ~= "function" or not core.is_virtual() then return raw(...) end
    answer(callback, raw(unpack({ ... }, 1, count - 1)))
    return true
  end
end

for name, raw in pairs(uv) do
  if name:find "^fs_" and not name:find "^fs_event_" and not name:find "^fs_poll_" and name ~= "fs_scandir_next" then
    uv[name] = in_order(raw)
  end
end

return uv
