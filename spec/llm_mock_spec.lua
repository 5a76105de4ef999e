-- SPDX-License-Identifier: MIT
-- neap.llm over real sockets, against the mock in the same process.
local mock = require "neap.mock"
local neap = require "neap"
local http = require "spec.support.http"

local MESSAGES = { { role = "user", content = "Hello, tide" } }

describe("neap.llm against a server #real", function()
  local upstream

  local function serves(name, config, body)
    it(name, function()
      upstream = assert(mock.start(config))
      local llm
      local function new(opts)
        opts.base_url, opts.model, opts.api_key = upstream.server:url() .. "/v1", "m-1", "sk-test"
        llm = neap.llm(opts)
        return llm
      end
      local ok, err = pcall(body, new)
      if llm then llm:close() end
      upstream:stop(0)
      http.finish()
      if not ok then error(err, 0) end
    end)
  end

  serves("chats, completes and embeds", {}, function(new)
    local llm = new {}
    local reply = assert(llm:chat { messages = MESSAGES, max_tokens = 5 })
    assert.equal(5, select(2, reply.text:gsub("%S+", "")))
    assert.same({ "length", 5, 1 }, { reply.finish_reason, reply.usage.output_tokens, reply.sends })
    assert.truthy(reply.headers["x-request-id"])
    assert.truthy(assert(llm:complete { prompt = "Once" }).text:find "%.$")
    local vectors = assert(llm:embed { input = { "a", "b", "a" }, dimensions = 8 }).vectors
    assert.same({ 3, 8 }, { #vectors, #vectors[1] })
    assert.same(vectors[1], vectors[3])
    local packed = assert(llm:embed { input = "a", dimensions = 8, encoding_format = "base64" }).vectors[1]
    for i = 1, 8 do assert.near(vectors[1][i], packed[i], 1e-6) end
  end)

  serves("streams the same text, with the time to its first token", { latency = { law = "fixed", seconds = 0.1 },
    token_delay = 0.01 }, function(new)
    local llm = new {}
    local whole = assert(llm:chat { messages = MESSAGES })
    local stream = assert(llm:chat_stream { messages = MESSAGES })
    local texts = {}
    for text in stream:deltas() do texts[#texts + 1] = text end
    local reply = assert(stream:result())
    assert.equal(whole.text, table.concat(texts))
    assert.equal(whole.text, reply.text)
    assert.same(whole.usage, reply.usage)
    assert.is_true(reply.ttft >= 0.1 and reply.ttft < 0.3, tostring(reply.ttft))
    assert.is_true(reply.tokens_per_second > 20 and reply.tokens_per_second <= 101, tostring(reply.tokens_per_second))
    -- The next one goes over the same connection: it was read to its end.
    assert(llm:chat_stream { messages = MESSAGES }):result()
    assert.equal(1, llm.client:stats().connections)
  end)

  serves("repeats what fails, and each request is answered once", {
    errors = { { status = 500, probability = 0.3 }, { status = 503, probability = 0.2 } }, drop = 0.1, seed = 3,
  }, function(new)
    local llm = new { policy = { retry = { max_attempts = 20, backoff = { base = 0.001, factor = 1 } }, budget = false,
      adaptive = false } }
    local results, errs = neap.map({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20 },
      function(i) return llm:chat { prompt = "number " .. i, on_delta = i % 2 == 0 and function() end or nil } end,
      { concurrency = 5 })
    assert.is_nil(errs)
    local attempts = 0
    for i = 1, 20 do attempts = attempts + results[i].attempts end
    assert.is_true(attempts > 25, tostring(attempts))
    assert.equal(20, upstream.stats:summary(neap.now()).statuses["200"])
  end)

  serves("gives errors their kind, and a broken stream too", { drop = 1 }, function(new)
    local llm = new {}
    local _, err = llm:chat { messages = MESSAGES }
    assert.equal("receive", err.kind)
    assert.is_true(err.replay_safe)
    _, err = llm:chat { messages = { { content = "no role" } } }
    assert.same({ "status", 400 }, { err.kind, err.status })
    assert.matches("'messages[0]' must be an object with a role", err.message, 1, true)
  end)

  serves("leaves a stream early", { token_delay = 10 }, function(new)
    local llm = new {}
    local stream = assert(llm:chat_stream { messages = MESSAGES })
    assert.is_string((stream:read()))
    stream:close()
    assert.equal("closed", select(2, stream:result()).kind)
    assert.equal(0, llm.client:stats().in_flight)
    local _, err = neap.timeout(0.2, llm.chat, llm, { messages = MESSAGES, on_delta = function() end })
    assert.equal("timeout", err.kind)
    assert.equal(0, llm.client:stats().in_flight)
  end)
end)
