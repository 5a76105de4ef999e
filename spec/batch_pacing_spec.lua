-- SPDX-License-Identifier: MIT
-- A batch waits as the server's headers say. Virtual time.
local dry = require "neap.batch.dry_run.run"
local jobs = require "neap.batch.job"
local neap = require "neap"
local pacing = require "neap.batch.pacing"
local tmp = require "spec.support.tmp"

local function body(model, max_tokens)
  return ('{"model":"%s","max_tokens":%d,"messages":[{"role":"user","content":"hi"}]}'):format(model, max_tokens or 10)
end

--- A reader of requests with these bodies.
local function reader_of(bodies)
  local at = 0
  return { next = function()
    at = at + 1
    local text = bodies[at]
    return text and { line = at, bytes = 1, id = "batch_req_" .. at, custom_id = ('"%d"'):format(at),
      name = tostring(at), method = "POST", url = "/v1/chat/completions", body = text }
  end }
end

describe("a batch that is paced", function()
  local mock, client, written

  before_each(function()
    written = {}
    mock = neap.sim.mock()
    client = neap.http.client { base_url = "https://a.test" }
  end)
  after_each(function() client:close() end)

  local function job_of(bodies, opts)
    local given = { base_url = "https://a.test", concurrency = 10, max_attempts = 3, pace = true }
    for key, value in pairs(opts or {}) do given[key] = value end
    return jobs.new({ client = client, reader = reader_of(bodies),
      writer = { append = function(_, line) written[#written + 1] = line return true end } }, given)
  end

  local function seconds_of(job)
    local began = neap.now()
    job:run()
    return neap.now() - began
  end

  local function repeated(text, count)
    local list = {}
    for i = 1, count do list[i] = text end
    return list
  end

  it("holds back all requests of a model while a refusal says so, and no others", function()
    local blocked_until = 0
    mock:on { match = function(request) return request.body:find '"model":"busy"' ~= nil end }
      :reply(function()
        if neap.now() < blocked_until then return 429, "", { ["Retry-After"] = "30" } end
        if blocked_until == 0 then
          blocked_until = neap.now() + 30
          return 429, "", { ["Retry-After"] = "30" }
        end
        return 200, "{}"
      end):delay(0.1)
    local free = {}
    mock:on({ method = "POST" }):reply(function()
      free[#free + 1] = neap.now()
      return 200, "{}"
    end):delay(0.2)
    local bodies = {}
    for i = 1, 20 do bodies[i] = body(i % 2 == 0 and "busy" or "free") end
    local began = neap.now()
    local job = job_of(bodies, { concurrency = 12 })
    local seconds = seconds_of(job)
    assert.same({ 20, 0 }, { job.stats.ok, job.stats.failed })
    assert.is_true(seconds > 30 and seconds < 40)
    local busy = 0
    for _, request in ipairs(mock.requests) do
      if request.body:find("busy", 1, true) then busy = busy + 1 end
    end
    assert.equal(16, busy) -- six were on their way when the first refusal came, and went again
    assert.is_true(#free == 10 and free[10] - began < 1)
  end)

  it("waits for requests and tokens as their headers say, and loses nothing to refusals", function()
    local dir = tmp.dir()
    local lines = {}
    for i = 1, 300 do
      lines[i] = ('{"custom_id":"%d","url":"/v1/chat/completions","body":%s}'):format(i, body("m", 100))
    end
    local function run(pace, limits)
      local row = dry.run { world = tmp.write(dir .. "/world.lua",
        ("upstream { host = 'a.example', latency = 0.2, rate_limit = { %s } }"):format(limits)),
        input = tmp.write(dir .. "/in.jsonl", table.concat(lines, "\n") .. "\n"), base_url = "https://a.example",
        headers = {}, concurrency = 50, max_attempts = 3, timeout = 600, seed = 1, pace = pace }
      require("neap.sim.network").down()
      return row
    end
    for _, limits in ipairs { "rpm = 120", "tpm = 10000", "rpm = 120, headers = 'anthropic'" } do
      local paced, greedy = run(true, limits), run(false, limits)
      assert.is_true(greedy.failed > 50, limits)
      assert.same({ limits, 0 }, { limits, paced.failed })
      assert.is_true(paced.limited <= 50, limits) -- what was in flight when the limit was met
    end
    tmp.remove(dir)
  end)

  it("is not slowed down by a server that refuses one request in fifty", function()
    local dir = tmp.dir()
    local lines = {}
    for i = 1, 1000 do
      lines[i] = ('{"custom_id":"%d","url":"/v1/chat/completions","body":%s}'):format(i, body("m", 100))
    end
    tmp.write(dir .. "/in.jsonl", table.concat(lines, "\n") .. "\n")
    tmp.write(dir .. "/world.lua", [[upstream { host = 'a.example', latency = 0.1, errors = {
      { status = 503, probability = 0.02 }, { status = 429, probability = 0.02, retry_after = 1 } } }]])
    local function run(pace, seed)
      local row = dry.run { world = dir .. "/world.lua", input = dir .. "/in.jsonl", base_url = "https://a.example",
        headers = {}, concurrency = 20, max_attempts = 6, timeout = 600, seed = seed, pace = pace }
      require("neap.sim.network").down()
      assert.equal(0, row.failed)
      return row.seconds
    end
    for seed = 1, 3 do assert.near(run(false, seed), run(true, seed), 0.1 * run(false, seed)) end
    tmp.remove(dir)
  end)

  it("goes as fast as before a minute after the last refusal", function()
    local open, most, began = 0, 0, neap.now()
    mock:on({ method = "POST" }):reply(function()
      if open >= 5 and neap.now() - began < 30 then return 429, "" end
      open = open + 1
      if neap.now() - began > 120 then most = math.max(most, open) end
      neap.sleep(0.5)
      open = open - 1
      return 200, "{}"
    end)
    local job = job_of(repeated(body "m", 8000), { concurrency = 30, max_attempts = 5 })
    local seconds = seconds_of(job)
    assert.equal(30, most)
    assert.is_true(seconds > 120 and seconds < 300, seconds)
  end)

  it("sends fewer at a time where refusals say nothing, and as many as it may where there are none", function()
    local open, most, refused = 0, 0, 0
    local function serve(slots)
      mock:reset()
      open, most, refused = 0, 0, 0
      mock:on({ method = "POST" }):reply(function()
        if open >= slots then
          refused = refused + 1
          return 429, ""
        end
        open = open + 1
        most = math.max(most, open)
        neap.sleep(0.5)
        open = open - 1
        return 200, "{}"
      end)
    end
    local function failed(slots, pace)
      serve(slots)
      local job = job_of(repeated(body "m", 400), { concurrency = 40, max_attempts = 4, pace = pace })
      job:run()
      return job.stats.failed, refused
    end
    local lost = failed(10, false)
    assert.is_true(lost > 40, lost)
    local few, refusals = failed(10, true)
    assert.is_true(few <= 4 and refusals < 200, few .. " failed of " .. refusals)
    assert.equal(0, (failed(40, true)))
    assert.equal(40, most)
  end)

  it("tells what has not had its turn when it is stopped as not sent", function()
    mock:on({ method = "POST" }):reply(429, "", { ["Retry-After"] = "100" }):times(1)
    local job = job_of(repeated(body "m", 5), { concurrency = 1 })
    neap.scope(function(s)
      s:spawn(job.run, job)
      neap.sleep(1)
      job:stop() -- the first one has an answer, the others were not taken
    end)
    assert.equal(1, #written)
    assert.is_truthy(written[1]:find('"status_code":429', 1, true))

    written = {}
    mock:on({ method = "POST" }):reply(200, "{}", { ["x-ratelimit-limit-requests"] = "1",
      ["x-ratelimit-remaining-requests"] = "0", ["x-ratelimit-reset-requests"] = "60s" }):times(1)
    job = job_of(repeated(body "m", 5), { concurrency = 1 })
    local stopped
    neap.scope(function(s)
      s:spawn(job.run, job)
      neap.sleep(1)
      assert.same({ 2, 1 }, { job.stats.taken, job.stats.waiting })
      stopped = neap.now()
      job:stop()
    end)
    assert.equal(stopped, neap.now())
    assert.equal(2, #written)
    assert.is_truthy(written[2]:find('"code":"cancelled","message":"interrupted before it was sent"', 1, true))
    assert.same({ 0, 0, 1, 1 }, { job.stats.waiting, job.stats.in_flight, job.stats.ok, job.stats.failed })
  end)

  it("estimates what an item may use by its body", function()
    local function amounts(text) return pacing.amounts(text) end
    assert.same({ requests = 1 }, amounts "[1")
    assert.same({ requests = 1, tokens = 0, input_tokens = 0, output_tokens = 0 }, amounts "{}")
    assert.same({ requests = 1, tokens = 3, input_tokens = 3, output_tokens = 0 }, amounts '{"input":"twelve bytes"}')
    local chat = amounts('{"max_tokens":5,"max_completion_tokens":7,"n":3,"messages":[{"role":"user","content":"x"}]}')
    assert.equal(15, chat.output_tokens)
    assert.equal(chat.input_tokens + 15, chat.tokens)
    assert.equal(1e3, amounts('{"max_output_tokens":1000,"instructions":"abcd","input":"abcd"}').output_tokens)
    assert.equal(2, amounts('{"instructions":"abcd","input":"abcd","max_tokens":"many"}').tokens)
  end)
end)
