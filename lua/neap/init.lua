--- neap's public names. Modules load when a name is first used.
local core = require "neap.core"

---@class neap
local M = {
  spawn = core.spawn,
  sleep = core.sleep,
  now = core.now,
  time = core.time,
  host = core.host,
  is_virtual = core.is_virtual,
}

--- name -> module, and the name inside it where it differs; whole: the module.
local lazy = {
  scope = { "neap.scope", "scope" },
  timeout = { "neap.scope", "timeout" },
  shield = { "neap.scope", "shield" },
  gather = { "neap.collect", "gather" },
  race = { "neap.collect", "race" },
  map = { "neap.collect", "map" },
  imap = { "neap.collect", "imap" },
  semaphore = { "neap.flow", "semaphore" },
  rate_limiter = { "neap.flow", "rate_limiter" },
  queue = { "neap.flow", "queue" },
  event = { "neap.flow", "event" },
  adaptive = { "neap.adaptive", "new" },
  await = { "neap.await" },
  base64 = { "neap.base64" },
  batcher = { "neap.batcher", "new" },
  bulkhead = { "neap.bulkhead", "new" },
  cache = { "neap.cache" },
  cassette = { "neap.cassette" },
  circuit_breaker = { "neap.circuit_breaker", "new" },
  deadline = { "neap.deadline", "new" },
  error = { "neap.error" },
  explain = { "neap.policy.explain", "explain" },
  fallback = { "neap.fallback", "new" },
  fs = { "neap.fs" },
  group = { "neap.group" },
  hedge = { "neap.hedge", "new" },
  http = { "neap.http" },
  json = { "neap.json" },
  lab = { "neap.lab" },
  llm = { "neap.llm" },
  map_chunks = { "neap.group", "map_chunks" },
  pace = { "neap.pace", "new" },
  policy = { "neap.policy" },
  retry = { "neap.retry", "new" },
  retry_budget = { "neap.retry_budget", "new" },
  router = { "neap.router", "new" },
  serve = { "neap.serve" },
  sim = { "neap.sim" },
  sorted_pairs = { "neap.sorted", "pairs" },
  telemetry = { "neap.telemetry" },
  throttle = { "neap.throttle", "new" },
  uv = { "neap.uv" },
  world = { "neap.world" },
}

setmetatable(M, {
  --- For who lists names (the repl): those that are not loaded yet.
  lazy = lazy,
  __index = function(t, name)
    local entry = lazy[name]
    if not entry then return nil end
    local value = require(entry[1])
    if entry[2] then value = value[entry[2]] end
    rawset(t, name, value)
    return value
  end,
})

return M
