-- SPDX-License-Identifier: MIT
local json = require "neap.json"
local neap = require "neap"
local tmp = require "spec.support.tmp"

--- An llm whose server takes a second and numbers its answers; and what was sent.
local function new(opts, body)
  local sent = {}
  opts.client = {
    post = function(_, url, request)
      sent[#sent + 1] = { url = url, opts = request }
      local n = #sent
      neap.sleep(1)
      local answer = body and body(n) or {
        id = "c-" .. n, model = "m-1", usage = { prompt_tokens = 9, completion_tokens = 4, total_tokens = 13 },
        choices = { { index = 0, message = { role = "assistant", content = "answer " .. n, refusal = json.null } } },
      }
      return { status = 200, headers = { ["x-request-id"] = "r-" .. n }, sends = 1, body = json.encode(answer) }
    end,
  }
  opts.model, opts.api_key = opts.model or "m-1", opts.api_key or "sk-test"
  return neap.llm(opts), sent
end

local function text_of(reply) return reply.text .. " " .. (reply.from_cache or "sent") end

describe("neap.llm with a cache", function()
  it("answers the same request from it, whatever the order of its fields", function()
    for _, policy in ipairs { { cache = true }, neap.cache(), { cache = { ttl = 60 }, retry = { max_attempts = 2 } },
      neap.policy { neap.cache(), neap.retry() } } do
      local llm, sent = new { policy = policy }
      local message = { role = "user", content = "When?" }
      local first = assert(llm:chat { messages = { message }, temperature = 0, seed = 5 })
      local second = assert(llm:chat { seed = 5, temperature = 0, messages = { message } })
      local third = assert(llm:chat { prompt = "When?", temperature = 0, seed = 5, model = "m-1", timeout = 5 })
      assert.same({ "answer 1 sent", "answer 1 fresh", "answer 1 fresh" },
        { text_of(first), text_of(second), text_of(third) })
      assert.same({ 1, 1 }, { first.sends, first.attempts })
      assert.same({ 0, 0, 0 }, { second.sends, second.attempts, second.spent.wire })
      assert.equal(1, #sent)
    end
  end)

  it("tells requests apart by kind, address, model, content and headers", function()
    local cache = neap.cache()
    local function vectors() return { data = { { index = 0, embedding = { 1 } } } } end
    local llms = {
      new { policy = cache }, new { policy = cache, base_url = "https://other.example/v1" },
      new { policy = cache, model = "m-2" }, new { policy = cache, organization = "org" },
      (new { policy = cache, headers = { ["X-Team"] = "tides" } }),
    }
    local llm = llms[1]
    local asked = {}
    for round = 1, 2 do
      local replies = {}
      for i, one in ipairs(llms) do replies[i] = assert(one:chat { prompt = "x" }) end
      for _, request in ipairs {
        { prompt = "y" }, { prompt = "x", temperature = 1 }, { prompt = "x", n = 1 }, { prompt = "x", stop = {} },
        { prompt = "x", stop = json.array {} }, { prompt = "x", headers = { ["X-User"] = "a" } },
        { prompt = "x", headers = { ["X-User"] = "b" } }, { prompt = "x", headers = { ["X-User"] = "a", b = "c" } },
      } do replies[#replies + 1] = assert(llm:chat(request)) end
      for _, reply in ipairs(replies) do
        assert.equal(round == 1 and "sent" or "fresh", reply.from_cache or "sent")
      end
      asked[round] = #replies
    end
    assert.same({ 13, 13 }, asked)
    local embedding, sent = new({ policy = cache }, vectors)
    assert.is_nil(assert(embedding:embed { input = "x" }).from_cache)
    assert.equal("fresh", assert(embedding:embed { input = "x" }).from_cache)
    assert.equal(1, #sent)
    assert.equal("fresh", assert(new({ policy = cache, api_key = "sk-2" }):chat { prompt = "x" }).from_cache)
  end)

  it("gives everybody a reply of their own", function()
    local llm = new { policy = { cache = true } }
    local first = assert(llm:chat { prompt = "x" })
    first.text, first.message.content, first.raw.id, first.usage.total_tokens = "spoilt", "spoilt", "spoilt", -1
    local second = assert(llm:chat { prompt = "x" })
    second.choices[1].message.content, second.headers["x-request-id"], second.mine = "spoilt", "spoilt", true
    local third = assert(llm:chat { prompt = "x" })
    assert.same({ "answer 1", "answer 1", "c-1", 13, "r-1", "fresh" }, { third.text, third.message.content,
      third.raw.id, third.usage.total_tokens, third.headers["X-Request-Id"], third.from_cache })
    assert.is_nil(third.mine)
    assert.equal(third.message, third.choices[1].message)
    assert.equal(third.message, third.raw.choices[1].message)
    assert.equal(json.null, third.message.refusal)
  end)

  it("makes one call for those who ask at a time", function()
    local llm, sent = new { policy = { cache = true } }
    local replies = neap.map({ 1, 2, 3 }, function() return assert(llm:chat { prompt = "x" }) end)
    local ways = { shared = 0, sent = 0 }
    for _, reply in ipairs(replies) do
      local way = reply.from_cache or "sent"
      ways[way] = ways[way] + 1
    end
    assert.same({ shared = 2, sent = 1 }, ways)
    assert.equal(1, #sent)
    assert.not_equal(replies[1].message, replies[2].message)
    assert.not_equal(replies[2].message, replies[3].message)
  end)

  it("says when a reply is stale", function()
    local llm, sent = new { policy = { cache = { ttl = 10, stale_while_revalidate = 10 } } }
    assert(llm:chat { prompt = "x" })
    neap.sleep(11)
    assert.equal("answer 1 stale", text_of(assert(llm:chat { prompt = "x" })))
    neap.sleep(2)
    assert.equal("answer 2 fresh", text_of(assert(llm:chat { prompt = "x" })))
    assert.equal(2, #sent)
  end)

  it("lets streams and failures pass by", function()
    local llm = new { policy = { cache = true, adaptive = false, retry = false } }
    local n = 0
    function llm.client:post(_, request)
      n = n + 1
      if not request.stream then return { status = 400, headers = {}, body = "no" } end
      local chunks = { 'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n',
        "data: [DONE]\n\n" }
      return { status = 200, headers = {}, read = function() return table.remove(chunks, 1) end,
        close = function() end }
    end
    for round = 1, 2 do
      local pieces = 0
      local reply = assert(llm:chat { prompt = "x", on_delta = function() pieces = pieces + 1 end })
      assert.same({ "hi", 1 }, { reply.text, pieces })
      assert.is_nil(reply.from_cache)
      assert.equal("hi", assert(assert(llm:chat_stream { prompt = "x" }):result()).text)
      assert.equal(400, select(2, llm:chat { prompt = "x" }).status)
      assert.equal(3 * round, n)
    end
    assert.equal(0, llm.policy:layer("cache"):snapshot().entries)
  end)

  it("keeps no stream even where a key of the script's own asks for it", function()
    local seen = {}
    local llm = new { policy = neap.cache { key = function(job)
      seen[#seen + 1] = ("%s %s %s"):format(job.kind, job.model, job.mode)
      return job.request.messages[1].content
    end } }
    function llm.client.post()
      local chunks = { "data: [DONE]\n\n" }
      return { status = 200, headers = {}, read = function() return table.remove(chunks, 1) end,
        close = function() end }
    end
    local first, second = llm:chat_stream { prompt = "x" }, llm:chat_stream { prompt = "x" }
    assert.not_equal(first, second)
    assert(llm:chat { prompt = "y", on_delta = function() end })
    assert.same({ "chat m-1 stream", "chat m-1 stream", "chat m-1 collect" }, seen)
    first:close()
    second:close()
  end)

  it("passes what cannot be encoded on to the call, which says why", function()
    local llm, sent = new { policy = { cache = true } }
    local key = neap.llm.cache_key
    local policy = neap.cache { key = function(...)
      assert.is_nil(key(...))
      return key(...)
    end }
    llm.policy = policy
    assert(llm:chat { prompt = "x", f = print })
    assert.is_function(sent[1].opts.json.f)
    assert.has_error(function() key {} end, "neap.llm.cache_key belongs into the policy of a neap.llm")
  end)

  it("counts nothing as used by a reply that is not of a send", function()
    local none = { requests = 0, tokens = 0, input_tokens = 0, output_tokens = 0 }
    local limiter = neap.rate_limiter { tokens_per_minute = 60, tokens_burst = 1000 }
    local pace = neap.pace { limiter = limiter, amounts = neap.llm.amounts, actual = neap.llm.actual }
    local llm = new { policy = neap.policy { pace, neap.cache() } }
    assert(llm:chat { prompt = "x", max_tokens = 500 })
    assert.near(1000 - 13, limiter:available "tokens", 1.1)
    local reply = assert(llm:chat { prompt = "x", max_tokens = 500 })
    assert.equal("fresh", reply.from_cache)
    assert.is_nil(reply.paced)
    assert.near(1000 - 13, limiter:available "tokens", 1.1)
    assert.same(none, neap.llm.actual(reply))
  end)

  it("may be an endpoint's own, with the endpoint in the key", function()
    local shared = neap.cache { key = neap.llm.cache_key }
    local function endpoint(name, model) return { name = name, model = model, group = "g", policy = shared } end
    local llm, sent = new { model = "g", policy = neap.router { strategy = "round_robin",
      endpoints = { endpoint("a", "m-a"), endpoint("b", "m-b") } } }
    local models = {}
    for i = 1, 4 do models[i] = text_of(assert(llm:chat { prompt = "x" })) end
    table.sort(models)
    assert.same({ "answer 1 fresh", "answer 1 sent", "answer 2 fresh", "answer 2 sent" }, models)
    assert.equal(2, #sent)
  end)

  it("keeps replies in a file, for the next program too", function()
    local folder = tmp.dir()
    local store = assert(neap.cache.file(folder .. "/answers"))
    local first = assert(new { policy = { cache = { store = store } } }:chat { prompt = "x" })
    store:close()
    store = assert(neap.cache.file(folder .. "/answers"))
    local llm, sent = new { policy = neap.cache { store = store, key = neap.llm.cache_key } }
    local second = assert(llm:chat { prompt = "x" })
    assert.equal("answer 1 fresh", text_of(second))
    assert.equal(0, #sent)
    assert.equal("r-1", second.headers["X-Request-ID"])
    assert.equal(json.null, second.message.refusal)
    assert.same({ 0, 0 }, { second.sends, second.attempts })
    assert.same(first.usage, second.usage)
    second.text = "spoilt"
    assert.equal("answer 1", assert(llm:chat { prompt = "x" }).text)
    assert.equal(0, store:snapshot().corrupt)
    store:close()
    tmp.remove(folder)
  end)
end)
