-- SPDX-License-Identifier: MIT
-- `neap batch --dry-run`: one run in virtual time, and the arithmetic.
local assumptions = require "neap.batch.dry_run.assumptions"
local core = require "neap.core"
local dry = require "neap.batch.dry_run.run"
local report = require "neap.batch.dry_run.report"
local sensitivity = require "neap.batch.dry_run.sensitivity"
local tmp = require "spec.support.tmp"
local worlds = require "neap.world"

--- One line of input for a model, which may take so many tokens.
local function line(id, model, max_tokens)
  return ('{"custom_id":"%s","url":"/v1/chat/completions","body":{"model":"%s","max_tokens":%d,"messages":'
    .. '[{"role":"user","content":"question %s"}]}}'):format(id, model, max_tokens or 100, id)
end

local function lines(n, model)
  local list = {}
  for i = 1, n do list[i] = line("r" .. i, model or "m") end
  return table.concat(list, "\n") .. "\n"
end

describe("a run of a dry run", function()
  local dir, seed

  before_each(function()
    dir, seed = tmp.dir(), core.seed()
  end)
  after_each(function()
    require("neap.sim.network").down()
    core.reseed(seed)
    tmp.remove(dir)
  end)

  --- A world file with one upstream, and a run of the input against it.
  local function run(world, input, more)
    local job = { world = tmp.write(dir .. "/world.lua", ("upstream { host = 'a.example', %s }"):format(world)),
      input = tmp.write(dir .. "/in.jsonl", input), base_url = "https://a.example/v1", headers = {}, concurrency = 2,
      max_attempts = 5, timeout = 600, seed = 1 }
    for key, value in pairs(more or {}) do job[key] = value end
    return dry.run(job)
  end

  it("takes what the batch's window makes of the world's latency", function()
    local row = run("latency = 0.5", lines(10))
    assert.same({ 2.5, 10, 0, 0 }, { row.seconds, row.sends, row.limited, row.failed })
    assert.equal(0.75, run("latency = 0.5", lines(10), { concurrency = 4, scale = { latency = 0.5 } }).seconds)
  end)

  it("counts tokens by model, of the answers that came", function()
    local row = run("latency = 0.1, tokens = { output = 30 }",
      line("a", "big", 100) .. "\n" .. line("b", "small", 10) .. "\n" .. line("c", "big", 20))
    assert.equal(30 + 20, row.models.big.output)
    assert.equal(10, row.models.small.output)
    assert.equal(60, row.output)
    assert.equal(row.input, row.models.big.input + row.models.small.input)
    assert.equal(0, row.other)
  end)

  it("counts the tokens of responses and of Anthropic's messages, in quotas too", function()
    local function item(id, path, body)
      return ('{"custom_id":"%s","url":"%s","body":%s}\n'):format(id, path, require("neap.json").encode(body))
    end
    local input = item("r", "/v1/responses", { model = "a", input = ("x"):rep(400), max_output_tokens = 40 })
      .. item("m", "/v1/messages", { model = "b", system = ("x"):rep(40), max_tokens = 10,
        messages = { { role = "user", content = ("x"):rep(400) } } })
    local row = run("latency = 0.1, tokens = { output = 30 }", input)
    assert.same({ 0, { input = 100, output = 30 } }, { row.other, row.models.a })
    assert.equal(10, row.models.b.output)
    assert.is_true(row.models.b.input >= 110 and row.models.b.input < 120)
    -- 140 for the first one; the other waits for its own.
    row = run("latency = 0.1, rate_limit = { tpm = 200 }", input, { pace = true })
    assert.same({ 0, 2 }, { row.failed, row.sends - row.limited })
    assert.is_true(row.seconds > 10, row.seconds)
  end)

  it("gives up an item that the limit will never let in, and names it", function()
    local input = line("fits", "m", 10) .. "\n" .. line("huge", "m", 5000) .. "\n" .. line("last", "m", 10) .. "\n"
    for _, pace in ipairs { true, false } do
      local row = run("latency = 0.1, rate_limit = { tpm = 1000 }", input, { pace = pace, concurrency = 1 })
      assert.same({ 1, { "huge" }, pace and 3 or 7 }, { row.failed, row.too_large, row.sends })
      if pace then assert.is_true(row.seconds < 5) end
    end
  end)

  it("retries as the batch does: Retry-After is waited for, attempts are counted", function()
    -- One a second: the bucket holds one, so each further one meets a 429 first.
    local row = run("latency = 0, rate_limit = { rpm = 60, window = 1 }", lines(3), { concurrency = 1 })
    assert.same({ 0, 3 }, { row.failed, row.sends - row.limited })
    assert.is_true(row.limited >= 2)
    assert.is_true(row.seconds >= 2 and row.seconds < 4)
    row = run("errors = { { status = 429, probability = 1 } }", lines(3), { max_attempts = 2 })
    assert.same({ 6, 6, 3 }, { row.sends, row.limited, row.failed })
    assert.same({ ["429"] = 3 }, row.failures)
    assert.same({}, row.models)
  end)

  it("counts bad lines as failed without sending them", function()
    local row = run("latency = 0", lines(2) .. "nonsense\n" .. line("r1", "m"))
    assert.same({ 2, 2, { invalid = 2 } }, { row.sends, row.failed, row.failures })
  end)

  it("counts answers whose tokens nobody knows", function()
    local row = run("latency = 0", '{"custom_id":"a","url":"/v1/other","body":{}}')
    assert.same({ 1, 0, 0 }, { row.other, row.failed, row.input })
  end)

  it("is the same for the same seed, and another for another", function()
    local world = "latency = { law = 'exponential', mean = 0.2 }, errors = { { status = 503, probability = 0.2 } }"
    local first, again, other = run(world, lines(20)), run(world, lines(20)), run(world, lines(20), { seed = 2 })
    assert.same(first, again)
    assert.not_equal(first.seconds, other.seconds)
  end)

  it("scales the lengths of answers that depend on their prompts", function()
    local base, longer = run("latency = 0", lines(20)), run("latency = 0", lines(20), { scale = { output = 2 } })
    assert.equal(2 * base.output, longer.output)
    -- Not beyond what a request allows.
    local input = line("a", "m", 5)
    assert.equal(5, run("latency = 0", input).output)
    assert.equal(5, run("latency = 0", input, { scale = { output = 2 } }).output)
  end)

  it("says in one line what cannot be", function()
    assert.has_error(function() run("latency = -1", "") end)
    local ok, message = pcall(run, "latency = 0", "", { input = dir .. "/none.jsonl" })
    assert.is_false(ok)
    assert.matches("^cannot read [^\n]*none%.jsonl", message)
  end)
end)

