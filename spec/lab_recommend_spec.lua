-- SPDX-License-Identifier: MIT
-- neap.lab's search, on responses whose optimum is planted, and once for real.
local core = require "neap.core"
local experiments = require "neap.lab.experiment"
local goals = require "neap.lab.goals"
local recommend = require "neap.lab.recommend"
local report = require "neap.lab.report.recommendation"
local runs = require "neap.lab.run"
local sweep = require "neap.lab.sweep"

local function bases(...)
  local parts = { p = { retry = true } }
  return { { name = "p", dimensions = assert(sweep.parse_all({ ... }, parts)) } }
end

--- A search whose runs are a function of the options, with noise by seed that all
--- candidates share.
local function search(fields, respond)
  local jobs_run = 0
  local list = {
    bases = fields.bases, goals = goals.goals(fields.goal), constraints = assert(goals.constraints(fields.subject_to)),
    factors = fields.factors or {}, seed = fields.seed or 1, candidates = fields.candidates,
    run = function(jobs)
      local rows = {}
      for i, job in ipairs(jobs) do
        jobs_run = jobs_run + 1
        local row = respond(job.variant.at or { ["backoff.base"] = 0.5, max_attempts = 3 }, job.scale or {},
          core.rng(job.seed, 5):double() - 0.5)
        row.seed, row.cut = job.seed, 0
        rows[i] = row
      end
      return rows
    end,
  }
  local result = assert(recommend.find(list))
  return result, list, jobs_run
end

--- The optimum is at base 1; success needs at least five attempts, each of which
--- costs.
local function planted(at, scale, noise)
  local base, attempts = at["backoff.base"], at.max_attempts or 3
  return {
    completion_time = 10 + 5 * math.abs(math.log10(base)) + noise, success = attempts >= 5 and 0.995 or 0.9,
    amplification = 1 + 0.05 * attempts * (scale.errors or 1) + 0.01 * noise,
  }
end

