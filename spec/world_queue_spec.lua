-- SPDX-License-Identifier: MIT
-- A world's servers and their line against queueing theory.
local core = require "neap.core"
local neap = require "neap"
local worlds = require "neap.world"

local SERVICE = 0.1 -- seconds, mean

--- The mean wait of M/M/c (Erlang C).
local function erlang_c(rate, servers)
  local load = rate * SERVICE
  local sum, term = 0, 1
  for k = 0, servers - 1 do
    if k > 0 then term = term * load / k end
    sum = sum + term
  end
  term = term * load / servers
  local rho = load / servers
  local waits = term / (1 - rho) / (sum + term / (1 - rho))
  return waits * SERVICE / (servers * (1 - rho))
end

--- Mean seconds in line, and its standard error from 20 batches.
local function simulate(rate, servers, count)
  local world = worlds.new { { host = "a", latency = { law = "exponential", mean = SERVICE }, capacity = servers,
    over = "queue" } }
  world:start(neap.now(), 11)
  local upstream, gaps, waits = world.upstreams[1], core.rng(11, 50), {}
  local function call(number)
    local at = neap.now()
    local fate = upstream:arrive(at, { operation = number, attempt = 1 })
    local event = core.event()
    fate.on_start = function() event:set() end
    if fate.state == "queued" then event:wait() end
    waits[number] = fate.began - at
    neap.sleep(fate.ends - neap.now())
    upstream:leave(neap.now(), fate, false)
  end
  neap.scope(function(scope)
    for number = 1, count do
      scope:spawn(call, number)
      neap.sleep(-math.log(1 - gaps:double()) / rate)
    end
  end)
  local batches, per = {}, count / 20
  for b = 1, 20 do
    local sum = 0
    for i = (b - 1) * per + 1, b * per do sum = sum + waits[i] end
    batches[b] = sum / per
  end
  local mean, square = 0, 0
  for b = 1, 20 do mean = mean + batches[b] / 20 end
  for b = 1, 20 do square = square + (batches[b] - mean) ^ 2 end
  return mean, math.sqrt(square / 19 / 20)
end

describe("a world's servers with a line", function()
  for _, case in ipairs { { servers = 1, load = 0.7 }, { servers = 4, load = 0.8 }, { servers = 20, load = 0.9 } } do
    it(("make requests wait as Erlang C says: %d at %d %%"):format(case.servers, case.load * 100), function()
      local rate = case.load * case.servers / SERVICE
      local expected = erlang_c(rate, case.servers)
      local mean, deviation = simulate(rate, case.servers, 40000)
      assert.message(("expected %.5f s, got %.5f +- %.5f"):format(expected, mean, deviation))
        .is_true(math.abs(mean - expected) <= 4 * deviation and deviation < 0.15 * expected)
    end)
  end

  it("turn away who finds the line full", function()
    local upstream = worlds.new { { host = "a", latency = 1, capacity = 1, over = "queue", max_waiting = 2,
      over_status = 503, retry_after = 2 } }.upstreams[1]
    local now, fates = neap.now(), {}
    for i = 1, 4 do fates[i] = upstream:arrive(now, {}) end
    assert.same({ "serving", "queued", "queued" }, { fates[1].state, fates[2].state, fates[3].state })
    assert.same({ "over", 503, 2 }, { fates[4].kind, fates[4].status, fates[4].retry_after })
    assert.equal("2", upstream:answer(now, fates[4], {}).headers["retry-after"])
    for i = 1, 3 do upstream:leave(now + i, fates[i], false) end
    assert.equal(0, upstream.stats.open)
  end)

  it("go on with the work of those who have left, and count it as wasted", function()
    local function run(on_disconnect)
      local upstream = worlds.new { { host = "a", latency = 3, capacity = 1, over = "queue",
        on_disconnect = on_disconnect } }.upstreams[1]
      local now = neap.now()
      local first, second = upstream:arrive(now, {}), upstream:arrive(now, {})
      upstream:leave(now + 1, first, true)
      upstream:leave(now + 1, second, true)
      upstream.law:advance(now + 10)
      return { upstream.law.work, upstream.law.wasted, upstream.law.capacity.busy }
    end
    assert.same({ 6, 6, 0 }, run(nil)) -- "continue" is the default of worlds
    assert.same({ 6, 6, 0 }, run "continue")
    assert.same({ 1, 1, 0 }, run "stop")
  end)

  it("take longer by a fixed time for each that is there, settled at the arrival", function()
    local upstream = worlds.new { { host = "a", latency = 1, load = { per_request = 0.01 } } }.upstreams[1]
    local now = neap.now()
    local ends = {}
    for i = 1, 3 do ends[i] = upstream:arrive(now, {}).ends - now end
    for i = 1, 3 do assert.is_true(math.abs(ends[i] - (1 + 0.01 * i)) < 1e-9) end
  end)
end)
