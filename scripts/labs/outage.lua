-- An outage of ten seconds: a service that refuses everybody from second 20 to 30, and
-- works on 50 requests at a time otherwise. Open load: Poisson, 40 calls a second for
-- 80 s. The world is made up.
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
    { "the same, a breaker", function()
      return neap.policy { neap.retry { max_attempts = 6, backoff = { base = 0.5, max = 20 } },
        neap.circuit_breaker { open_duration = 2 } }
    end },
    { "neap.policy.standard", {} },
  },
  world = {
    latency = { law = "lognormal", median = 0.2, sigma = 0.6 }, capacity = 50, over = "queue",
    errors = { { status = 503, probability = 0.01 } }, outage = { from = 20, to = 30 },
  },
  load = { kind = "open", rate = 40, duration = 80 },
  attempt_timeout = 5,
}
