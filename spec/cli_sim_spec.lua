-- SPDX-License-Identifier: MIT
-- How `neap sim` ends: what is said, in which order, and the exit code.
local child = require "spec.support.child"
local tmp = require "spec.support.tmp"
local neap = require "neap"

describe("neap sim #real", function()
  local folder

  before_each(function() folder = tmp.dir() end)
  after_each(function() tmp.remove(folder) end)

  local function script(text)
    local path = folder .. "/script.lua"
    assert(neap.fs.write(path, "local neap = require 'neap'\n" .. text))
    return path
  end

  local function run(text, ...)
    local words = { "sim", ... }
    words[#words + 1] = script(text)
    return child.run(words)
  end

  --- The summary is there, once, and nothing follows it.
  local function summed_up(result)
    assert.equal(1, select(2, result.err:gsub("sim: [^\n]+ virtual in ", "")), result.err)
    assert.matches("sim: read from disk: [^\n]+\n$", result.err)
  end

  it("tells a script's error before the summary, with the script's own frames, and exits with 1", function()
    local result = run "print 'out'\nlocal function f() error 'boom' end\nneap.sleep(2)\nf()"
    assert.same({ 1, "out\n" }, { result.code, result.out })
    local said = result.err:match "^neap: (.-)\nsim: 2 s virtual"
    local path = (folder .. "/script.lua"):gsub("%p", "%%%0")
    assert.matches("^" .. path .. ":3: boom %(kind: internal%)\nstack traceback:\n", said)
    assert.matches("script%.lua:5: in main chunk$", said)
    summed_up(result)
  end)

  it("tells an error that is a table, and one of neap's", function()
    local result = run "error { code = 7 }"
    assert.matches("^neap: { code = 7 } %(kind: internal%)", (result.err:gsub("%s+", " ")))
    result = run "error(neap.error.new { kind = 'limit', message = 'too much' })"
    assert.matches("^neap: too much %(kind: limit%)", result.err)
    summed_up(result)
  end)

  it("tells an error of a background task once, and cancels the script", function()
    local result = run "neap.spawn(function() neap.sleep(1) error 'in the back' end)\nneap.sleep(60) print 'never'"
    assert.same({ 1, "" }, { result.code, result.out })
    assert.equal(1, select(2, result.err:gsub("in the back", "")))
    assert.matches("^neap: [^\n]+script%.lua:2: in the back .-\nsim: 1 s virtual", result.err)
    summed_up(result)
  end)

  it("sums up at os.exit, whose code it is", function()
    local trace = folder .. "/trace"
    local result = run("neap.spawn(function() neap.sleep(60) end)\nneap.sleep(1) print 'out' os.exit(3)", "--trace",
      trace)
    assert.same({ 3, "out\n" }, { result.code, result.out })
    assert.matches("^sim: 1 s virtual", result.err)
    summed_up(result)
    assert.matches("}\n$", assert(neap.fs.read(trace)))
    assert.equal(0, run("os.exit(true)").code)
    result = run "neap.spawn(function() neap.sleep(1) os.exit(false) end)"
    assert.equal(1, result.code)
    summed_up(result)
  end)

  it("sums up after Ctrl-C and SIGTERM, whose codes are 130 and 143", function()
    for signal, code in pairs { sigint = 130, sigterm = 143 } do
      local process = child.start { "sim", script "print 'go' io.stdout:flush() while true do neap.sleep(1) end" }
      process:wait_for "go"
      process:kill(signal)
      local result = process:wait()
      assert.equal(code, result.code)
      assert.matches("^sim: ", result.err)
      summed_up(result)
    end
  end)

  it("sums up once where the script asks for an exit while it is cancelled", function()
    local process = child.start { "sim", script [[
      print 'go' io.stdout:flush()
      pcall(function() while true do neap.sleep(1) end end)
      os.exit(7)]] }
    process:wait_for "go"
    process:kill "sigint"
    local result = process:wait()
    assert.equal(7, result.code)
    summed_up(result)
  end)

  it("ends a script that only serves with one line", function()
    local result = run "assert(neap.serve { port = 8080, handler = function() return 200 end })"
    assert.equal(1, result.code)
    assert.matches("^neap: nobody is left to ask the script, which still serves on port 8080; server:stop%(%) ends a "
      .. "server\nsim: ", result.err)
    summed_up(result)
    result = run [[
      local function handler() return 200, "ok" end
      local first = assert(neap.serve { port = 8082, handler = handler })
      assert(neap.serve { port = 8081, handler = handler })
      neap.spawn(function() first:wait() end)
      print(neap.http.client({}):get("http://localhost:8081/").status)]]
    assert.same({ 1, "200\n" }, { result.code, result.out })
    assert.matches("^neap: nobody is left to ask the script, which still serves on ports 8081, 8082; ", result.err)
  end)

  it("sums up the worlds that the script puts up itself, and connections that were not made", function()
    local result = run [[
      local network = require "neap.sim.network"
      local client = neap.http.client {}
      for i = 1, 2 do
        network.up(neap.world.new { { host = "a.test" }, { host = "r.test", connect = { refuse = 1 } } }, 1)
        client:get "http://a.test/"
        client:get "http://r.test/"
        network.down()
      end]]
    assert.equal(0, result.code)
    assert.matches("sim: 2 requests %(2 x 200%), 0 x 429, 2 connections not made, amplification 1 ", result.err)
    assert.matches("sim: simulated: a world of the script: a.test %(2%), r.test %(0, 2 not connected%)\n", result.err)
    summed_up(result)
  end)

  it("does not say that nobody asked where a host was asked that nobody serves", function()
    local path = folder .. "/world.lua"
    assert(neap.fs.write(path, "upstream { host = 'a.test' }"))
    local result = run("neap.http.client({}):get 'http://b.test/'", "--world", path)
    assert.matches("none of whose hosts was asked\n", result.err)
  end)

  it("lists who waits where something else waits, too", function()
    local result = run [[
      assert(neap.serve { port = 8080, handler = function() return 200 end })
      neap.event():wait()]]
    assert.equal(1, result.code)
    assert.matches("^neap: deadlock: nothing can wake the waiting tasks:\n", result.err)
    assert.matches("task server on port 8080 waits for event", result.err)
    assert.matches("task [^\n]+script%.lua waits for event at [^\n]+script%.lua:3", result.err)
    summed_up(result)
  end)

  it("says that a trace is not complete, and sums up", function()
    if not neap.uv.fs_stat "/dev/full" then return end
    local result = run("error 'boom'", "--trace", "/dev/full")
    assert.equal(1, result.code)
    assert.matches("^neap: [^\n]+boom", result.err)
    assert.matches("sim: read from disk", result.err)
  end)
end)
