-- SPDX-License-Identifier: MIT
-- Windows, timelines and measures of an experiment's own; draws that are paired through
-- the simulated network; where world files are looked for.
local child = require "spec.support.child"
local goals = require "neap.lab.goals"
local lab = require "neap.lab"
local neap = require "neap"

--- 10 calls a second for 30 s, evenly; from 10 to 20 s everything is a 503 at once.
local function compare(changes)
  local given = {
    policies = { { "none", false }, { "twice", function()
      return neap.retry { max_attempts = 2, backoff = { base = 0 } }
    end } },
    world = { latency = 0.05, outage = { from = 10, to = 20, status = 503 } },
    load = { kind = "open", rate = 10, arrivals = "even", duration = 30 }, runs = 6,
  }
  for key, value in pairs(changes) do given[key] = value end
  local comparison, by_name = lab.compare(given), {}
  for _, result in ipairs(comparison.results) do by_name[result.name] = result end
  return by_name, comparison
end

describe("a window", function()
  it("has the measures of what began in it", function()
    local got = compare { windows = { before = { from = 0, to = 10 }, outage = { from = 10, to = 20 } } }
    local row = got.twice.runs[1]
    assert.same({ 1, 0 }, { row["success@before"], row["success@outage"] })
    assert.same({ 1, 2 }, { row["amplification@before"], row["amplification@outage"] })
    assert.near(0.05, row["p99@before"], 1e-9)
    assert.near(0.05, row["wait@before"], 1e-9)
    assert.is_nil(row["p99@outage"])
    assert.near(0, row["wait@outage"], 1e-9)
    assert.near(2 / 3, row.success, 1e-9)
    assert.near(4 / 3, row.amplification, 1e-9)
  end)

  it("may end after the run, or begin there", function()
    local got, comparison = compare { windows = { last = { from = 25, to = 1000 }, never = { from = 100, to = 200 } } }
    local row = got.none.runs[1]
    assert.same({ 1, 1 }, { row["success@last"], row["amplification@last"] })
    assert.is_nil(row["success@never"])
    assert.near(30, row.completion_time, 0.1)
    assert.same({ "last", "never" }, { comparison.windows[1].name, comparison.windows[2].name })
    assert.same({}, comparison.windows[2].metrics)
  end)

  it("counts what the time limit cut off as failed", function()
    local got = compare { policies = { { "none", false } }, world = { hang = 1 }, time_limit = 5,
      windows = { first = { from = 0, to = 4 } } }
    local row = got.none.runs[1]
    assert.same({ 0, 1 }, { row["success@first"], row["amplification@first"] })
    assert.is_nil(row["wait@first"])
  end)

  it("changes nothing of what happens", function()
    local world = { latency = { law = "exponential", mean = 0.2 }, errors = { { status = 503, probability = 0.3 } } }
    local plain = compare { world = world }
    local windowed = compare { world = world, windows = { one = { from = 3, to = 7 } }, timeline = 3 }
    for key, value in pairs(plain.twice.runs[2]) do assert.near(value, windowed.twice.runs[2][key], 1e-7) end
  end)

  it("can be a goal and a constraint", function()
    local got = compare { windows = { outage = { from = 10, to = 20 } }, goal = "min amplification@outage" }
    assert.equal("best", got.none.verdict)
    assert.matches("^worse: amplification in 'outage' %+1%.000 ", got.twice.verdict)
    local known = { { key = "success@outage" } }
    assert.equal("success@outage", goals.constraints("success@outage>0.5", known)[1].metric.key)
    local _, message = goals.goals("max success@outag", known)
    assert.matches("did you mean 'success@outage'", message)
  end)
end)

