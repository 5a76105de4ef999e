-- SPDX-License-Identifier: MIT
local errors = require "neap.error"
local neap = require "neap"
local caches = require "spec.support.cache"
local tmp = require "spec.support.tmp"

local numbered, response, slow = caches.numbered, caches.response, caches.slow

describe("neap.cache", function()
  describe("as a policy", function()
    it("calls the function once for equal arguments, until their time is over", function()
      local fn, work = slow(1, numbered)
      local cache = neap.cache { ttl = 10 }
      assert.equal("result 1", cache:call(fn, "a", { x = 1, y = { 2, 3 } }))
      assert.equal("result 1", cache:call(fn, "a", { y = { 2, 3 }, x = 1 }))
      neap.sleep(9.9)
      assert.equal("result 1", cache:call(fn, "a", { x = 1, y = { 2, 3 } }))
      neap.sleep(0.2)
      assert.equal("result 2", cache:call(fn, "a", { x = 1, y = { 2, 3 } }))
      assert.equal(2, work.started)
      local snapshot = cache:snapshot()
      assert.equal(2, snapshot.hits)
      assert.equal(2, snapshot.misses)
      assert.equal(1, snapshot.entries)
    end)

    it("tells calls apart by function, arguments, their types and order", function()
      local cache, n = neap.cache(), 0
      local function fn() n = n + 1 return n end
      local function other() n = n + 1 return n end
      local lists = {
        { "1" }, { 1 }, { true }, { "a", "b" }, { "ab" }, { "a", nil, "b" }, { "a", "b", nil }, { {} }, { { 1 } },
        { { "1" } }, { { a = 1 } }, { { a = { 1 } } }, { { [1] = 1, [2] = 2 } }, { neap.json.null }, { 0.1 + 0.2 },
        { 0.3 }, { { neap.json.array {} } }, { { {} } },
      }
      local counts = { [6] = 3, [7] = 3 }
      for round = 1, 2 do
        for i, list in ipairs(lists) do
          assert.equal(i, cache:call(fn, unpack(list, 1, counts[i] or #list)), ("list %d, round %d"):format(i, round))
        end
      end
      assert.equal(#lists + 1, cache:call(other, "1"))
    end)

    it("takes the key from the option, and lets calls pass that have none", function()
      local fn, work = slow(0, numbered)
      local cache = neap.cache { key = function(request) return request.id end }
      assert.equal("result 1", cache:call(fn, { id = "a", at = 1 }))
      assert.equal("result 1", cache:call(fn, { id = "a", at = 2 }))
      assert.equal("result 2", cache:call(fn, {}))
      assert.equal("result 3", cache:call(fn, {}))
      assert.equal(3, work.started)
      local bad = neap.cache { key = function() return 7 end }
      assert.error_matches(function() bad:call(fn, 1) end, "option 'key' must return a string or nil, got number")
    end)

    it("says so where no key can be made of a call", function()
      local cache = neap.cache()
      local self = {}
      self.self = self
      for problem, arguments in pairs {
        ["there are no arguments"] = {},
        ["argument 2 is a function"] = { 1, print },
        ["argument 1 holds a function"] = { { f = print } },
        ["argument 1 holds an object"] = { { setmetatable({}, {}) } },
        ["argument 1 is a thread"] = { coroutine.create(print) },
        ["argument 1 has a table as a key"] = { { [{}] = 1 } },
        ["argument 1 is nested too deeply, or a table within itself"] = { self },
      } do
        local ok, err = pcall(cache.call, cache, numbered, unpack(arguments))
        assert.is_false(ok)
        assert.matches("neap.cache: option 'key' is needed: " .. problem, tostring(err), 1, true)
      end
    end)

    it("answers a client's reading calls and lets the others pass", function()
      local client = assert(neap.http.client { base_url = "http://127.0.0.1:1" })
      local other = assert(neap.http.client { base_url = "http://127.0.0.1:1" })
      local key = require "neap.cache.key"
      local first = assert(key.of(client.get, client, "/x", { query = { a = 1 } }))
      assert.equal(first, key.of(client.get, client, "/x", { query = { a = 1 } }))
      for _, call in ipairs {
        { client.get, other, "/x", { query = { a = 1 } } }, { client.head, client, "/x", { query = { a = 1 } } },
        { client.get, client, "/y", { query = { a = 1 } } }, { client.get, client, "/x", { query = { a = 2 } } },
        { client.request, client, { url = "/x" } },
      } do
        assert.are_not.equal(first, assert(key.of(unpack(call))))
      end
      for _, call in ipairs {
        { client.post, client, "/x" }, { client.put, client, "/x" }, { client.patch, client, "/x" },
        { client.delete, client, "/x" }, { client.get, client, "/x", { stream = true } },
        { client.request, client, { url = "/x", method = "post" } },
        { client.request, client, { url = "/x", stream = true } },
      } do
        local made, problem = key.of(unpack(call))
        assert.is_nil(made)
        assert.is_nil(problem)
      end
      client:close()
      other:close()
    end)

    it("keeps no failure, nor a nil without an error", function()
      for _, outcome in ipairs {
        { nil, errors.new { kind = "connect", message = "refused" } }, { response(500) }, { response(404) }, {},
        { nil, "a text" },
      } do
        local fn, work = slow(0, outcome[1], outcome[2])
        local cache = neap.cache()
        for _ = 1, 2 do
          local result, err = cache:call(fn, 1)
          assert.equal(outcome[1], result)
          assert.equal(outcome[2], err)
        end
        assert.equal(2, work.started)
      end
    end)

    it("keeps failures for negative_ttl, but none of our own making", function()
      local cache = neap.cache { ttl = 100, negative_ttl = 5 }
      local refused = errors.new { kind = "connect", message = "refused" }
      for i, outcome in ipairs { { nil, refused }, { response(404, "none") }, { response(500) } } do
        local fn, work = slow(0, outcome[1], outcome[2])
        for _ = 1, 2 do
          local result, err = cache:call(fn, i)
          assert.equal(outcome[1] and outcome[1].status, result and result.status)
          assert.equal(outcome[2] and "connect", err and err.kind)
        end
        assert.equal(1, work.started)
        neap.sleep(5.1)
        cache:call(fn, i)
        assert.equal(2, work.started)
      end
      for _, kind in ipairs { "cancelled", "closed", "queue_full", "circuit_open", "budget", "limit" } do
        local fn, work = slow(0, nil, errors.new { kind = kind, message = "ours" })
        cache:call(fn, kind)
        cache:call(fn, kind)
        assert.equal(2, work.started, kind)
      end
    end)

    it("keeps what `cacheable` says", function()
      local fn, work = slow(0, numbered)
      local cache = neap.cache { cacheable = function(result) return result ~= "result 1" end }
      cache:call(fn, 1)
      cache:call(fn, 1)
      assert.equal("result 2", cache:call(fn, 1))
      assert.equal(2, work.started)
    end)

    it("keeps false as a result", function()
      local fn, work = slow(0, false)
      local cache = neap.cache()
      assert.is_false(cache:call(fn, 1))
      assert.is_false(cache:call(fn, 1))
      assert.equal(1, work.started)
    end)

    it("gives each caller a response of its own", function()
      local fn = slow(0, function() return response(200, '{"a":1}', { "x-a", "1", "x-a", "2" }) end)
      local cache = neap.cache()
      local first = cache:call(fn, 1)
      local second = cache:call(fn, 1)
      assert.is_nil(first.from_cache)
      assert.equal("fresh", second.from_cache)
      assert.equal(1, first.attempts)
      assert.equal(0, second.attempts)
      second.headers["x-a"], second.body, second.mine = "changed", "changed", true
      local third = cache:call(fn, 1)
      assert.equal("1, 2", third.headers["X-A"])
      assert.same({ "1", "2" }, third:header_values "x-a")
      assert.equal(1, third:json().a)
      assert.is_nil(third.mine)
      assert.equal(0, third.sends)
      assert.equal(0, third.timings.total)
      assert.equal('{"a":1}', third:read())
      assert.is_nil(third:read())
    end)

    it("gives the same table to all, without a mark on it", function()
      local value = { x = 1 }
      local fn = slow(1, value)
      local cache = neap.cache()
      local results = neap.gather {
        function() return cache:call(fn, 1) end, function() return cache:call(fn, 1) end,
      }
      assert.equal(value, results[1])
      assert.equal(value, results[2])
      assert.equal(value, cache:call(fn, 1))
      assert.same({ x = 1 }, value)
    end)

    it("counts the attempts inside for the call that made them", function()
      local n = 0
      local policy = neap.policy { neap.cache(), neap.retry { backoff = { base = 2, jitter = "none" } } }
      local function fn()
        n = n + 1
        return response(n == 1 and 503 or 200)
      end
      local first = policy:call(fn, 1)
      assert.equal(2, first.attempts)
      assert.near(2, first.spent.backoff, 1e-6)
      local second = policy:call(fn, 1)
      assert.equal(0, second.attempts)
      assert.equal(0, second.spent.total)
    end)

    it("says what a waiting call waits for", function()
      local cache = neap.cache { name = "answers" }
      local fn = slow(5, "x")
      local first = neap.spawn(cache.call, cache, fn, 1)
      local second = neap.spawn(cache.call, cache, fn, 1)
      neap.sleep(1)
      for _, task in ipairs { first, second } do
        local found = neap.explain(task)
        assert.equal("answers", found.policy)
        assert.equal("cache", found.kind)
        assert.equal("the one call for this key", found.reason)
      end
      assert.equal("in the function", neap.explain(first).copies[1].reason)
      assert.equal("x", first:await())
      assert.equal("x", second:await())
    end)
  end)

  describe("by key", function()
    it("keeps what is put until its own time is over", function()
      local cache = neap.cache { ttl = 10 }
      assert.is_true(cache:put("a", "1"))
      assert.is_true(cache:put("b", "2", 20))
      assert.equal("1", cache:get "a")
      neap.sleep(11)
      assert.is_nil(cache:get "a")
      assert.equal("2", cache:get "b")
      assert.is_true(cache:delete "b")
      assert.is_nil(cache:get "b")
      cache:put("c", "3", math.huge)
      neap.sleep(1e4)
      assert.equal("3", cache:get "c")
      cache:clear()
      assert.is_nil(cache:get "c")
      assert.equal(0, cache:snapshot().entries)
      assert.equal(0, cache:snapshot().bytes)
    end)

    it("fetches what is not there, once for all", function()
      local cache = neap.cache()
      local fn, work = slow(1, function(_, a, b) return a .. b end)
      local results = neap.gather {
        function() return cache:fetch("k", fn, "a", "b") end, function() return cache:fetch("k", fn, "c", "d") end,
      }
      assert.same({ "ab", "ab" }, results)
      assert.equal("ab", cache:get "k")
      assert.equal(1, work.started)
    end)

    it("does not keep a call's result when the key was put or deleted meanwhile", function()
      local cache = neap.cache()
      local fn = slow(2, "old")
      for _, act in ipairs { "put", "delete", "clear" } do
        local task = neap.spawn(cache.fetch, cache, "k", fn)
        neap.sleep(1)
        cache[act](cache, "k", "new")
        assert.equal("old", task:await())
        assert.equal(act == "put" and "new" or nil, cache:get "k")
        cache:clear()
      end
    end)

    it("keeps the retry loop around a fetch the only one", function()
      local cache, n = neap.cache(), 0
      local inner = neap.retry { backoff = { base = 0 } }
      neap.retry { backoff = { base = 0 }, max_attempts = 2 }:call(function()
        return cache:fetch("k", function()
          return inner:call(function()
            n = n + 1
            return response(503)
          end)
        end)
      end)
      assert.equal(2, n)
    end)

    it("raises on what is no key, value or time", function()
      local cache = neap.cache()
      assert.error_matches(function() cache:get(1) end, "the key must be a string, got number")
      assert.error_matches(function() cache:put("a") end, "the value is nil")
      assert.error_matches(function() cache:put("a", "b", 0) end, "ttl must be seconds above 0")
      assert.error_matches(function() cache:fetch("a", "b") end, "needs a function")
      assert.error_matches(function() cache:delete {} end, "the key must be a string")
    end)
  end)

  describe("has caps:", function()
    it("the least recently used entry goes when there are too many", function()
      local cache = neap.cache { max_entries = 2 }
      cache:put("a", 1)
      cache:put("b", 2)
      cache:get "a"
      cache:put("c", 3)
      assert.is_nil(cache:get "b")
      assert.equal(1, cache:get "a")
      assert.equal(1, cache:snapshot().evictions)
    end)

    it("bytes are those of key, body and headers", function()
      local cache = neap.cache { max_bytes = 100 }
      cache:put("key", ("x"):rep(47))
      assert.equal(50, cache:snapshot().bytes)
      cache:put("res", response(200, ("x"):rep(37), { "abcde", "12345" }))
      assert.equal(100, cache:snapshot().bytes)
      cache:put("k", "")
      assert.equal(51, cache:snapshot().bytes)
      assert.is_nil(cache:get "key")
      local ok, err = cache:put("k", ("x"):rep(100))
      assert.is_nil(ok)
      assert.equal("too_large", err.kind)
      assert.is_nil(cache:get "k")
    end)

    it("of tables an estimate, also of one within itself", function()
      local cache, value = neap.cache(), { ("x"):rep(1000) }
      value.self = value
      cache:put("k", value)
      local bytes = cache:snapshot().bytes
      assert.is_true(bytes > 1000 and bytes < 1300, tostring(bytes))
    end)

    it("they can be changed in use", function()
      local cache = neap.cache { max_entries = 10 }
      for i = 1, 10 do cache:put("k" .. i, i) end
      cache:update { max_entries = 3, ttl = 1 }
      assert.equal(3, cache:snapshot().entries)
      assert.equal(10, cache:get "k10")
      assert.is_nil(cache:get "k7")
      cache:put("x", 1)
      neap.sleep(1.1)
      assert.is_nil(cache:get "x")
    end)
  end)

  it("raises on bad options, naming them", function()
    for message, opts in pairs {
      ["neap.cache: option 'ttl' must be above 0, got 0"] = { ttl = 0 },
      ["neap.cache: option 'max_entries' must be at least 1, got 0"] = { max_entries = 0 },
      ["neap.cache: option 'max_bytes' must be at least 1, got -1"] = { max_bytes = -1 },
      ["neap.cache: option 'negative_ttl' must be above 0, got -5"] = { negative_ttl = -5 },
      ["neap.cache: option 'key' must be function, got string"] = { key = "x" },
      ["neap.cache: option 'store' must be a neap.cache.file, got another table"] = { store = {} },
      ["neap.cache: option 'singelflight' is unknown; did you mean 'singleflight'?"] = { singelflight = true },
    } do
      local ok, err = pcall(function() return neap.cache(opts), nil end)
      assert.is_false(ok)
      assert.truthy(err:find(message, 1, true), err)
      assert.matches("^[^:]*cache_spec", err)
    end
  end)

  it("is a part of the standard pipeline, outside the retry", function()
    local policy = neap.policy.standard { cache = { ttl = 5 }, adaptive = false }
    assert.equal("cache", policy.layers[1].kind)
    local fn, work = slow(0, "x")
    policy:call(fn, 1)
    policy:call(fn, 1)
    assert.equal(1, work.started)
    assert.matches("cache ttl=5", policy:describe())
  end)

  describe("before a file", function()
    local folder, store

    before_each(function()
      folder = tmp.dir()
      store = assert(neap.cache.file(folder .. "/cache"))
    end)
    after_each(function()
      store:close()
      tmp.remove(folder)
    end)

    local function by_name(name) return name end

    it("has what another one kept there, with the time that is left", function()
      local fn, work = slow(0, function(n, name) return response(200, name .. n) end)
      local first = neap.cache { store = store, key = by_name, ttl = 100 }
      assert.equal("a1", first:call(fn, "a").body)
      neap.sleep(60)
      local second = neap.cache { store = store, key = by_name, ttl = 100 }
      assert.equal("a1", second:call(fn, "a").body)
      assert.equal(1, second:snapshot().entries) -- come up into memory
      neap.sleep(41)
      assert.equal("a2", second:call(fn, "a").body)
      assert.equal(2, work.started)
      assert.equal(1, second:snapshot().store.entries)
    end)

    it("finds there what had to make room in memory", function()
      local cache = neap.cache { store = store, max_entries = 1 }
      for i = 1, 5 do cache:put("k" .. i, "v" .. i) end
      for i = 1, 5 do assert.equal("v" .. i, cache:get("k" .. i)) end
      assert.equal(1, cache:snapshot().entries)
      cache:delete "k3"
      assert.is_nil(cache:get "k3")
      cache:clear()
      assert.is_nil(cache:get "k1")
      assert.equal(0, cache:snapshot().store.entries)
    end)

    it("does not bring up what is deleted while it is read", function()
      local writer = neap.cache { store = store }
      for i = 1, 50 do writer:put("k" .. i, "v") end
      local cache = neap.cache { store = store }
      for i = 1, 50 do
        local reader = neap.spawn(cache.get, cache, "k" .. i)
        neap.sleep(0)
        cache:delete("k" .. i)
        reader:await()
        assert.is_nil(cache:get("k" .. i))
      end
    end)

    it("keeps failures in memory only", function()
      local cache = neap.cache { store = store, key = by_name, negative_ttl = 100 }
      local fn, work = slow(0, nil, errors.new { kind = "connect", message = "refused" })
      cache:call(fn, "a")
      local _, err = cache:call(fn, "a")
      assert.equal("connect", err.kind)
      assert.equal(1, work.started)
      assert.equal(0, store:snapshot().entries)
    end)

    it("answers what the file does not take, and says so", function()
      local events = {}
      local unsubscribe = neap.telemetry.subscribe(function(event) events[#events + 1] = event end)
      local cache = neap.cache { store = store, key = by_name }
      local value = setmetatable({ x = 1 }, { __index = {} })
      assert.equal(value, cache:call(function() return value end, "a"))
      assert.equal(value, cache:get "a")
      unsubscribe()
      assert.equal("store_failed", events[1].event)
      assert.matches("plain table", events[1].reason)
    end)

    it("needs keys that outlive the process", function()
      local cache = neap.cache { store = store }
      assert.error_matches(function() cache:call(numbered, 1) end, "option 'key' is needed beside 'store'")
    end)
  end)
end)
