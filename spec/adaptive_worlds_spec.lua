-- SPDX-License-Identifier: MIT
-- Adaptive limits in simulated worlds, and once before a real server. The full
-- table, 20 seeds and longer windows, is printed by bench/adaptive.lua.
local neap = require "neap"
local child = require "spec.support.child"
local http = require "spec.support.http"
local support = require "spec.support.adaptive"

local function case_of(name)
  for _, case in ipairs(support.cases) do
    if case.name == name then return case end
  end
  error("no such case: " .. name)
end

--- The default in a case's world, from `case.from` to `to`: its share of the best
--- fixed limit's throughput, the share refused, the latency by the unloaded one.
local function measure(case, law, seed, to)
  -- Below a hard cap's slots some stand idle, above it nothing more is served.
  local limits = { case.capacity, case.over == "queue" and math.ceil(1.3 * case.capacity) or nil }
  -- A fixed limit works alike all the time; of long latencies, the same window lets
  -- luck be the same.
  local fixed_from, fixed_to = case.from, to
  if case.mean < 1 then fixed_from, fixed_to = 5, 20 end
  local best = support.best_fixed(support.world(case, law, seed, true), limits, fixed_from, fixed_to)
  local result = support.run(neap.adaptive {}, support.world(case, law, seed), case.from, to)
  return result.throughput / best.throughput, result.refused, result.latency / case.mean
end

local function meets(name, law, seed, to)
  local case = case_of(name)
  local share, refused, latency = measure(case, law, seed, to or case.to)
  local message = ("%s, seed %d: %.3f of the throughput, %.4f refused, %.2f times the latency"):format(law, seed,
    share, refused, latency)
  assert.message(message).is_true(share >= case.share and refused <= case.refused and latency <= case.latency)
end