describe("a timeline", function()
  it("counts successes where they end, a second", function()
    local got = compare { timeline = 5 }
    assert.same({ 10, 10, 0, 0, 10, 10 }, { unpack(got.none.timeline, 1, 6) })
    assert.same(got.none.timeline, got.none.runs[1].timeline)
  end)

  it("is as long for a policy that is through sooner", function()
    local got = compare { policies = { { "none", false }, { "slow", function()
      return neap.policy { neap.rate_limiter { requests_per_minute = 300 } }
    end } }, timeline = 5 }
    assert.equal(#got.slow.timeline, #got.none.timeline)
    assert.is_true(#got.none.timeline > #got.none.runs[1].timeline)
    assert.equal(0, got.none.timeline[#got.none.timeline])
  end)
end)

describe("a measure of an experiment's own", function()
  it("is a column, with an interval, differences and a goal", function()
    local got, comparison = compare { goal = "min refused", measures = { "success",
      { "refused", title = "503s", of = function(env) return env.upstream.stats.statuses["503"] or 0 end },
      { "even", percent = true, better = "max", of = function(env) return env.seed % 2 end },
      { "some", of = function(env, row) return env.policy == "none" and row.succeeded or nil end } } }
    assert.same({ 100, 200 }, { got.none.estimates.refused.mean, got.twice.estimates.refused.mean })
    assert.equal("best", got.none.verdict)
    assert.equal(100, got.twice.against.refused.mean)
    assert.equal(200, got.none.estimates.some.mean)
    assert.is_nil(got.twice.estimates.some)
    local text = tostring(require("neap.lab.report.text").of(comparison))
    assert.matches("\n +success +503s +even +some\n", text)
    assert.matches("50%.00 %%", text)
    assert.matches("worse: 503s %+100%.0 ", text)
  end)

  it("that is no number fails the run in one line that names it", function()
    for _, value in ipairs { "x", 0 / 0, math.huge } do
      local ok, message = pcall(compare, { measures = { { "odd", of = function() return value end } } })
      assert.is_false(ok)
      assert.matches("measure 'odd' must return a finite number or nil, got ", message)
    end
  end)
end)

describe("wrong windows and measures", function()
  local function refused(changes, wanted)
    local ok, message = pcall(compare, changes)
    assert.is_false(ok)
    assert.matches(wanted, tostring(message))
    assert.is_nil(tostring(message):find "\n")
  end

  it("are refused in one line that names the key", function()
    refused({ windows = { a = { from = 5, to = 5 } } }, "windows: a: option 'to' must be above 'from' %(5%), got 5")
    refused({ windows = { a = { from = 5 } } }, "windows: a: option 'to'")
    refused({ windows = { a = { form = 5, to = 7 } } }, "windows: a: option 'form' is unknown; did you mean 'from'")
    refused({ windows = { a = 5 } }, "windows: a must be { from =, to = }, got number")
    refused({ windows = { ["a b"] = { from = 1, to = 2 } } }, "a name must be letters, digits and _, got 'a b'")
    refused({ timeline = 0 }, "option 'timeline' must be at least 0.01")
    refused({ measures = {} }, "option 'measures' is empty")
    refused({ measures = { "sucess" } }, "measures: entry 1: there is no measure 'sucess'; did you mean 'success'")
    refused({ measures = { { "x" } } }, "measures: entry 1: x: option 'of'")
    refused({ measures = { { "success", of = print } } }, "entry 1: 'success' is taken")
    refused({ measures = { { "sends", of = print } } }, "entry 1: 'sends' is taken")
    refused({ measures = { { "x", of = print }, { "x", of = print } } }, "entry 2: 'x' is there twice")
    refused({ measures = { { "x", off = print } } }, "entry 1: x: option 'off' is unknown; did you mean 'of'")
    refused({ goal = "max success@outage" }, "option 'goal': .*there is no measure 'success@outage'")
  end)
end)

describe("requests through the network", function()
  it("have the same latency and luck in every policy, with and without one", function()
    local seen = {}
    local function retry() return neap.retry { max_attempts = 3, backoff = { base = 0.7 } } end
    lab.compare {
      policies = { { "none", false }, { "retry", retry }, { "in line", function()
        return neap.policy { retry(), neap.bulkhead { limit = 2 } }
      end }, { "refusing", function()
        return neap.policy { retry(), neap.circuit_breaker { consecutive_failures = 2, open_duration = 1 } }
      end } },
      world = { { host = "api.example.com", latency = { law = "exponential", mean = 0.1 },
        errors = { { status = 503, probability = 0.4 } } } },
      send = function(env)
        local client, statuses = assert(neap.http.client { base_url = "http://api.example.com" }), {}
        seen[env.policy] = statuses
        return function(item)
          local began = neap.now()
          local res = assert(client:get("/" .. item))
          statuses[item] = statuses[item] or {}
          table.insert(statuses[item], ("%d %.6f"):format(res.status, neap.now() - began))
          return res
        end
      end,
      runs = 1, load = { kind = "open", rate = 30, operations = 120 },
    }
    local compared, refused = 0, 0
    for item, attempts in pairs(seen.retry) do
      for _, name in ipairs { "none", "in line", "refusing" } do
        local others = seen[name][item] or {}
        if #others == 0 then refused = refused + 1 end
        for k = 1, math.min(#attempts, #others) do
          assert.equal(attempts[k], others[k])
          compared = compared + 1
        end
      end
    end
    assert.is_true(compared > 250)
    assert.is_true(refused > 5)
  end)

  it("are numbered by the item where one makes several", function()
    local seen = {}
    lab.compare {
      policies = { { "none", false }, { "retry", function() return neap.retry { max_attempts = 1 } end } },
      world = { { host = "a.example.com", latency = { law = "exponential", mean = 0.1 } } },
      send = function(env)
        local client, times = assert(neap.http.client { base_url = "http://a.example.com" }), {}
        seen[env.policy] = times
        return function()
          for _ = 1, 2 do
            local began = neap.now()
            assert(client:get "/")
            times[#times + 1] = ("%.6f"):format(neap.now() - began)
          end
          return true
        end
      end,
      runs = 1, load = { kind = "closed", clients = 1, operations = 20 },
    }
    assert.same(seen.none, seen.retry)
    assert.not_equal(seen.none[1], seen.none[2])
  end)
end)

describe("an experiment's world file #real", function()
  it("is looked for beside the script, that of --world where the command is given", function()
    local path, folder = child.file("lab.lua", [[return { policies = { { "none", false } }, world = "x.lua", runs = 2,
      load = { kind = "closed", clients = 1, operations = 3 }, windows = { all = { from = 0, to = 1 } }, timeline = 1,
      measures = { "success", "p50", { "seed_of", of = function(env) return env.seed end } } }]])
    local file = assert(io.open(folder .. "/x.lua", "w"))
    file:write "upstream { host = 'a', latency = 0.25 }"
    file:close()
    local beside = child.run { "lab", path }
    local absolute = child.run { "lab", path, "--world", folder .. "/x.lua", "--goal", "max success@all, min seed_of" }
    local missing = child.run { "lab", path, "--world", "x.lua" }
    child.remove(folder)
    assert.same({ 0, "" }, { beside.code, beside.err })
    assert.matches("\nworld    " .. folder:gsub("%p", "%%%0") .. "/x%.lua %(guessed%)\n", beside.out)
    assert.matches("100%.00 %% +0%.250 +1%.500\n", beside.out)
    assert.matches("Window 'all', 0 to 1 s", beside.out)
    assert.matches("from, s +0\n  none +3%.0\n", beside.out)
    assert.same({ 0, "" }, { absolute.code, absolute.err })
    assert.matches("Best: highest success in 'all', then lowest seed_of", absolute.out)
    assert.equal(2, missing.code)
    assert.matches("^neap: lab: [^\n]*cannot read x%.lua[^\n]*\n$", missing.err)
  end)
end)

describe("neap.lab.compare in a script #real", function()
  it("says the command that it was run with, and needs virtual time", function()
    local path, folder = child.file("script.lua", [[
      local neap = require "neap"
      print(neap.lab.compare { policies = { a = false }, world = { latency = 1 }, runs = 2,
        load = { kind = "closed", clients = 1, operations = 1 } })]])
    local simulated = child.run { "sim", "--seed", "3", path, "an argument" }
    local real = child.run { "run", path }
    child.remove(folder)
    assert.equal(0, simulated.code)
    assert.matches("\nload     closed %(1 client; 1 operation%)\n", simulated.out)
    assert.truthy(simulated.out:find("\ncommand  neap sim --seed 3 " .. path .. " 'an argument'\n", 1, true))
    assert.equal(1, real.code)
    assert.matches("script%.lua:2: neap%.lab runs in virtual time: use `neap lab`, `neap sim` or `neap test`", real.err)
  end)
end)
