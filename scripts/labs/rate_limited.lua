-- A provider with a rate limit: 600 requests a minute, checked by the second, and a
-- batch of 600 requests, 50 at a time; nothing can end before 59 s. Closed load.
-- usage: neap lab scripts/labs/rate_limited.lua
local neap = require "neap"

local function retry(base, hints)
  return neap.retry { max_attempts = 5, backoff = { base = base, max = 20 }, respect_retry_after = hints }
end

return {
  title = "A provider with a rate limit",
  policies = {
    { "retries at once", function() return retry(0, false) end },
    { "backoff", function() return retry(0.5, false) end },
    { "backoff and Retry-After", function() return retry(0.5, true) end },
    { "the same, 10 at a time", function() return neap.policy { retry(0.5, true), neap.bulkhead { limit = 10 } } end },
    { "the same, paced at 99 %", function()
      return neap.policy { retry(0.5, true), neap.rate_limiter { requests_per_minute = 594 } }
    end },
  },
  world = "worlds/provider.lua",
  load = { kind = "closed", clients = 50, operations = 600 },
  send = function()
    local client = assert(neap.http.client { base_url = "https://api.example.com" })
    return function(item) return client:post("/items/" .. item, { json = { item = item }, idempotent = true }) end
  end,
  measures = { "success", "amplification", "completion_time",
    { "refused", title = "429s", of = function(env) return env.upstream.stats.statuses["429"] or 0 end } },
}
