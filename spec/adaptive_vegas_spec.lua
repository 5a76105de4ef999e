-- SPDX-License-Identifier: MIT
-- Vegas and Gradient2 by their formulas.
local gradient2 = require "neap.adaptive.gradient2"
local vegas = require "neap.adaptive.vegas"

local OPTS = { min = 1, max = 1000, start = 20 }

local function with(changes)
  local all = {}
  for key, value in pairs(OPTS) do all[key] = value end
  for key, value in pairs(changes) do all[key] = value end
  return all
end

--- A controller that has just started, and a function that feeds it an answer.
local function new(module, opts)
  local at, controller = 0, module.new(opts or OPTS, 0)
  return controller, function(seconds, in_flight, verdict)
    at = at + 100
    controller:sample(at, verdict or "ok", at - seconds, in_flight or math.floor(controller.limit))
    return controller.limit
  end, function() return at end
end

for name, module in pairs { vegas = vegas, gradient2 = gradient2 } do
  describe("the controller " .. name, function()
    it("cuts for a refusal once an episode", function()
      local controller, answer = new(module)
      answer(0.1)
      local before = controller.limit
      for _ = 1, 20 do controller:sample(1000, "throttled", 999, 20) end
      local cut = controller.limit
      assert.is_true(cut < before and cut >= before * 0.9)
      assert.equal("rate_limit", controller.reason)
      controller:sample(1000.5, "throttled", 1000, 20) -- sent before the cut
      assert.equal(cut, controller.limit)
      controller:sample(1001, "throttled", 1000.2, 20)
      assert.is_true(controller.limit < cut)
    end)

    it("takes no lesson from failures, overload and what was our own doing", function()
      local controller, answer = new(module)
      for _, verdict in ipairs { "failed", "overloaded", "neutral" } do
        for _ = 1, 50 do answer(30, 20, verdict) end
      end
      assert.same({ 20, "start" }, { controller.limit, controller.reason })
    end)

    it("stays within its bounds", function()
      local high, answer = new(module, with { max = 50 })
      for _ = 1, 100 do answer(0.1) end
      assert.equal(50, high.limit)
      local low, slow = new(module, with { min = 5 })
      for _ = 1, 100 do slow(0, 20, "throttled") end
      assert.equal(5, low.limit)
    end)

    it("does not grow when half of its limit is not used", function()
      local controller, answer = new(module)
      for _ = 1, 100 do answer(0.1, 9) end
      assert.equal(20, controller.limit)
    end)

    it("lowers a limit behind which calls queue", function()
      local controller, answer = new(module, with { start = 200 })
      for _ = 1, 10 do answer(0.1, 10) end
      for _ = 1, 20 do answer(1) end
      assert.is_true(controller.limit < 200)
      assert.equal("latency", controller.reason)
    end)
  end)
end

describe("Vegas", function()
  --- The limit after an answer that stands for a queue of `queue` calls.
  local function after_queue(limit, queue)
    local _, answer = new(vegas, with { start = limit })
    answer(0.1) -- what an unloaded call takes
    return answer(0.1 / (1 - (queue - 0.5) / limit)) -- rounded up
  end

  it("grows by 6 log10 L, by log10 L, rests or shrinks by log10 L, by the queue's length", function()
    assert.equal(112, after_queue(100, 2))
    assert.equal(102, after_queue(100, 3))
    assert.equal(102, after_queue(100, 5))
    assert.equal(100, after_queue(100, 6))
    assert.equal(100, after_queue(100, 12))
    assert.equal(98, after_queue(100, 13))
    assert.equal(26, after_queue(20, 1)) -- the logarithm counts in whole numbers, one at least
    assert.equal(19, after_queue(20, 7))
  end)

  it("takes a refusal for a drop: minus log10 L", function()
    local controller = vegas.new(with { start = 100 }, 0)
    controller:sample(10, "throttled", 9, 100)
    assert.equal(98, controller.limit)
  end)

  it("takes the shortest answer for an unloaded one", function()
    local _, answer = new(vegas)
    answer(0.5)
    assert.equal(20, answer(0.2)) -- only learnt from
    assert.equal(26, answer(0.2))
  end)

  it("looks anew at what an unloaded call takes after 30 L answers", function()
    local controller, answer = new(vegas, with { max = 20 })
    answer(0.1)
    for _ = 1, 700 do answer(0.4) end
    assert.near(0.4, controller.unloaded, 1e-9)
  end)
end)

describe("Gradient2", function()
  it("averages the first ten answers, and follows slowly afterwards", function()
    local controller, answer = new(gradient2)
    for i = 1, 10 do answer(i / 10) end
    assert.near(0.55, controller.long, 1e-9)
    answer(0.85)
    assert.near(0.55 + 0.3 * 2 / 601, controller.long, 1e-9)
  end)

  it("adds a fifth of a queue of four while latency is what it was", function()
    local _, answer = new(gradient2)
    assert.near(20.8, answer(0.1), 1e-9)
    assert.near(21.6, answer(0.1), 1e-9)
  end)

  it("lowers the limit by the gradient, beyond a tolerance of 1.5", function()
    local controller, answer = new(gradient2, with { start = 100 })
    for _ = 1, 10 do answer(0.1, 10) end
    local long = 0.1 + 0.1 * 2 / 601 -- the answer itself counts
    local gradient = 1.5 * long / 0.2
    assert.near(80 + 0.2 * (gradient * 100 + 4), answer(0.2), 1e-6)
    assert.is_true(controller.limit < 100)
  end)

  it("lowers it by no more than half of a fifth at a time", function()
    local _, answer = new(gradient2, with { start = 100 })
    for _ = 1, 10 do answer(0.1, 10) end
    assert.near(80 + 0.2 * (50 + 4), answer(10), 1e-9)
  end)

  it("comes down quickly from a long-term latency of twice the present one", function()
    local controller, answer = new(gradient2)
    for _ = 1, 10 do answer(1, 1) end
    answer(0.1, 1)
    assert.near((1 - 0.9 * 2 / 601) * 0.95, controller.long, 1e-9)
  end)

  it("takes a refusal for a drop: nine tenths", function()
    local controller = gradient2.new(with { start = 100 }, 0)
    controller:sample(10, "throttled", 9, 100)
    assert.near(90, controller.limit, 1e-9)
  end)
end)
