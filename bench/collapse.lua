-- Which retries let a service collapse for good after a spike of five seconds, and
-- which let it recover: the model is in spec/support/collapse.lua. Open load. The
-- last column is what is asked of the three policies that stand for a lesson; the
-- others show that a backoff of ordinary length does not save it.
-- usage: neap sim bench/collapse.lua [SEEDS]   (from the root of the repository; 100)
local core = require "neap.core"
local model = require "spec.support.collapse"

local SEEDS = tonumber((...)) or 100

local function recovers(summary) return summary.collapsed == 0 and summary.recovery < 10 end

local BARS = {
  ["no backoff"] = function(summary) return summary.collapsed >= SEEDS / 2 end,
  ["full jitter, 20 then 40 s"] = recovers,
  ["budget of 0.1 a call"] = recovers,
}

local began, missed = core.machine_time(), 0
print(("%d seeds"):format(SEEDS))
print "| retries                   | collapsed | answered, 30 to 80 s | attempts by call | median recovery | bar    |"
print "|---|--:|--:|--:|--:|---|"
for _, policy in ipairs(model.policies) do
  local summary, bar = model.summary(policy.make, SEEDS), BARS[policy.name]
  local met = not bar and "" or bar(summary) and "met" or "MISSED"
  if met == "MISSED" then missed = missed + 1 end
  print(("| %-25s | %9d | %18.1f %% | %16.2f | %15s | %-6s |"):format(policy.name, summary.collapsed,
    summary.goodput * 100, summary.amplification,
    summary.recovery < math.huge and ("%.1f s"):format(summary.recovery) or "never", met))
  io.flush()
end
print(("%d bars missed; %.1f s of the machine's time"):format(missed, core.machine_time() - began))
