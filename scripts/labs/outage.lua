-- An outage of ten seconds: a service that refuses everybody from second 20 to 30, and
-- works on 50 requests at a time otherwise. Open load: Poisson, 40 calls a second for
-- 80 s.
-- usage: neap lab scripts/labs/outage.lua [--runs N] [--html FILE] [--sweep OPTION=VALUES]
local neap = require "neap"

local function retry(opts)
  return function() return neap.retry(opts) end
end

return {
  title = "An outage of ten seconds",
  policies = {
    { "no retries", false },
    { "three tries at once", retry { max_attempts = 3, backoff = { base = 0 } } },
    { "six tries, up to 20 s", retry { max_attempts = 6, backoff = { base = 0.5, max = 20 } } },
    { "the same, a breaker", { retry = { max_attempts = 6, backoff = { base = 0.5, max = 20 } },
      breaker = { open_duration = 2 }, budget = false, adaptive = false } },
    { "neap.policy.standard", {} },
  },
  world = "worlds/outage.lua",
  load = { kind = "open", rate = 40, duration = 80 },
  send = function()
    local client = assert(neap.http.client { base_url = "https://api.example.com", max_connections = 1000,
      timeout = { total = 5 } })
    return function(number) return client:get("/" .. number) end
  end,
}
