-- SPDX-License-Identifier: MIT
local errors = require "neap.error"
local json = require "neap.json"
local neap = require "neap"

local KEY = "sk-test-0123456789"

--- A client that answers what `answer(n, url, opts)` returns (a body, or a response)
--- after a second, and remembers what it was sent.
local function fake(answer)
  local client = { sent = {} }
  function client:post(url, opts)
    local n = #self.sent + 1
    self.sent[n] = { url = url, opts = opts }
    neap.sleep(1)
    local res, err = answer(n, url, opts)
    if not res then return nil, err end
    if not res.status then res = { status = 200, body = json.encode(res) } end
    res.headers, res.sends, res.replay_safe = res.headers or {}, 1, opts.idempotency_key and true or nil
    return res
  end
  return client
end

local function completion(text, more)
  local body = {
    id = "chatcmpl-1", model = "m-1-2026",
    choices = { { index = 0, finish_reason = "stop", message = { role = "assistant", content = text } } },
    usage = { prompt_tokens = 9, completion_tokens = 4, total_tokens = 13 },
  }
  for key, value in pairs(more or {}) do body[key] = value end
  return body
end

local function failure(status, message, headers)
  return { status = status, headers = headers, body = json.encode { error = { message = message, code = "c" } } }
end

local function new(answer, opts)
  opts = opts or {}
  local client = fake(type(answer) == "function" and answer or function() return answer end)
  opts.client, opts.api_key, opts.model = client, opts.api_key or KEY, opts.model or "m-1"
  return neap.llm(opts), client
end

