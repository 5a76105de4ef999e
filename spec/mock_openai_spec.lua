-- SPDX-License-Identifier: MIT
local json = require "neap.json"
local openai = require "neap.world.openai"
local text = require "neap.world.openai.text"

local function call_of(body) return { id = "abc", created = 1700000000, body = body } end

--- What the endpoint answers, decoded from its own JSON.
local function ask(kind, body)
  local job, decoded = openai.parse(kind, "POST", json.encode(body))
  assert.message(not job and decoded.json.error.message or "").truthy(job)
  return json.decode(json.encode(openai.answer(kind, call_of(decoded), job))), job
end

local hello = { { role = "user", content = "Hello, tide" } }

describe("the mock's chat completions", function()
  it("have OpenAI's shape", function()
    local res = ask("chat", { model = "m-1", messages = hello })
    assert.same({ "chatcmpl-abc", "chat.completion", 1700000000, "m-1" },
      { res.id, res.object, res.created, res.model })
    assert.equal(1, #res.choices)
    local choice = res.choices[1]
    assert.same({ 0, "stop", "assistant" }, { choice.index, choice.finish_reason, choice.message.role })
    assert.truthy(choice.message.content:find "^%u.*%.$")
    assert.equal(res.usage.total_tokens, res.usage.prompt_tokens + res.usage.completion_tokens)
    assert.equal(text.count_tokens "Hello, tide", res.usage.prompt_tokens)
  end)

  it("depend on the prompt alone", function()
    local function content(messages)
      return ask("chat", { model = "m", messages = messages }).choices[1].message.content
    end
    assert.equal(content(hello), content(hello))
    assert.not_equal(content(hello), content { { role = "user", content = "Other" } })
    assert.equal(content(hello), content { { role = "user", content = { { type = "text", text = "Hello, tide" } } } })
  end)

  it("stop at max_tokens", function()
    for _, name in ipairs { "max_tokens", "max_completion_tokens" } do
      local res = ask("chat", { model = "m", messages = hello, [name] = 3 })
      assert.equal("length", res.choices[1].finish_reason)
      assert.equal(3, res.usage.completion_tokens)
      assert.equal(3, select(2, res.choices[1].message.content:gsub("%S+", "")))
    end
  end)

  it("come n times when asked, each different", function()
    local res = ask("chat", { model = "m", messages = hello, n = 3 })
    assert.same({ 0, 1, 2 }, { res.choices[1].index, res.choices[2].index, res.choices[3].index })
    assert.not_equal(res.choices[1].message.content, res.choices[2].message.content)
  end)

  it("count prompt and max_tokens against a token limit", function()
    local _, job = ask("chat", { model = "m", messages = hello, max_tokens = 100, n = 2 })
    assert.equal(text.count_tokens "Hello, tide" + 200, job.tokens)
  end)

  it("stream the same text in chunks", function()
    local body = { model = "m", messages = hello, stream = true, stream_options = { include_usage = true } }
    local job, decoded = openai.parse("chat", "POST", json.encode(body))
    local chunks, parts, reasons = {}, {}, {}
    for i, event in ipairs(openai.stream("chat", call_of(decoded), job)) do chunks[i] = event.data end
    assert.equal("[DONE]", table.remove(chunks))
    for _, chunk in ipairs(chunks) do
      assert.equal("chat.completion.chunk", chunk.object)
      local choice = type(chunk.choices) == "table" and chunk.choices[1]
      if choice then
        parts[#parts + 1] = choice.delta.content
        reasons[#reasons + 1] = type(choice.finish_reason) == "string" and choice.finish_reason or nil
      end
    end
    assert.equal("assistant", chunks[1].choices[1].delta.role)
    assert.same({ "stop" }, reasons)
    assert.truthy(json.encode(chunks[#chunks]):find('"choices":[]', 1, true))
    assert.truthy(chunks[#chunks].usage.total_tokens > 0)
    local whole = ask("chat", { model = "m", messages = hello })
    assert.equal(whole.choices[1].message.content, table.concat(parts))
  end)
end)

describe("the mock's completions", function()
  it("have OpenAI's shape", function()
    local res = ask("completion", { model = "m", prompt = "Once", max_tokens = json.null })
    assert.same({ "cmpl-abc", "text_completion", "stop" }, { res.id, res.object, res.choices[1].finish_reason })
    assert.truthy(#res.choices[1].text > 0)
  end)

  it("answer each prompt of an array as if it had come alone, in order", function()
    local function alone(prompt) return ask("completion", { model = "m", prompt = prompt, n = 2 }).choices end
    local res = ask("completion", { model = "m", prompt = { "Once", "Twice", "Once" }, n = 2 })
    local expected = {}
    for _, prompt in ipairs { "Once", "Twice", "Once" } do
      for _, choice in ipairs(alone(prompt)) do expected[#expected + 1] = choice.text end
    end
    assert.equal(6, #expected)
    for i, choice in ipairs(res.choices) do assert.same({ i - 1, expected[i] }, { choice.index, choice.text }) end
    assert.equal(1 + 2 + 1, res.usage.prompt_tokens)
  end)

  it("take an array of numbers for the tokens of one prompt", function()
    assert.equal(1, #ask("completion", { model = "m", prompt = { 1, 2, 3 } }).choices)
  end)
end)

describe("the mock's embeddings", function()
  local function vectors(body)
    local out = {}
    for i, item in ipairs(ask("embedding", body).data) do
      assert.same({ i - 1, "embedding" }, { item.index, item.object })
      out[i] = item.embedding
    end
    return out
  end

  local function dot(a, b)
    local sum = 0
    for i = 1, #a do sum = sum + a[i] * b[i] end
    return sum
  end

  it("are unit vectors that depend on the text alone", function()
    local v = vectors { model = "m", input = { "a calm sea", "something else", "a calm sea" } }
    assert.equal(256, #v[1])
    assert.same(v[1], v[3])
    assert.not_same(v[1], v[2])
    assert.is_true(math.abs(dot(v[1], v[1]) - 1) < 1e-5)
  end)

  it("answer a batch item by item, in order, as if each had come alone", function()
    local texts = {}
    for i = 1, 50 do texts[i] = "text " .. i * 7919 % 50 end
    local batch = vectors { model = "m", input = texts }
    assert.equal(50, #batch)
    for i = 1, 50 do assert.same(vectors({ model = "m", input = texts[i] })[1], batch[i]) end
  end)

  it("are near each other when the texts share words", function()
    local v = vectors { model = "m",
      input = { "the calm sea at night", "the calm sea at noon", "quarterly tax report" } }
    assert.is_true(dot(v[1], v[2]) > 0.5)
    assert.is_true(math.abs(dot(v[1], v[3])) < 0.3)
  end)

  it("have as many dimensions as asked, also of an empty text", function()
    local v = vectors { model = "m", input = { "", "x" }, dimensions = 8 }
    assert.same({ 8, 8 }, { #v[1], #v[2] })
    assert.is_true(math.abs(dot(v[1], v[1]) - 1) < 1e-5)
  end)

  it("come as base64 floats when asked", function()
    local plain = vectors({ model = "m", input = "x", dimensions = 4 })[1]
    local packed = vectors({ model = "m", input = "x", dimensions = 4, encoding_format = "base64" })[1]
    local bytes = require("neap.base64").decode(packed)
    assert.equal(16, #bytes)
    local ffi = require "ffi"
    local floats = ffi.new("float[4]")
    ffi.copy(floats, bytes, 16)
    for i = 1, 4 do assert.is_true(math.abs(floats[i - 1] - plain[i]) < 1e-6) end
  end)
end)

describe("the mock's moderations", function()
  local function verdicts(input)
    return ask("moderation", { model = "m", input = input }).results
  end

  it("are one a string, and depend on the input alone", function()
    local results = verdicts { "a", "b", "a" }
    assert.equal(3, #results)
    assert.same(results[1], results[3])
    assert.are_not.same(results[1].category_scores, results[2].category_scores)
    assert.same(verdicts "a"[1], results[1])
  end)

  it("take text and images together as one input", function()
    local results = verdicts { { type = "text", text = "x" },
      { type = "image_url", image_url = { url = "data:image/png;base64,AAAA" } } }
    assert.equal(1, #results)
    assert.is_boolean(results[1].flagged)
  end)

  it("flag some inputs, by a category", function()
    local flagged = 0
    for i = 1, 400 do
      local result, any = verdicts("input " .. i)[1], false
      for _, hit in pairs(result.categories) do any = any or hit end
      assert.equal(any, result.flagged)
      if any then flagged = flagged + 1 end
    end
    assert.is_true(flagged > 20 and flagged < 90)
  end)
end)

describe("the mock's refusals", function()
  local cases = {
    { "chat", "GET", "{}", 405, "use POST" },
    { "chat", "POST", "{", 400, "not a JSON object" },
    { "chat", "POST", "", 400, "not a JSON object" },
    { "chat", "POST", "3", 400, "not a JSON object" },
    { "chat", "POST", '{"messages":[]}', 400, "'model' must be a string", "model" },
    { "chat", "POST", '{"model":"m"}', 400, "'messages' must be", "messages" },
    { "chat", "POST", '{"model":"m","messages":[]}', 400, "'messages' must be", "messages" },
    { "chat", "POST", '{"model":"m","messages":["x"]}', 400, "'messages[0]' must be an object", "messages" },
    { "chat", "POST", '{"model":"m","messages":[{"role":"user"}],"max_tokens":0}', 400, "'max_tokens'", "max_tokens" },
    { "chat", "POST", '{"model":"m","messages":[{"role":"user"}],"n":1.5}', 400, "'n' must be", "n" },
    { "completion", "POST", '{"model":"m"}', 400, "'prompt' must be", "prompt" },
    { "completion", "POST", '{"model":"m","prompt":[]}', 400, "'prompt' must be", "prompt" },
    { "completion", "POST", '{"model":"m","prompt":["a",1]}', 400, "'prompt[1]' must be a string", "prompt" },
    { "moderation", "POST", '{"model":"m","input":[{"type":"image"}]}', 400, "'input[0]' must be a part", "input" },
    { "moderation", "POST", '{"model":"m","input":["a",3]}', 400, "'input[1]' must be a string", "input" },
    { "moderation", "POST", '{"model":"m"}', 400, "'input' must be", "input" },
    { "responses", "POST", '{"model":"m"}', 400, "'input' must be", "input" },
    { "responses", "POST", '{"model":"m","input":["x"]}', 400, "'input[0]' must be an object", "input" },
    { "responses", "POST", '{"model":"m","input":"x","max_output_tokens":0}', 400, "'max_output_tokens'",
      "max_output_tokens" },
    { "embedding", "POST", '{"model":"m","input":[1]}', 400, "'input[0]' must be a string", "input" },
    { "embedding", "POST", '{"model":"m","input":"x","dimensions":0}', 400, "'dimensions'", "dimensions" },
  }
  for _, case in ipairs(cases) do
    it(("are %d for a %s of %s"):format(case[4], case[1], case[3] == "" and "nothing" or case[3]), function()
      local job, answer = openai.parse(case[1], case[2], case[3])
      assert.is_nil(job)
      assert.equal(case[4], answer.status)
      local err = answer.json.error
      assert.message(err.message).truthy(err.message:find(case[5], 1, true))
      assert.equal("invalid_request_error", err.type)
      assert.equal(case[6] or json.null, err.param)
    end)
  end
end)

--- The events of a streamed answer: names in order, and what their data say.
local function events_of(kind, body)
  body.stream = true
  local job, decoded = openai.parse(kind, "POST", json.encode(body))
  local events = openai.stream(kind, call_of(decoded), job)
  local names, words = {}, 0
  for i, event in ipairs(events) do
    names[i] = event.event
    assert.equal(event.event, event.data.type)
    words = words + (event.word and 1 or 0)
  end
  return events, names, words
end

describe("the mock's responses", function()
  local body = { model = "m-1", instructions = "Be short.", input = {
    { role = "user", content = { { type = "input_text", text = "Hello, tide" } } },
    { type = "function_call_output", call_id = "c", output = "42" } } }

  it("have OpenAI's shape, and the text of the same prompt", function()
    local res, job = ask("responses", body)
    assert.same({ "resp_abc", "response", "completed", "m-1" }, { res.id, res.object, res.status, res.model })
    assert.equal("Be short.\nHello, tide\n42", job.prompts[1])
    local content = res.output[1].content[1]
    assert.same({ "output_text", (table.concat((text.answer(job.prompts[1])))) }, { content.type, content.text })
    assert.equal(res.usage.input_tokens + res.usage.output_tokens, res.usage.total_tokens)
    assert.equal(#text.answer(job.prompts[1]), res.usage.output_tokens)
  end)

  it("are incomplete where max_output_tokens cuts them", function()
    local res = ask("responses", { model = "m", input = "Hello", max_output_tokens = 3 })
    assert.same({ "incomplete", "max_output_tokens", 3 },
      { res.status, res.incomplete_details.reason, res.usage.output_tokens })
  end)

  it("stream their events", function()
    local events, names, words = events_of("responses", { model = "m", input = "Hello" })
    local whole = ask("responses", { model = "m", input = "Hello" })
    assert.same({ "response.created", "response.output_text.delta" }, { names[1], names[2] })
    assert.same({ "response.output_text.done", "response.completed" }, { names[#names - 1], names[#names] })
    local parts = {}
    for _, event in ipairs(events) do parts[#parts + 1] = event.data.delta end
    assert.same({ whole.output[1].content[1].text, words }, { table.concat(parts), whole.usage.output_tokens })
    assert.same(whole.usage, json.decode(json.encode(events[#events].data.response.usage)))
  end)
end)

describe("the mock's messages", function()
  local body = { model = "m-1", max_tokens = 1000, system = "Be short.", messages = hello }

  it("have Anthropic's shape", function()
    local res, job = ask("messages", body)
    assert.same({ "msg_abc", "message", "assistant", "m-1", "end_turn" },
      { res.id, res.type, res.role, res.model, res.stop_reason })
    assert.equal("Be short.\nHello, tide", job.prompts[1])
    assert.same({ "text", (table.concat((text.answer(job.prompts[1])))) }, { res.content[1].type, res.content[1].text })
    assert.equal(#text.answer(job.prompts[1]), res.usage.output_tokens)
    assert.equal("max_tokens", ask("messages", { model = "m", max_tokens = 2, messages = hello }).stop_reason)
  end)

  it("stream their events", function()
    local given = { model = "m", max_tokens = 1000, messages = hello }
    local events, names, words = events_of("messages", given)
    local whole = ask("messages", given)
    assert.same({ "message_start", "content_block_start", "content_block_delta" }, { unpack(names, 1, 3) })
    assert.same({ "content_block_stop", "message_delta", "message_stop" }, { unpack(names, #names - 2) })
    local parts = {}
    for _, event in ipairs(events) do
      parts[#parts + 1] = event.event == "content_block_delta" and event.data.delta.text or nil
    end
    assert.same({ whole.content[1].text, words }, { table.concat(parts), whole.usage.output_tokens })
    assert.equal(words, events[#events - 1].data.usage.output_tokens)
  end)

  it("are refused, and fail, in Anthropic's words", function()
    local function refused(text_of, expected)
      local job, answer = openai.parse("messages", "POST", text_of)
      assert.is_nil(job)
      assert.same({ 400, "error", "invalid_request_error", expected },
        { answer.status, answer.json.type, answer.json.error.type, answer.json.error.message })
    end
    refused('{"model":"m","messages":[{"role":"user"}]}', "max_tokens: Field required")
    refused('{"model":"m","max_tokens":5,"messages":[]}', "messages: a non-empty array is required")
    refused('{"model":"m","max_tokens":5,"messages":[3]}', "messages.0: must be an object with a role")
    refused('{"max_tokens":5,"messages":[]}', "'model' must be a string")
    for status, kind in pairs { [429] = "rate_limit_error", [529] = "overloaded_error", [503] = "api_error" } do
      assert.equal(kind, openai.failure({ kind = "error", status = status }, "messages").json.error.type)
    end
  end)
end)