describe("neap.adaptive", function()
  describe("before a hard cap", function()
    for _, capacity in ipairs { 50, 150, 10 } do
      local bar = capacity == 10 and 85 or 93
      it(("of %d calls of 1 s has %d %% of the best throughput at 2 %% refusals"):format(capacity, bar), function()
        for seed = 1, 2 do meets(("hard cap of %d at 1 s"):format(capacity), "lognormal", seed, 180) end
      end)

      it(("of %d calls of 0.1 s has %d %% of the best throughput at 2 %% refusals"):format(capacity, bar), function()
        meets(("hard cap of %d at 0.1 s"):format(capacity), "lognormal", 1, capacity == 10 and 120 or 72)
      end)
    end
  end)

  describe("before a queue", function()
    for _, capacity in ipairs { 50, 150 } do
      it(("behind %d has 95 %% of the throughput at twice the unloaded latency"):format(capacity), function()
        for seed = 1, capacity == 50 and 3 or 1 do
          meets(("queue behind %d at 1 s"):format(capacity), "lognormal", seed, 180)
        end
      end)
    end

    it("finds out that its first calls queued already", function()
      for seed = 1, 2 do meets("queue behind 10 at 0.1 s", "lognormal", seed, 120) end
    end)
  end)

  describe("after a change of capacity", function()
    it("is within a tenth of the new optimum 30 s after it has halved", function()
      for seed = 1, 3 do meets("reject, 100 becomes 50, 1 s", "lognormal", seed) end
      for seed = 1, 2 do meets("queue, 100 becomes 50, 1 s", "lognormal", seed) end
      for seed = 1, 2 do meets("reject, 20 becomes 10, 0.1 s", "lognormal", seed) end
    end)

    it("has found a doubled one a minute and a half later", function()
      for _, over in ipairs { "reject", "queue" } do
        local case = case_of(over .. ", 50 becomes 100, 0.1 s")
        local world = support.world(case, "lognormal", 1)
        world.capacity[2].at = 60
        local share = support.run(neap.adaptive {}, world, 150, 165).throughput * case.mean / case.capacity
        assert.message(("%s: %.3f"):format(over, share)).is_true(share >= 0.9)
      end
    end)
  end)

  --- Answers in each 30 s by what 50 slots can give; 0 to 60 s at `before`, then
  --- as `after`. Refused clients come again a second later.
  local function shares(before, after, seconds)
    local upstreams = require "neap.world.upstream"
    local adaptive, first, second = neap.adaptive {}, upstreams.new(before), upstreams.new(after)
    local counts, began = {}, neap.now()
    neap.timeout(seconds, neap.scope, function(scope)
      for _ = 1, 200 do
        scope:spawn(function()
          while true do
            local upstream = neap.now() - began < 60 and first or second
            if adaptive:call(upstream.request, upstream).status == 200 then
              local slice = math.floor((neap.now() - began) / 30) + 1
              counts[slice] = (counts[slice] or 0) + 1
            else
              neap.sleep(1)
            end
          end
        end)
      end
    end)
    return counts
  end

  it("keeps its throughput when the upstream takes three times as long for other reasons", function()
    local laws = support.laws
    local counts = shares({ latency = laws.lognormal(0.1), capacity = 50, over = "reject", seed = 1 },
      { latency = laws.lognormal(0.3), capacity = 50, over = "reject", seed = 2 }, 150)
    for slice = 3, 5 do assert.message("slice " .. slice).is_true(counts[slice] >= 0.85 * 30 * 50 / 0.3) end
  end)

  it("is back a minute after an outage in which every call was refused", function()
    local counts = shares({ latency = support.laws.lognormal(1), capacity = 50, over = "reject", seed = 1 },
      { latency = support.laws.lognormal(1), capacity = { { at = 0, slots = 0 }, { at = 120, slots = 50 } },
        over = "reject", seed = 2 }, 180)
    assert.is_true(counts[6] >= 0.85 * 30 * 50)
  end)

  for algorithm, longest in pairs { vegas = 2.5, gradient2 = math.huge } do -- the latter follows the queue
    it("keeps a queue's slots busy with " .. algorithm, function()
      local case = case_of "queue behind 10 at 1 s"
      local result = support.run(neap.adaptive { algorithm = algorithm }, support.world(case, "fixed", 1), 60, 120)
      local message = ("%.2f a second, %.2f s"):format(result.throughput, result.latency)
      assert.message(message).is_true(result.throughput > 9 and result.latency <= longest)
    end)
  end
end)

describe("neap.adaptive before a server of 50 slots #real", function()
  after_each(http.finish)

  it("has 85 % of what the right fixed limit has, at 5 % refusals", function()
    local process = child.start { "mock", "--port", "0", "--capacity", "50", "--over", "reject", "--latency",
      "lognormal:median=0.1,sigma=0.5" }
    process:wait_for "\n"
    local client = http.client("http://" .. process.out:match "http://(%S+)")
    --- Answers a second, and the share refused, of 120 clients from `from` to `to`.
    local function load(policy, from, to)
      local began, sent, answered, refused = neap.now(), 0, 0, 0
      local function ask()
        local res = assert(client:get "/x")
        if neap.now() - began >= from then
          sent, answered = sent + 1, answered + (res.status == 200 and 1 or 0)
          refused = refused + (res.status == 429 and 1 or 0)
        end
        return res
      end
      neap.timeout(to, neap.scope, function(scope)
        for _ = 1, 120 do
          scope:spawn(function()
            while true do
              if policy:call(ask).status == 429 then neap.sleep(0.05) end
            end
          end)
        end
      end)
      return answered / (to - from), refused / sent
    end
    local ok, err = pcall(function()
      local fixed = load(neap.bulkhead { limit = 50 }, 1, 3)
      local adaptive, refused = load(neap.adaptive {}, 4, 8)
      local message = ("%.0f and %.0f answers a second, %.3f refused"):format(fixed, adaptive, refused)
      assert.message(message).is_true(fixed > 200 and adaptive >= 0.85 * fixed and refused <= 0.05)
    end)
    process:kill "sigterm"
    process:wait()
    if not ok then error(err, 0) end
  end)
end)
