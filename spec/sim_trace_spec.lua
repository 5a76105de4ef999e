-- SPDX-License-Identifier: MIT
-- `neap sim --trace` and `--check-determinism`, in processes of their own: memory
-- layout and string hashes differ from one to the next.
local check = require "neap.sim.check"
local child = require "spec.support.child"
local neap = require "neap"
local tmp = require "spec.support.tmp"

-- Tasks, limits, policies, files, chance, loops over tables, texts of objects.
local SCRIPT = [[
if arg[1] == "nojit" then jit.off() end
local neap = require "neap"
local events = {}
neap.telemetry.subscribe(function(event) events[#events + 1] = event.event end)
local slots, limiter = neap.semaphore(3), neap.rate_limiter { rate = 40, burst = 5 }
local stack = neap.policy { neap.retry { max_attempts = 4 }, neap.circuit_breaker {} }
local queue = neap.queue { max = 4 }
local objects = {}
for i = 1, 60 do objects["k" .. i * 7919 % 61] = i end
neap.spawn(function()
  for name, i in pairs(objects) do assert(queue:put { name = name, i = i }) end
  queue:close()
end)
for worker = 1, 8 do
  neap.spawn(function()
    for item in function() return (queue:get()) end do
      limiter:acquire(1)
      slots:acquire(1)
      local ok, err = stack:call(function()
        neap.sleep(math.random() / 10)
        if math.random() < 0.3 then return nil, neap.error.new { kind = "connect", message = tostring(item) } end
        return neap.json.encode { item = item, text = tostring(function() end), worker = worker }
      end)
      slots:release(1)
      print(item.name, ok, err, neap.now())
      if item.i % 9 == 0 then assert(neap.fs.read(arg[0])) end
    end
  end)
end
neap.timeout(1, function() neap.sleep(5) end)
neap.spawn(function() neap.sleep(0.01) end):cancel()
for name, value in next, objects do io.write(name, "=", value, " ") end
]]

describe("neap.sim.check", function()
  it("passes on the other options of the command line", function()
    assert.same({ "sim", "-s", "3", "--world=w.lua" }, check.option_words(
      { "sim", "-s", "3", "--check-determinism", "--trace", "t", "--trace=u", "--world=w.lua", "--", "x.lua", "--trace",
        "y" }, { "x.lua", "--trace", "y" }))
  end)

  it("finds the first line that differs", function()
    local folder = tmp.dir()
    local function file(name, text)
      assert(neap.fs.write(folder .. "/" .. name, text))
      return folder .. "/" .. name
    end
    local one, other, short = file("1", "a\nb\nc\n"), file("2", "a\nx\nc\n"), file("3", "a\nb\n")
    assert.same({ 2, "b", "x" }, { check.first_difference(one, other) })
    assert.same({ 3, "c", nil }, { check.first_difference(one, short) })
    local none, count = check.first_difference(one, one)
    assert.is_nil(none)
    assert.equal(3, count)
    tmp.remove(folder)
  end)
end)

describe("neap sim #real", function()
  local folder

  before_each(function() folder = tmp.dir() end)
  after_each(function() tmp.remove(folder) end)

  local function script(text)
    assert(neap.fs.write(folder .. "/script.lua", text))
    return folder .. "/script.lua"
  end

  local function trace_of(...)
    local path = folder .. "/trace.jsonl"
    local run = child.run({ "sim", "--trace", path, "--seed", "7", ... })
    return assert(neap.fs.read(path)), run
  end

  it("--trace writes the same bytes in every process, with and without the compiler", function()
    local path = script(SCRIPT)
    local first, run = trace_of(path)
    assert.equal(0, run.code, run.err)
    local lines = select(2, first:gsub("\n", ""))
    assert.is_true(lines > 500, lines .. " lines")
    for i = 1, 5 do
      local trace, again = trace_of(path, i % 2 == 0 and "jit" or "nojit")
      assert.is_true(first == trace, "run " .. i .. " differs")
      assert.equal(run.out, again.out)
    end
  end)

  it("--trace tells of tasks, waits, draws and policies, a line of JSON each", function()
    local trace = trace_of(script [[
      local neap = require "neap"
      local retry = neap.retry { max_attempts = 2, backoff = { base = 1 } }
      local task = neap.spawn(function() neap.sleep(0.25) end)
      retry:call(function() return nil, neap.error.new { kind = "connect", message = "no" } end)
      task:await()
      neap.semaphore(1):acquire(1)
      neap.spawn(function() error "x" end)
    ]])
    local seen, number = {}, 0
    for line in trace:gmatch "[^\n]+" do
      local event = assert(neap.json.decode(line))
      number = number + 1
      assert.equal(number, event.n)
      seen[event.what] = seen[event.what] or event
      if event.what == "end" then seen[event.as] = event end
      if event.what == "wake" and event.task == 2 then seen.wake = event end
    end
    assert.same({ t = 0, n = 1, what = "spawn", task = 2, by = 1, at = folder .. "/script.lua", line = 3 }, seen.spawn)
    assert.equal("retry", seen.policy.event)
    assert.equal(1, seen.policy.draws)
    assert.equal("sleep", seen.wait.on)
    assert.equal(0.25e9, seen.wake.t)
    assert.truthy(seen.run and seen.done and seen.failed)
  end)

  it("--trace counts draws of math.random, and changes none of them", function()
    local path = script [[
      local neap = require "neap"
      neap.sleep(1)
      print(math.random(), math.random(10), math.random(5, 6))
      neap.sleep(1)
      require("neap.core").random()
      neap.sleep(1)
      print(pcall(function() local x = math.random({}) return x end))
    ]]
    local trace, run = trace_of(path)
    assert.matches("script%.lua:7: bad argument #1 to 'random' %(number expected, got table%)\n$", run.out)
    local draws = {}
    for line in trace:gmatch "[^\n]+" do
      local event = assert(neap.json.decode(line))
      if event.draws then draws[#draws + 1] = { event.t / 1e9, event.draws } end
    end
    assert.same({ { 1, 3 }, { 2, 4 } }, { draws[1], draws[2] })
    assert.equal(run.out, child.run({ "sim", "--seed", "7", path }).out)
  end)

  it("--trace says when the file cannot be written", function()
    local run = child.run { "sim", "--trace", folder .. "/none/t", script "" }
    assert.equal(2, run.code)
    assert.matches("^neap: cannot write the trace '[^\n]+/none/t': No such file or directory\n$", run.err)
    if neap.uv.fs_stat "/dev/full" then
      run = child.run { "sim", "--trace", "/dev/full", script "require('neap').sleep(1)" }
      assert.equal(1, run.code)
      assert.matches("neap: the trace is not complete: No space left on device", run.err)
    end
  end)

  it("--check-determinism passes a script that is, with its output and exit code", function()
    local run = child.run { "sim", "--check-determinism", script
      "print(tostring({}), ...) require('neap.core').host.set_exit_code(3)", "--trace", "x" }
    assert.equal(3, run.code, run.err)
    assert.equal("table: 0x00000001\t--trace\tx\n", run.out)
    assert.matches("sim: deterministic: two runs with the same %d+ events and the same output\n$", run.err)
  end)

  it("--check-determinism names the first event that differs", function()
    -- The address of a number's own string is nobody's business; here it leaks.
    local path = script [[
      local neap = require "neap"
      neap.sleep(1)
      local file = assert(io.open("/proc/self/stat", "rb"))
      neap.sleep(tonumber(file:read "*a":match "^%d+"))
      print "end"
    ]]
    local run = child.run { "sim", "--check-determinism", "--trace", folder .. "/kept", path }
    assert.equal(1, run.code)
    local number, first, second = run.err:match
      "neap: not deterministic: event (%d+) differs between two runs\n  first:  ([^\n]+)\n  second: ([^\n]+)\n$"
    assert.equal(4, tonumber(number), run.err)
    assert.matches('^{"t":1000000000,"n":4,"what":"wait","task":1,"on":"sleep","until":%d+}$', first)
    assert.matches('^{"t":1000000000,"n":4,"what":"wait"', second)
    assert.matches("\n" .. first:gsub("%p", "%%%0") .. "\n", assert(neap.fs.read(folder .. "/kept")))
  end)

  it("--check-determinism ends both runs and removes its files when it is interrupted", function()
    local marker = folder .. "/alive"
    local process = child.start { "sim", "--check-determinism", script(([[
      local file = io.open(%q, "a") file:write "x" file:close()
      while true do end]]):format(marker)) }
    local function runs()
      local file = io.open(marker, "rb")
      local text = file and file:read "*a" or ""
      if file then file:close() end
      return #text
    end
    while runs() < 2 do require("neap").sleep(0.02) end
    process:kill "sigterm"
    assert.equal(143, process:wait().code)
    for pid in require("lfs").dir "/proc" do
      local file = pid:find "^%d+$" and io.open("/proc/" .. pid .. "/cmdline", "rb")
      local words = file and file:read "*a"
      if file then file:close() end
      assert.is_nil(words and words:find(folder, 1, true), words)
    end
  end)

  it("--check-determinism compares what is written, too, and needs a file", function()
    local run = child.run { "sim", "--check-determinism", script [[
      print "one"
      print(io.open("/proc/self/stat", "rb"):read "*a")
    ]] }
    assert.equal(1, run.code)
    assert.matches("neap: not deterministic: line 2 differs between two runs\n", run.err)
    run = child.run { "sim", "--check-determinism", "-" }
    assert.equal(2, run.code)
    assert.matches("^neap: %-%-check%-determinism needs a script file", run.err)
  end)
end)
