-- Regional failover: of two regions one fails for half a minute, slowly: each call
-- there takes 2 s and ends in 503. Open load: Poisson, 50 calls a second for 90 s; the
-- outage is from second 30 to 60.
-- usage: neap lab scripts/labs/failover.lua
local neap = require "neap"

local function router(opts, alone)
  return function()
    local given = { endpoints = { { name = "eu" }, not alone and { name = "us" } or nil } }
    for key, value in pairs(opts) do given[key] = value end
    return neap.policy { neap.retry { max_attempts = 3, budget = { per_call = 0.1 } }, neap.router(given) }
  end
end

local FORGETS = { max_percent = 0 }

return {
  title = "Regional failover",
  policies = {
    { "one region", router({}, true) },
    { "two, without failover", router { max_failovers = 0, ejection = FORGETS, allowed_fails = math.huge } },
    { "failover call by call", router { ejection = FORGETS, allowed_fails = math.huge } },
    { "failover that remembers", router {} },
  },
  world = "worlds/two_regions.lua",
  load = { kind = "open", rate = 50, duration = 90 },
  send = function()
    local client = assert(neap.http.client { max_connections = 1000 })
    return function(endpoint, number)
      return client:get(("https://%s.example.com/%d"):format(endpoint.name, number))
    end
  end,
  windows = { outage = { from = 30, to = 60 } },
  measures = { "success", "amplification", "wait", "p99",
    { "lost", title = "503s from eu", of = function(env)
      return env.upstreams["eu.example.com"].stats.statuses["503"] or 0
    end } },
  goal = "max success@outage, min wait@outage",
}
