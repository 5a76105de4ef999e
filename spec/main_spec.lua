-- What runtime/main.c does around the scripts: standard files, signals, clocks.
local child = require "spec.support.child"
local core = require "neap.core"

--- Runs this neap through a shell that redirects; "$NEAP" is the program.
local function shell(command)
  local running = child.start_program("/bin/sh", { "-c", command }, {
    env = { NEAP = core.host.exe_path() },
  })
  return running:wait()
end

describe("the program #real", function()
  for _, closed in ipairs { "<&-", ">&-", "2>&-", "<&- >&- 2>&-" } do
    it("starts and ends without standard files (" .. closed .. ")", function()
      local result = shell('"$NEAP" -e "neap.sleep(0.01)" ' .. closed)
      assert.same({ 0, 0, "" }, { result.code, result.signal, result.err })
    end)
  end

  it("says so and fails when standard output cannot be written, or is not there", function()
    for _, output in ipairs { "> /dev/full", ">&-" } do
      local result = shell('"$NEAP" -e "print(1)" ' .. output)
      assert.equal(1, result.code)
      assert.matches("^neap: cannot write[^\n]*standard output", result.err)
    end
  end)

  for signal, code in pairs { sigint = 130, sigterm = 143, sighup = 129 } do
    it("cancels its tasks at " .. signal .. " and ends with " .. code, function()
      local running = child.start { "-e", [[
        io.stdout:setvbuf "no"
        print "ready"
        local ok, err = pcall(neap.sleep, 60)
        print(ok, err.kind)]] }
      running:wait_for "ready"
      running:kill(signal)
      local result = running:wait()
      assert.equal(code, result.code)
      assert.equal("ready\nfalse\tcancelled\n", result.out)
    end)
  end

  it("begins simulated time at the same instant every time", function()
    local path, folder = child.file("now.lua", "local neap = require 'neap' print(neap.now(), neap.time())")
    local first, second = child.run { "sim", path }, child.run { "sim", path }
    child.remove(folder)
    assert.equal("0\t1767225600\n", first.out)
    assert.equal(first.out, second.out)
  end)

  it("reports hogs beyond NEAP_HOG_MS, none with 0", function()
    local busy = "local t = os.clock() while os.clock() - t < 0.03 do end neap.sleep(0)"
    local quiet = child.run({ "-e", busy }, { env = { NEAP_HOG_MS = "0" } })
    local told = child.run({ "-e", busy }, { env = { NEAP_HOG_MS = "5" } })
    assert.same({ 0, "" }, { quiet.code, quiet.err })
    assert.matches("^neap: warning: a task held the loop for %d+ ms", told.err)
  end)

  it("says that NEAP_LUA_PATH has no modules, and goes on with its own", function()
    local result = child.run({ "-e", "print(1)" }, { env = { NEAP_LUA_PATH = "/nowhere" } })
    assert.same({ 0, "1\n" }, { result.code, result.out })
    assert.matches("^neap: NEAP_LUA_PATH: there is no neap/init.lua in '/nowhere'", result.err)
  end)

  it("shows what a raised plain table holds", function()
    assert.matches("^neap: hello ", child.run({ "-e", "error { message = 'hello' }" }).err)
    assert.matches("code = 7", child.run({ "-e", "error { code = 7 }" }).err)
  end)

  it("names the place of a deadlock in code from the command line", function()
    local result = child.run { "-e", "neap.queue {}:get()" }
    assert.equal(1, result.code)
    assert.matches("deadlock: .* at %(command line%):1", result.err)
  end)
end)
