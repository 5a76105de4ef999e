-- SPDX-License-Identifier: MIT
local child = require "spec.support.child"
local core = require "neap.core"
local fs = require "neap.fs"
local neap = require "neap"
local record = require "neap.cache.record"
local responses = require "neap.http.response"
local files = require "spec.support.cache_file"
local tmp = require "spec.support.tmp"

local bytes_of, open, reopen = files.bytes_of, files.open, files.reopen
local folder, path

--- Puts other bytes at `place` (from 1).
local function damage(place, bytes)
  local text = bytes_of()
  tmp.write(path, text:sub(1, place - 1) .. bytes .. text:sub(place + #bytes))
end

describe("a cache file", function()
  before_each(function() path, folder = files.start() end)
  after_each(files.finish)

  it("keeps strings, numbers, tables and responses, also when it is opened again", function()
    local store = open()
    local bytes = {}
    for i = 0, 255 do bytes[#bytes + 1] = string.char(i) end
    local all = table.concat(bytes):rep(3)
    assert.is_true(store:put("bytes", all))
    assert.is_true(store:put("empty", ""))
    assert.is_true(store:put("number", 0.1))
    assert.is_true(store:put("false", false))
    assert.is_true(store:put("table", { b = { 1, 2 }, a = "x", null = neap.json.null }))
    assert.is_true(store:put("response", responses.of {
      status = 200, body = all, version = "2", url = "http://h/", flat = { "etag", '"1"', "x", "\255\10: " },
    }))
    for _ = 1, 2 do
      assert.equal(all, store:get "bytes")
      assert.equal("", store:get "empty")
      assert.equal(0.1, store:get "number")
      assert.is_false(store:get "false")
      assert.same({ b = { 1, 2 }, a = "x", null = neap.json.null }, store:get "table")
      local res = store:get "response"
      assert.equal(200, res.status)
      assert.equal(all, res.body)
      assert.equal("2", res.version)
      assert.equal('"1"', res.headers.ETag)
      assert.equal("\255\10: ", res.headers.x)
      assert.is_nil(store:get "none")
      store = reopen(store)
    end
  end)

  it("writes equal tables as equal bytes", function()
    local a, b = {}, {}
    for i = 1, 50 do a["k" .. i] = { x = i, y = i, z = i } end
    for i = 50, 1, -1 do b["k" .. i] = { z = i, y = i, x = i } end
    core.reseed(1)
    local store = open()
    store:put("k", a)
    store:close()
    local first = bytes_of()
    assert(fs.remove(path))
    core.reseed(1)
    store = open()
    store:put("k", b)
    store:close()
    assert.equal(first:sub(-1000), bytes_of():sub(-1000))
  end)

  it("refuses what it cannot keep", function()
    local store = open { max_bytes = 1000 }
    local _, err = store:put("f", print)
    assert.equal("invalid", err.kind)
    _, err = store:put("f", { x = function() end })
    assert.equal("invalid", err.kind)
    _, err = store:put("o", setmetatable({}, { __index = {} }))
    assert.equal("invalid", err.kind)
    _, err = store:put("big", ("x"):rep(1000))
    assert.equal("too_large", err.kind)
    assert.has_error(function() store:put("x", nil) end)
    assert.has_error(function() store:put(1, "x") end)
    assert.has_error(function() store:put("x", "y", -1) end)
    assert.equal(0, store:snapshot().entries)
  end)

  it("forgets an entry when its time is over, whenever it is opened", function()
    local store = open()
    store:put("short", "a", 10)
    store:put("long", "b", 100)
    store:put("ever", "c")
    neap.sleep(9.9)
    assert.equal("a", store:get "short")
    neap.sleep(0.2)
    assert.is_nil(store:get "short")
    store = reopen(store)
    assert.is_nil(store:get "short")
    assert.equal("b", store:get "long")
    neap.sleep(1e4)
    store = reopen(store)
    assert.is_nil(store:get "long")
    assert.equal("c", store:get "ever")
    assert.equal(1, store:snapshot().entries)
  end)

  it("has the last value of a key, and none after a deletion, also when opened again", function()
    local store = open()
    store:put("a", "1")
    store:put("a", "2")
    store:put("b", "1")
    store:put("c", "1")
    store:delete "b"
    store:delete "never there"
    for _ = 1, 2 do
      assert.equal("2", store:get "a")
      assert.is_nil(store:get "b")
      assert.equal("1", store:get "c")
      store = reopen(store)
    end
    store:clear()
    assert.is_nil(store:get "a")
    store:put("d", "1")
    store = reopen(store)
    assert.is_nil(store:get "c")
    assert.equal("1", store:get "d")
  end)

  it("is appended to, not rewritten", function()
    local store = open()
    store:put("a", "1")
    local before = bytes_of()
    store:put("a", "2")
    store:delete "a"
    assert.equal(before, bytes_of():sub(1, #before))
  end)

  it("writes what comes at a time in one go, in order", function()
    local store = open()
    local tasks = {}
    for i = 1, 200 do tasks[i] = neap.spawn(store.put, store, "k" .. i % 20, "v" .. i) end
    neap.sleep(0)
    assert.equal("v200", store:get "k0") -- written or not
    for _, task in ipairs(tasks) do assert.is_true(task:await()) end
    store = reopen(store)
    for i = 181, 200 do assert.equal("v" .. i, store:get("k" .. i % 20)) end
    assert.equal(20, store:snapshot().entries)
  end)

  it("lets the least recently used go beyond its caps", function()
    local store = open { max_entries = 3 }
    for i = 1, 3 do store:put("k" .. i, "v") end
    store:get "k1"
    store:put("k4", "v")
    assert.is_nil(store:get "k2")
    assert.equal("v", store:get "k1")
    assert.equal(1, store:snapshot().evictions)
    store = reopen(store, { max_bytes = 2 * (record.HEAD_BYTES + 3) })
    assert.equal(2, store:snapshot().entries)
    assert.equal("v", store:get "k4")
  end)

  it("does not bring back what was deleted after it had made room", function()
    local store = open { max_entries = 1 }
    store:put("a", "1")
    store:put("b", "1")
    store:delete "a"
    store = reopen(store, { max_entries = 10 })
    assert.is_nil(store:get "a")
    assert.equal("1", store:get "b")
  end)

  it("is for one program at a time", function()
    local store = open()
    local second, err = neap.cache.file(path)
    assert.is_nil(second)
    assert.equal("invalid", err.kind)
    assert.equal("EBUSY", err.code)
    assert.matches("in use", err.message)
    store:close()
    assert(open():put("a", "1"))
  end)

  it("leaves a file alone that is none of its own", function()
    for _, text in ipairs { "something else that is long enough to hold a header", "neap cache 2\n", "x" } do
      tmp.write(path, text)
      local store, err = neap.cache.file(path)
      assert.is_nil(store)
      assert.equal("invalid", err.kind)
      assert.matches("not a cache file", err.message)
      assert.equal(text, bytes_of())
    end
    local _, err = neap.cache.file(folder)
    assert.equal("EISDIR", err.code)
    _, err = neap.cache.file(folder .. "/none/cache")
    assert.equal("ENOENT", err.code)
    assert.has_error(function() neap.cache.file(1) end)
    assert.has_error(function() neap.cache.file(path, { max_entrys = 1 }) end)
    assert.has_error(function() neap.cache.file(path, { garbage = 2 }) end)
  end)

  it("is closed once and for all", function()
    local store = open()
    store:put("a", "1")
    assert.is_true(store:close())
    assert.is_true(store:close())
    assert.is_nil(store:get "a")
    for _, name in ipairs { "put", "delete", "clear", "compact" } do
      local ok, err = store[name](store, "a", "1")
      assert.is_nil(ok)
      assert.equal("closed", err.kind)
    end
    assert.equal("closed", store:snapshot().state)
  end)

  describe("that was cut off", function()
    it("at any byte loses its torn record and no whole one", function()
      local store = open()
      local ends = { [0] = #bytes_of() }
      for i = 1, 3 do
        store:put("key" .. i, ("v%d "):format(i):rep(i))
        ends[i] = #bytes_of()
      end
      store:close()
      local text = bytes_of()
      for size = 0, #text do
        tmp.write(path, text:sub(1, size))
        store = assert(neap.cache.file(path))
        local whole = 0
        for i = 1, 3 do
          local there = size >= ends[i]
          if there then whole = i end
          assert.equal(there and ("v%d "):format(i):rep(i) or nil, store:get("key" .. i), "size " .. size)
        end
        assert.equal(size < ends[0] and 0 or size - ends[whole], store.dropped)
        assert.is_true(store:put("new", "after"))
        store:close()
        store = assert(neap.cache.file(path))
        assert.equal("after", store:get "new")
        assert.equal(0, store.dropped)
        store:close()
      end
    end)

    it("with zero bytes or noise at its end is cut back, and says so", function()
      local store = open()
      store:put("a", "whole")
      store:close()
      local events = {}
      local unsubscribe = neap.telemetry.subscribe(function(event) events[#events + 1] = event end)
      for i, tail in ipairs { ("\0"):rep(5000), record.MARK .. ("\255"):rep(40), record.MARK:sub(1, 2) } do
        tmp.write(path, bytes_of() .. tail)
        store = assert(neap.cache.file(path))
        assert.equal("whole", store:get "a")
        assert.equal(#tail, store.dropped)
        store:close()
        assert.equal("mended", events[i].event)
        assert.equal(#tail, events[i].bytes)
        assert.equal("cache_file", events[i].kind)
      end
      unsubscribe()
    end)

    it("with a value that was not written behind its head loses that record", function()
      local store = open()
      store:put("a", "whole")
      local before = #bytes_of()
      store:put("b", ("x"):rep(1000))
      store:close()
      damage(before + record.HEAD_BYTES + 100, ("\0"):rep(500))
      store = open()
      assert.is_nil(store:get "b")
      assert.equal("whole", store:get "a")
      assert.equal(record.HEAD_BYTES + 1 + 1000, store.dropped)
      assert.equal(before, #bytes_of())
    end)
  end)

  describe("damaged in its middle", function()
    local places

    local function make()
      local store = open()
      places = {}
      for i = 1, 5 do
        places[i] = #bytes_of()
        store:put("key" .. i, ("value %d "):format(i):rep(50))
      end
      store:close()
    end

    local function found()
      local store, list = open(), {}
      for i = 1, 5 do
        local value = store:get("key" .. i)
        list[i] = value and (value == ("value %d "):format(i):rep(50) and i or "wrong") or false
      end
      return list, store
    end

    it("loses the record whose head is wrong, and goes on with the next one", function()
      for _, offset in ipairs { 1, 4, 5, 9, 12, 22, 26, 30, record.HEAD_BYTES + 1 } do
        make()
        damage(places[3] + offset, "\253")
        local list, store = found()
        assert.same({ 1, 2, false, 4, 5 }, list)
        assert.equal(record.HEAD_BYTES + 4 + 400, store.dropped)
        store:close()
        assert(fs.remove(path))
      end
    end)

    it("has a miss for a value whose sum is wrong, and counts it", function()
      make()
      damage(places[2] + record.HEAD_BYTES + 100, "\253")
      local list, store = found()
      assert.same({ 1, false, 3, 4, 5 }, list)
      assert.equal(1, store:snapshot().corrupt)
      assert.equal(0, store.dropped)
    end)

    it("does not take for records what a value is made of", function()
      local store = open()
      store:put("victim", "good")
      local inner = bytes_of():sub(record.HEADER_BYTES + 1)
      local place = #bytes_of()
      store:delete "victim"
      local after = #bytes_of()
      -- Another file's records: its sums begin with another salt.
      local foreign = record.encode(12345, 1, "victim", "forged", math.huge, math.huge)
      store:put("outer", foreign:rep(3))
      store:put("last", "1")
      store:close()
      assert.is_true(place < after and #inner > 0)
      damage(after + 10, "\253\253")
      store = open()
      assert.is_nil(store:get "victim")
      assert.is_nil(store:get "outer")
      assert.equal("1", store:get "last")
    end)
  end)

  it("that the disk has no room for says so, and keeps what it had", function()
    local store = open()
    store:put("a", "1")
    local before = #bytes_of()
    -- A file's write that fails after a part was written.
    local write = store.file.write
    store.file.write = function(file, text)
      write(file, text:sub(1, 10))
      return nil, neap.error.new { kind = "limit", code = "ENOSPC", message = "no space left" }
    end
    local ok, err = store:put("b", "2")
    store.file.write = nil
    assert.is_nil(ok)
    assert.equal("limit", err.kind)
    assert.equal(before, #bytes_of())
    assert.is_nil(store:get "b")
    assert.equal("1", store:get "a")
    assert.is_true(store:put("b", "3"))
    store = reopen(store)
    assert.equal("3", store:get "b")
  end)

  it("written by a cancelled task is whole", function()
    local store = open()
    local task = neap.spawn(store.put, store, "a", "1")
    neap.sleep(0)
    task:cancel()
    task:await()
    store:put("b", "2")
    store = reopen(store)
    assert.equal("2", store:get "b")
    assert.equal(0, store.dropped)
  end)

  it("survives its program being killed at any moment #real", function()
    local script = tmp.write(folder .. "/writer.lua", [[
      local neap = require "neap"
      local store = assert(neap.cache.file(..., { min_compact = 0 }))
      local n = tonumber(store:get "n" or "0")
      while true do
        n = n + 1
        assert(store:put("big", ("%d "):format(n):rep(5000)))
        assert(store:put("n", tostring(n)))
        print(n)
      end
    ]])
    local last = 0
    for round = 1, 3 do
      local process = child.start { script, path }
      process:wait_for "\n"
      neap.sleep(0.01 * round)
      process:kill "sigkill"
      process:wait()
      local said = tonumber(process.out:match "(%d+)\n[^\n]*$")
      local store = assert(neap.cache.file(path))
      local n = tonumber(store:get "n")
      assert.is_true(n >= said and n > last, ("%s, told %s, before %s"):format(n, said, last))
      local big = store:get "big"
      assert.is_true(big == ("%d "):format(n):rep(5000) or big == ("%d "):format(n + 1):rep(5000))
      last = n
      store:close()
    end
  end)
end)
