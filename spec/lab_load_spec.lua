-- SPDX-License-Identifier: MIT
local core = require "neap.core"
local load = require "neap.lab.load"
local neap = require "neap"

local function arrivals(spec, seed)
  local rng, list = core.rng(seed or 1, 101), {}
  for at in load.arrivals(load.check(spec, "load"), function() return rng:double() end) do list[#list + 1] = at end
  return list
end

local function count(list, from, to)
  local n = 0
  for _, at in ipairs(list) do
    if at >= from and at < to then n = n + 1 end
  end
  return n
end

--- Within 4 standard errors of a Poisson count.
local function is_poisson(expected, got)
  assert.is_true(math.abs(got - expected) < 4 * math.sqrt(expected), got .. " for " .. expected)
end

describe("open load", function()
  it("comes at its rate, in order, with exponential gaps", function()
    local list = arrivals { kind = "open", rate = 50, duration = 200 }
    is_poisson(10000, #list)
    local squares, last = 0, 0
    for _, at in ipairs(list) do
      assert.is_true(at >= last and at < 200)
      squares, last = squares + (at - last) ^ 2, at
    end
    -- The mean square of an exponential gap is twice the square of its mean.
    assert.near(2 / 50 ^ 2, squares / #list, 0.15 / 50 ^ 2)
  end)

  it("has spikes where it says so", function()
    local list = arrivals { kind = "open", rate = 40, duration = 100, spikes = { { from = 20, to = 60, rate = 120 } } }
    is_poisson(800, count(list, 0, 20))
    is_poisson(4800, count(list, 20, 60))
    is_poisson(1600, count(list, 60, 100))
  end)

  it("can be silent for a while", function()
    local list = arrivals { kind = "open", rate = 10, duration = 30, spikes = { { from = 10, to = 20, rate = 0 } } }
    assert.equal(0, count(list, 10, 20))
    assert.is_true(count(list, 20, 30) > 50)
  end)

  it("follows the day", function()
    local spec = { kind = "open", rate = 10, duration = 1000,
      diurnal = { amplitude = 0.8, period = 1000, peak = 250 } }
    local list = arrivals(spec)
    is_poisson(10000, #list)
    -- The integral of 10 (1 + 0.8 cos) over the half around the peak.
    is_poisson(5000 + 8000 / math.pi, count(list, 0, 500))
    assert.near(18, load.rate_at(load.check(spec, "load"), 250), 1e-9)
    assert.near(2, load.rate_at(load.check(spec, "load"), 750), 1e-9)
  end)

  it("comes evenly when asked to, also through a spike", function()
    local list = arrivals { kind = "open", rate = 4, duration = 2, arrivals = "even" }
    assert.same({ 0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75 }, list)
    list = arrivals { kind = "open", rate = 10, duration = 30, arrivals = "even",
      spikes = { { from = 10, to = 20, rate = 20 } } }
    assert.near(100, count(list, 0, 10), 1)
    assert.near(200, count(list, 10, 20), 1)
    assert.near(100, count(list, 20, 30), 1)
  end)

  it("ends after so many operations", function()
    assert.equal(7, #arrivals { kind = "open", rate = 100, operations = 7 })
  end)

  it("depends on the seed alone", function()
    local spec = { kind = "open", rate = 5, duration = 10 }
    assert.same(arrivals(spec, 3), arrivals(spec, 3))
    assert.not_same(arrivals(spec, 3), arrivals(spec, 4))
  end)

  it("does not wait for answers", function()
    local checked, began, at = load.check({ kind = "open", rate = 2, operations = 3, arrivals = "even" }, "load"),
      neap.now(), {}
    load.drive(checked, 1, function(item)
      at[item] = neap.now() - began
      neap.sleep(10)
    end, {})
    assert.near(0.5, at[2], 1e-6)
    assert.near(1, at[3], 1e-6)
    assert.near(11, neap.now() - began, 1e-6)
  end)
end)

describe("closed load", function()
  local function drive(spec, operate, seed)
    local began = neap.now()
    load.drive(load.check(spec, "load"), seed or 1, operate, {})
    return neap.now() - began
  end

  it("has so many clients, each of which waits", function()
    local inside, most, items = 0, 0, {}
    local seconds = drive({ kind = "closed", clients = 3, operations = 10 }, function(item)
      inside = inside + 1
      most = math.max(most, inside)
      neap.sleep(1)
      items[#items + 1] = item
      inside = inside - 1
    end)
    table.sort(items)
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, items)
    assert.equal(3, most)
    assert.near(4, seconds, 1e-6)
  end)

  it("thinks between calls", function()
    assert.near(12, drive({ kind = "closed", clients = 1, operations = 4, think = 2 }, function() neap.sleep(1) end),
      1e-6)
  end)

  it("thinks as long after the same operation, whoever was faster", function()
    local function total(latency)
      return drive({ kind = "closed", clients = 2, operations = 6, think = { law = "exponential", mean = 1 } },
        function(item) neap.sleep(item % 2 * latency) end, 7)
    end
    local a, b = total(0), total(1e-3)
    assert.near(a, b, 0.01)
    assert.is_true(a > 0.5)
  end)

  it("begins no call after its duration", function()
    local calls = 0
    local seconds = drive({ kind = "closed", clients = 1, duration = 5 }, function()
      calls = calls + 1
      neap.sleep(2)
    end)
    assert.equal(3, calls)
    assert.near(6, seconds, 1e-6)
  end)
end)

describe("a script's load", function()
  it("calls as it likes, and its tasks are waited for", function()
    local ended = 0
    load.drive(load.check(function(call, env)
      neap.spawn(function() call(env.first) end)
      call "b"
    end, "load"), 1, function() neap.sleep(1) ended = ended + 1 end, { first = "a" })
    assert.equal(2, ended)
  end)
end)

describe("a load's description", function()
  it("says which kind it is", function()
    local function told(spec) return load.describe(load.check(spec, "load")) end
    assert.equal("closed (8 clients; 100 operations)", told { kind = "closed", clients = 8, operations = 100 })
    assert.equal("open (Poisson, 40/s, 80/s from 20 to 25 s; 80 s)",
      told { kind = "open", rate = 40, duration = 80, spikes = { { from = 20, to = 25, rate = 80 } } })
    assert.matches("^the script itself", told(function() end))
  end)
end)

describe("a wrong load", function()
  local function refused(spec, wanted)
    local ok, message = pcall(load.check, spec, "neap.lab: load")
    assert.is_false(ok)
    assert.matches(wanted, message)
    assert.is_nil(message:find "\n")
  end

  it("is refused in one line that names the option", function()
    refused({}, "load: option 'kind' is required")
    refused({ kind = "opne" }, "must be one of open, closed, got opne")
    refused({ kind = "open", duration = 1 }, "open load needs the option 'rate'")
    refused({ kind = "closed", operations = 1 }, "closed load needs the option 'clients'")
    refused({ kind = "open", rate = 1 }, "needs the option 'operations' or 'duration'")
    refused({ kind = "open", rate = 1, duration = 1, clients = 4 }, "option 'clients' does not go with open load")
    refused({ kind = "open", rate = -1, duration = 1 }, "option 'rate' must be above 0")
    refused({ kind = "closed", clients = 1, operations = 1, think = { law = "expo" } }, "option 'think': there is no")
    refused({ kind = "open", rate = 1, duration = 9, spikes = { { from = 5, to = 4, rate = 1 } } },
      "spikes: entry 1: option 'to' must be above 'from'")
    refused({ kind = "open", rate = 1, duration = 9, spikes = { { form = 5, to = 4, rate = 1 } } },
      "did you mean 'from'")
  end)
end)
