-- SPDX-License-Identifier: MIT
local json = require "neap.json"
local neap = require "neap"
local syntax = require "neap.mock.syntax"
local child = require "spec.support.child"
local mocks = require "spec.support.mock"
local raw = require "spec.support.raw_http"

local CHAT = '{"model":"m","messages":[{"role":"user","content":"hi"}]}'

local function ask(port, opts)
  opts = opts or {}
  return raw.fetch(port, opts.method or "POST", opts.path or "/v1/chat/completions", {
    headers = opts.id and { "X-Client-Request-Id: " .. opts.id } or nil,
    body = (opts.method or "POST") == "POST" and (opts.body or CHAT) or nil,
  })
end

local function stats_of(port, full)
  local res = raw.fetch(port, "GET", full and "/stats?full=1" or "/stats")
  assert.equal("application/json", res.headers["content-type"])
  return assert(json.decode(res.body))
end

describe("the mock upstream #real", function()
  local function serves(name, config, body) it(name, mocks.served(config, body)) end

  serves("answers each of OpenAI's endpoints, with a request id of its own", {}, function(port)
    local chat, again = ask(port), ask(port)
    assert.equal(200, chat.status)
    assert.equal("chat.completion", json.decode(chat.body).object)
    assert.truthy(chat.headers["x-request-id"]:find "^req_%x+$")
    assert.not_equal(chat.headers["x-request-id"], again.headers["x-request-id"])
    local text = ask(port, { path = "/v1/completions", body = '{"model":"m","prompt":"hi"}' })
    assert.equal("text_completion", json.decode(text.body).object)
    local embedding = ask(port, { path = "/v1/embeddings", body = '{"model":"m","input":"hi"}' })
    assert.equal("list", json.decode(embedding.body).object)
    local models = ask(port, { path = "/v1/models", method = "GET" })
    assert.equal("list", json.decode(models.body).object)
  end)

  serves("answers any other path with what it was sent", {}, function(port)
    local res = ask(port, { path = "/some/where?x=1", body = "anything" })
    assert.same({ object = "mock.echo", method = "POST", path = "/some/where", body = "anything" },
      json.decode(res.body))
    assert.truthy(res.headers["x-request-id"])
  end)

  serves("copes with bytes that are no UTF-8", {}, function(port)
    local res = ask(port, { path = "/%ff", body = "a\255\0", id = "\254" })
    assert.same({ 200, "/\\xff", "a\\xff\0" },
      { res.status, json.decode(res.body).path, json.decode(res.body).body })
    assert.equal(400, ask(port, { body = "\255" }).status)
    local stats = stats_of(port, true)
    assert.same({ ["\\xfe"] = 1 }, stats.by_id)
    assert.same({ ["a\\xff\0"] = 1, ["\\xff"] = 1 }, stats.by_body)
    assert.same({ "\\xfe", "/\\xff" }, { stats.full[1].id, stats.full[1].path })
  end)

  serves("refuses a bad request in OpenAI's error shape, with a request id", {}, function(port)
    local res = ask(port, { body = "{" })
    assert.equal(400, res.status)
    assert.equal("invalid_request_error", json.decode(res.body).error.type)
    assert.truthy(res.headers["x-request-id"])
  end)

  serves("streams events up to [DONE]", { token_delay = 0.001 }, function(port)
    local res = ask(port, { body = '{"model":"m","stream":true,"max_tokens":3,"messages":[{"role":"user"}]}' })
    assert.equal("text/event-stream", res.headers["content-type"])
    assert.truthy(res.headers["x-request-id"])
    local events = {}
    for data in res.body:gmatch "data: (.-)\n\n" do events[#events + 1] = data end
    assert.equal(5, #events)
    assert.equal("[DONE]", events[5])
    assert.equal("length", json.decode(events[4]).choices[1].finish_reason)
  end)

  serves("takes as long as it was told", { latency = syntax.latency "fixed:0.05" }, function(port)
    local at = neap.now()
    local res = ask(port)
    assert.is_true(neap.now() - at >= 0.05)
    assert.is_true(tonumber(res.headers["openai-processing-ms"]) >= 50)
    assert.is_true(stats_of(port, true).full[1].duration >= 0.05)
  end)

  serves("fails as it was told, in OpenAI's shape", { errors = { syntax.error_rule "503:1,retry_after=2" } },
    function(port)
      local res = ask(port)
      assert.same({ 503, "2" }, { res.status, res.headers["retry-after"] })
      local err = json.decode(res.body).error
      assert.same({ "server_error", "overloaded" }, { err.type, err.code })
      assert.truthy(res.headers["x-request-id"])
    end)

  serves("limits the rate with 429, Retry-After and x-ratelimit headers",
    { rate_limit = syntax.rate_limit "rpm=60,tpm=6000,window=2" }, function(port)
      local first = ask(port)
      assert.equal(200, first.status)
      assert.equal("60", first.headers["x-ratelimit-limit-requests"])
      assert.equal("1", first.headers["x-ratelimit-remaining-requests"])
      assert.truthy(first.headers["x-ratelimit-reset-requests"]:find "^%d+m?s$")
      assert.equal("6000", first.headers["x-ratelimit-limit-tokens"])
      assert.equal(200, ask(port).status)
      local limited = ask(port)
      assert.same({ 429, "1", "0" },
        { limited.status, limited.headers["retry-after"], limited.headers["x-ratelimit-remaining-requests"] })
      local err = json.decode(limited.body).error
      assert.same({ "requests", "rate_limit_exceeded" }, { err.type, err.code })
    end)

  serves("limits tokens, counting what a request may use", { rate_limit = syntax.rate_limit "tpm=6000,window=1" },
    function(port)
      local body = '{"model":"m","max_tokens":%d,"messages":[{"role":"user","content":"hi"}]}'
      assert.equal(200, ask(port, { body = body:format(90) }).status)
      local res = ask(port, { body = body:format(90) })
      assert.same({ 429, "tokens" }, { res.status, json.decode(res.body).error.type })
      res = ask(port, { body = body:format(1000) })
      assert.equal(429, res.status)
      assert.is_nil(res.headers["retry-after"])
    end)

  serves("resets connections as it was told", { drop = 1 }, function(port)
    local res, ended = ask(port)
    assert.same({ nil, "ECONNRESET" }, { res, ended })
    assert.equal("drop", stats_of(port, true).full[1].status)
  end)

  serves("hangs as it was told, until the client leaves", { hang = 1 }, function(port)
    local connection = raw.connect(port):send(raw.request("POST", "/v1/chat/completions", { body = CHAT }))
    assert.equal("timeout", select(2, neap.timeout(0.03, function() connection:take(1) end)).kind)
    assert.same({ json.null, 1 }, { stats_of(port, true).full[1].status, stats_of(port).in_flight })
    connection:close()
    local row
    repeat
      neap.sleep(0.002)
      row = stats_of(port, true).full[1]
    until row.status ~= json.null
    assert.equal("hang", row.status)
    assert.is_true(row.duration >= 0.03)
  end)

  serves("notes a client who leaves before the answer", { latency = syntax.latency "fixed:0.03" }, function(port)
    local connection = raw.connect(port):send(raw.request("POST", "/v1/chat/completions", { body = CHAT }))
    while stats_of(port).requests == 0 do neap.sleep(0.001) end
    connection:close()
    while stats_of(port).in_flight > 0 do neap.sleep(0.002) end
    assert.equal("disconnect", stats_of(port, true).full[1].status)
  end)

  serves("works on so many requests at a time, and queues the others",
    { concurrency = 2, latency = syntax.latency "fixed:0.02" }, function(port)
      local at = neap.now()
      neap.map({ 1, 2, 3, 4, 5, 6 }, function() return ask(port).status end)
      assert.is_true(neap.now() - at >= 0.06)
      local rows = stats_of(port, true).full
      assert.is_true(rows[6].duration >= 0.06 - (rows[6].arrived - rows[1].arrived))
    end)

  serves("counts arrivals by id and by body, its own statistics not", { errors = { syntax.error_rule "500:1" } },
    function(port)
      ask(port, { id = "a" })
      ask(port, { id = "a" })
      ask(port, { id = "b", body = "{}" })
      ask(port, { path = "/x", method = "GET" })
      local stats = stats_of(port)
      assert.same({ a = 2, b = 1 }, stats.by_id)
      assert.same({ [CHAT] = 2, ["{}"] = 1 }, stats.by_body)
      assert.same({ 4, 0 }, { stats.requests, stats.in_flight })
      assert.same({ ["500"] = 3, ["400"] = 1 }, stats.statuses)
      assert.is_nil(stats.full)
    end)

  serves("tells in order of arrival when each request came and how long it took", {}, function(port, upstream)
    for i = 1, 1203 do
      if i == 1 or i == 1203 then ask(port, { id = "r" .. i, path = "/p" .. i, body = "x" }) end
      if i > 1 and i < 1203 then upstream.stats:finish(upstream.stats:arrive(nil, "/own", "", neap.now()), 200, 0) end
    end
    local rows = stats_of(port, true).full
    assert.equal(1203, #rows)
    assert.same({ "r1", "/p1", 200 }, { rows[1].id, rows[1].path, rows[1].status })
    assert.same({ "r1203", "/p1203", 200 }, { rows[1203].id, rows[1203].path, rows[1203].status })
    assert.same({ json.null, "/own" }, { rows[501].id, rows[501].path })
    for i = 2, 1203 do assert.is_true(rows[i].arrived >= rows[i - 1].arrived) end
    assert.is_true(rows[1].arrived >= 0 and rows[1].duration > 0)
  end)

  serves("starts its statistics anew on DELETE", {}, function(port)
    ask(port)
    raw.fetch(port, "DELETE", "/stats")
    assert.same({ 0, {} }, { stats_of(port).requests, stats_of(port).by_id })
    assert.equal(0, #stats_of(port, true).full)
  end)

  serves("reports latencies that explain the time its clients took",
    { latency = syntax.latency "lognormal:median=0.01,sigma=0.8" }, function(port)
      neap.scope(function(s)
        local left = 300
        for _ = 1, 30 do
          s:spawn(function()
            local connection = raw.connect(port)
            while left > 0 do
              left = left - 1
              connection:send(raw.request("POST", "/v1/chat/completions", { body = CHAT }))
              assert.equal(200, connection:response().status)
            end
            connection:close()
          end)
        end
      end)
      local rows = stats_of(port, true).full
      assert.equal(300, #rows)
      local busy, first, last = 0, math.huge, 0
      for _, row in ipairs(rows) do
        busy = busy + row.duration
        first, last = math.min(first, row.arrived), math.max(last, row.arrived + row.duration)
      end
      -- Thirty clients cannot have been busier than all the time.
      assert.is_true(busy <= 30 * (last - first))
      assert.is_true(busy >= 300 * 0.01)
    end)
end)

describe("neap mock #real", function()
  local function start(arguments)
    local all = { "mock", "--port", "0" }
    for _, argument in ipairs(arguments) do all[#all + 1] = argument end
    local process = child.start(all)
    process:wait_for "\n"
    local port = process.out:match "^listening on http://127%.0%.0%.1:(%d+)\n$"
    assert.message(process.out).truthy(port)
    return process, tonumber(port)
  end

  it("says where it listens, serves, and ends well on SIGTERM with a summary", function()
    local process, port = start { "--seed", "3", "--error", "503:1", "-e", "500:0" }
    assert.equal(503, ask(port).status)
    process:kill "sigterm"
    process:wait()
    assert.same({ 0, 0, "" }, { process.code, process.signal, process.err })
    assert.equal("served 1 request: 1 x 503\n", process.out:match "\n(.*)$")
  end)

  it("ends with 130 on SIGINT, also while requests hang", function()
    local process, port = start { "--hang", "1" }
    local connection = raw.connect(port):send(raw.request("GET", "/"))
    while stats_of(port).requests == 0 do neap.sleep(0.002) end
    local at = neap.now()
    process:kill "sigint"
    process:wait()
    connection:close()
    assert.equal(130, process.code)
    assert.is_true(neap.now() - at < 4)
    assert.truthy(process.out:find "served 1 request: 1 x hang")
  end)

  it("lets running requests finish", function()
    local process, port = start { "--latency", "fixed:0.2" }
    local connection = raw.connect(port):send(raw.request("GET", "/"))
    while stats_of(port).requests == 0 do neap.sleep(0.002) end
    process:kill "sigterm"
    assert.equal(200, connection:response().status)
    connection:close()
    assert.equal(0, process:wait().code)
  end)

  it("draws the same latencies for the same seed", function()
    local function durations(seed)
      local process, port = start { "--latency", "uniform:0.01,0.05", "--error", "500:0.5", "--seed", seed }
      local statuses = {}
      for i = 1, 12 do statuses[i] = ask(port).status end
      process:kill "sigterm"
      process:wait()
      return statuses
    end
    local first = durations "1"
    assert.same(first, durations "1")
    assert.not_same(first, durations "2")
  end)

  local wrong = {
    { { "--latncy", "fixed:1" }, "unknown option '--latncy'; did you mean '--latency'?" },
    { { "--latency", "fixd:1" }, "there is no latency law 'fixd'; did you mean 'fixed'?" },
    { { "--error", "503" }, "option '--error': '503' is no STATUS:PROBABILITY" },
    { { "--error", "503:0.6", "--error", "500:0.6" }, "the probabilities of --error add up to 1.2, more than 1" },
    { { "--drop", "2" }, "option '--drop': '2' is no probability" },
    { { "--rate-limit", "rps=1" }, "option '--rate-limit': 'rps=1' is not understood; did you mean 'rpm'?" },
    { { "--port", "70000" }, "option '--port' must be at most 65535" },
    { { "--concurrency", "0" }, "option '--concurrency' must be at least 1" },
    { { "--capacity", "many" }, "option '--capacity': 'many' is no capacity; write N, or N@t=30:N2" },
    { { "--capacity", "5", "--over", "drop" }, "option '--over': 'drop' is not understood; write reject" },
    { { "--over", "queue" }, "--over needs --capacity N" },
    { { "--capacity", "5", "-c", "5" }, "--concurrency N is --capacity N --over queue: give one or the other" },
    { { "--brownout", "slope=1" }, "option '--brownout': slope needs a knee; write knee=50,slope=1" },
    { { "--on-disconnect", "stay" }, "option '--on-disconnect' must be one of stop, continue, got 'stay'" },
    { { "--host", "nowhere.test" }, "host 'nowhere.test' is not an IP address" },
    { { "extra" }, "mock takes no argument 'extra'" },
  }
  for _, case in ipairs(wrong) do
    it("refuses " .. table.concat(case[1], " ") .. " with one line and exit code 2", function()
      local run = child.run { "mock", unpack(case[1]) }
      assert.equal(2, run.code)
      assert.equal("", run.out)
      assert.message(run.err).truthy(run.err:find(case[2], 1, true))
      assert.equal(1, select(2, run.err:gsub("\n", "")))
    end)
  end

  it("refuses a port that is taken", function()
    local process, port = start {}
    local run = child.run { "mock", "--port", tostring(port) }
    process:kill "sigterm"
    process:wait()
    assert.equal(2, run.code)
    assert.truthy(run.err:find("cannot listen on 127.0.0.1 port " .. port .. ": Address already in use", 1, true))
  end)
end)
