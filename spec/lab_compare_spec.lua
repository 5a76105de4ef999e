-- SPDX-License-Identifier: MIT
-- Comparisons whose truth is known.
local core = require "neap.core"
local lab = require "neap.lab"
local neap = require "neap"

local function retries(count, more)
  local opts = { max_attempts = count, backoff = { base = 0 } }
  for key, value in pairs(more or {}) do opts[key] = value end
  return function() return neap.retry(opts) end
end

local function flaky(p) return { latency = 0.1, errors = { { status = 503, probability = p } } } end

local function by_name(comparison)
  local list = {}
  for _, result in ipairs(comparison.results) do list[result.name] = result end
  return list
end

describe("a comparison", function()
  it("finds the closed forms of N retries", function()
    local p, operations, runs = 0.4, 200, 25
    local got = by_name(lab.compare {
      policies = { { "0", false }, { "1", retries(2) }, { "3", retries(4) } },
      world = flaky(p), runs = runs, load = { kind = "closed", clients = 10, operations = operations },
    })
    for name, attempts in pairs { ["0"] = 1, ["1"] = 2, ["3"] = 4 } do
      local success, amplification = 1 - p ^ attempts, (1 - p ^ attempts) / (1 - p)
      local error_of_mean = math.sqrt(success * (1 - success) / (operations * runs))
      local estimates = got[name].estimates
      assert.near(success, estimates.success.mean, 4 * error_of_mean)
      assert.near(amplification, estimates.amplification.mean, 0.02 * amplification)
      assert.is_true(estimates.success.low <= estimates.success.mean)
      assert.is_true(estimates.success.high >= estimates.success.mean)
    end
    assert.is_true(got["3"].is_best)
    assert.equal("best", got["3"].verdict)
    local difference = got["0"].against.success
    assert.near(p ^ 4 - p, difference.mean, 0.02)
    assert.matches("^worse: success %-3%d%.", got["0"].verdict)
  end)

  it("counts latency, completion and requests as they are", function()
    local got = lab.compare {
      policies = { none = false }, world = { latency = 0.5 }, runs = 3,
      load = { kind = "closed", clients = 4, operations = 20 },
    }.results[1]
    local row = got.runs[1]
    assert.same({ 20, 20, 20, 0 }, { row.operations, row.succeeded, row.sends, row.cut })
    assert.near(0.5, row.p50, 1e-6)
    assert.near(0.5, row.p99, 1e-6)
    assert.near(2.5, row.completion_time, 1e-6)
    assert.near(10, row.work, 1e-5)
    assert.near(0, row.wasted, 1e-9)
    assert.same({ 1, 2, 3 }, { got.runs[1].seed, got.runs[2].seed, got.runs[3].seed })
  end)

  it("meets every policy with the same calls, latencies and faults", function()
    local sent = {}
    local result = lab.compare {
      policies = { { "a", retries(2) }, { "b", retries(7, { backoff = { base = 1.5 } }) } },
      send = function(env)
        local list = {}
        sent[env.policy .. env.seed] = list
        return function(item)
          local res, err = env.upstream:request { id = item }
          list[item] = list[item] or {}
          table.insert(list[item], res.status)
          return res, err
        end
      end,
      world = flaky(0.5), runs = 6, load = { kind = "open", rate = 20, operations = 100 },
    }
    local several = 0
    for seed = 1, 2 do
      for item, times in pairs(sent["a" .. seed]) do
        local other = sent["b" .. seed][item]
        for attempt = 1, math.min(#times, #other) do assert.equal(times[attempt], other[attempt]) end
        if #other > 2 then several = several + 1 end
      end
      assert.equal(100, #sent["a" .. seed])
    end
    assert.is_true(several > 20)
    assert.not_same(sent.a1, sent.a2)
    assert.is_true(by_name(result).b.is_best)
  end)

  it("says that a policy cannot be told from its twin", function()
    local got = by_name(lab.compare {
      policies = { { "one", retries(3) }, { "twin", retries(3) }, { "less", false } },
      world = flaky(0.3), runs = 10, load = { kind = "closed", clients = 5, operations = 100 },
    })
    assert.is_true(got.one.is_best)
    assert.is_true(got.twin.same)
    assert.equal("cannot be told from the best", got.twin.verdict)
    assert.same({ mean = 0, low = 0, high = 0, count = 10 }, got.twin.against.success)
    assert.is_false(got.less.same)
  end)

  it("tells nothing by fewer than six runs, and calls nobody best", function()
    local function compare(runs)
      local comparison = lab.compare { policies = { a = false, b = retries(3) }, world = flaky(0.3), runs = runs,
        load = { kind = "closed", clients = 5, operations = 100 } }
      return by_name(comparison), comparison
    end
    for _, runs in ipairs { 1, 5 } do
      local got, comparison = compare(runs)
      assert.is_nil(got.a.estimates.success.low)
      assert.same({ false, false, true, true }, { got.a.is_best, got.b.is_best, got.a.same, got.b.same })
      assert.equal("b", comparison.best.name)
      assert.matches("^leads on average: " .. runs .. " runs? tells? too little %(at least 6%)$", got.b.verdict)
      assert.matches("^cannot be told from it: ", got.a.verdict)
      local text = tostring(comparison)
      assert.is_truthy(text:find("\nDifferences from b, seed by seed", 1, true))
      assert.is_nil(text:find("\n* ", 1, true))
    end
    local got = compare(6)
    assert.is_true(got.b.is_best)
    assert.matches("^worse: success", got.a.verdict)
  end)

  it("gives the same rows whatever ran before", function()
    local function rows(names)
      local policies = {}
      for i, name in ipairs(names) do policies[i] = { name, retries(3, { backoff = { base = 0.2 } }) } end
      return by_name(lab.compare { policies = policies, world = flaky(0.3), runs = 2,
        load = { kind = "open", rate = 10, operations = 50 } }).mine.runs
    end
    local first, second = rows { "mine" }, rows { "other", "mine" }
    for i = 1, 2 do
      for key, value in pairs(first[i]) do assert.near(value, second[i][key], 1e-6) end
    end
  end)

  it("leaves the runtime's own draws as they were seeded", function()
    local seed = core.seed()
    lab.compare { policies = { a = false }, world = flaky(0.1), runs = 2, seed = 77,
      load = { kind = "closed", clients = 1, operations = 2 } }
    assert.equal(seed, core.seed())
  end)

  it("takes the options of neap.policy.standard", function()
    local got = lab.compare { policies = { a = { retry = { max_attempts = 2, backoff = { base = 0 } }, budget = false,
      adaptive = false } }, world = flaky(0.5), runs = 5, load = { kind = "closed", clients = 2, operations = 100 } }
    assert.near(1.5, got.results[1].estimates.amplification.mean, 0.06)
  end)

  it("knows which work was wasted, and what it costs", function()
    local row = lab.compare {
      policies = { none = false }, world = { latency = { law = "uniform", min = 2, max = 2 } }, attempt_timeout = 0.5,
      runs = 1, load = { kind = "closed", clients = 1, operations = 10 }, price = { request = 0.1, server_second = 2 },
    }.results[1].runs[1]
    assert.equal(0, row.success)
    assert.is_nil(row.p50)
    assert.near(20, row.wasted, 1e-5)
    assert.near(10 * 0.1 + 20 * 2, row.cost, 1e-4)
  end)

  it("counts tokens where requests have them", function()
    local row = lab.compare {
      policies = { none = false }, world = { latency = 0.1, tokens = { output = 50 } }, runs = 1,
      request = function() return { input = 1000, max_tokens = 20 } end,
      load = { kind = "closed", clients = 2, operations = 10 }, price = { input = 2, output = 10 },
    }.results[1].runs[1]
    assert.same({ 10000, 200 }, { row.input, row.output })
    assert.near((10000 * 2 + 200 * 10) / 1e6, row.cost, 1e-9)
  end)

  it("lets a retry follow an attempt that took too long", function()
    local row = lab.compare {
      policies = { a = retries(2) }, world = { latency = 0.1, hang = 0.5 }, attempt_timeout = 1, runs = 1,
      load = { kind = "closed", clients = 4, operations = 200 },
    }.results[1].runs[1]
    assert.near(0.75, row.success, 0.12)
    assert.equal(0, row.cut)
  end)

  it("ends a run that would never end", function()
    local got = lab.compare {
      policies = { a = false }, world = { hang = 1 }, runs = 2, time_limit = 30,
      load = { kind = "open", rate = 1, operations = 5 },
    }
    local row = got.results[1].runs[1]
    assert.same({ 5, 0, 5, 0 }, { row.operations, row.succeeded, row.cut, row.success })
    assert.near(30, row.completion_time, 1e-6)
    assert.matches("the time limit ended 10 operations", tostring(got))
  end)

  it("reaches a world's hosts over the simulated network", function()
    local got = lab.compare {
      policies = { a = retries(3) },
      world = { { host = "api.example.com", latency = 0.2, connect = 0.1,
        errors = { { status = 503, probability = 0.3 } } } },
      send = function()
        local client = assert(neap.http.client { base_url = "http://api.example.com" })
        return function(item) return client:get("/items/" .. item) end
      end,
      runs = 3, load = { kind = "closed", clients = 4, operations = 60 },
    }.results[1]
    assert.near((1 - 0.3 ^ 3) / 0.7, got.estimates.amplification.mean, 0.2)
    assert.is_true(got.estimates.success.mean > 0.9)
    assert.is_true(got.runs[1].p50 >= 0.2)
  end)

  it("sweeps options", function()
    local got = lab.compare {
      policies = { { "retry", retries(2) }, { "none", false } }, sweep = { "max_attempts=1,2,4" },
      world = flaky(0.5), runs = 6, load = { kind = "closed", clients = 5, operations = 100 },
    }
    local names = {}
    for i, result in ipairs(got.results) do names[i] = result.name end
    assert.same({ "retry, max_attempts=1", "retry, max_attempts=2", "retry, max_attempts=4", "none" }, names)
    assert.same(got.results[1].runs[1].sends, got.results[4].runs[1].sends)
    assert.is_true(got.results[3].is_best)
  end)

  it("passes on what a policy's function raises", function()
    local ok, message = pcall(lab.compare, { policies = { a = function() error "no luck" end }, world = {}, runs = 1,
      load = { kind = "closed", clients = 1, operations = 1 } })
    assert.is_false(ok)
    assert.matches("no luck", tostring(message))
  end)
end)

describe("a wrong experiment", function()
  local good = { policies = { a = false }, world = { latency = 1 },
    load = { kind = "closed", clients = 1, operations = 1 } }

  local function refused(changes, wanted)
    local given = {}
    for key, value in pairs(good) do given[key] = value end
    for key, value in pairs(changes) do given[key] = value end
    local ok, message = pcall(lab.compare, given)
    assert.is_false(ok)
    message = tostring(message)
    assert.matches(wanted, message)
    assert.is_nil(message:find "\n")
  end

  it("is refused in one line that names the option", function()
    refused({ measures = { "success", "p99", "success" } }, "measures: entry 3: 'success' is there twice")
    refused({ subject_to = "success>99" }, "constraint 'success>99': success is a share, from 0 to 1")
    refused({ polices = {} }, "neap.lab: option 'polices' is unknown; did you mean 'policies'")
    refused({ policies = {} }, "option 'policies' is empty")
    refused({ policies = { a = 5 } }, "policy 'a': must be a function that makes it")
    refused({ policies = { a = neap.retry {} } }, "policy 'a': would be shared by all runs")
    refused({ policies = { { "a", false }, { "a", false } } }, "'a' is there twice")
    refused({ policies = { a = { retri = true } } }, "option 'retri' is unknown; did you mean 'retry'")
    refused({ policies = { a = function() return 7 end } }, "policy 'a': the function must return a policy")
    refused({ policies = { a = function() end } }, "policy 'a': the function must return a policy, .*got nil")
    refused({ policies = { ["a\n"] = false } }, "a name must have no control characters")
    refused({ request = { inptu = 1 } }, "option 'inptu' is unknown; did you mean 'input'")
    refused({ send = function() return 5 end }, "option 'send' must return the function that makes a call, got number")
    refused({ world = { { host = "a.test" } }, send = function()
      local client = neap.http.client {}
      return function() return client:get "http://b.test/" end
    end }, "no upstream serves http://b.test:80")
    refused({ world = { latncy = 1 } }, "did you mean 'latency'")
    refused({ world = { latency = -1 } }, "latency")
    refused({ world = "no-such.lua" }, "no%-such.lua")
    refused({ world = { { host = "a" }, { host = "b" } } }, "the world has 2 upstreams: say with 'send'")
    refused({ load = { kind = "open" } }, "needs the option 'rate'")
    refused({ runs = 0 }, "option 'runs' must be at least 1")
    refused({ goal = "min sucess" }, "option 'goal': .*did you mean 'success'")
    refused({ sweep = { "retry.backof.base=1..2" } },
      "option 'sweep': there is no option 'retry.backof.base' in any policy; did you mean 'retry.backoff.base'")
    refused({ price = { inputs = 1 } }, "price: option 'inputs' is unknown")
  end)
end)
