-- Hedging the tail: a service of 20 workers with a line, whose work has a heavy tail. It
-- does not notice that a client has left. Open load: Poisson, at 40 % of what it can do,
-- or at the share given; 60 s.
-- usage: neap lab scripts/labs/hedging.lua [SHARE]
local neap = require "neap"

local SHARE = tonumber((...)) or 0.4
local WORKERS, MEAN = 20, 0.05 * 1.6 / 0.6 -- seconds, of the world's Pareto law

local function hedge(opts)
  return function() return neap.hedge(opts) end
end

return {
  title = ("Hedging the tail at %g %% load"):format(SHARE * 100),
  policies = {
    { "none", false },
    { "1 % more load", hedge { max_extra_load = 0.01 } },
    { "5 % more load", hedge { max_extra_load = 0.05 } },
    { "every call twice", hedge { delay = 0, max_extra_load = 1, burst = 1e6 } },
  },
  world = "worlds/tail.lua",
  load = { kind = "open", rate = SHARE * WORKERS / MEAN, duration = 60 },
  send = function()
    local client = assert(neap.http.client { base_url = "https://api.example.com", max_connections = 100000 })
    return function(number) return client:get("/" .. number) end
  end,
  measures = { "amplification", "wait", "p50", "p99", "wasted" },
  goal = "min p99",
}
