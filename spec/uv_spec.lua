-- SPDX-License-Identifier: MIT
local child = require "spec.support.child"
local neap = require "neap"
local uv = require "neap.uv"

local await = require "neap.await"

--- Runs a program with its standard output collected: output, code, signal.
local function run(path, args, on_start)
  local out = uv.new_pipe(false)
  local chunks, done = {}, neap.event()
  local code, signal = nil, nil
  local handle
  handle = uv.spawn(path, { args = args, stdio = { nil, out, nil } }, function(c, s)
    code, signal = c, s
    handle:close()
    done:set()
  end)
  assert.truthy(handle)
  if on_start then on_start(handle) end
  await(function(resume)
    out:read_start(function(err, data)
      if data then chunks[#chunks + 1] = data else resume(err) end
    end)
  end)
  out:close()
  done:wait()
  return table.concat(chunks), code, signal
end

describe("neap.uv", function()
  it("is the luv that other libraries get", function()
    assert.equal(uv, neap.uv)
    assert.equal(uv, require "luv")
  end)

  it("refuses to run, stop, walk or close the loop", function()
    for _, name in ipairs { "run", "stop", "walk", "loop_close" } do
      local ok, message = pcall(uv[name])
      assert.is_false(ok)
      assert.truthy(message:find("neap.uv." .. name .. " cannot be used here", 1, true))
    end
  end)

  it("lets no callback of a file be overtaken by virtual time", function()
    local before = neap.now()
    local sleeper = neap.spawn(neap.sleep, 3600)
    for _ = 1, 20 do assert.is_nil((await(function(resume) uv.fs_stat("/", resume) end))) end
    assert.equal(before, neap.now())
    sleeper:cancel()
  end)
end)

describe("neap.uv #real", function()
  it("runs processes", function()
    local out, code, signal = run("/bin/sh", { "-c", "echo out; exit 7" })
    assert.equal("out\n", out)
    assert.equal(7, code)
    assert.equal(0, signal)
  end)

  it("ends a process with a signal", function()
    local _, code, signal = run("/bin/sleep", { "60" }, function(handle) handle:kill "sigterm" end)
    assert.equal(0, code)
    assert.equal(15, signal)
  end)

  it("says why a process cannot start", function()
    local handle, message = uv.spawn("/no/such/program", {}, function() end)
    assert.is_nil(handle)
    assert.truthy(message:find "^ENOENT")
  end)

  it("goes on with other tasks while a process runs", function()
    local ticks, stop = 0, false
    neap.spawn(function()
      while not stop do
        neap.sleep(0.01)
        ticks = ticks + 1
      end
    end)
    run("/bin/sleep", { "0.2" })
    stop = true
    assert.is_true(ticks >= 5, ticks .. " ticks")
  end)

  it("talks over sockets", function()
    local server = uv.new_tcp()
    assert(server:bind("127.0.0.1", 0))
    assert(server:listen(8, function()
      local peer = uv.new_tcp()
      server:accept(peer)
      peer:read_start(function(_, data)
        if not data then return peer:close() end
        -- A callback may start tasks, which may wait.
        neap.spawn(function()
          neap.sleep(0.001)
          peer:write("echo " .. data)
        end)
      end)
    end))
    local client = uv.new_tcp()
    assert.is_nil((await(function(resume)
      client:connect("127.0.0.1", server:getsockname().port, resume)
    end)))
    local err, data = await(function(resume)
      client:read_start(resume)
      client:write "hello"
    end)
    assert.is_nil(err)
    assert.equal("echo hello", data)
    client:close()
    server:close()
  end)

  it("delivers signals", function()
    local handle = uv.new_signal()
    local name = await(function(resume)
      handle:start("sigusr2", resume)
      uv.kill(uv.os_getpid(), "sigusr2")
    end)
    handle:close()
    assert.equal("sigusr2", name)
  end)

  it("leaves no descriptor behind", function()
    local function descriptors() return #assert(neap.fs.list "/proc/self/fd") end
    run("/bin/true", {})
    local before = descriptors()
    for _ = 1, 20 do run("/bin/true", {}) end
    assert.equal(before, descriptors())
  end)
end)

describe("a program with luv #real", function()
  --- Runs a script in a process of its own: exit code, standard output, error.
  local function script(text)
    local process = child.run { "-e", text }
    return process.code, process.out, process.err
  end

  it("ends with exit code 1 and the traceback when a callback raises", function()
    local code, out, err = script [[
      neap.spawn(function()
        local ok, e = pcall(neap.sleep, 60)
        print(ok, e.kind)
      end)
      neap.uv.new_timer():start(1, 0, function() error("from the callback") end)
      neap.sleep(60)
    ]]
    assert.equal(1, code)
    assert.equal("false\tcancelled\n", out)
    assert.truthy(err:find("from the callback", 1, true), err)
    assert.truthy(err:find("in a luv callback", 1, true), err)
  end)

  it("keeps the kind of an error table that a callback raises", function()
    local code, _, err = script [[
      local errors = require "neap.error"
      neap.uv.new_timer():start(1, 0, function()
        error(errors.new { kind = "limit", message = "too much" })
      end)
      neap.sleep(60)
    ]]
    assert.equal(1, code)
    assert.truthy(err:find("too much (kind: limit)", 1, true), err)
  end)

  it("says that a callback cannot wait", function()
    local code, _, err = script [[
      neap.uv.new_timer():start(1, 0, function() neap.sleep(1) end)
      neap.sleep(60)
    ]]
    assert.equal(1, code)
    assert.truthy(err:find("cannot wait here: no task is running", 1, true), err)
  end)

  it("ends with its tasks, whatever handles are open", function()
    local code, out, err = script [[
      local uv = neap.uv
      uv.new_timer():start(0, 1, function() end)
      local server = uv.new_tcp()
      server:bind("127.0.0.1", 0)
      server:listen(1, function() end)
      uv.new_tcp():connect("127.0.0.1", server:getsockname().port, function() end)
      uv.new_fs_poll():start("/", 10, function() end)
      uv.new_fs_event():start("/", {}, function() end)
      uv.new_signal():start("sigusr1", function() end)
      local closing = uv.new_timer()
      closing:close(function() end)
      uv.fs_stat("/", function() print "not called: the program is over" end)
      print "end"
    ]]
    assert.equal("", err)
    assert.equal("end\n", out)
    assert.equal(0, code)
  end)

  it("waits for a handle although nothing else happens, and no longer than it lives", function()
    local code, out, err = script [[
      local timer = neap.uv.new_timer()
      print(neap.await(function(resume)
        timer:start(20, 0, function() resume("fired") end)
      end))
      timer:close()
      neap.await(function() end)
    ]]
    assert.equal("fired\n", out)
    assert.equal(1, code)
    assert.truthy(err:find("deadlock", 1, true), err)
  end)
end)