describe("a recommendation", function()
  it("finds a planted optimum inside its constraints", function()
    local got = search({ bases = bases("backoff.base=0.01..100", "max_attempts=1..20"), candidates = 81,
      goal = "min completion_time", subject_to = "amplification<1.5, success>0.99" }, planted)
    local at = got.winner.variant.at
    assert.is_true(got.feasible)
    assert.is_true(at.max_attempts >= 5 and at.max_attempts < 10, at.max_attempts)
    assert.is_true(at["backoff.base"] > 0.4 and at["backoff.base"] < 2.5, at["backoff.base"])
    assert.equal(81, got.searched)
    assert.equal(200, got.runs)
  end)

  it("tries every combination where there are few", function()
    local got = search({ bases = bases("max_attempts=2,5,9", "backoff.base=0.1,1,10"),
      goal = "min completion_time", subject_to = "success>0.99" }, planted)
    assert.same({ max_attempts = 5, ["backoff.base"] = 1 }, got.winner.variant.at)
    assert.equal(10, got.searched) -- and the policy as it is
  end)

  it("gives most runs to the best", function()
    local _, _, jobs = search({ bases = bases "backoff.base=0.01..100", goal = "min completion_time" }, planted)
    -- 27 x 4, 9 x 8 more, 3 x 24 more, 2 x 200 fresh ones.
    assert.equal(27 * 4 + 9 * 8 + 3 * 24 + 2 * 200, jobs)
  end)

  it("names the nearest miss where nothing is feasible", function()
    local got, list = search({ bases = bases("backoff.base=0.1,1,10", "max_attempts=1,2"),
      goal = "min completion_time", subject_to = "success>0.99, amplification<1.001" }, planted)
    assert.is_false(got.feasible)
    assert.same({ "success>0.99", "amplification<1.001" }, got.missed)
    assert.same({}, got.worlds)
    assert.same({ max_attempts = 1, ["backoff.base"] = 1 }, got.winner.variant.at)
    local header = { load = "open", world = "w", source = "guessed", first = 1, runs = 1, command = "neap lab" }
    local text = report.of(list, got, header, "")
    assert.matches("no feasible policy", text)
    assert.matches("The nearest miss is p, backoff.base=1 max_attempts=1, which misses success>0.99", text)
  end)

  it("tries the winner in worlds that differ, and says where it fails", function()
    local got, list = search({ bases = bases "max_attempts=5,6", goal = "min amplification",
      subject_to = "amplification<1.3, success>0.99", factors = { "latency", "errors" } },
      function(at, scale, noise)
        at = { max_attempts = at.max_attempts, ["backoff.base"] = 1 }
        return planted(at, scale, noise)
      end)
    local told = {}
    for i, world in ipairs(got.worlds) do told[i] = ("%s %.2f %s"):format(world.factor, world.scale, world.holds) end
    assert.same({ "latency 0.75 true", "latency 1.25 true", "errors 0.75 true", "errors 1.25 false" }, told)
    local header = { load = "open", world = "w", source = "guessed", first = 1, runs = 1, command = "neap lab" }
    local text = report.of(list, got, header, "LUA")
    assert.matches("errors     %+25 %%[^\n]*MISSED", text)
    assert.matches("Take this:\n\nLUA\n", text)
    assert.matches("Runner%-up: ", text)
  end)

  it("lets the runner-up win where only that one is feasible on fresh seeds", function()
    local seen = {}
    local got = search({ bases = bases "max_attempts=4,5", goal = "min completion_time", subject_to = "success>0.99" },
      function(at)
        local attempts = at.max_attempts
        seen[attempts] = (seen[attempts] or 0) + 1
        local lucky = attempts == 4 and seen[attempts] <= 4
        return { completion_time = attempts, success = (lucky or attempts == 5) and 1 or 0.5 }
      end)
    assert.same({ max_attempts = 5 }, got.winner.variant.at)
    assert.is_true(got.feasible)
  end)

  it("is the same for equal seeds, and other candidates come of other seeds", function()
    local function names(seed)
      local list = {}
      for i, candidate in ipairs(recommend.candidates { bases = bases "backoff.base=0.1..10", seed = seed }) do
        list[i] = candidate.variant.name
      end
      return list
    end
    assert.same(names(1), names(1))
    assert.not_same(names(1), names(2))
    assert.equal(27, #names(1))
  end)

  it("spreads candidates evenly over a range", function()
    local thirds = { 0, 0, 0 }
    for _, candidate in ipairs(recommend.candidates { bases = bases "backoff.base=0.001..1", seed = 3,
      candidates = 31 }) do
      local at = candidate.variant.at
      if at then
        local third = math.min(3, math.floor(math.log10(at["backoff.base"]) + 3) + 1)
        thirds[third] = thirds[third] + 1
      end
    end
    assert.same({ 10, 10, 10 }, thirds)
  end)

  it("tells what a run failed with", function()
    local got, message = recommend.find { bases = bases "backoff.base=1,2", goals = goals.goals "min p99",
      constraints = {}, factors = {}, seed = 1, run = function() return nil, "no room" end }
    assert.is_nil(got)
    assert.equal("no room", message)
  end)

  it("finds how many attempts a flaky service needs", function()
    local experiment = experiments.new { policies = { p = { retry = { backoff = { base = 0 } }, budget = false,
      adaptive = false } }, world = { errors = { { status = 503, probability = 0.5 } } },
      load = { kind = "closed", clients = 5, operations = 100 } }
    local got = assert(recommend.find { bases = bases "max_attempts=1,2,3,4,5,6,7,8", seed = 1, factors = { "errors" },
      goals = goals.goals "min amplification", constraints = goals.constraints "success>0.95", fresh = 20,
      perturbed = 10, run = function(jobs)
        local rows = {}
        for i, job in ipairs(jobs) do
          rows[i] = runs.run(experiment, { policy = "p", changes = job.variant.changes, seed = job.seed,
            scale = job.scale })
        end
        return rows
      end })
    -- 1 - 0.5^5 = 0.969, 1 - 0.5^4 = 0.9375.
    assert.same({ max_attempts = 5 }, got.winner.variant.at)
    assert.same({ true, false }, { got.worlds[1].holds, got.worlds[2].holds }) -- 1 - 0.625^5 = 0.905
  end)
end)
