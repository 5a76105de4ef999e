-- SPDX-License-Identifier: MIT
-- `neap batch --dry-run` as a command, and beside the real thing.
local batch = require "spec.support.batch"
local child = require "spec.support.child"
local neap = require "neap"
local tmp = require "spec.support.tmp"

local LINE = '{"custom_id":"r%d","url":"/v1/chat/completions","body":{"model":"gpt-4o-mini","max_tokens":100,'
  .. '"messages":[{"role":"user","content":"question %d"}]}}\n'

local function lines(n)
  local list = {}
  for i = 1, n do list[i] = LINE:format(i, i) end
  return table.concat(list)
end

describe("neap batch --dry-run #real", function()
  local dir, input, world

  before_each(function()
    dir = batch.dir()
    input = tmp.write(dir .. "/in.jsonl", lines(40))
    world = tmp.write(dir .. "/world.lua", [[
      upstream { host = "api.example.com", latency = { law = "lognormal", median = 0.4, sigma = 0.5 },
        rate_limit = { rpm = 30 }, source = "a test" }]])
  end)
  after_each(batch.finish)

  local function run(...)
    return child.run { "batch", "--dry-run", "-i", input, ... }
  end

  local function names()
    local list = {}
    for name in require("lfs").dir(dir) do
      if not name:find "^%." then list[#list + 1] = name end
    end
    table.sort(list)
    return list
  end

  it("needs neither key, output nor address, and writes nothing", function()
    local result = child.run({ "batch", "--dry-run", "--world", "openai-tier1", "-i", input, "--runs", "3" },
      { env = { OPENAI_API_KEY = "a key that a real run\nwould refuse" } })
    assert.same({ 0, "" }, { result.code, result.err })
    assert.matches("^# Dry run: nothing was sent, nothing was written\n", result.out)
    assert.matches("\ninput [^\n]*: 40 items, gpt%-4o%-mini\n", result.out)
    assert.matches("\nworld    openai%-tier1 %(profile openai%-tier1 %(undated", result.out)
    assert.matches("\nseeds    1 to 3, ", result.out)
    assert.matches("\nversion  neap %d", result.out)
    assert.matches("\ncommand  neap batch %-%-dry%-run %-%-world openai%-tier1 ", result.out)
    for _, title in ipairs { "duration", "requests sent", "429s", "failed items", "input tokens", "output tokens" } do
      assert.matches("\n  " .. title .. "  +%d", result.out)
    end
    assert.matches("\nmatters most: %a+: 25 %% ", result.out)
    assert.matches("\nguessed: error rate, output length, capacity%.", result.out)
    assert.same({ "in.jsonl", "world.lua" }, names())
  end)

  it("leaves an output that exists as it is", function()
    local out = tmp.write(dir .. "/out.jsonl", "half of a line")
    for _, force in ipairs { false, true } do
      local result = run("-w", world, "-n", "1", "-o", out, force and "--force" or "--no-progress")
      assert.equal(0, result.code, result.err)
      assert.matches("out%.jsonl exists: .*begins anew, so every item is counted\n", result.out)
      assert.equal("half of a line", tmp.read(out))
    end
    assert.same({ "in.jsonl", "out.jsonl", "world.lua" }, names())
  end)

  it("costs what the price table says", function()
    local price = tmp.write(dir .. "/price.json",
      '{"currency":"EUR","models":{"gpt-4o-mini":{"input":1000,"output":0}}}')
    local result = run("-w", world, "-n", "1", "--price", price)
    assert.equal(0, result.code, result.err)
    local tokens = tonumber((result.out:match "\n  input tokens +([%d,]+)":gsub(",", "")))
    assert.near(tokens / 1000, tonumber((result.out:match "\n  cost, EUR +([%d.]+)")), 0.01)
  end)

  it("says the same whatever the number of processes", function()
    local function body(jobs) return (run("-w", world, "-n", "1", "-j", jobs).out:gsub("command [^\n]*\n", "")) end
    local one = body "1"
    assert.matches("\n429s? ", (one:gsub("\n +", "\n")))
    assert.equal(one, body "3")
  end)

  it("says what a world leaves out", function()
    local result = run("-w", "anthropic-start", "-n", "1")
    assert.matches("\n  latency  +none +guessed\n", result.out)
    assert.matches("\nthe world says nothing of latency: ", result.out)
    tmp.write(world, "upstream { host = 'a', handler = function() neap.sleep(2) return { status = 200 } end }")
    result = run("-w", world, "-n", "1", "-c", "10")
    assert.same({ 0, "" }, { result.code, result.err })
    assert.matches("\n  duration +8%.00 s\n", result.out)
    assert.matches("tokens are not counted, nothing is varied\n", result.out)
    assert.is_nil(result.out:find("output tokens", 1, true))
  end)

  it("keeps secrets out of the command that it shows", function()
    local result = run("-w", world, "-n", "1", "-H", "Authorization: Bearer sesame", "--header=X-Api-Key: sesame",
      "-HCookie: sesame", "-H", "X-Team: blue")
    assert.equal(0, result.code, result.err)
    assert.is_nil(result.out:find("sesame", 1, true))
    assert.matches("X%-Team: blue", result.out)
  end)

  it("keeps them out however they are written, and passwords out of addresses", function()
    for _, words in ipairs { { "-fH", "Authorization: Bearer s3cret-key" }, { "-fHX-Gateway: Bearer s3cret-key" },
      { "--base-url", "https://me:s3cret-key@api.example.com" } } do
      local result = run("--world", world, "--runs", "1", unpack(words))
      assert.equal(0, result.code)
      assert.is_nil((result.out .. result.err):find("s3cret-key", 1, true))
    end
  end)

  it("refuses what is wrong in one line", function()
    local function refused(wanted, ...)
      local result = child.run { "batch", "-i", input, ... }
      assert.same({ 2, "" }, { result.code, result.out })
      assert.matches("^neap: batch: [^\n]+\n$", result.err)
      assert.matches(wanted, result.err)
    end
    refused("needs %-%-world", "--dry-run")
    refused("'%-%-world' goes with %-%-dry%-run", "-w", world, "-o", dir .. "/o", "--base-url", "http://127.0.0.1:1")
    refused("did you mean 'openai%-tier1'", "--dry-run", "-w", "openai-teir1")
    refused("cannot read [^\n]*none%.lua", "--dry-run", "-w", dir .. "/none.lua")
    refused("world%.lua: no upstream serves http://b%.example %(it has api%.example%.com%)", "--dry-run", "-w", world,
      "--base-url", "http://b.example")
    refused("cannot read [^\n]*none%.json", "--dry-run", "-w", world, "--price", dir .. "/none.json")
    refused("no price for the model 'gpt%-4o%-mini'", "--dry-run", "-w", world, "--price",
      tmp.write(dir .. "/p.json", '{"models":{"gpt-4o":{"input":1,"output":2}}}'))
    refused("give a file", "--dry-run", "-w", world, "-i", "-")
    refused("cannot read '[^\n]*none%.jsonl'", "--dry-run", "-w", world, "-i", dir .. "/none.jsonl")
    local two = tmp.write(dir .. "/two.lua", "upstream { host = 'a' }\nupstream { host = 'b' }")
    refused("%-%-base%-url is needed: [^\n]*two%.lua serves a, b", "--dry-run", "-w", two)
    tmp.write(dir .. "/two.lua", "upstream { host = 'a', latency = -1 }")
    refused("two%.lua:1: upstream 'a': option 'latency' must be at least 0", "--dry-run", "-w", two)
  end)

  it("foretells what the same batch takes against neap mock in the same world", function()
    world = tmp.write(dir .. "/fast.lua", [[
      upstream { host = "*", api = "json", latency = { law = "lognormal", median = 0.04, sigma = 0.6 },
        errors = { { status = 503, probability = 0.05 } } }]])
    input = tmp.write(dir .. "/in.jsonl", lines(60))
    local forecast = run("-w", world, "-c", "4", "-n", "40")
    local low, high = forecast.out:match "\n  duration +[%d.]+ s +([%d.]+) s to ([%d.]+) s\n"
    assert.is_truthy(low, forecast.out)
    -- One of ten is outside of a 90 % range; the middle of nine is once in thousands.
    local seconds = assert(neap.map({ 1, 2, 3, 4, 5, 6, 7, 8, 9 }, function(seed)
      local mock = batch.mock("--world", world, "--seed", tostring(seed))
      local result = child.run { "batch", "-i", input, "-o", dir .. "/out" .. seed, "--base-url", mock.url, "-c", "4" }
      assert.equal(0, result.code, result.err)
      return tonumber(result.err:match "60 requests in ([%d.]+) s")
    end))
    table.sort(seconds)
    assert.is_true(seconds[5] >= tonumber(low) and seconds[5] <= tonumber(high),
      ("%s s of %s, foretold %s to %s s"):format(seconds[5], table.concat(seconds, ", "), low, high))
  end)
end)
