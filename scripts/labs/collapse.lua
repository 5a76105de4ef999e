-- Metastable collapse and recovery: a service slows down with its load, a spike of
-- five seconds makes calls time out, and their retries keep it down when the spike is
-- long over. Open load: Poisson, 40 calls a second, 80 from second 20 to 25; timeouts of
-- 3 s that the service does not notice, 3 attempts.
-- usage: neap lab scripts/labs/collapse.lua
local neap = require "neap"

local function retry(base, budget)
  return function()
    return neap.retry { max_attempts = 3, backoff = { base = base, max = 40 }, budget = budget }
  end
end

--- Half a minute after the spike and later: less than 8 of 40 calls a second answered?
local function is_down(_, row)
  local answers = (row.timeline[7] or 0) + (row.timeline[8] or 0)
  return answers / 2 < 8 and 1 or 0
end

return {
  title = "Metastable collapse and recovery",
  policies = {
    { "at once", retry(0) },
    { "backoff of 0.5, 1 s", retry(0.5) },
    { "backoff of 20, 40 s", retry(20) },
    { "at once, with a budget", retry(0, { per_call = 0.1, cap = 5 }) },
    { "neap.policy.standard", {} },
  },
  world = "worlds/collapse.lua",
  load = { kind = "open", rate = 40, spikes = { { from = 20, to = 25, rate = 80 } }, duration = 80 },
  send = function()
    local client = assert(neap.http.client { base_url = "https://api.example.com", max_connections = 10000,
      timeout = { total = 3 } })
    return function(number) return client:get("/" .. number) end
  end,
  measures = { "success", { "down", title = "stays down", percent = true, of = is_down }, "amplification", "wait",
    "wasted" },
  timeline = 10,
  goal = "min down, min wait",
}
