-- SPDX-License-Identifier: MIT
local fs = require "neap.fs"
local neap = require "neap"
local files = require "spec.support.cache_file"
local tmp = require "spec.support.tmp"

local bytes_of, open, reopen = files.bytes_of, files.open, files.reopen
local path

describe("a cache file", function()
  before_each(function() path = files.start() end)
  after_each(files.finish)

  describe("with garbage", function()
    local function fill(store, rounds)
      for round = 1, rounds do
        for i = 1, 20 do assert(store:put("k" .. i, ("%d/%d "):format(round, i):rep(100))) end
      end
    end

    local function settle(store)
      for _ = 1, 1000 do
        if not store.compaction then return end
        neap.sleep(0.001)
      end
      error "the compaction does not end"
    end

    it("is written anew when half of it is garbage, and loses nothing", function()
      local store = open { min_compact = 0 }
      local largest = 0
      for round = 1, 30 do
        fill(store, 1)
        largest = math.max(largest, #bytes_of())
        settle(store)
        for i = 1, 20 do assert.equal(("%d/%d "):format(1, i):rep(100), store:get("k" .. i), "round " .. round) end
      end
      local snapshot = store:snapshot()
      assert.is_true(snapshot.compactions >= 10, tostring(snapshot.compactions))
      assert.is_true(snapshot.garbage < 0.5)
      -- Twice what is alive, and what comes while it is written anew.
      assert.is_true(largest < 4 * snapshot.bytes, ("%d for %d"):format(largest, snapshot.bytes))
      store = reopen(store)
      for i = 1, 20 do assert.equal(("%d/%d "):format(1, i):rep(100), store:get("k" .. i)) end
      assert.is_nil(tmp.read(path .. ".compact"))
    end)

    it("is left as it is while it is small", function()
      local store = open { min_compact = 1e6 }
      fill(store, 5)
      assert.equal(0, store:snapshot().compactions)
      assert.is_true(store:snapshot().garbage > 0.5)
      assert.is_true(store:compact())
      assert.equal(1, store:snapshot().compactions)
      assert.is_true(store:snapshot().garbage < 0.01)
    end)

    it("is read and written while it is written anew", function()
      local store = open { min_compact = 1e9 }
      fill(store, 3)
      local compaction = neap.spawn(store.compact, store)
      local expected = {}
      neap.scope(function(s)
        for i = 1, 20 do
          s:spawn(function()
            for round = 1, 20 do
              if i % 3 == 0 and round % 2 == 0 then
                store:delete("k" .. i)
                expected[i] = nil
              else
                store:put("k" .. i, "during " .. round)
                expected[i] = "during " .. round
              end
              assert.equal(expected[i], store:get("k" .. i))
              store:get("k" .. (i % 20 + 1))
            end
          end)
        end
      end)
      assert.is_true(compaction:await())
      assert.equal(1, store:snapshot().compactions)
      for _ = 1, 2 do
        for i = 1, 20 do assert.equal(expected[i], store:get("k" .. i)) end
        store = reopen(store)
      end
      assert.equal(0, store.dropped)
    end)

    it("does not bring back what was deleted after it had been copied", function()
      local store = open { min_compact = 1e9 }
      neap.scope(function(s)
        for i = 1, 1000 do s:spawn(store.put, store, "k" .. i, "v") end
      end)
      local compaction = neap.spawn(store.compact, store)
      for i = 1, 50 do store:get("k" .. (1000 - i)) end -- as many reads as the copy makes meanwhile
      for i = 1, 20 do assert(store:delete("k" .. i)) end
      assert.is_truthy(store.compaction)
      assert.is_true(compaction:await())
      store = reopen(store)
      for i = 1, 20 do assert.is_nil(store:get("k" .. i)) end
      assert.equal(980, store:snapshot().entries)
    end)

    it("keeps the order of use through it", function()
      local store = open { max_entries = 5 }
      for i = 1, 5 do store:put("k" .. i, "v") end
      store:get "k1"
      assert.is_true(store:compact())
      store = reopen(store, { max_entries = 5 })
      store:put("k6", "v")
      assert.is_nil(store:get "k2")
      assert.equal("v", store:get "k1")
    end)

    it("stays locked through it", function()
      local store = open()
      store:put("a", "1")
      assert(store:compact())
      local second, err = neap.cache.file(path)
      assert.is_nil(second)
      assert.equal("EBUSY", err.code)
    end)

    it("removes what a compaction left that was cut off", function()
      open():close()
      tmp.write(path .. ".compact", "half")
      open()
      assert.is_nil(tmp.read(path .. ".compact"))
    end)

    it("goes on with the old file when there is no room for a new one", function()
      local store = open { min_compact = 0 }
      fill(store, 1)
      assert(fs.mkdir(path .. ".compact"))
      tmp.write(path .. ".compact/x", "in the way")
      fill(store, 2)
      settle(store)
      local ok, err = store:compact()
      assert.is_nil(ok)
      assert.equal("EEXIST", err.code)
      assert.equal(("2/1 "):rep(100), store:get "k1")
      assert(fs.remove(path .. ".compact", { recursive = true }))
      assert.is_true(store:compact())
      assert.equal(("2/1 "):rep(100), store:get "k1")
    end)
  end)
end)