describe("the assumptions of a dry run", function()
  local function of(options)
    local by_name = {}
    for _, one in ipairs(assumptions.of(worlds.new { options }, 1)) do by_name[one.name] = one end
    return by_name
  end

  it("tell a profile's figures from guesses", function()
    local list = of { host = "a", profile = "openai-tier1", errors = { { status = 503, probability = 0.02 } } }
    assert.same({ "500 requests/min, 30,000 tokens/min", "profile openai-tier1, undated, read 2026-11-23", false },
      { list.quota.text, list.quota.origin, list.quota.guessed })
    assert.equal("profile openai-tier1, 2026-06-24", list.latency.origin)
    assert.same({ "503: 2 %", true, true }, { list.errors.text, list.errors.guessed, list.errors.varies })
    assert.same({ "12 to 35 tokens, by the prompt", true, true },
      { list.output.text, list.output.guessed, list.output.varies })
    assert.same({ "none", true, false }, { list.capacity.text, list.capacity.guessed, list.capacity.varies })
  end)

  it("go by the source that a world states, and by its own figures before the profile's", function()
    local list = of { host = "a", profile = "openai-tier1", source = "measured today",
      rate_limit = { rpm = 100 }, tokens = { output = { law = "lognormal", median = 50, sigma = 0.5 } } }
    assert.same({ "100 requests/min", "measured today" }, { list.quota.text, list.quota.origin })
    assert.same({ "log-normal, median 50, sigma 0.5 tokens", "measured today" },
      { list.output.text, list.output.origin })
    -- Its `tokens` hide the profile's, speed and all.
    assert.equal("0.45 s", list.latency.text)
  end)

  it("are none of a handler's", function()
    assert.same({}, of { host = "a", handler = function() return 200 end })
  end)
end)

describe("the sensitivity of a dry run", function()
  local quota, latency = { name = "quota" }, { name = "latency" }

  local function rows(list, key)
    local result = {}
    for i, value in ipairs(list) do result[i] = { seconds = 1, failed = 0, [key or "seconds"] = value } end
    return result
  end

  it("has quantiles between the values", function()
    assert.equal(2.5, sensitivity.quantile({ 4, 1, 3, 2 }, 0.5))
    assert.near(1.15, sensitivity.quantile({ 4, 1, 3, 2 }, 0.05), 1e-12)
    assert.equal(7, sensitivity.quantile({ 7 }, 0.95))
  end)

  it("takes changes seed by seed", function()
    local effect = sensitivity.effect({ assumption = quota, scale = 0.75 }, rows { 12, 110, 1.3 }, rows { 10, 100, 1 })
    assert.near(0.2, effect.seconds, 1e-12)
    assert.is_nil(effect.cost)
    assert.equal(0, effect.failed)
  end)

  it("takes nothing that one or two seeds say for sure", function()
    local effect = sensitivity.effect({ assumption = quota, scale = 1.25 }, rows { 15, 15 }, rows { 10, 10 })
    assert.same({ 0.5, true }, { effect.seconds, effect.lucky.seconds })
    effect = sensitivity.effect({ assumption = quota, scale = 1.25 }, rows { 15, 15, 15 }, rows { 10, 10, 10 })
    assert.is_nil(effect.lucky.seconds)
  end)

  it("does not take luck for an effect", function()
    local lucky = sensitivity.effect({ assumption = quota, scale = 1.25 }, rows { 15, 15, 15, 5, 5 },
      rows { 10, 10, 10, 10, 10 })
    assert.same({ 0.5, true }, { lucky.seconds, lucky.lucky.seconds })
    local sure = sensitivity.effect({ assumption = latency, scale = 1.25 }, rows { 11, 11, 11 }, rows { 10, 10, 10 })
    assert.equal(sure, sensitivity.most({ lucky, sure }, "seconds"))
    assert.is_nil(sensitivity.most({ lucky }, "seconds"))
    assert.is_nil(sensitivity.most({ sure }, "failed"))
  end)

  it("varies what there is, with fewer seeds for large inputs", function()
    local list = sensitivity.variations { { name = "errors", varies = false }, { name = "quota", varies = true } }
    assert.same({ 0.75, 1.25 }, { list[1].scale, list[2].scale })
    assert.equal(2, #list)
    assert.same({ 10, 5, 3, 3, 10 }, { sensitivity.seeds(20, 1000), sensitivity.seeds(20, 20000),
      sensitivity.seeds(20, 1e6), sensitivity.seeds(3, 10), sensitivity.seeds(20, 0) })
  end)

  it("spreads from 5 to 95 %", function()
    local list = {}
    for i = 1, 21 do list[i] = { seconds = i } end
    assert.same({ 11, 2, 20 }, { report.spread(list, "seconds") })
  end)
end)
