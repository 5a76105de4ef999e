-- SPDX-License-Identifier: MIT
-- The experiments of scripts/labs: what their pages teach is so, with two seeds of each
-- policy and not those that the pages begin with.
local lab = require "neap.lab"
local lfs = require "lfs"
local repository = require "spec.support.repository"

local root = repository.root

--- What a script declares.
local function experiment(name, ...)
  local given = assert(loadfile(root .. "scripts/labs/" .. name .. ".lua"))(...)
  given.world = root .. "scripts/labs/" .. given.world
  given.seed, given.runs = 301, 2
  return given
end

--- Means by policy and measure, and the comparison.
local function run(given, only)
  if only then
    local list = {}
    for _, policy in ipairs(given.policies) do
      for _, name in ipairs(only) do
        if policy[1] == name then list[#list + 1] = policy end
      end
    end
    assert.equal(#only, #list)
    given.policies = list
  end
  local comparison, means = lab.compare(given), {}
  for _, result in ipairs(comparison.results) do
    means[result.name] = { timeline = result.timeline, same = result.same }
    for key, estimate in pairs(result.estimates) do means[result.name][key] = estimate.mean end
  end
  return means, comparison
end

describe("the experiment", function()
  it("thundering_herd.lua shows that jitter parts the herd", function()
    local rows, comparison = run(experiment "thundering_herd")
    local together, apart = rows["exponential, no jitter"], rows["exponential, full jitter"]
    assert.is_true(apart.amplification < 0.5 * together.amplification)
    assert.is_true(apart.completion_time < 0.1 * together.completion_time)
    assert.equal(together.amplification, rows["when told to (Retry-After)"].amplification)
    assert.equal(280, rows["every 0.5 s"].peak)
    assert.is_true(apart.peak < 0.5 * 280)
    assert.equal(1, rows["full jitter and 20 at a time"].amplification)
    assert.equal("full jitter and 20 at a time", comparison.best.name)
  end)

  it("collapse.lua shows that a budget ends what a short backoff does not", function()
    local rows = run(experiment "collapse")
    for _, name in ipairs { "at once", "backoff of 0.5, 1 s" } do
      assert.equal(1, rows[name].down)
      assert.is_true(rows[name].timeline[1] > 20 and rows[name].timeline[8] < 1)
    end
    for _, name in ipairs { "at once, with a budget", "neap.policy.standard" } do
      assert.equal(0, rows[name].down)
      for slot = 4, 8 do assert.is_true(rows[name].timeline[slot] > 34) end
      assert.is_true(rows[name].amplification < 1.02)
    end
    assert.is_true(rows["at once"].wasted > 20 * rows["at once, with a budget"].wasted)
    assert.is_true(rows["backoff of 20, 40 s"].wait > rows["at once, with a budget"].wait)
  end)

  it("rate_limited.lua shows that pacing finds the rate and retries do not", function()
    local rows, comparison = run(experiment "rate_limited")
    assert.is_true(rows["retries at once"].success < 0.04)
    assert.is_true(rows["backoff and Retry-After"].success < 0.8)
    assert.is_true(rows["the same, 10 at a time"].success < 1)
    local paced = rows["the same, paced at 99 %"]
    assert.equal(1, paced.success)
    assert.is_true(paced.refused <= 1 and paced.completion_time < 64)
    assert.equal("the same, paced at 99 %", comparison.best.name)
  end)

  it("failover.lua shows what a memory is worth", function()
    local rows, comparison = run(experiment "failover")
    assert.is_true(rows["one region"]["success@outage"] < 0.02)
    local forgetful, router = rows["failover call by call"], rows["failover that remembers"]
    assert.is_true(forgetful["success@outage"] > 0.99 and router["success@outage"] > 0.99)
    assert.is_true(router.lost < 0.4 * forgetful.lost)
    assert.is_true(router["wait@outage"] < 0.6 * forgetful["wait@outage"] and router["wait@outage"] < 0.6)
    assert.equal("failover that remembers", comparison.best.name)
  end)

  it("hedging.lua shows that a few copies cut the tail, and too many make a line", function()
    local rows = run(experiment "hedging", { "none", "5 % more load" })
    local none, some = rows.none, rows["5 % more load"]
    assert.is_true(some.p99 < 0.75 * none.p99)
    assert.is_true(some.amplification <= 1.05)
    assert.equal(0, none.wasted)
    local given = experiment("hedging", "0.6")
    given.runs = 1
    rows = run(given, { "none", "every call twice" })
    assert.is_true(rows["every call twice"].p50 > 10 * rows.none.p50)
  end)

  it("breaker.lua shows what thresholds, windows and patience cost", function()
    local rows = run(experiment "breaker")
    local none, default = rows["no breaker"], rows["opens at 50 % of 20 calls"]
    local function refused(name) return 1 - rows[name]["amplification@before"] end
    assert.equal(0, refused "opens at 50 % of 20 calls")
    assert.is_true(refused "opens at 10 % of 20 calls" > 0.4)
    assert.is_true(refused "opens after 2 in a row" > 0.05)
    assert.equal(1, none["amplification@outage"])
    assert.is_true(default["wait@outage"] < 0.15 * none["wait@outage"])
    assert.is_true(rows["opens at 50 % of 1000 calls"]["wait@outage"] > 0.7 * none["wait@outage"])
    assert.equal(0, rows["at 50 % of 20, for 60 s"]["success@after"])
    assert.is_true(rows["at 50 % of 20, always 5 s"]["success@after"] > default["success@after"])
  end)

  it("outage.lua shows that patience answers, and a breaker makes it cheap", function()
    local rows, comparison = run(experiment "outage")
    local patient, breaker = rows["six tries, up to 20 s"], rows["the same, a breaker"]
    assert.is_true(rows["three tries at once"].success - rows["no retries"].success < 0.015)
    assert.is_true(patient.success > 0.95 and patient.amplification > 1.4)
    assert.is_true(breaker.success > 0.99 and breaker.amplification < 1.04)
    assert.equal("the same, a breaker", comparison.best.name)
  end)

  it("outage.lua keeps what docs/lab/recommend.md promises of the Lua to paste", function()
    local file = assert(io.open(root .. "docs/lab/recommend.md"))
    local page = file:read "*a"
    file:close()
    local given = experiment "outage"
    local lua = assert(page:match "Take this:\n\nneap%.policy%.standard (%b{})")
    given.policies = { { "recommended", assert(loadstring("return " .. lua))() } }
    local row = run(given).recommended
    assert.is_true(row.success > 0.99 and row.amplification < 1.2 and row.p99 < 16)
    assert.truthy(page:find("\nno feasible policy\n\nThe nearest miss is ", 1, true))
  end)
end)

describe("scripts/labs", function()
  it("has a page for each experiment, and experiments of at most 60 lines", function()
    for file in lfs.dir(root .. "scripts/labs") do
      local name = file:match "^(.+)%.lua$"
      if name then
        assert.equal("file", lfs.attributes(root .. "docs/lab/" .. name .. ".md", "mode"), name)
        local lines = 0
        for _ in io.lines(root .. "scripts/labs/" .. file) do lines = lines + 1 end
        assert.is_true(lines <= 60, name)
      end
    end
  end)
end)
