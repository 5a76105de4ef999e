-- SPDX-License-Identifier: MIT
-- The case studies in scripts/ against `neap mock` with faults on: what they say,
-- and what the mock's own log says about them.
local batch = require "spec.support.batch"
local child = require "spec.support.child"
local core = require "neap.core"
local neap = require "neap"
local server = require "spec.support.server"

local FAULTS = { "--latency", "lognormal:median=0.05,sigma=0.5", "--error", "503:0.03", "--error", "429:0.02",
  "--drop", "0.02" }

--- Runs a script to its end.
local function run(script, ...)
  return child.run { "run", "scripts/" .. script, ... }
end

local function mock_with_faults(...)
  local arguments = { unpack(FAULTS) }
  for _, argument in ipairs { ... } do arguments[#arguments + 1] = argument end
  return batch.mock(unpack(arguments))
end

--- The mock's log: all its rows.
local function log_of(mock)
  local stats = assert(assert(mock.client:get(mock.url .. "/stats?full=1")):json())
  return stats.full, stats
end

--- Every id was answered with 200 exactly once, and there are `count` of them.
local function assert_each_once(rows, count, matching)
  local answers, ids = {}, 0
  for _, row in ipairs(rows) do
    if row.id ~= neap.json.null and row.id:find(matching or ".") then
      if not answers[row.id] then answers[row.id], ids = 0, ids + 1 end
      if row.status == 200 then answers[row.id] = answers[row.id] + 1 end
    end
  end
  assert.equal(count, ids)
  for id, times in pairs(answers) do
    assert.equal(1, times, id .. " was answered " .. times .. " times")
  end
end

local function count_faults(rows)
  local faults = 0
  for _, row in ipairs(rows) do
    if row.status ~= 200 then faults = faults + 1 end
  end
  return faults
end

--- The most rows that arrived in any window of `seconds`.
local function most_in_window(rows, seconds)
  local times, most, first = {}, 0, 1
  for i, row in ipairs(rows) do times[i] = row.arrived end
  table.sort(times)
  for last = 1, #times do
    while times[last] - times[first] > seconds do first = first + 1 end
    most = math.max(most, last - first + 1)
  end
  return most
end

describe("the case studies", function()
  after_each(batch.finish)

  describe("llm_inference.lua", function()
    local function table_of(text)
      local rows = {}
      for line in text:gmatch "[^\n]+" do -- the name has a column of 20
        local count, seconds, rate, failed = line:sub(21):match "^%s+(%d+)%s+([%d.]+)%s+([%d.]+)%s+([%d-]+)"
        if count then
          rows[line:match "^%a+"] = { count = tonumber(count), seconds = tonumber(seconds), rate = tonumber(rate),
            failed = tonumber(failed) }
        end
      end
      return rows
    end

    --- Greedy list scheduling of the durations, in order of arrival: nobody is
    --- faster.
    local function bound_of(durations, slots)
      local free, finish = {}, 0
      for i = 1, slots do free[i] = 0 end
      for _, duration in ipairs(durations) do
        local first = 1
        for i = 2, slots do
          if free[i] < free[first] then first = i end
        end
        free[first] = free[first] + duration
        finish = math.max(finish, free[first])
      end
      return finish
    end

    it("its sliding window is within 5 % of the list-scheduling bound in virtual time", function()
      for seed = 1, 5 do
        local upstream = require("neap.world.upstream").new {
          latency = { law = "lognormal", median = 0.1, sigma = 0.8 }, seed = seed, log = true }
        local items = {}
        for i = 1, 1000 do items[i] = i end
        local retry, began = neap.retry { max_attempts = 4, backoff = { base = 0.1, max = 10 } }, neap.now()
        neap.map(items, function(i) return retry:call(upstream.request, upstream, { id = i }) end,
          { concurrency = 100 })
        local took, bound = neap.now() - began, bound_of(upstream.stats.durations, 100)
        assert.is_true(took <= 1.05 * bound, ("%.3f s against %.3f"):format(took, bound))
        assert.is_true(took >= bound - 1e-6)
      end
    end)

    it("shows the seed's table in virtual time #real", function()
      local result = child.run { "sim", "scripts/llm_inference.lua", "--full" }
      assert.equal(0, result.code, result.err)
      local rows = table_of(result.out)
      assert.equal(0, rows.sequential.failed + rows.batches.failed + rows.sliding.failed)
      assert.is_true(rows.sequential.seconds > 100)
      assert.is_true(rows.batches.seconds > 10 and rows.batches.seconds < 20)
      assert.is_true(rows.batches.seconds / rows.sliding.seconds > 4)
      assert.is_nil(result.out:find "extrapolated")
    end)

    it("answers each request exactly once beside faults, a hundred at a time #real", function()
      local mock = mock_with_faults()
      local result = run("llm_inference.lua", mock.url)
      assert.equal(0, result.code, result.err)
      assert.matches("%-  %(extrapolated from 50; 0 failed%)", result.out)
      local rows, stats = log_of(mock)
      local printed = table_of(result.out)
      assert.equal(0, printed.sliding.failed)
      assert.is_true(count_faults(rows) > 50)
      assert.is_true(stats.max_in_flight <= 100)
      assert.is_true(printed.batches.seconds > 2 * printed.sliding.seconds)
      -- Three ways send every id: 50 of them thrice, the others twice; one more asks for the service.
      local answered = 0
      for _, row in ipairs(rows) do
        if row.status == 200 then answered = answered + 1 end
      end
      assert.equal(2051, answered)
    end)
  end)

  describe("image_recognition.lua", function()
    it("gives every image a line, its verdict or its error #real", function()
      local mock, dir = mock_with_faults(), batch.dir()
      for i = 1, 120 do assert(neap.fs.write(("%s/%03d.png"):format(dir, i), ("\137PNG%d"):format(i):rep(1000))) end
      assert(neap.fs.write(dir .. "/empty.jpg", ""))
      assert(neap.fs.write(dir .. "/notes.txt", "no image"))
      local result = run("image_recognition.lua", mock.url, dir)
      assert.equal(1, result.code, result.err) -- one image is empty
      local seen, flagged = {}, 0
      for line in result.out:gmatch "[^\n]+" do
        local entry = assert(neap.json.decode(line))
        seen[#seen + 1] = entry.path:match "[^/]+$"
        if entry.error then
          assert.equal(dir .. "/empty.jpg", entry.path)
          assert.matches("the file is empty", entry.error)
        else
          assert.is_boolean(entry.flagged)
          assert.equal(entry.flagged, #entry.categories > 0)
          if entry.flagged then flagged = flagged + 1 end
        end
      end
      assert.equal(121, #seen)
      assert.matches(("121 images: 120 answered, %d flagged, 1 failed"):format(flagged), result.err)
      assert.is_true(flagged > 0 and flagged < 120)
      local rows, stats = log_of(mock)
      assert_each_once(rows, 120)
      assert.is_true(count_faults(rows) > 0)
      assert.is_true(stats.max_in_flight <= 50)
    end)
  end)

  describe("recommendation.lua", function()
    it("keeps to 50 requests a second and gives every user a result #real", function()
      local mock = mock_with_faults()
      local result = run("recommendation.lua", mock.url)
      assert.equal(0, result.code, result.err)
      assert.matches("200 users in [%d.]+ s: 200 answered, 0 failed", result.out)
      for i = 0, 199 do assert.is_truthy(result.out:find(("user_%d "):format(i), 1, true)) end
      local rows, stats = log_of(mock)
      assert_each_once(rows, 200, "^user_")
      assert.is_true(count_faults(rows) > 0)
      assert.is_true(stats.max_in_flight <= 100)
      for _, seconds in ipairs { 0.5, 1, 2 } do
        assert.is_true(most_in_window(rows, seconds) <= 50 + 50 * (seconds + 0.1))
      end
    end)
  end)

  describe("priority_requests.lua", function()
    it("lets realtime requests overtake, and loses none of the batch #real", function()
      local mock = mock_with_faults()
      local result = run("priority_requests.lua", mock.url)
      assert.equal(0, result.code, result.err)
      local realtime = tonumber(result.out:match "realtime%s+20%s+0%s+([%d.]+) s")
      local background = tonumber(result.out:match "batch%s+200%s+0%s+([%d.]+) s")
      assert.is_true(realtime * 4 < background, result.out)
      local rows, stats = log_of(mock)
      assert_each_once(rows, 220)
      assert.is_true(stats.max_in_flight <= 8)
    end)
  end)

  describe("micro_batching.lua", function()
    it("makes few calls of many requests, and each caller gets its own answer #real", function()
      local mock = mock_with_faults()
      local result = run("micro_batching.lua", mock.url)
      assert.equal(0, result.code, result.err)
      assert.matches("500 answered, 0 failed", result.out)
      local calls = tonumber(result.out:match "(%d+) upstream calls")
      assert.is_true(calls >= 16 and calls <= 60)
      local rows = log_of(mock)
      assert_each_once(rows, calls)
    end)
  end)

  describe("on a bad day", function()
    --- The arguments of each script; few requests where it takes a number.
    local function calls(url)
      local dir = batch.dir()
      for i = 1, 5 do assert(neap.fs.write(("%s/%d.png"):format(dir, i), "image " .. i)) end
      return { ["llm_inference.lua"] = { url }, ["image_recognition.lua"] = { url, dir },
        ["recommendation.lua"] = { url, "10" }, ["priority_requests.lua"] = { url },
        ["micro_batching.lua"] = { url, "20" } }
    end

    --- Each script against `url` ends with `code`, has said `text`, and `seconds` are enough for it.
    local function assert_all(url, code, text, seconds)
      for script, arguments in pairs(calls(url)) do
        local began = neap.now()
        local result = run(script, unpack(arguments))
        local said = result.out .. result.err
        assert.equal(code, result.code, script .. ": " .. said)
        assert.is_truthy(said:find(text, 1, true), script .. ": " .. said)
        assert.is_true(neap.now() - began < (seconds or 20), script)
      end
    end

    --- A service that answers every request with `status` and `body`.
    local function service(status, body)
      return server.start(function() return status, body end):url()
    end

    it("they name the reason and end with 1 when nobody listens, within seconds #real", function()
      local closed = server.start(function() return 200 end)
      local url = closed:url()
      closed:stop(0)
      assert_all(url, 1, "Connection refused", 10)
    end)

    it("they name the status and end with 1 when the service refuses everything #real",
      server.stopped_after(function() assert_all(service(400, "no"), 1, "HTTP 400") end))

    it("one refused request is enough to end with 1 #real", server.stopped_after(function()
      local refused
      local good = '{"results":[{"flagged":false,"categories":{}}]}'
      local url = server.start(function(request)
        if request.headers["x-client-request-id"] == refused then return 400, "no" end
        return 200, good
      end):url()
      local ids = { ["llm_inference.lua"] = "request-7", ["image_recognition.lua"] = "3.png",
        ["recommendation.lua"] = "user_3", ["priority_requests.lua"] = "batch-5" }
      local arguments = calls(url)
      for script, id in pairs(ids) do
        for _, bad in ipairs { false, true } do
          refused = bad and id or nil
          local result = run(script, unpack(arguments[script]))
          assert.equal(bad and 1 or 0, result.code, script .. ": " .. result.out .. result.err)
          assert.equal(bad, (result.out:find("HTTP 400", 1, true)) ~= nil, script)
        end
      end
    end))

    it("a malformed answer is its own request's failure #real", server.stopped_after(function()
      for _, body in ipairs { "no JSON", "{}", "[]", "7", '{"results":7,"data":7}', '{"results":[null],"data":[null]}',
        '{"results":[{"categories":7}],"data":[{"index":0}]}' } do
        local by_script = calls(service(200, body))
        local images = run("image_recognition.lua", unpack(by_script["image_recognition.lua"]))
        assert.equal(1, images.code, images.err)
        assert.matches("5 images: 0 answered, 0 flagged, 5 failed", images.err)
        local vectors = run("micro_batching.lua", unpack(by_script["micro_batching.lua"]))
        assert.equal(1, vectors.code, vectors.err)
        assert.matches("0 answered, 20 failed", vectors.out)
        assert.matches("the first failure, request 1: %a+: %a+", vectors.out)
        assert.is_nil((images.err .. vectors.out):find("bad argument", 1, true))
      end
      local users = run("recommendation.lua", service(200, "no JSON"), "10")
      assert.equal(1, users.code)
      assert.matches("0 answered, 10 failed", users.out)
    end))

    it("they say what is wrong with an address that has no scheme #real", function()
      assert_all("localhost:8080", 1, "base_url must be an http or https address, got 'localhost:8080'")
    end)

    it("they say how to call them, and end with 2 #real", function()
      for _, words in ipairs { { "llm_inference.lua", "URL", "--ful" }, { "llm_inference.lua", "URL", "URL" },
        { "image_recognition.lua" }, { "image_recognition.lua", "URL" }, { "recommendation.lua" },
        { "recommendation.lua", "URL", "0" }, { "recommendation.lua", "URL", "-5" },
        { "recommendation.lua", "URL", "1.5" }, { "priority_requests.lua" }, { "micro_batching.lua" },
        { "micro_batching.lua", "URL", "0" }, { "micro_batching.lua", "URL", "-5" },
        { "micro_batching.lua", "URL", "many" } } do
        local result = run(unpack(words))
        assert.equal(2, result.code, table.concat(words, " "))
        assert.is_truthy(result.err:find("usage: neap " .. words[1] .. " ", 1, true), result.err)
        assert.equal("", result.out)
      end
    end)
  end)

  it("are at most about 80 lines each, with their command on top #real", function()
    for _, name in ipairs { "llm_inference", "image_recognition", "recommendation", "priority_requests",
      "micro_batching" } do
      local lines, text = 0, {}
      for line in io.lines("scripts/" .. name .. ".lua") do
        lines = lines + 1
        if lines <= 15 then text[lines] = line end
      end
      assert.is_true(lines <= 80, name)
      assert.matches("%$ neap scripts/" .. name .. "%.lua", table.concat(text, "\n"))
    end
    assert.is_false(core.is_virtual())
  end)
end)
