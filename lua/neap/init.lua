--- neap's public names. Modules load when a name is first used.
local core = require "neap.core"

---@class neap
local M = {
  spawn = core.spawn,
  sleep = core.sleep,
  now = core.now,
  time = core.time,
  host = core.host,
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
  await = { "neap.await" },
  base64 = { "neap.base64" },
  error = { "neap.error" },
  fs = { "neap.fs" },
  http = { "neap.http" },
  json = { "neap.json" },
  retry = { "neap.retry", "new" },
  serve = { "neap.serve" },
  uv = { "neap.uv" },
}

setmetatable(M, {
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
