local child = require "spec.support.child"

describe("neap test #real", function()
  local folder

  after_each(function()
    if folder then child.remove(folder) end
    folder = nil
  end)

  --- Runs a spec file of this text; the arguments come before it.
  local function run(text, ...)
    local path
    path, folder = child.file("sample_spec.lua", text)
    local argv = { "test", ... }
    argv[#argv + 1] = path
    local result = child.run(argv)
    result.last = result.out:match "([^\n]*)\n$"
    return result
  end

  it("counts passed, failed and skipped tests in the last line", function()
    local result = run [[
      it("passes", function() end)
      it("also passes", function() assert.equal(1, 1) end)
      it("fails", function() assert.equal(1, 2) end)
      it("raises", function() error "boom" end)
      it("is pending inside", function() pending "later" end)
      pending("is pending")]]
    assert.equal("2 passed, 2 failed, 2 skipped", result.last)
    assert.equal(1, result.code)
    assert.matches("sample_spec.lua:4: boom", result.out)
  end)

  it("exits with 0 when all pass", function()
    local result = run 'it("passes", function() end)'
    assert.same({ 0, "1 passed, 0 failed, 0 skipped", "" }, { result.code, result.last, result.err })
  end)

  it("lets tests, hooks, setups and finally wait, in virtual time", function()
    local result = run [[
      local neap = require "neap"
      local start = neap.now()
      setup(function() neap.sleep(1000) end)
      before_each(function() neap.sleep(1000) end)
      after_each(function() neap.sleep(1000) end)
      teardown(function() neap.sleep(1000) end)
      it("waits", function()
        finally(function() neap.sleep(1000) end)
        assert.near(2000, neap.now() - start, 1)
        neap.sleep(1000)
      end)]]
    assert.same({ 0, "1 passed, 0 failed, 0 skipped" }, { result.code, result.last })
  end)

  it("uses real time under #real only", function()
    local result = run [[
      local core = require "neap.core"
      it("is virtual", function() assert.is_true(core.is_virtual()) end)
      it("is real #real", function() assert.is_false(core.is_virtual()) end)
      describe("outer #real", function()
        before_each(function() assert.is_false(core.is_virtual()) end)
        describe("inner", function()
          it("is real", function() assert.is_false(core.is_virtual()) end)
        end)
      end)
      it("is virtual again", function() assert.is_true(core.is_virtual()) end)]]
    assert.same({ 0, "4 passed, 0 failed, 0 skipped" }, { result.code, result.last })
  end)

  it("starts every test with the same seed, which --seed sets", function()
    local text = [[
      local core = require "neap.core"
      for _ = 1, 2 do
        it("draws", function() io.stderr:write(core.random(), " ", math.random(), "\n") end)
      end]]
    local function draws(...)
      local result = run(text, ...)
      child.remove(folder)
      folder = nil
      local first, second = result.err:match "^([^\n]*)\n([^\n]*)\n$"
      assert.equal(first, second)
      return first
    end
    local default = draws()
    assert.equal(default, draws())
    assert.are_not.equal(default, draws "--seed=7")
  end)

  it("fails a test whose background task fails, with the task's traceback, and goes on", function()
    local result = run [[
      local neap = require "neap"
      it("fails", function()
        neap.spawn(function() neap.sleep(1) error "in the background" end)
        neap.sleep(10)
      end)
      it("passes", function() neap.sleep(1) end)]]
    assert.equal("1 passed, 1 failed, 0 skipped", result.last)
    assert.matches("sample_spec.lua:3: in the background", result.out)
    assert.matches("spawned at [^\n]*sample_spec.lua:3", result.out)
  end)

  it("tells a failed assertion in a task as a failure of the test", function()
    local result = run [[
      local neap = require "neap"
      it("fails", function() neap.spawn(function() assert.equal("expected", "got") end):await() end)]]
    assert.equal("0 passed, 1 failed, 0 skipped", result.last)
    assert.matches("0 successes / 1 failure / 0 errors", result.out)
    assert.matches("sample_spec.lua:2: Expected objects to be equal", result.out)
  end)

  it("fails a test that leaves tasks, names and cancels them", function()
    local result = run [[
      local neap = require "neap"
      local ended
      it("leaves two", function()
        neap.spawn(function()
          pcall(neap.sleep, 1e6)
          ended = true
        end)
        neap.spawn(neap.sleep, 1e6):set_name "sleeper"
      end)
      it("finds them gone", function() assert.is_true(ended) end)]]
    assert.equal("1 passed, 1 failed, 0 skipped", result.last)
    assert.matches("left 2 tasks running: [^\n]*sample_spec.lua:4 %(waiting%), sleeper %(waiting%)", result.out)
  end)

  it("accepts a task that ends by itself or was cancelled", function()
    local result = run [[
      local neap = require "neap"
      it("cancels", function() neap.spawn(neap.sleep, 1e6):cancel() end)
      it("is about to end", function() neap.spawn(neap.sleep, 0) end)]]
    assert.equal("2 passed, 0 failed, 0 skipped", result.last)
  end)

  it("lets the tasks of a setup live until its teardown, not longer", function()
    local result = run [[
      local neap = require "neap"
      local beats = 0
      local function beat() while true do neap.sleep(1) beats = beats + 1 end end
      describe("orderly", function()
        local task
        setup(function() task = neap.spawn(beat) end)
        teardown(function() task:cancel() end)
        it("hears beats", function() neap.sleep(3.5) assert.equal(3, beats) end)
      end)
      describe("disorderly", function()
        setup(function() neap.spawn(beat) end)
        it("passes", function() end)
      end)]]
    assert.equal("2 passed, 1 failed, 0 skipped", result.last)
    assert.matches("this describe left 1 task running", result.out)
  end)

  it("fails a test for what its hooks leave", function()
    local result = run [[
      local neap = require "neap"
      before_each(function() neap.spawn(neap.sleep, 1e6) end)
      it("is blamed", function() end)]]
    assert.equal("0 passed, 1 failed, 0 skipped", result.last)
    assert.matches("the test with its hooks left 1 task running", result.out)
  end)

  it("ends a deadlock with a failure that says who waits where", function()
    local result = run [[
      local neap = require "neap"
      it("deadlocks", function()
        local a
        a = neap.spawn(function() neap.spawn(function() a:await() end):await() end)
        a:await()
      end)
      it("passes", function() neap.sleep(1) end)]]
    assert.equal("1 passed, 1 failed, 0 skipped", result.last)
    assert.matches("deadlock: .*waits for a task at [^\n]*sample_spec.lua:4", result.out)
  end)

  it("cancels a test that takes too long in real time, also in a hook", function()
    local path
    path, folder = child.file("slow_spec.lua", [[
      local neap = require "neap"
      it("hangs #real", function() neap.sleep(60) end)
      describe("hook #real", function()
        before_each(function() neap.sleep(60) end)
        it("never begins", function() end)
      end)
      it("passes", function() neap.sleep(60) end)]])
    local result = child.run({ "test", path }, { env = { NEAP_TEST_TIMEOUT = "0.2" } })
    assert.equal(1, result.code)
    assert.matches("did not end within 0.2 real seconds", result.out)
    assert.matches("\n1 passed, [1-9] failed, 0 skipped\n$", result.out)
  end)

  it("counts a failing hook or a file that cannot be loaded as failed", function()
    assert.equal("0 passed, 1 failed, 0 skipped",
      run('before_each(function() error "hook" end) it("never runs", function() end)').last)
    child.remove(folder)
    local result = run "x = = 1"
    assert.same({ 1, "0 passed, 1 failed, 0 skipped" }, { result.code, result.last })
    child.remove(folder)
    result = run "error 'at load'"
    assert.same({ 1, "0 passed, 1 failed, 0 skipped" }, { result.code, result.last })
  end)

  it("survives a spec that calls os.exit", function()
    local result = run [[
      it("exits", function() os.exit(0) end)
      it("passes", function() end)]]
    assert.same({ 1, "1 passed, 1 failed, 0 skipped" }, { result.code, result.last })
    assert.matches("os.exit was called", result.out)
  end)

  it("fails when no test ran", function()
    local result = run("it('passes', function() end)", "--filter=nothing")
    assert.same({ 1, "0 passed, 0 failed, 0 skipped" }, { result.code, result.last })
    assert.matches("no test ran", result.err)
    assert.equal(1, child.run({ "test", "no/such/folder" }).code)
  end)

  it("passes busted's arguments on", function()
    local text = "it('one #quick', function() end) it('two', function() end)"
    assert.equal("1 passed, 0 failed, 0 skipped", run(text, "-t", "quick").last)
    child.remove(folder)
    assert.matches("ok 1 %- one #quick", run(text, "-o", "TAP").out)
    child.remove(folder)
    local listed = run(text, "--list")
    assert.equal(0, listed.code)
    assert.matches("one #quick\n.*two\n$", listed.out)
  end)

  it("refuses a NEAP_TEST_TIMEOUT that is no number of seconds", function()
    for _, value in ipairs { "abc", "0", "-1" } do
      local result = child.run({ "test", "spec/none_spec.lua" }, { env = { NEAP_TEST_TIMEOUT = value } })
      assert.same({ 2, "" }, { result.code, result.out })
      assert.equal(("neap: NEAP_TEST_TIMEOUT must be seconds above 0, got '%s'\n"):format(value), result.err)
    end
  end)

  it("runs a suite twice with --repeat and counts both", function()
    assert.equal("2 passed, 0 failed, 0 skipped", run('it("passes", function() end)', "--repeat=2").last)
  end)

  it("refuses a --repeat or --seed that is no number of times or no seed", function()
    for argument, wanted in pairs { ["--repeat=0"] = "from 1", ["--repeat=-1"] = "from 1", ["--repeat=x"] = "from 1",
      ["--seed=1.5"] = "from 0 to 2^53" } do
      local result = run('it("passes", function() end)', argument)
      child.remove(folder)
      assert.equal(2, result.code)
      assert.is_truthy(result.err:find("needs a whole number " .. wanted, 1, true), result.err)
    end
    folder = nil
  end)

  it("shows the date of the virtual clock, the same in each run, and the machine's in real time", function()
    local result = run [[
      local neap = require "neap"
      it("is virtual", function()
        local began, clock = os.time(), os.clock()
        neap.sleep(3600)
        assert.equal(3600, os.time() - began)
        assert.near(3600, os.clock() - clock, 1e-6)
        assert.equal("2026-01-01 01:00", os.date("%Y-%m-%d %H:%M"))
        assert.equal(1767225600, os.time { year = 2026, month = 1, day = 1, hour = 0 })
      end)
      it("is real #real", function() assert.is_true(math.abs(os.time() - require("neap.core").time()) <= 1) end)
      it("is virtual again", function() assert.equal("2026-01-01", os.date("%Y-%m-%d", os.time())) end)]]
    assert.matches("3 passed", result.last)
  end)

  it("ends with the signal's exit code when it is interrupted, and counts what has ended", function()
    for signal, code in pairs { sigint = 130, sigterm = 143 } do
      local path
      path, folder = child.file("slow_spec.lua", [[
        local neap = require "neap"
        it("passes", function() end)
        describe("more", function()
          it("hangs #real", function() io.stderr:write "waits" neap.sleep(60) end)
          it("never begins", function() end)
        end)
        it("does not begin either", function() end)]])
      local process = child.start { "test", "-o", "TAP", path }
      process:wait_until(function() return process.err:find("waits", 1, true) end)
      process:kill(signal)
      process:wait()
      assert.equal(code, process.code)
      assert.matches("\n1 passed, 0 failed, 0 skipped\n$", process.out)
      assert.matches("interrupted: the tests that had not ended are not counted", process.err)
      child.remove(folder)
    end
    folder = nil
  end)

  it("refuses an unknown argument as usage", function()
    local result = child.run { "test", "--nonsense" }
    assert.equal(2, result.code)
    assert.matches("^neap test: error: [^\n]*nonsense", result.err)
  end)
end)
