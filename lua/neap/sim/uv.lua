--- neap.uv as a simulated script sees it: files and questions to the system as they
--- are, clocks and chance simulated, and everything refused that would bring in the
--- machine's own time, order or network.
local core = require "neap.core"
local refusals = require "neap.sim.refusals"

local M = {}

--- What to use instead -> the functions, as patterns of whole names.
local REFUSED = {
  { "use neap.sleep, or neap.timeout for a limit", { "new_timer", "timer_.*", "sleep" } },
  { "use neap.sleep(0) in a task", { "new_idle", "new_check", "new_prepare", "idle_.*", "check_.*", "prepare_.*" } },
  { "use neap.http.client and neap.serve, which live in the simulated network",
    { "new_tcp", "new_udp", "new_pipe", "pipe", "socketpair", "new_poll", "new_socket_poll", "tcp_.*", "udp_.*",
      "pipe_.*", "poll_.*", "getaddrinfo", "getnameinfo", "listen", "accept", "shutdown" } },
  { refusals.PROGRAMS, { "spawn", "kill", "process_.*" } },
  { "use neap.spawn: a task costs no thread", { "new_thread", "thread_.*", "new_work", "queue_work", "new_async",
    "async_send" } },
  { "an interrupt cancels the script's tasks; clean up after a pcall", { "new_signal", "signal_.*" } },
  { "use neap.fs.stat with neap.sleep", { "new_fs_event", "fs_event_.*", "new_fs_poll", "fs_poll_.*" } },
  { "use io.read and io.write", { "new_tty", "tty_.*" } },
}

local function refuse(uv)
  for _, group in ipairs(REFUSED) do
    for _, pattern in ipairs(group[2]) do
      for name, value in pairs(uv) do
        if type(value) == "function" and name:find("^" .. pattern .. "$") then
          uv[name] = refusals.of("neap.uv." .. name, group[1])
        end
      end
    end
  end
end

local function simulate_clocks(uv)
  function uv.now() return math.floor(core.now() * 1000) end
  function uv.hrtime() return math.floor(core.now() * 1e9) end
  function uv.gettimeofday()
    local now = core.time()
    return math.floor(now), math.floor(now % 1 * 1e6)
  end
  uv.uptime = core.now
  function uv.update_time() end
end

local function simulate_chance(uv)
  local stream = core.rng(core.seed(), 2)
  function uv.random(count, flags, callback)
    callback = callback or type(flags) == "function" and flags or nil
    local bytes = {}
    for i = 1, count do bytes[i] = string.char(math.floor(stream:double() * 256)) end
    local text = table.concat(bytes)
    if not callback then return text end
    core.uv_later(callback, nil, text)
    return 0
  end
  local function process_id() return 1 end
  uv.os_getpid, uv.getpid, uv.os_getppid = process_id, process_id, process_id
end

--- The library, filled at its first use.
---@return table uv
function M.new()
  local uv = {}
  return setmetatable(uv, { __index = function(_, wanted)
    setmetatable(uv, nil)
    for name, value in pairs(require "neap.uv") do uv[name] = value end
    refuse(uv)
    simulate_clocks(uv)
    simulate_chance(uv)
    return uv[wanted]
  end })
end

return M
