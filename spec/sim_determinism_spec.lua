-- SPDX-License-Identifier: MIT
local core = require "neap.core"
local determinism = require "neap.sim.determinism"
local neap = require "neap"
local sorted = require "neap.sorted"
local tmp = require "spec.support.tmp"

--- Runs `code` with the globals of a simulation; its results.
local function simulate(code, ...)
  local env = determinism.install()
  local chunk = assert(loadstring(code, "@script.lua"))
  setfenv(chunk, env)
  local results = { pcall(chunk, ...) }
  determinism.uninstall()
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2, table.maxn(results))
end

--- The message of the error that `code` raises.
local function failure(code, ...)
  local ok, message = pcall(simulate, code, ...)
  assert.is_false(ok)
  return tostring(message)
end

describe("the globals of a simulated script", function()
  after_each(function() determinism.uninstall() end)

  describe("pairs and next", function()
    it("go over numbers by size, then strings by their bytes, then booleans", function()
      local order = { -1.5, 1, 2, 3, 1e9, "", "10", "9", "Z", "a", "ab", "\xff", false, true }
      local t = {}
      for i = #order, 1, -1 do t[order[i]] = i end
      for _, loop in ipairs { "for k, v in pairs(t)", "for k, v in next, t" } do
        local seen = simulate("local t = ... local seen = {} " .. loop
          .. " do seen[#seen + 1] = k assert(t[k] == v) end return seen", t)
        assert.same(order, seen)
      end
    end)

    it("take what is assigned and removed on the way", function()
      for _, loop in ipairs { "pairs(t)", "next, t" } do
        local seen, left = simulate(([[
          local t, seen = { a = 1, b = 2, c = 3, d = 4, [1] = 0 }, ""
          for k, v in %s do
            seen = seen .. k .. v
            t[k] = nil
            if k == "a" then t.b, t.c = nil, 30 end
          end
          return seen, next(t)]]):format(loop))
        assert.equal("10a1c30d4", seen)
        assert.is_nil(left)
      end
    end)

    it("work nested over the same table, and after a break", function()
      assert.equal("aa ab ac ba bb bc ca cb cc a", simulate [[
        local t, out = { a = 1, b = 2, c = 3 }, {}
        for i in next, t do for j in next, t do out[#out + 1] = i .. j end end
        for k in next, t do out[#out + 1] = k break end
        return table.concat(out, " ")]])
    end)

    it("are as a model says, whatever is done on the way", function()
      local random = core.rng(7, 0)
      local function draw(n) return math.floor(random:double() * n) + 1 end
      local step = simulate "return function(t, k) return next(t, k) end"
      for _ = 1, 400 do
        local t = {}
        for _ = 1, draw(12) do t[draw(2) == 1 and draw(20) or "k" .. draw(20)] = draw(9) end
        local key, steps = step(t), 0
        while key ~= nil and steps < 100 do
          steps = steps + 1
          if draw(3) == 1 then t[key] = nil end
          if draw(4) == 1 then step(t, next(t) and sorted.keys(t)[1]) end -- another traversal begins
          local wanted
          for other in pairs(t) do
            if sorted.before(key, other) and (wanted == nil or sorted.before(other, wanted)) then wanted = other end
          end
          key = step(t, key)
          assert.equal(wanted, key)
        end
      end
    end)

    it("raise over keys without an order, with the line and what to use", function()
      local wanted = "^script%.lua:2: pairs over a table with a table as key: .*neap%.sorted_pairs$"
      assert.matches(wanted, failure "local t = { [{}] = 1 }\nfor k in pairs(t) do end")
      for name, key in pairs { ["function"] = print, thread = coroutine.create(print), userdata = neap.json.null } do
        assert.matches(("^script%%.lua:1: next over a table with a %s as key"):format(name),
          failure("local key = ... for k in next, { a = 1, [key] = 2 } do end", key))
      end
    end)

    it("refuse what is no table as Lua does", function()
      assert.matches("^script%.lua:1: bad argument #1 to 'pairs' %(table expected, got string%)", failure "pairs 'x'")
      assert.matches("bad argument #1 to 'next' %(table expected", failure "next(nil)")
    end)

    it("ignore metatables, and leave raw what neap itself goes over", function()
      local t = setmetatable({ b = 1, a = 2 }, { __index = function() error "no" end })
      assert.equal("ab", simulate("local s = '' for k in pairs(...) do s = s .. k end return s", t))
      assert.are_not.equal(simulate "return pairs", pairs)
      assert.equal("2", simulate "local neap = require 'neap' return neap.json.encode(#neap.map({1, 2}, tostring))")
    end)

    it("table.foreach goes in order too", function()
      assert.equal("1ab", simulate [[
        local s = ""
        table.foreach({ b = 1, a = 2, [1] = 3 }, function(k) s = s .. k end)
        return s]])
    end)
  end)

  describe("neap.sorted_pairs", function()
    it("goes in order outside of simulations as well", function()
      local seen = {}
      for key, value in sorted.pairs { b = 1, a = 2, [3] = 3, [1] = 4 } do seen[#seen + 1] = key .. "=" .. value end
      assert.same({ "1=4", "3=3", "a=2", "b=1" }, seen)
    end)

    it("orders other keys by what the caller says", function()
      local one, two = { id = 1 }, { id = 2 }
      local seen = {}
      for key in sorted.pairs({ [two] = true, [one] = true }, function(a, b) return a.id < b.id end) do
        seen[#seen + 1] = key.id
      end
      assert.same({ 1, 2 }, seen)
    end)

    it("refuses keys without an order, and a comparison that leaves two alike", function()
      local function message(...)
        local _, text = pcall(function(...)
          local iterator = sorted.pairs(...)
          return iterator
        end, ...)
        return text
      end
      assert.matches("sim_determinism_spec%.lua:%d+: neap%.sorted_pairs: a table as key has no order of its own",
        message { [{}] = 1 })
      assert.matches("sim_determinism_spec%.lua:%d+: neap%.sorted_pairs: the comparison does not tell two keys apart",
        message({ [{}] = 1, [{}] = 2 }, function() return false end))
      assert.error_matches(function() sorted.pairs(3) end, "expected a table, got number")
      assert.error_matches(function() sorted.pairs({}, 3) end, "the comparison must be a function, got number")
    end)
  end)

  describe("texts", function()
    it("number tables, functions, threads and userdata as they are first shown", function()
      assert.equal("table: 0x00000001 function: 0x00000002 thread: 0x00000003 table: 0x00000001 userdata: 0x00000004",
        simulate [[
          local t = {}
          return table.concat({ tostring(t), tostring(function() end), tostring(coroutine.create(print)), tostring(t),
            tostring(newproxy()) }, " ")]])
    end)

    it("are the same from string.format, as a method too", function()
      assert.equal("table: 0x00000001 [ table: 0x00000001] 0x00000001 %d 07 x", simulate [[
        local t = {}
        return ("%s [%18s] %p %%d %02d %s"):format(t, t, t, 7, "x")]]:gsub("%[ ", "[ "))
      assert.equal("0x00000001 a a a a", simulate [[return string.format("%p %s %s %s %s", {}, "a", "a", "a", "a")]])
    end)

    it("leave __tostring, numbers and strings as they are", function()
      assert.equal("mine 0.1 nil x 12LL", simulate [[
        local t = setmetatable({}, { __tostring = function() return "mine" end })
        return table.concat({ tostring(t), tostring(0.1), tostring(nil), tostring "x", tostring(12LL) }, " ")]])
      assert.matches("bad argument #1 to", failure "tostring()")
      assert.matches("bad argument #2 to", failure "string.format('%d', 'x')")
    end)

    it("hide the address of an open file and of C functions in tracebacks", function()
      assert.equal("file (0x00000001)", simulate "return tostring(io.stdout)")
      assert.is_nil(simulate("return debug.traceback()"):find "0x")
      assert.matches("^here\nstack traceback:\n\tscript%.lua:1: in",
        simulate "local s = debug.traceback('here') return s")
    end)
  end)

  describe("time and chance", function()
    it("os.time, os.clock, os.date and neap.uv follow the simulated clock, in UTC", function()
      core.clock_virtual(true, 1767225600)
      local t, c, d, h, s = simulate [[
        local neap = require "neap"
        local t, c, h = os.time(), os.clock(), neap.uv.hrtime()
        neap.sleep(90)
        return os.time() - t, os.clock() - c, os.date("%H:%M:%S"), neap.uv.hrtime() - h, (neap.uv.gettimeofday())]]
      assert.same({ 90, 90, "00:01:30", 90e9, 1767225690 }, { t, c, d, h, s })
    end)

    it("os.time of a date counts days as the calendar does", function()
      local at = simulate "return os.time"
      for _ = 1, 300 do
        local seconds = math.floor(core.random() * 8e9) - 1e9
        local date = os.date("!*t", seconds)
        assert.equal(seconds, at(date))
      end
      assert.equal(at { year = 2026, month = 1, day = 32, hour = 0 }, at { year = 2025, month = 14, day = 1, hour = 0 })
      assert.equal(43200, at { year = 1970, month = 1, day = 1 })
      assert.error_matches(function() at { year = 2026 } end, "field 'month' missing in date table")
    end)

    it("math.random is of the run's seed, also after math.randomseed(os.time())", function()
      local code = "math.randomseed(5) return math.random(1e9)"
      core.reseed(1)
      local first, again = simulate(code), simulate(code)
      core.reseed(2)
      assert.equal(first, again)
      assert.are_not.equal(first, simulate(code))
    end)

    it("neap.uv.random draws from the run's seed", function()
      local code = "return require('neap').uv.random(8)"
      assert.equal(simulate(code), simulate(code))
      assert.equal(8, #simulate(code))
    end)
  end)

  describe("what is not available", function()
    it("raises with what to use instead", function()
      for code, instead in pairs {
        ["require 'ffi'"] = "ffi is not available in simulation: use plain Lua",
        ["io.popen 'ls'"] = "io.popen is not available in simulation: .*neap%.fs%.read",
        ["os.execute 'ls'"] = "os.execute is not available in simulation: .*neap%.fs%.read",
        ["require('neap').uv.new_timer()"] = "neap.uv.new_timer is not available in simulation: use neap%.sleep",
        ["require('neap.uv').new_tcp()"] = "neap.uv.new_tcp is not available in simulation: use neap%.http%.client",
        ["require('luv').spawn('ls')"] = "neap.uv.spawn is not available in simulation: .*neap%.fs%.read",
        ["package.loaded.luv.queue_work()"] = "neap.uv.queue_work is not available in simulation: use neap%.spawn",
        ["require('neap').uv.getaddrinfo 'x'"] = "neap.uv.getaddrinfo is not available in simulation: use neap%.http",
        ["require 'socket'"] = "socket is not available in simulation: use neap%.http%.client",
      } do
        assert.matches("^script%.lua:1: " .. instead, failure(code))
      end
      assert.is_nil(simulate "return package.loaded.ffi")
      assert.matches("ffi is not available in simulation", failure "package.preload.ffi()")
      assert.matches("ffi is not available in simulation", failure "package.loaders[1]('ffi')()")
      assert.is_truthy(require "ffi")
    end)

    it("leaves files, and neap's own use of what is refused", function()
      local folder = tmp.dir()
      local file = folder .. "/data"
      assert(neap.fs.write(file, "text"))
      assert.equal("text text text", simulate([[
        local path, neap = ..., require "neap"
        local file = assert(io.open(path, "rb"))
        local text = file:read "*a"
        file:close()
        return table.concat({ text, assert(neap.fs.read(path)), neap.uv.fs_stat(path) and "text" }, " ")]], file))
      tmp.remove(folder)
    end)
  end)

  describe("json.encode", function()
    it("tells the first fault by name, wherever it is found first", function()
      for _ = 1, 5 do
        local value = {}
        for _, name in ipairs { "d", "b", "e", "c" } do value[name] = "\255" end
        value.z, value.a = 0 / 0, { y = print, x = { [3] = "\254" }, w = "fine" }
        local _, err = simulate("return require('neap').json.encode(...)", value)
        assert.matches("not valid UTF%-8 at %.a%.x%[3%]$", err.message)
        value.a = nil
        assert.matches("at %.b$", select(2, neap.json.encode(value, { sort_keys = true })).message)
        value[10] = print
        assert.matches("a function at %[10%]$", select(2, neap.json.encode(value, { sort_keys = true })).message)
      end
    end)

    it("sorts the members of objects in a simulation, and with sort_keys anywhere", function()
      local value = { z = 1, a = { y = neap.json.null, b = { 3, 2, 1 } }, [10] = 1, [9] = 2, ["1"] = 3 }
      local text = '{"1":3,"10":1,"9":2,"a":{"b":[3,2,1],"y":null},"z":1}'
      assert.equal(text, neap.json.encode(value, { sort_keys = true }))
      assert.equal(text, simulate("return require('neap').json.encode(...)", value))
    end)

    it("says otherwise what it says unsorted", function()
      local json = neap.json
      local values = { "", "a/\"\\\b\f\n\r\t\1\127é", 0, -0.0, 1, 0.1, 1 / 3, 1e100, 1e20, 2 ^ 53, 12345678901234,
        123456789012345, true, false, json.null, json.empty_array, json.array {}, {}, { 1, nil, 3 }, { {} },
        { [4] = 1 }, { [1.5] = 1 }, { ["é"] = { a = { 1, { b = 2 } } } } }
      for _, value in ipairs(values) do
        assert.equal(json.encode(value), json.encode(value, { sort_keys = true }))
      end
    end)

    it("gives equal texts for equal values, and what decodes to them", function()
      local random = core.rng(3, 0)
      local function draw(n) return math.floor(random:double() * n) + 1 end
      local function make(depth)
        local kind = draw(depth > 3 and 3 or 5)
        if kind == 1 then return draw(1e6) / 8 end
        if kind == 2 then return ("x"):rep(draw(5)) .. draw(9) end
        if kind == 3 then return draw(2) == 1 end
        local t = {}
        for i = 1, draw(6) do t[kind == 4 and i or "k" .. draw(99)] = make(depth + 1) end
        return t
      end
      local function shuffled(value)
        if type(value) ~= "table" then return value end
        local keys, copy = {}, {}
        for key in pairs(value) do table.insert(keys, draw(#keys + 1), key) end
        for _, key in ipairs(keys) do copy[key] = shuffled(value[key]) end
        return copy
      end
      for _ = 1, 300 do
        local value = make(1)
        local text = assert(neap.json.encode(value, { sort_keys = true }))
        assert.equal(text, neap.json.encode(shuffled(value), { sort_keys = true }))
        assert.same(value, neap.json.decode(text))
      end
    end)

    it("refuses what it refuses unsorted, and unknown options", function()
      local within = {}
      within[1] = within
      for _, value in ipairs { { print }, { 0 / 0 }, { "\xff" }, { [1000] = 1 }, within } do
        local _, plain = neap.json.encode(value)
        local text, err = neap.json.encode(value, { sort_keys = true })
        assert.is_nil(text)
        assert.equal(plain.message, err.message)
      end
      assert.error_matches(function() neap.json.encode({}, { sort = true }) end,
        "^neap%.json%.encode: option 'sort' is unknown; there is 'sort_keys'")
      assert.error_matches(function() neap.json.encode({}, { sort_keys = 1 }) end, "'sort_keys' must be a boolean")
      assert.error_matches(function() neap.json.encode({}, 1) end, "a table of options expected, got number")
    end)
  end)

  it("are gone after uninstall, and are not installed twice", function()
    local before = { tostring, string.format, getfenv(0), neap.uv }
    determinism.install()
    assert.error_matches(determinism.install, "installed already")
    assert.is_true(determinism.is_installed())
    determinism.uninstall()
    assert.is_false(determinism.is_installed())
    assert.same(before, { tostring, string.format, getfenv(0), neap.uv })
    assert.matches("^table: 0x%x%x%x%x%x%x%x%x%x", tostring {})
  end)

  it("are those of the tasks that the script spawns, and of what it loads", function()
    assert.equal("ab ab", simulate [[
      local neap = require "neap"
      local code = "local s = '' for k in pairs { b = 1, a = 2 } do s = s .. k end return s"
      local task = neap.spawn(function() return loadstring(code)() end)
      return task:await() .. " " .. loadstring(code)()]])
  end)
end)

describe("thread-pool work on a virtual clock", function()
  it("is done in the order submitted, at the instant it was asked for, whatever it takes", function()
    local folder = tmp.dir()
    local order, began = {}, neap.now()
    for i = 1, 50 do assert(neap.fs.write(folder .. "/" .. i, ("x"):rep(i % 7 == 1 and 3e6 or i))) end
    neap.scope(function(s)
      for i = 1, 50 do
        s:spawn(function()
          local path = folder .. "/" .. i
          if i % 2 == 0 then assert(neap.fs.read(path)) else assert(neap.fs.stat(path)) end
          order[#order + 1] = i
          assert.equal(began, neap.now())
        end)
      end
      -- What runs meanwhile has its place too: all of them come in the round after they were begun.
      s:spawn(function()
        neap.sleep(0)
        assert.equal(0, #order)
        neap.sleep(0)
        order[#order + 1] = "meanwhile"
      end)
    end)
    local wanted = {}
    for i = 1, 50 do wanted[i] = i end
    wanted[51] = "meanwhile"
    assert.same(wanted, order)
    tmp.remove(folder)
  end)

  it("calls a luv callback later, in order, with what it would have got", function()
    local uv, seen, done = neap.uv, {}, neap.event()
    uv.fs_stat("/", function(err, stat) seen[#seen + 1] = { "stat", err, stat.type } end)
    uv.fs_stat("/nowhere/at all", function(...) seen[#seen + 1] = { "none", select("#", ...), (...) } end)
    uv.fs_access("/", "R", function(...) seen[#seen + 1] = { "access", ... } end)
    uv.fs_open("/dev/null", "r", 0, function(err, fd)
      seen[#seen + 1] = { "open", err, type(fd) }
      uv.fs_close(fd, function(...)
        seen[#seen + 1] = { "close", ... }
        done:set()
      end)
    end)
    assert.same({}, seen)
    done:wait()
    assert.same({ { "stat", nil, "directory" }, { "none", 1, "ENOENT: no such file or directory: /nowhere/at all" },
      { "access", nil, true }, { "open", nil, "number" }, { "close", nil, true } }, seen)
  end)
end)