describe("llm:chat", function()
  it("sends OpenAI's form and reads it back", function()
    local llm, client = new(completion "High at noon.", { base_url = "https://llm.example/v1", organization = "org-1" })
    local reply = assert(llm:chat { messages = { { role = "user", content = "When?" } }, temperature = 0.5, top_k = 3 })
    local sent = client.sent[1]
    assert.equal("https://llm.example/v1/chat/completions", sent.url)
    assert.same({ model = "m-1", messages = { { role = "user", content = "When?" } }, temperature = 0.5, top_k = 3 },
      sent.opts.json)
    assert.same({ Authorization = "Bearer " .. KEY, ["OpenAI-Organization"] = "org-1" }, sent.opts.headers)
    assert.equal(600, sent.opts.timeout)
    assert.equal("High at noon.", reply.text)
    assert.equal("assistant", reply.message.role)
    assert.equal("stop", reply.finish_reason)
    assert.same({ input_tokens = 9, output_tokens = 4, total_tokens = 13 }, reply.usage)
    assert.same({ "m-1-2026", "chatcmpl-1", 200, 1, 1 },
      { reply.model, reply.id, reply.status, reply.sends, reply.attempts })
    assert.equal("chatcmpl-1", reply.raw.id)
    assert.is_nil(reply.ttft)
  end)

  it("makes a message of a prompt, and keeps its own options out of the body", function()
    local llm, client = new(completion "x")
    assert(llm:chat { prompt = "When?", model = "m-2", timeout = 5, headers = { ["X-Team"] = "tides" },
      idempotency_key = "k-1" })
    local opts = client.sent[1].opts
    assert.same({ model = "m-2", messages = { { role = "user", content = "When?" } } }, opts.json)
    assert.equal(5, opts.timeout)
    assert.equal("tides", opts.headers["X-Team"])
    assert.equal("k-1", opts.idempotency_key)
  end)

  it("reads tool calls, refusals of a text, parts, and detailed usage", function()
    local call = { id = "call_1", type = "function", ["function"] = { name = "tide", arguments = "{}" } }
    local llm = new(completion(nil, {
      choices = { { index = 0, finish_reason = "tool_calls",
        message = { role = "assistant", content = json.null, tool_calls = { call } } } },
      usage = { prompt_tokens = 9, completion_tokens = 4, prompt_tokens_details = { cached_tokens = 8 },
        completion_tokens_details = json.null },
    }))
    local reply = assert(llm:chat { prompt = "x" })
    assert.equal("", reply.text)
    assert.same({ call }, reply.message.tool_calls)
    assert.same({ input_tokens = 9, output_tokens = 4, total_tokens = 13, cached_tokens = 8 }, reply.usage)
    llm = new(completion { { type = "text", text = "a" }, { type = "thinking" }, { type = "text", text = "b" } })
    assert.equal("ab", assert(llm:chat { prompt = "x" }).text)
  end)

  it("leaves out of the usage what is no number of tokens", function()
    local function usage(said)
      return assert(new(completion("x", { usage = said })):chat { prompt = "x" }).usage
    end
    for _, garbage in ipairs { -1, "12", 1e308, 1e9 + 1, 0.5, true, {}, "" } do
      assert.same({ output_tokens = 4, total_tokens = 13 },
        usage { prompt_tokens = garbage, completion_tokens = 4, total_tokens = 13 })
      assert.same({ input_tokens = 9, total_tokens = 13 },
        usage { prompt_tokens = 9, completion_tokens = garbage, total_tokens = 13 })
      assert.same({ input_tokens = 9, output_tokens = 4 },
        usage { prompt_tokens = 9, completion_tokens = 4, total_tokens = garbage })
      assert.same({ input_tokens = 9, output_tokens = 4, total_tokens = 13 }, usage {
        prompt_tokens = 9, completion_tokens = 4, prompt_tokens_details = { cached_tokens = garbage },
        completion_tokens_details = garbage,
      })
      assert.is_nil(usage { prompt_tokens = garbage, total_tokens = garbage })
      assert.is_nil(usage(garbage))
    end
    local replies = require "neap.llm.reply"
    assert.is_nil(replies.usage { usage = { prompt_tokens = 0 / 0, total_tokens = math.huge } }) -- JSON has neither
    assert.same({ input_tokens = 9, output_tokens = 4, total_tokens = 13 },
      usage { prompt_tokens = 9, total_tokens = 13 })
    assert.same({ input_tokens = 9 }, usage { prompt_tokens = 9 })
    assert.same({ input_tokens = 1e9, output_tokens = 1e9 }, usage { prompt_tokens = 1e9, completion_tokens = 1e9 })
  end)

  it("goes on pacing and estimating when the usage is garbage", function()
    local llm = new(completion("x", { usage = { prompt_tokens = 9, completion_tokens = -1, total_tokens = "12" } }),
      { policy = { adaptive = false, limiter = { tokens_per_minute = 60, tokens_burst = 1000 } } })
    local reply = assert(llm:chat { prompt = "8 chars.", max_tokens = 100 })
    assert.same({ requests = 1, input_tokens = 9 }, neap.llm.actual(reply))
    assert.equal(256, llm:amounts({ prompt = "x" }).output_tokens)
    assert.near(1000 - (9 + 100), llm.policy:layer("pace").limiter:available "tokens", 1.1)
    assert.equal(100, llm:amounts({ prompt = "x", max_tokens = 100, n = 0 }).output_tokens)
  end)

  it("gives a refused request as kind 'status', with what the provider says", function()
    local llm = new(failure(429, "Rate limit\n reached", { ["retry-after"] = "7" }))
    local reply, err = llm:chat { prompt = "x" }
    assert.is_nil(reply)
    assert.equal("status", err.kind)
    assert.equal("HTTP 429: Rate limit reached", err.message)
    assert.same({ 429, 7, "c", true, "yes" }, { err.status, err.retry_after, err.code, err.retryable, err.sent })
    local _, bad = new(failure(400, "no")):chat { prompt = "x" }
    assert.is_false(bad.retryable)
  end)

  it("understands other forms of error bodies", function()
    local function message(status, body)
      return select(2, new({ status = status, body = body }):chat { prompt = "x" }).message
    end
    assert.equal("HTTP 500: out of memory", message(500, '{"error":"out of memory"}'))
    assert.equal("HTTP 400: too long", message(400, '{"object":"error","message":"too long"}'))
    assert.equal("HTTP 404: Not Found", message(404, '{"detail":"Not Found"}'))
    assert.equal('HTTP 422: {"detail":[{"loc":["body"]}]}', message(422, '{"detail":[{"loc":["body"]}]}'))
    assert.equal("HTTP 502: <html> bad gateway </html>", message(502, "<html>\n bad gateway\n</html>"))
    assert.equal("HTTP 500: no reason given", message(500, ""))
    assert.equal("HTTP 302: no reason given", message(302, ""))
    assert.equal(500 + #"HTTP 500:  ...", #message(500, ("x"):rep(5000)))
  end)

  it("never repeats the key, even when the server does", function()
    local llm = new(failure(401, ("bad key %s, I said %s"):format(KEY, KEY)))
    local _, err = llm:chat { prompt = "x" }
    assert.equal("HTTP 401: bad key ***, I said ***", err.message)
    llm = new(failure(401, "bad key az-99 "), { headers = { ["api-key"] = "az-99" } })
    _, err = llm:chat { prompt = "x" }
    assert.equal("HTTP 401: bad key *** ", err.message)
    assert.not_matches(KEY, tostring(llm), 1, true)
  end)

  it("gives an answer of the wrong form as kind 'decode'", function()
    for body, why in pairs {
      ["no json"] = "the answer is not what was asked for: ", ["[1"] = "the answer is not what was asked for: ",
      ["{}"] = "no choices with a message", ['{"choices":[]}'] = "no choices with a message",
      ['{"choices":[{"message":null}]}'] = "no choices with a message", ["5"] = "it is no JSON object",
    } do
      local _, err = new({ status = 200, body = body }):chat { prompt = "x" }
      assert.equal("decode", err.kind, body)
      assert.matches(why, err.message, 1, true)
    end
  end)

  it("passes on the client's errors", function()
    local llm = new(function() return nil, errors.new { kind = "connect", message = "refused", sent = "no" } end)
    local _, err = llm:chat { prompt = "x" }
    assert.equal("connect", err.kind)
  end)
end)

describe("llm:complete", function()
  it("asks for a completion", function()
    local llm, client = new { choices = { { index = 0, text = " turns", finish_reason = "length" } },
      usage = { prompt_tokens = 2, completion_tokens = 1, total_tokens = 3 } }
    local reply = assert(llm:complete { prompt = "The tide", max_tokens = 1 })
    assert.equal("https://api.openai.com/v1/completions", client.sent[1].url)
    assert.same({ model = "m-1", prompt = "The tide", max_tokens = 1 }, client.sent[1].opts.json)
    assert.same({ " turns", "length", 3 }, { reply.text, reply.finish_reason, reply.usage.total_tokens })
  end)
end)

describe("llm:embed", function()
  local function vectors(list) return { data = list, usage = { prompt_tokens = 5, total_tokens = 5 } } end

  it("returns the vectors in the order of the input", function()
    local llm, client = new(vectors { { index = 1, embedding = { 3, 4 } }, { index = 0, embedding = { 1, 2 } } })
    local reply = assert(llm:embed { input = { "a", "b" } })
    assert.equal("https://api.openai.com/v1/embeddings", client.sent[1].url)
    assert.same({ { 1, 2 }, { 3, 4 } }, reply.vectors)
    assert.same({ input_tokens = 5, output_tokens = 0, total_tokens = 5 }, reply.usage)
  end)

  it("reads base64", function()
    local bytes = "\0\0\128\63\0\0\32\192" -- 1.0 and -2.5 as little-endian floats
    local llm = new(vectors { { index = 0, embedding = neap.base64.encode(bytes) } })
    assert.same({ { 1, -2.5 } }, assert(llm:embed { input = "a", encoding_format = "base64" }).vectors)
  end)

  it("takes an array of numbers for one input", function()
    local llm = new(vectors { { index = 0, embedding = { 1 } } })
    assert.same({ { 1 } }, assert(llm:embed { input = { 11, 22, 33 } }).vectors)
  end)

  it("refuses answers that do not fit the input", function()
    local function message(list)
      local _, err = new(vectors(list)):embed { input = { "a", "b" } }
      assert.equal("decode", err.kind)
      return err.message
    end
    assert.matches("1 vectors for 2 inputs", message { { index = 0, embedding = { 1 } } })
    assert.matches("fits no input", message { { index = 0, embedding = { 1 } }, { index = 0, embedding = { 1 } } })
    assert.matches("fits no input", message { { index = 2, embedding = { 1 } } })
    assert.matches("fits no input", message { { index = 0, embedding = "*" } })
  end)
end)

describe("neap.llm's policy", function()
  it("repeats failed attempts with one key a call", function()
    local llm, client = new(function(n) return n % 3 == 0 and completion "ok" or failure(500, "oops") end,
      { policy = neap.retry { backoff = { base = 2, jitter = "none" } } })
    local began = neap.now()
    local reply = assert(llm:chat { prompt = "x" })
    assert.equal(3, reply.attempts)
    assert.near(3 + 2 + 4, neap.now() - began, 1e-9)
    assert.near(6, reply.spent.backoff, 1e-9)
    assert(llm:chat { prompt = "x" })
    local keys = {}
    for i, sent in ipairs(client.sent) do keys[i] = sent.opts.idempotency_key end
    assert.is_string(keys[1])
    assert.same({ keys[1], keys[1], keys[1], keys[4], keys[4], keys[4] }, keys)
    assert.not_equal(keys[1], keys[4])
  end)

  it("sends no key and repeats nothing doubtful when idempotency is off", function()
    local llm, client = new(failure(500, "oops"), { idempotency = false, policy = neap.retry {} })
    local _, err = llm:chat { prompt = "x" }
    assert.equal(500, err.status)
    assert.equal(1, #client.sent)
    assert.is_nil(client.sent[1].opts.idempotency_key)
  end)

  it("may stand around the calls: then the n-th call of every attempt has the same key", function()
    local llm, client = new(function(n) return n == 2 and failure(500, "oops") or completion "ok" end)
    local retry = neap.retry { backoff = { base = 0 } }
    assert(retry:call(function()
      local first, err = llm:chat { prompt = "first" }
      if not first then return nil, err end
      return llm:chat { prompt = "second" }
    end))
    local keys = {}
    for i, sent in ipairs(client.sent) do keys[i] = sent.opts.idempotency_key end
    assert.same({ keys[1], keys[2], keys[1], keys[2] }, keys)
    assert.not_equal(keys[1], keys[2])
  end)

  it("may be options of the standard one, whose limiter then learns from usage", function()
    local llm = new(completion("ok", { usage = { prompt_tokens = 10, completion_tokens = 20, total_tokens = 30 } }),
      { policy = { adaptive = false, limiter = { tokens_per_minute = 60, tokens_burst = 1000 } } })
    assert.equal("pace", llm.policy.layers[#llm.policy.layers].kind)
    local limiter = llm.policy:layer("pace").limiter
    local task = neap.spawn(llm.chat, llm, { prompt = "8 chars.", max_tokens = 500 })
    neap.sleep(0.5)
    assert.near(1000 - (9 + 500), limiter:available "tokens", 1)
    assert(task:await())
    assert.near(1000 - 30, limiter:available "tokens", 1)
  end)

  it("gives reserved tokens back when the server refused the request", function()
    local llm = new(failure(400, "no"),
      { policy = { adaptive = false, limiter = { tokens_per_minute = 60, tokens_burst = 1000 } } })
    llm:chat { prompt = "x", max_tokens = 900 }
    assert.near(1000, llm.policy:layer("pace").limiter:available "tokens", 1)
  end)

  it("may hold a router, whose endpoints bring their own model, address, key and client", function()
    local other = fake(function() return completion "from b" end)
    local router = neap.router { strategy = "order", endpoints = {
      { name = "a", model = "m-a", group = "big" },
      { name = "b", model = "m-b", group = "big", base_url = "https://b.example/v1", api_key = "key-b",
        client = other },
      { name = "c", model = "m-c", group = "small", base_url = "https://c.example/v1" },
    }, fallbacks = { small = { "big" } } }
    local llm, client = new(function(_, url)
      return url:find("c.example", 1, true) and failure(503, "full") or failure(429, "slow down")
    end, { policy = router, headers = { ["X-Api-Key"] = "ours" } })
    local reply = assert(llm:chat { prompt = "x", model = "small" })
    assert.equal("from b", reply.text)
    assert.equal("b", reply.endpoint)
    assert.equal(3, reply.attempts)
    local c, a, b = client.sent[1], client.sent[2], other.sent[1]
    assert.same({ "https://c.example/v1/chat/completions", "m-c" }, { c.url, c.opts.json.model })
    assert.same({}, c.opts.headers) -- our key is for our address only
    assert.same({ "m-a", "Bearer " .. KEY, "ours" },
      { a.opts.json.model, a.opts.headers.Authorization, a.opts.headers["X-Api-Key"] })
    assert.same({ "https://b.example/v1/chat/completions", "m-b" }, { b.url, b.opts.json.model })
    assert.same({ Authorization = "Bearer key-b" }, b.opts.headers)
    assert.equal(c.opts.idempotency_key, b.opts.idempotency_key)
  end)
end)

describe("neap.llm's estimates", function()
  local request = { messages = { { role = "user", content = "8 chars." } } }

  it("say what a request may take: its max_tokens, for each choice", function()
    local llm = new()
    assert.same({ requests = 1, tokens = 109, input_tokens = 9, output_tokens = 100 },
      llm:amounts { messages = request.messages, max_tokens = 100 })
    assert.equal(30, llm:amounts({ prompt = "x", max_completion_tokens = 10, n = 3 }).output_tokens)
    assert.same({ requests = 1, tokens = 3, input_tokens = 3, output_tokens = 0 },
      llm:amounts { input = { "abcde", "f" } })
  end)

  it("expect the average of the last answers where a request does not say", function()
    local outputs = { 10, 30 }
    local llm = new(function(n)
      return completion("ok", { usage = { prompt_tokens = 9, completion_tokens = outputs[n] } })
    end, { expected_output = 500 })
    assert.equal(500, llm:amounts(request).output_tokens)
    llm:chat(request)
    assert.equal(10, llm:amounts(request).output_tokens)
    llm:chat(request)
    assert.equal(20, llm:amounts(request).output_tokens)
  end)

  it("say what was used in truth, and nothing when nobody knows", function()
    local llm = new(completion "x")
    local reply = assert(llm:chat(request))
    assert.same({ requests = 1, tokens = 13, input_tokens = 9, output_tokens = 4 }, llm:actual(reply))
    local none = { requests = 1, tokens = 0, input_tokens = 0, output_tokens = 0 }
    assert.same(none, llm:actual(nil, { kind = "status", status = 429 }))
    assert.same(none, neap.llm.actual(nil, { kind = "status", status = 400, sends = 1 }))
    assert.is_nil(llm:actual(nil, { kind = "status", status = 500 }))
    assert.is_nil(llm:actual(nil, { kind = "timeout" }))
  end)

  it("refuse to be asked without a neap.llm", function()
    assert.has_error(function() neap.llm.amounts({}) end, "neap.llm.amounts belongs into the policy of a neap.llm")
  end)
end)

describe("neap.llm", function()
  local function fails(message, fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok, message)
    assert.matches(message, tostring(err), 1, true)
  end

  it("refuses bad options at construction", function()
    fails("option 'base_url' must be an http or https address, got \"ftp://x\"", neap.llm, { base_url = "ftp://x" })
    fails("option 'modle' is unknown; did you mean 'model'?", neap.llm, { modle = "m" })
    fails("option 'expected_output' must be above 0, got 0", neap.llm, { expected_output = 0 })
    fails("option 'max_attempts' must be at least 1, got 0", neap.llm, { policy = { retry = { max_attempts = 0 } } })
    fails("option 'client' stands beside 'policy', not in it", neap.llm, { policy = { client = {} } })
    fails("option 'policy' must be a neap.policy", neap.llm, { policy = setmetatable({}, {}) })
    fails("is unknown", neap.llm, { client = { max_conections = 1 } })
  end)

  it("refuses at construction what could not be sent, and shows no key", function()
    local function both(message, opts)
      local ok, err = pcall(neap.llm, opts)
      assert.is_false(ok, message)
      assert.matches(message, tostring(err), 1, true)
      assert.matches("^[^:]*llm_spec", tostring(err))
      assert.not_matches("[\r\n]", tostring(err))
      assert.not_matches("sk-", tostring(err), 1, true)
    end
    both("neap.llm: option 'timeout' must be seconds, false or a table of them", { timeout = -1 })
    both("neap.llm: option 'timeout' must not be NaN", { timeout = 0 / 0 })
    both("neap.llm: timeout: option 'conect' is unknown; did you mean 'connect'?", { timeout = { conect = 1 } })
    both("neap.llm: option 'timeout.connect' must be seconds or false", { timeout = { connect = true } })
    both("option 'headers': header names must be strings, got number", { headers = { 5 } })
    both("option 'headers': header 'X-A' must be string, number, false or an array of strings, got boolean",
      { headers = { ["X-A"] = true } })
    both("option 'headers': header 'X-A' holds a line break or a NUL byte", { headers = { ["X-A"] = "sk-1\n" } })
    both("option 'headers': header 'X-A' holds a line break", { headers = { ["X-A"] = { "a", "sk-\r" } } })
    both("the name of a header holds a character that no name may have, after 'Authorization'",
      { headers = { ["Authorization: Bearer sk-1"] = "" } })
    both("header 'Content-Length' is one that the client sets itself", { headers = { ["Content-Length"] = "1" } })
    both("option 'api_key' holds a line break or a NUL byte", { api_key = "sk-1\nX: y" })
    both("option 'organization' holds a line break", { organization = "org\r" })
    local getenv = os.getenv
    os.getenv = function() return "sk-1\n" end -- luacheck: ignore
    local ok, err = pcall(both, "option 'api_key_env': the environment variable TIDE_KEY holds a line break",
      { api_key_env = "TIDE_KEY" })
    os.getenv = getenv -- luacheck: ignore
    assert.is_true(ok, err)
    neap.llm({ timeout = { connect = 5, total = false }, headers = { ["X-A"] = { "a", 1 }, ["X-B"] = false } }):close()
  end)

  it("names what of a request, or of an endpoint, could not be sent", function()
    local llm, client = new(completion "x")
    for _, call in ipairs {
      { { prompt = "x", headers = { ["X-A"] = "a\nb" } }, "llm:chat: header 'X-A' holds a line break" },
      { { prompt = "x", headers = { ["X A"] = "a" } }, "llm:chat: the name of a header holds a character" },
      { { prompt = "x", idempotency_key = "a\0" }, "llm:chat: 'idempotency_key' holds a line break or a NUL byte" },
    } do
      local reply, err = llm:chat(call[1])
      assert.is_nil(reply)
      assert.same({ "invalid", "no" }, { err.kind, err.sent })
      assert.matches(call[2], err.message, 1, true)
    end
    fails("llm:chat: header names must be strings, got number", llm.chat, llm, { prompt = "x", headers = { 5 } })
    fails("llm:chat: option 'timeout' must be seconds", llm.chat, llm, { prompt = "x", timeout = -1 })
    for message, endpoint in pairs {
      ["the router's endpoint 'eu': 'api_key' holds a line break"] = { name = "eu", api_key = "sk\n" },
      ["the router's endpoint 'eu': header 'X-A' holds a line break"] = { name = "eu", headers = { ["X-A"] = "\r" } },
    } do
      llm = new(completion "x", { policy = neap.router { endpoints = { endpoint } } })
      fails(message, llm.chat, llm, { prompt = "x" })
    end
    assert.equal(0, #client.sent)
  end)

  it("says so when a dot stands in place of the colon", function()
    local llm = new(completion "x")
    fails("llm:chat: call it with a colon, llm:chat(...)", llm.chat, { prompt = "x" })
    fails("llm:embed: call it with a colon", llm.embed, { input = "x" })
    fails("llm:close: call it with a colon, llm:close(...)", llm.close)
  end)

  it("refuses bad requests, naming the field", function()
    local llm = new(completion "x")
    fails("llm:chat: the request must be a table, got string", llm.chat, llm, "hi")
    fails("llm:chat: 'messages' or 'prompt' is required", llm.chat, llm, {})
    fails("llm:chat: give either 'messages' or 'prompt'", llm.chat, llm, { prompt = "x", messages = {} })
    fails("llm:chat: 'messages' must be table, got string", llm.chat, llm, { messages = "hi" })
    fails("llm:chat: 'stream' is not an option; use chat_stream", llm.chat, llm, { prompt = "x", stream = true })
    fails("llm:complete: 'prompt' is required", llm.complete, llm, {})
    fails("llm:complete: 'on_delta' is an option of chat", llm.complete, llm, { prompt = "x", on_delta = print })
    fails("llm:embed: 'input' must be string or table, got number", llm.embed, llm, { input = 5 })
    fails("option 'model' is required", function()
      return neap.llm({ client = fake(function() end) }):chat { prompt = "x" }
    end)
  end)

  it("gives kind 'invalid' for lists that happen to be empty, and sends nothing", function()
    local llm, client = new(completion "x")
    for _, call in ipairs { { llm.chat, "messages" }, { llm.complete, "prompt" }, { llm.embed, "input" } } do
      local _, err = call[1](llm, { [call[2]] = {} })
      assert.equal("invalid", err.kind)
      assert.matches(("'%s' must not be empty"):format(call[2]), err.message, 1, true)
    end
    assert.equal(0, #client.sent)
  end)

  it("reads the key from the environment that it is told", function()
    local client = fake(function() return completion "x" end)
    local llm = neap.llm { client = client, model = "m", api_key_env = "HOME" }
    llm:chat { prompt = "x" }
    assert.equal("Bearer " .. os.getenv "HOME", client.sent[1].opts.headers.Authorization)
    llm = neap.llm { client = client, model = "m", api_key_env = "NEAP_SPEC_NO_SUCH_VARIABLE" }
    llm:chat { prompt = "x" }
    assert.same({}, client.sent[2].opts.headers)
  end)

  it("keeps the query of a base_url, as Azure wants it", function()
    local llm, client = new(completion "x", { base_url = "https://az.example/openai/deployments/d?api-version=1" })
    llm:chat { prompt = "x" }
    assert.equal("https://az.example/openai/deployments/d/chat/completions?api-version=1", client.sent[1].url)
  end)
end)
