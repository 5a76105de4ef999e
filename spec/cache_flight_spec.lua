-- SPDX-License-Identifier: MIT
local errors = require "neap.error"
local neap = require "neap"
local caches = require "spec.support.cache"

local numbered, response, slow = caches.numbered, caches.response, caches.slow

describe("neap.cache", function()
  describe("with single-flight", function()
    it("makes one call for all who want the same at a time", function()
      local fn, work = slow(1, function() return response(200, "x") end)
      local cache = neap.cache()
      local results = neap.map({ 1, 1, 1, 2, 2 }, function(item) return cache:call(fn, item) end)
      assert.equal(2, work.started)
      for i = 1, 5 do assert.equal("x", results[i].body) end
      assert.is_nil(results[1].from_cache)
      assert.equal("shared", results[2].from_cache)
      assert.are_not.equal(results[2], results[3])
      assert.equal(3, cache:snapshot().coalesced)
      assert.equal(0, cache:snapshot().flights)
    end)

    it("gives its failure to all who waited, and calls anew for the next one", function()
      local fn, work = slow(1, nil, errors.new { kind = "receive", message = "lost" })
      local cache = neap.cache()
      local failures = {}
      neap.map({ 1, 2, 3 }, function(_, i)
        local _, err = cache:call(fn, "k")
        failures[i] = err
      end)
      assert.equal(1, work.started)
      for i = 1, 3 do assert.equal("receive", failures[i].kind) end
      assert.are_not.equal(failures[1], failures[2])
      cache:call(fn, "k")
      assert.equal(2, work.started)
    end)

    it("raises what the call raised, for all", function()
      local fn = slow(1, function() error("a bug", 0) end)
      local cache = neap.cache()
      local raised = {}
      neap.map({ 1, 2 }, function(_, i)
        local ok, err = pcall(cache.call, cache, fn, "k")
        raised[i] = not ok and err
      end)
      assert.same({ "a bug", "a bug" }, raised)
    end)

    it("goes on when the caller who began it is cancelled", function()
      local fn, work = slow(10, "x")
      local cache = neap.cache()
      local leader = neap.spawn(cache.call, cache, fn, 1)
      neap.sleep(1)
      local follower = neap.spawn(cache.call, cache, fn, 1)
      neap.sleep(1)
      leader:cancel()
      leader:await()
      assert.equal("x", follower:await())
      assert.equal(1, work.started)
      assert.equal(0, work.cancelled)
    end)

    it("goes on when the scope of the caller who began it is over", function()
      local fn, work = slow(10, "x")
      local cache = neap.cache()
      local follower
      local _, err = neap.timeout(3, cache.call, cache, fn, 1)
      assert.equal("timeout", err.kind)
      assert.equal(1, work.cancelled) -- nobody else wanted it
      neap.gather {
        function() neap.timeout(3, cache.call, cache, fn, 1) end,
        function()
          neap.sleep(1)
          follower = cache:call(fn, 1)
        end,
      }
      assert.equal("x", follower)
      assert.equal(2, work.started)
      assert.equal(1, work.cancelled)
    end)

    it("is cancelled when the last one who waits has left, and has ended by then", function()
      local fn, work = slow(10, "x")
      local cache = neap.cache()
      local tasks = {}
      for i = 1, 3 do tasks[i] = neap.spawn(cache.call, cache, fn, 1) end
      neap.sleep(1)
      for i = 1, 3 do
        assert.equal(0, work.cancelled)
        tasks[i]:cancel()
        tasks[i]:await()
      end
      assert.equal(1, work.cancelled)
      assert.equal(0, cache:snapshot().flights)
      assert.equal("x", cache:call(fn, 1))
    end)

    it("gives back what the call held before the cancelled caller goes on", function()
      local semaphore = neap.semaphore(1)
      local cache = neap.cache()
      neap.timeout(1, cache.call, cache, function() return semaphore:with(neap.sleep, 10) end, 1)
      assert.equal(1, semaphore:available())
    end)

    it("ends with what it started", function()
      local cache, child = neap.cache(), nil
      cache:call(function()
        child = neap.spawn(neap.sleep, 2)
        return "x"
      end, 1)
      assert.equal("done", child:status())
    end)

    it("raises in a call that asks for itself", function()
      local cache = neap.cache()
      local function fn(x) return cache:fetch("k", fn, x) end
      assert.error_matches(function() cache:fetch("k", fn, 1) end, "asks for the same key")
    end)

    it("passes on a cancel that is not its own without calling again", function()
      local cache, n = neap.cache(), 0
      local ok, err = pcall(cache.fetch, cache, "k", function()
        n = n + 1
        error(errors.new { kind = "cancelled", message = "somebody else's" }, 0)
      end)
      assert.is_false(ok)
      assert.equal("somebody else's", err.message)
      assert.equal(1, n)
    end)

    it("lets every caller read a stream of his own", function()
      local n = 0
      local function fn()
        neap.sleep(1)
        n = n + 1
        return setmetatable({ status = 200, version = "1.1", sends = 1, n = n }, getmetatable(response(200)))
      end
      local cache = neap.cache()
      local results = neap.map({ 1, 1 }, function(item) return cache:call(fn, item) end)
      assert.equal(2, n)
      assert.are_not.equal(results[1], results[2])
      assert.equal(0, cache:snapshot().entries)
    end)

    it("is left out when it is switched off", function()
      local fn, work = slow(1, numbered)
      local cache = neap.cache { singleflight = false }
      local results = neap.map({ 1, 1 }, function(item) return cache:call(fn, item) end)
      assert.equal(2, work.started)
      assert.same({ "result 2", "result 2" }, results)
      assert.equal("result 2", cache:call(fn, 1))
      assert.equal(2, work.started)
    end)
  end)

  describe("with stale_while_revalidate", function()
    it("answers a stale result at once while one call renews it", function()
      local fn, work = slow(1, numbered)
      local cache = neap.cache { ttl = 10, stale_while_revalidate = 20 }
      cache:call(fn, 1)
      neap.sleep(15)
      local began = neap.now()
      for _ = 1, 3 do assert.equal("result 1", cache:call(fn, 1)) end
      assert.equal(began, neap.now())
      neap.sleep(1.5)
      assert.equal(2, work.started)
      assert.equal("result 2", cache:call(fn, 1))
      assert.equal(3, cache:snapshot().stale)
      neap.sleep(31)
      assert.equal("result 3", cache:call(fn, 1)) -- too old to be answered
    end)

    it("marks a stale response", function()
      local fn = slow(0, function() return response(200, "x") end)
      local cache = neap.cache { ttl = 1, stale_while_revalidate = 10 }
      cache:call(fn, 1)
      neap.sleep(2)
      assert.equal("stale", cache:call(fn, 1).from_cache)
      neap.sleep(0.1)
    end)

    it("goes on renewing when the caller is gone", function()
      local fn, work = slow(5, numbered)
      local cache = neap.cache { ttl = 10, stale_while_revalidate = 20 }
      cache:call(fn, 1)
      neap.sleep(12)
      neap.timeout(1, function() assert.equal("result 1", cache:call(fn, 1)) end)
      neap.sleep(6)
      assert.equal(2, work.ended)
      assert.equal("result 2", cache:call(fn, 1))
    end)

    it("keeps the stale result when renewing fails, and says so", function()
      local failing, events = false, {}
      local fn = slow(0, function(n)
        if failing then return response(503) end
        return "result " .. n
      end)
      local unsubscribe = neap.telemetry.subscribe(function(event)
        if event.event ~= "call" then events[#events + 1] = event end
      end)
      local cache = neap.cache { ttl = 10, stale_while_revalidate = 20, negative_ttl = 100 }
      cache:call(fn, 1)
      failing = true
      neap.sleep(15)
      cache:call(fn, 1)
      neap.sleep(1)
      assert.equal("result 1", cache:call(fn, 1))
      neap.sleep(1)
      unsubscribe()
      assert.equal("refresh_failed", events[1].event)
      assert.equal("503", events[1].reason)
      assert.equal("cache", events[1].kind)
    end)

    it("lets those wait for the renewal for whom the result is too old", function()
      local fn, work = slow(10, numbered)
      local cache = neap.cache { ttl = 10, stale_while_revalidate = 5 }
      cache:call(fn, 1)
      neap.sleep(12)
      assert.equal("result 1", cache:call(fn, 1))
      neap.sleep(6)
      assert.equal("result 2", cache:call(fn, 1))
      assert.equal(2, work.started)
    end)
  end)
end)
