-- Tuning a breaker: a service that fails one call in twenty on good days, and is down
-- from second 60 to 90, when each call hangs for 2 s and fails. Open load: Poisson, 20
-- calls a second for 180 s, no retries.
-- usage: neap lab scripts/labs/breaker.lua
local neap = require "neap"

local function breaker(opts)
  return function() return neap.circuit_breaker(opts) end
end

return {
  title = "Tuning a circuit breaker",
  policies = {
    { "no breaker", false },
    { "opens at 10 % of 20 calls", breaker { failure_rate = 0.1, window_size = 20 } },
    { "opens after 2 in a row", breaker { consecutive_failures = 2 } },
    { "opens at 50 % of 20 calls", breaker { window_size = 20 } },
    { "opens at 50 % of 1000 calls", breaker { window_size = 1000, minimum_calls = 1000 } },
    { "at 50 % of 20, always 5 s", breaker { window_size = 20, open_duration_factor = 1 } },
    { "at 50 % of 20, for 60 s", breaker { window_size = 20, open_duration = 60 } },
  },
  world = "worlds/flaky.lua",
  load = { kind = "open", rate = 20, duration = 180 },
  send = function()
    local client = assert(neap.http.client { base_url = "https://api.example.com", max_connections = 1000 })
    return function(number) return client:get("/" .. number) end
  end,
  windows = { before = { from = 0, to = 60 }, outage = { from = 60, to = 90 }, after = { from = 90, to = 105 } },
  measures = { "success", "amplification", "wait" },
  goal = "max success, min wait@outage",
}
