-- SPDX-License-Identifier: MIT
-- `neap sim --replay`: the command.
local cassette = require "neap.cassette"
local json = require "neap.json"
local child = require "spec.support.child"
local made = require "spec.support.cassette"
local mocks = require "spec.support.mock"
local tmp = require "spec.support.tmp"

describe("neap sim --replay #real", function()
  local dir
  before_each(function() dir = tmp.dir() end)
  after_each(function() tmp.remove(dir) end)

  it("runs a script against what neap run --record recorded of a mock", mocks.served(
    { latency = { law = "lognormal", median = 0.02, sigma = 0.5 }, errors = { { status = 503, probability = 0.2 } } },
    function(port)
      local script = tmp.write(dir .. "/script.lua", [[
        local neap = require "neap"
        local client = neap.http.client { base_url = arg[1], headers = { Authorization = "Bearer sk-secret" } }
        local list = {}
        for i = 1, 50 do list[i] = i end
        local retry = neap.retry { max_attempts = 4, backoff = { base = 0.01 } }
        local results = neap.map(list, function(i)
          local opts = { json = { item = i, name = "x" }, idempotent = true }
          local res, err = retry:call(client.post, client, "/echo", opts)
          return res and res.status .. res.body or err.kind
        end, { concurrency = 8 })
        for i = 1, 50 do print(results[i]) end
      ]])
      local url, path = ("http://127.0.0.1:%d"):format(port), dir .. "/c.jsonl"
      local real = child.run { "run", "--record", path, script, url }
      assert.same({ 0, "" }, { real.code, real.err })
      local sim = child.run { "sim", "--replay", path, script, url }
      assert.same({ 0, real.out }, { sim.code, sim.out })
      local sends = #cassette.read(path).entries
      assert.is_true(sends > 50)
      assert.is_truthy(sim.err:find(("%d of %d requests as recorded, none extrapolated"):format(sends, sends), 1, true))
      local again = child.run { "sim", "--replay", path, "--inject", "503:0.5", "--load-model", "mm-c",
        "--check-determinism", script, url }
      assert.same({ 0, true }, { again.code, again.err:find("sim: deterministic", 1, true) ~= nil })
      assert.is_truthy(again.err:find "%d+ injected failures")
    end))

  it("says in one line what is wrong", function()
    local path = tmp.write(dir .. "/c.jsonl", made.text { {}, { status = 429 } })
    local script = tmp.write(dir .. "/script.lua", "")
    local torn = tmp.write(dir .. "/torn.jsonl", made.text({ {}, {} }):sub(1, -20))
    local function message(...)
      local run = child.run { "sim", ... }
      assert.same({ 2, "" }, { run.code, run.out })
      return run.err:match "^neap: ([^\n]*)\n$"
    end
    assert.equal(path .. ": api.test answered 429 without rate-limit headers; say its quota: --quota rpm=600 "
      .. "(--quota recorded: 429s come as they did, whatever the load)", message("--replay", path, script))
    assert.equal("--scale: 'quta=1' is not understood; write quota=X or latency=X (did you mean 'quota'?)",
      message("--replay", path, "--scale", "quta=1", script))
    assert.equal("--scale: quota needs a number above 0, got '-1'", message("--replay", path, "--scale", "quota=-1",
      script))
    assert.equal("--inject: '503' is no STATUS:PROBABILITY such as 503:0.02",
      message("--replay", path, "--inject", "503", script))
    assert.equal("--quota: 'rpn=5' is not understood; did you mean 'rpm'?",
      message("--replay", path, "--quota", "rpn=5", script))
    assert.equal("--inject needs --replay FILE", message("--inject", "503:1", script))
    assert.equal("--servers needs --load-model mm-c", message("--replay", path, "--servers", "2", script))
    assert.equal("--replay and --world are two worlds: give one of them",
      message("--replay", path, "--world", path, script))
    assert.equal(script .. ": is empty", message("--replay", script, script))
    local run = child.run { "sim", "--replay", torn, script }
    assert.same({ 0, true }, { run.code, run.err:find("the cassette's last line is cut off", 1, true) ~= nil })
  end)

  it("keeps a replay's answers as JSON", function()
    local path = tmp.write(dir .. "/c.jsonl", made.text { { body = '{"a":[1,2]}' } })
    local script = tmp.write(dir .. "/script.lua", [[
      local neap = require "neap"
      print(neap.json.encode(neap.http.client():get("https://api.test/"):json()))
    ]])
    assert.same({ a = { 1, 2 } }, json.decode(child.run({ "sim", "--replay", path, script }).out))
  end)
end)
