-- A thundering herd: 300 clients lose their connection at the same moment and all come
-- back at once, to a service that takes 20 at a time and refuses the others.
-- Closed load: each client wants one answer.
-- usage: neap lab scripts/labs/thundering_herd.lua
local neap = require "neap"

local CLIENTS = 300

local function retry(backoff, hints)
  return function()
    return neap.retry { max_attempts = math.huge, backoff = backoff, respect_retry_after = hints or false }
  end
end

--- The most requests within a tenth of a second, after the first one.
local function peak(env)
  local tenths, most = {}, 0
  for _, arrived in ipairs(env.upstream.stats.arrivals) do
    local tenth = math.floor(arrived * 10)
    tenths[tenth] = (tenths[tenth] or 0) + 1
    if tenth > 0 then most = math.max(most, tenths[tenth]) end
  end
  return most
end

return {
  title = "A thundering herd",
  policies = {
    { "every 0.5 s", retry { kind = "fixed", base = 0.5, jitter = "none" } },
    { "when told to (Retry-After)", retry({ base = 0, jitter = "none" }, true) },
    { "exponential, no jitter", retry { base = 0.5, max = 10, jitter = "none" } },
    { "exponential, equal jitter", retry { base = 0.5, max = 10, jitter = "equal" } },
    { "exponential, full jitter", retry { base = 0.5, max = 10, jitter = "full" } },
    { "full jitter and 20 at a time", function()
      return neap.policy { neap.retry { max_attempts = math.huge, backoff = { base = 0.5, max = 10 } },
        neap.bulkhead { limit = 20 } }
    end },
  },
  world = "worlds/herd.lua",
  load = { kind = "closed", clients = CLIENTS, operations = CLIENTS },
  send = function()
    local client = assert(neap.http.client { base_url = "https://api.example.com", max_connections = CLIENTS })
    return function(number) return client:get("/feed/" .. number) end
  end,
  measures = { "amplification", { "peak", title = "most in 0.1 s", of = peak }, "completion_time" },
  goal = "min amplification, min completion_time",
}
