--- luv on the runtime's loop: files, processes, sockets, signals, timers. Its own
--- documentation holds (luv 1.44), but for what is below. Callbacks run outside
--- any task: they cannot wait, but they may `neap.spawn`, or resume a
--- `neap.await`. What a callback raises ends the program.
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

return uv
