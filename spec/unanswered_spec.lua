-- SPDX-License-Identifier: MIT
-- scripts/unanswered.lua: how a batch goes on that was interrupted.
local child = require "spec.support.child"
local tmp = require "spec.support.tmp"

describe("unanswered.lua #real", function()
  local dir

  before_each(function() dir = tmp.dir() end)
  after_each(function() tmp.remove(dir) end)

  local function run(...)
    return child.run { "run", "scripts/unanswered.lua", ... }
  end

  local function request(id) return ('{"custom_id":"%s","url":"/v1/chat/completions","body":{"n":1}}\n'):format(id) end

  local function result(id, status)
    return ('{"custom_id":"%s","response":{"status_code":%d,"request_id":"","body":{}},"error":null}\n'):format(id,
      status)
  end

  it("prints the lines that have no answer from 200 to 299, as they stand, in order", function()
    local requests = tmp.write(dir .. "/in.jsonl", request "a" .. request "b" .. "\n" .. request "c" .. request "d"
      .. "no json\n" .. request "e")
    local results = tmp.write(dir .. "/out.jsonl", result("c", 200) .. result("a", 503)
      .. '{"custom_id":"b","response":null,"error":{"code":"cancelled","message":"interrupted"}}\n'
      .. result("d", 201) .. '{"id":"x","custom_id":"e","resp')
    local got = run(requests, results)
    assert.same({ 0, "4 of 6 requests have no good answer\n" }, { got.code, got.err })
    assert.equal(request "a" .. request "b" .. "no json\n" .. request "e", got.out)
    local rest = tmp.write(dir .. "/rest.jsonl", result("a", 200) .. result("b", 200) .. result("e", 200))
    assert.equal("no json\n", run(requests, results, rest).out)
  end)

  it("refuses what it cannot do in one line", function()
    local got = run()
    assert.same({ 2, "" }, { got.code, got.out })
    assert.matches("^unanswered: usage: unanswered.lua REQUESTS", got.err)
    got = run(dir .. "/none.jsonl", dir .. "/none.jsonl")
    assert.same({ 1, "" }, { got.code, got.out })
    assert.matches("^unanswered: [^\n]*none%.jsonl[^\n]*no such file[^\n]*\n$", got.err)
  end)
end)
