-- SPDX-License-Identifier: MIT
-- A world behind the simulated network: what a script's requests meet.
local core = require "neap.core"
local json = require "neap.json"
local neap = require "neap"
local network = require "neap.sim.network"
local rate_headers = require "neap.rate_headers"
local worlds = require "neap.world"
local measure = require "spec.support.measure"

local near, took = measure.near, measure.took
local client

local function up(seed, ...)
  local world = worlds.new { ... }
  network.up(world, seed)
  return world
end

local function chat(fields)
  local body = { model = "gpt-4o", messages = { { role = "user", content = "How are the tides today?" } } }
  for key, value in pairs(fields or {}) do body[key] = value end
  return { json = body, stream = body.stream }
end

describe("a world behind the simulated network", function()
  before_each(function() client = neap.http.client {} end)
  after_each(function()
    client:close()
    network.down()
  end)

  it("has handlers that an outage meets as it meets laws", function()
    local function handler()
      neap.sleep(1)
      return 200, "ok"
    end
    local world = worlds.new { { host = "a.test", region = "refuse", handler = handler },
      { host = "b.test", region = "status", handler = handler },
      { host = "c.test", region = "hang", handler = handler },
      outages = { { region = "refuse", from = 10, to = 20 }, { region = "status", from = 10, to = 20, status = 503 },
        { region = "hang", from = 10, to = 20, how = "hang" } } }
    network.up(world, 1)
    local function ask(host)
      local res, err = client:get("http://" .. host .. "/", { timeout = 3 })
      return res and res.status or err.kind
    end
    for _, host in ipairs { "a.test", "b.test", "c.test" } do assert.equal(200, ask(host)) end
    local began = core.now()
    neap.sleep(6.5) -- 9.5: the answer would come within the outage
    -- It is reset, and libcurl, which would send it again, finds nobody there.
    local _, err = client:post "http://a.test/"
    assert.same({ "connect", "maybe", 1 }, { err.kind, err.sent, err.sends })
    assert.near(7.5, core.now() - began, 1e-6)
    assert.equal("connect", ask "a.test")
    assert.equal(503, ask "b.test")
    assert.equal("timeout", ask "c.test")
    neap.sleep(10)
    for _, host in ipairs { "a.test", "b.test", "c.test" } do assert.equal(200, ask(host)) end
  end)

  it("refuses pieces of an answer that go back in time", function()
    up(1, { host = "a.test", handler = function()
      return { status = 200, chunks = { { after = 1, data = "a" }, { after = 0.5, data = "b" } } }
    end })
    local res, err = client:get "http://a.test/"
    assert.is_true(res == nil and err.kind == "receive" or res.status == 500)
  end)

  it("answers by host with a small JSON, or with the body it was given", function()
    up(1, { host = "a.test" }, { host = "b.test", body = "plain" }, { host = "c.test", body = { x = 1 } })
    assert.same({ object = "neap.world", host = "a.test" }, client:get("http://a.test/v1x"):json())
    assert.equal("plain", client:get("http://b.test/").body)
    assert.same({ x = 1 }, client:get("https://c.test/"):json())
    local _, err = client:get "http://d.test/"
    assert.equal("invalid", err.kind)
  end)

  it("costs a connection, then none while it is kept alive", function()
    up(1, { host = "a.test", latency = 0.1, connect = { latency = 0.3, dns = 0.1, tls = 0.05 }, keepalive = 5 })
    local seconds, res = took(client.get, client, "https://a.test/")
    near(0.4, seconds)
    near(0.1, res.timings.dns)
    near(0.05, res.timings.tls)
    near(0.1, (took(client.get, client, "https://a.test/")))
    neap.sleep(6)
    near(0.4, (took(client.get, client, "https://a.test/")))
  end)

  it("refuses connections, resets, and hangs", function()
    up(1, { host = "refuse.test", connect = { refuse = 1 } }, { host = "drop.test", drop = 1, latency = 1 },
      { host = "hang.test", hang = 1 }, { host = "down.test", outage = { from = 0 } })
    local _, err = client:get "http://refuse.test/"
    assert.same({ "connect", "no" }, { err.kind, err.sent })
    _, err = client:get "http://down.test/"
    assert.same({ "connect", "no" }, { err.kind, err.sent })
    local seconds
    seconds, _, err = took(client.get, client, "http://drop.test/")
    near(1, seconds)
    assert.same({ "receive", "maybe" }, { err.kind, err.sent })
    seconds, _, err = took(client.get, client, "http://hang.test/", { timeout = 7 })
    near(7, seconds)
    assert.equal("timeout", err.kind)
  end)

  it("answers as OpenAI does: usage by the estimate, output by the law, cut at max_tokens", function()
    up(1, { host = "llm.test", latency = 0.5, tokens = { output = 41, per_second = 20 } })
    local seconds, res = took(client.post, client, "https://llm.test/v1/chat/completions", chat())
    near(2.5, seconds)
    local answer = res:json()
    local messages = { { role = "user", content = "How are the tides today?" } }
    assert.equal(neap.llm.estimate(messages), answer.usage.prompt_tokens)
    assert.same({ 41, "stop" }, { answer.usage.completion_tokens, answer.choices[1].finish_reason })
    seconds, res = took(client.post, client, "https://llm.test/v1/chat/completions", chat { max_tokens = 21 })
    near(1.5, seconds)
    answer = res:json()
    assert.same({ 21, "length" }, { answer.usage.completion_tokens, answer.choices[1].finish_reason })
  end)

  it("gives an answer whose length nobody says one by the prompt, at the speed that it was told", function()
    local world = up(1, { host = "llm.test", tokens = { per_second = 10 } })
    local seconds, res = took(client.post, client, "https://llm.test/v1/chat/completions", chat())
    local output = res:json().usage.completion_tokens
    assert.is_true(output >= 12 and output <= 35)
    near((output - 1) / 10, seconds)
    assert.equal(output, world.upstreams[1].law.output)
  end)

  it("streams: the first token after the latency, the last when the work ends", function()
    local world = up(1, { host = "llm.test", latency = 0.5, tokens = { output = 41, per_second = 20 } })
    local began = core.now()
    local res = client:post("https://llm.test/v1/chat/completions", chat { stream = true })
    near(0.5, core.now() - began)
    local first, last, words = nil, nil, 0
    for event in res:events() do
      if event.data == "[DONE]" then break end
      local content = json.decode(event.data).choices[1].delta.content
      if content ~= "" then
        first, last, words = first or core.now() - began, core.now() - began, words + 1
      end
    end
    assert.equal(41, words)
    near(0.5, first)
    near(2.5, last)
    neap.sleep(1)
    assert.same({ 0, 1 }, { world.upstreams[1].stats.open, world.upstreams[1].stats.statuses["200"] })
  end)

  it("streams Anthropic's messages with their words evenly apart, whatever stands around them", function()
    up(1, { host = "llm.test", latency = 0.5, tokens = { output = 5, per_second = 10 } })
    local began = core.now()
    local res = client:post("https://llm.test/v1/messages", { stream = true, json = { model = "m", max_tokens = 50,
      stream = true, messages = { { role = "user", content = "hi" } } } })
    local list = {}
    for event in res:events() do
      list[#list + 1] = ("%.1f %s"):format(core.now() - began, event.event:gsub("content_block", "block"))
    end
    assert.same({ "0.5 message_start", "0.5 block_start", "0.5 block_delta", "0.6 block_delta", "0.7 block_delta",
      "0.8 block_delta", "0.9 block_delta", "0.9 block_stop", "0.9 message_delta", "0.9 message_stop" }, list)
  end)

  it("speaks OpenAI on any path that ends so when it is told to, and refuses what is malformed", function()
    up(1, { host = "azure.test", api = "openai", rate_limit = { rpm = 60, headers = "azure" } },
      { host = "json.test", api = "json" })
    local url = "https://azure.test/openai/deployments/x/chat/completions?api-version=1"
    local res = client:post(url, chat())
    assert.equal("chat.completion", res:json().object)
    assert.equal("60", res.headers["x-ratelimit-limit-requests"])
    assert.equal(400, client:post(url, { body = "{" }).status)
    assert.equal("neap.world", client:post("http://json.test/v1/chat/completions", chat()):json().object)
  end)

  it("limits with the provider's headers, which a limiter reads", function()
    up(1, { host = "a.test", api = "openai", rate_limit = { rpm = 60, window = 1, headers = "anthropic" } })
    assert.equal(200, client:get("http://a.test/").status)
    local res = client:get "http://a.test/"
    assert.same({ 429, "1" }, { res.status, res.headers["retry-after"] })
    local reset = rate_headers.rfc3339(res.headers["anthropic-ratelimit-requests-reset"])
    assert.is_true(reset >= neap.time() + 1 - 1e-3 and reset < neap.time() + 2)
  end)

  it("has handlers, which may wait", function()
    up(1, { host = "h.test", handler = function(request)
      neap.sleep(2)
      return { status = 201, body = request.method .. " " .. request.path }
    end })
    local seconds, res = took(client.get, client, "http://h.test/x")
    near(2, seconds)
    assert.same({ 201, "GET /x" }, { res.status, res.body })
  end)

  it("gives an operation's attempts the same fate, however many others there are", function()
    local function run(extra)
      up(5, { host = "a.test", latency = { law = "exponential", mean = 1 },
        errors = { { status = 503, probability = 0.4 } } })
      local seen = {}
      local policy = neap.retry { max_attempts = 4, backoff = { base = 0.1, jitter = "none" } }
      for i = 1, 20 do
        local attempt = 0
        policy:call(function()
          attempt = attempt + 1
          local seconds, res = took(client.get, client, "http://a.test/" .. i)
          seen[#seen + 1] = { what = ("%d/%d %d"):format(i, attempt, res.status), seconds = seconds }
          return res
        end)
        for _ = 1, extra do client:get "http://a.test/other" end
      end
      network.down()
      return seen
    end
    local alone, crowded = run(0), run(2)
    assert.equal(#alone, #crowded)
    for i, one in ipairs(alone) do
      assert.equal(one.what, crowded[i].what)
      -- Instants are whole nanoseconds: where a wait begins may move its end by one.
      assert.is_near(one.seconds, crowded[i].seconds, 1e-8)
    end
  end)
end)
