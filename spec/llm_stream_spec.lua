-- SPDX-License-Identifier: MIT
local errors = require "neap.error"
local json = require "neap.json"
local neap = require "neap"

--- What a scripted response's body does: a number waits, a string is a piece of
--- the body, an error breaks it off.
local function response(status, script)
  local res = { status = status, headers = {}, sends = 1, replay_safe = true, timings = { queue = 0.25 }, closed = 0 }
  local at = 0
  function res:read()
    if self.closed > 0 then return nil, errors.new { kind = "closed", message = "closed" } end
    while true do
      at = at + 1
      local item = script[at]
      if type(item) == "number" then
        neap.sleep(item)
      elseif type(item) == "table" then
        return nil, item
      else
        return item
      end
    end
  end
  function res:read_all()
    local parts = {}
    for chunk in function() return self:read() end do parts[#parts + 1] = chunk end
    self.body = table.concat(parts)
    return self.body
  end
  function res:close() self.closed = self.closed + 1 end
  return res
end

local function event(chunk) return "data: " .. (type(chunk) == "string" and chunk or json.encode(chunk)) .. "\n\n" end

local function piece(text, finish_reason, index)
  return event { id = "c-1", model = "m-1", choices = { { index = index or 0, delta = { content = text },
    finish_reason = finish_reason or json.null } } }
end

local USAGE = event { choices = json.empty_array,
  usage = { prompt_tokens = 9, completion_tokens = 5, total_tokens = 14 } }
local DONE = event "[DONE]"

--- An llm whose client answers the scripts in turn after a second.
local function new(...)
  local scripts, client = { ... }, { sent = {}, given = {} }
  function client:post(url, opts)
    local n = #self.sent + 1
    self.sent[n] = { url = url, opts = opts }
    neap.sleep(1)
    local script = scripts[n] or scripts[#scripts]
    self.given[n] = response(script.status or 200, script)
    return self.given[n]
  end
  return neap.llm { client = client, model = "m-1", api_key = "sk-secret-key" }, client
end

local ANSWER = { 1, event { choices = { { index = 0, delta = { role = "assistant", content = "" } } } }, 1,
  piece "The ", 2, piece "tide", 2, piece(" turns.", "stop"), USAGE, DONE }

local function collect(stream)
  local texts = {}
  for text in stream:deltas() do texts[#texts + 1] = text end
  return table.concat(texts, "|")
end

describe("llm:chat_stream", function()
  it("gives the text as it comes, then the whole reply with its times", function()
    local llm, client = new(ANSWER)
    local began = neap.now()
    local stream = assert(llm:chat_stream { prompt = "What?" })
    assert.same({ model = "m-1", messages = { { role = "user", content = "What?" } }, stream = true,
      stream_options = { include_usage = true } }, client.sent[1].opts.json)
    assert.is_true(client.sent[1].opts.stream)
    assert.near(1, neap.now() - began, 1e-9)
    local texts, times = {}, {}
    for text, chunk in stream:deltas() do
      texts[#texts + 1], times[#times + 1] = text, neap.now() - began
      assert.equal("m-1", chunk.model)
    end
    assert.same({ "The ", "tide", " turns." }, texts)
    assert.same({ 3, 5, 7 }, times)
    local reply = assert(stream:result())
    assert.equal("The tide turns.", reply.text)
    assert.same({ role = "assistant", content = "The tide turns." }, reply.message)
    assert.same({ "stop", "m-1", "c-1", 200, 1 },
      { reply.finish_reason, reply.model, reply.id, reply.status, reply.attempts })
    assert.same({ input_tokens = 9, output_tokens = 5, total_tokens = 14 }, reply.usage)
    assert.near(3 - 0.25, reply.ttft, 1e-9) -- the wait for a connection is not the model's
    assert.near(4 / 4, reply.tokens_per_second, 1e-9)
    assert.equal(reply, stream:result())
    assert.equal(1, client.given[1].closed)
  end)

  it("need not be iterated: result reads on from where it is", function()
    local llm = new(ANSWER)
    local stream = assert(llm:chat_stream { prompt = "x" })
    assert.equal("The ", (stream:read()))
    assert.equal("The tide turns.", assert(stream:result()).text)
  end)

  it("estimates usage where the stream says none", function()
    local llm = new { piece(("x"):rep(40), "stop"), DONE }
    local usage = assert(llm:chat_stream { prompt = "8 chars." }):result().usage
    assert.same({ input_tokens = 9, output_tokens = 10, total_tokens = 19, estimated = true }, usage)
    assert.equal(256, llm:amounts({ prompt = "x" }).output_tokens) -- guesses teach nothing
  end)

  it("learns from usage", function()
    local llm = new(ANSWER)
    assert(llm:chat_stream { prompt = "x" }):result()
    assert.equal(5, llm:amounts({ prompt = "x" }).output_tokens)
  end)

  it("lets stream_options be left out for servers that do not know them", function()
    local llm, client = new(ANSWER)
    assert(llm:chat_stream { prompt = "x", stream_options = false }):close()
    assert.is_nil(client.sent[1].opts.json.stream_options)
  end)

  it("puts tool calls together, and further fields that grow", function()
    local function delta(fields) return event { choices = { { index = 0, delta = fields } } } end
    local llm = new {
      delta { reasoning_content = "Hm" }, delta { reasoning_content = "m." },
      delta { tool_calls = { { index = 0, id = "call_1", type = "function",
        ["function"] = { name = "tide", arguments = "" } } } },
      delta { tool_calls = { { index = 0, ["function"] = { arguments = '{"at":' } } } },
      delta { tool_calls = { { index = 1, id = "call_2", ["function"] = { name = "moon", arguments = "{}" } } } },
      delta { tool_calls = { { index = 0, ["function"] = { arguments = '"noon"}' } } } },
      piece("", "tool_calls"), DONE,
    }
    local stream = assert(llm:chat_stream { prompt = "x" })
    assert.equal("|||||", collect(stream))
    local reply = stream:result()
    assert.equal("Hmm.", reply.message.reasoning_content)
    assert.same({
      { id = "call_1", type = "function", ["function"] = { name = "tide", arguments = '{"at":"noon"}' } },
      { id = "call_2", type = "function", ["function"] = { name = "moon", arguments = "{}" } },
    }, reply.message.tool_calls)
    assert.equal("tool_calls", reply.finish_reason)
  end)

  it("keeps several choices apart; the text is the first one's", function()
    local llm = new { piece("b1", nil, 1), piece "a1", piece("b2", "stop", 1), piece("a2", "length"), DONE }
    local stream = assert(llm:chat_stream { prompt = "x", n = 2 })
    assert.equal("|a1||a2", collect(stream))
    local reply = stream:result()
    assert.equal("a1a2", reply.text)
    assert.same({ "a1a2", "b1b2" }, { reply.choices[1].text, reply.choices[2].text })
    assert.equal("stop", reply.choices[2].finish_reason)
  end)

  it("reads events whatever the pieces that they come in", function()
    local whole = table.concat { ": comment\r\n\r\n", piece "The ", piece("tide", "stop"), USAGE, DONE }
    local bytes = {}
    for i = 1, #whole do bytes[i] = whole:sub(i, i) end
    local stream = assert(new(bytes):chat_stream { prompt = "x" })
    assert.equal("The |tide", collect(stream))
  end)

  it("does without [DONE] when the answer said that it ended", function()
    local llm = new { piece("all", "stop") }
    assert.equal("all", assert(llm:chat_stream { prompt = "x" }):result().text)
  end)

  it("does not wait for a server that keeps the stream open after [DONE]", function()
    local llm, client = new { piece("all", "stop"), DONE, 1000 }
    local stream = assert(llm:chat_stream { prompt = "x" })
    local began = neap.now()
    assert.equal("all", stream:result().text)
    assert.near(0.5, neap.now() - began, 1e-9)
    assert.equal(1, client.given[1].closed)
  end)

  describe("that breaks off", function()
    local function breaks(script, kind, message)
      local llm, client = new(script)
      local stream = assert(llm:chat_stream { prompt = "x" })
      local ok, err = pcall(collect, stream)
      assert.is_false(ok)
      assert.equal(kind, err.kind)
      assert.matches(message, err.message, 1, true)
      local reply, again = stream:result()
      assert.is_nil(reply)
      assert.equal(err, again)
      assert.is_true(client.given[1].closed > 0)
      return err
    end

    it("raises the transfer's error", function()
      local lost = errors.new { kind = "receive", message = "connection reset", sent = "yes" }
      local err = breaks({ piece "The ", lost }, "receive", "connection reset")
      assert.is_false(err.retryable) -- somebody has seen a part of it
      assert.is_nil(err.replay_safe)
    end)

    it("raises when it ends before the answer does", function()
      breaks({ piece "The " }, "receive", "the stream ended before the answer did")
      breaks({}, "receive", "the stream ended before the answer did")
    end)

    it("raises an error event, with what the provider says and without the key", function()
      local quota = event { error = { message = "sk-secret-key is out of quota", code = "429" } }
      local err = breaks({ piece "The ", quota }, "receive", "the provider broke the stream off: *** is out of quota")
      assert.equal(429, err.status)
      breaks({ "event: error\ndata: {\"message\":\"overloaded\"}\n\n" }, "receive", "off: overloaded")
      breaks({ event { error = "no luck" } }, "receive", "off: no luck")
    end)

    it("raises for an event that is no JSON object", function()
      breaks({ event "{" }, "receive", "no JSON object")
    end)

    it("frees the connection when its reader is cancelled", function()
      local llm, client = new { piece "The ", 1000 }
      local stream = assert(llm:chat_stream { prompt = "x" })
      assert.is_nil((neap.timeout(5, collect, stream)))
      assert.equal(1, client.given[1].closed)
      local _, err = stream:result()
      assert.equal("closed", err.kind)
    end)
  end)

  it("gives a refused request as kind 'status'", function()
    local llm, client = new { status = 429, '{"error":{"message":"slow', ' down"}}' }
    local stream, err = llm:chat_stream { prompt = "x" }
    assert.is_nil(stream)
    assert.same({ "status", "HTTP 429: slow down" }, { err.kind, err.message })
    assert.equal(1, client.given[1].closed)
  end)

  it("may be left early with close", function()
    local llm, client = new(ANSWER)
    local stream = assert(llm:chat_stream { prompt = "x" })
    assert.equal("The ", (stream:deltas()()))
    stream:close()
    assert.equal(1, client.given[1].closed)
    assert.equal("closed", select(2, stream:result()).kind)
  end)

  it("has on_delta in chat only", function()
    local llm = new(ANSWER)
    assert.has_error(function() llm:chat_stream { prompt = "x", on_delta = print } end,
      "llm:chat_stream: 'on_delta' is an option of chat")
  end)
end)

describe("llm:chat with on_delta", function()
  it("streams within the policy, and returns the whole reply", function()
    local llm = new(ANSWER)
    llm.policy = neap.retry { max_attempts = 1 }
    local texts = {}
    local reply = assert(llm:chat { prompt = "x", on_delta = function(text) texts[#texts + 1] = text end })
    assert.same({ "The ", "tide", " turns." }, texts)
    assert.equal("The tide turns.", reply.text)
    assert.near(2.75, reply.ttft, 1e-9)
    assert.near(7, reply.spent.wire, 1e-9)
  end)

  it("is repeated while nothing has been handed out, and never after that", function()
    local lost = errors.new { kind = "receive", message = "lost", sent = "yes" }
    local texts = {}
    local llm, client = new({ lost }, ANSWER)
    llm.policy = neap.retry { backoff = { base = 0 } }
    local reply = assert(llm:chat { prompt = "x", on_delta = function(text) texts[#texts + 1] = text end })
    assert.equal(2, reply.attempts)
    assert.equal("The tide turns.", table.concat(texts))
    assert.equal(2, #client.sent)

    llm, client = new({ piece "The ", lost }, ANSWER)
    llm.policy = neap.retry { backoff = { base = 0 } }
    local _, err = llm:chat { prompt = "x", on_delta = function() end }
    assert.equal("receive", err.kind)
    assert.equal(1, #client.sent)
  end)

  it("lets what on_delta raises through, and frees the connection", function()
    local llm, client = new(ANSWER)
    local ok, err = pcall(llm.chat, llm, { prompt = "x", on_delta = function() error { kind = "mine" } end })
    assert.is_false(ok)
    assert.equal("mine", err.kind)
    assert.is_true(client.given[1].closed > 0)
  end)
end)
