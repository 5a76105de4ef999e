-- SPDX-License-Identifier: MIT
-- Random operations on a cache beside a model so simple that it is right by
-- looking at it: a list, the most recently used first.
local core = require "neap.core"
local neap = require "neap"
local tmp = require "spec.support.tmp"

local Model = {}
Model.__index = Model

local function model(max_entries, max_bytes)
  return setmetatable({ max_entries = max_entries, max_bytes = max_bytes, evictions = 0 }, Model)
end

function Model:bytes()
  local sum = 0
  for _, entry in ipairs(self) do sum = sum + entry.bytes end
  return sum
end

function Model:take(key)
  for i, entry in ipairs(self) do
    if entry.key == key then return table.remove(self, i) end
  end
end

function Model:trim()
  while #self > self.max_entries or self:bytes() > self.max_bytes do
    table.remove(self)
    self.evictions = self.evictions + 1
  end
end

function Model:put(key, value, over)
  self:take(key)
  local entry = { key = key, value = value, over = over, bytes = #key + #value }
  if entry.bytes > self.max_bytes then return nil end
  table.insert(self, 1, entry)
  self:trim()
  return true
end

function Model:get(key, now)
  local entry = self:take(key)
  if not entry or now >= entry.over then return nil end
  table.insert(self, 1, entry)
  return entry.value
end

local function random(n) return math.floor(core.random() * n) + 1 end

local function one_of(weights)
  local sum = 0
  for _, pair in ipairs(weights) do sum = sum + pair[2] end
  local at = core.random() * sum
  for _, pair in ipairs(weights) do
    at = at - pair[2]
    if at < 0 then return pair[1] end
  end
end

describe("neap.cache beside a model", function()
  it("agrees on 100,000 random operations: times, order of use, both caps", function()
    local cache, expected = neap.cache { max_entries = 12, max_bytes = 300, ttl = 20 }, model(12, 300)
    local key, value
    local acts = {
      get = function() assert(cache:get(key) == expected:get(key, neap.now()), "get") end,
      put = function()
        value = ("v"):rep(random(60) - 1)
        assert(cache:put(key, value) == expected:put(key, value, neap.now() + 20), "put")
      end,
      put_for = function()
        local ttl = core.random() * 40
        value = ("w"):rep(random(400) - 1)
        assert((cache:put(key, value, ttl)) == expected:put(key, value, neap.now() + ttl), "put with a time")
      end,
      fetch = function()
        local found = expected:get(key, neap.now())
        local computed = "c" .. random(1e6)
        if not found then expected:put(key, computed, neap.now() + 20) end
        assert(cache:fetch(key, function() return computed end) == (found or computed), "fetch")
      end,
      delete = function()
        cache:delete(key)
        expected:take(key)
      end,
      wait = function() neap.sleep(core.random() * 10) end,
      caps = function()
        local entries, bytes = random(25), 50 + random(1000)
        cache:update { max_entries = entries, max_bytes = bytes }
        expected.max_entries, expected.max_bytes = entries, bytes
        expected:trim()
      end,
      clear = function()
        cache:clear()
        for i = #expected, 1, -1 do expected[i] = nil end
      end,
    }
    local weights = {
      { "get", 40 }, { "put", 25 }, { "put_for", 5 }, { "fetch", 5 }, { "delete", 5 }, { "wait", 15 },
      { "caps", 0.5 }, { "clear", 0.05 },
    }
    local memory, keys = cache.storage.memory, {}
    for i = 1, 25 do keys[i] = ("key"):rep(i % 4) .. i end
    for step = 1, 100000 do
      key = keys[random(#keys)]
      local act = one_of(weights)
      acts[act]()
      if memory.count ~= #expected or memory.bytes ~= expected:bytes() or memory.evictions ~= expected.evictions then
        error(("step %d, %s: %d entries, %d bytes, %d evictions; expected %d, %d, %d"):format(step, act, memory.count,
          memory.bytes, memory.evictions, #expected, expected:bytes(), expected.evictions))
      end
      if step % 500 == 0 then
        local order = {}
        for i, entry in ipairs(expected) do order[i] = entry.key end
        assert.same(order, memory:keys())
      end
    end
    assert.is_true(expected.evictions > 1000)
    assert.is_true(memory.expirations > 1000)
  end)
end)

describe("single-flight under random callers and cancels", function()
  it("has one call a key at a time, and every caller who stays gets its result", function()
    local cache = neap.cache { ttl = 3 }
    local running, counts = {}, { started = 0, ended = 0, cancelled = 0, answered = 0, left = 0 }
    local function compute(key)
      assert(not running[key], "two calls at a time")
      running[key] = true
      counts.started = counts.started + 1
      local ok, err = pcall(neap.sleep, core.random() * 4)
      running[key] = nil
      if not ok then
        counts.cancelled = counts.cancelled + 1
        error(err, 0)
      end
      counts.ended = counts.ended + 1
      return "value of " .. key
    end
    neap.scope(function(s)
      for _ = 1, 5000 do
        local key = "k" .. random(8)
        neap.sleep(core.random() * 0.2)
        s:spawn(function()
          local result, err = neap.timeout(core.random() * 5, cache.fetch, cache, key, compute, key)
          if result then
            assert.equal("value of " .. key, result)
            counts.answered = counts.answered + 1
          else
            assert.equal("timeout", err.kind)
            counts.left = counts.left + 1
          end
        end)
      end
    end)
    assert.equal(5000, counts.answered + counts.left)
    assert.equal(counts.started, counts.ended + counts.cancelled)
    assert.is_true(counts.left > 100 and counts.cancelled > 20, counts.left .. " left, " .. counts.cancelled)
    assert.equal(0, cache:snapshot().flights)
  end)
end)

describe("a cache file beside a model", function()
  it("agrees on random operations, compactions, torn tails and new starts", function()
    local folder = tmp.dir()
    local path = folder .. "/cache"
    local opts = { min_compact = 2000 }
    local store, expected = assert(neap.cache.file(path, opts)), {}
    local compactions, torn = 0, 0

    local function check(key)
      local known = expected[key]
      local value = known and neap.time() < known.over and known.value or nil
      assert.equal(value, store:get(key))
    end
    local function start_again(tail)
      compactions = compactions + store:snapshot().compactions
      store:close()
      if tail then
        local file = io.open(path, "ab")
        file:write(tail)
        file:close()
        torn = torn + 1
      end
      store = assert(neap.cache.file(path, opts))
      assert.equal(tail and #tail or 0, store.dropped)
      for i = 1, 30 do check("k" .. i) end
    end

    for _ = 1, 4000 do
      local key, dice = "k" .. random(30), core.random()
      if dice < 0.4 then
        check(key)
      elseif dice < 0.85 then
        local ttl = core.random() < 0.5 and math.huge or random(40) + 0.5 -- never over at the moment of a look
        local value = ("%d "):format(random(1e6)):rep(random(30))
        expected[key] = { value = value, over = neap.time() + ttl }
        assert(store:put(key, value, ttl))
      elseif dice < 0.94 then
        expected[key] = nil
        assert(store:delete(key))
      elseif dice < 0.985 then
        neap.sleep(random(10))
      else
        start_again(core.random() < 0.5 and ("\0tail\254\237"):rep(random(30)) or nil)
      end
    end
    start_again()
    store:close()
    tmp.remove(folder)
    assert.is_true(compactions > 20 and torn > 10, ("%d compactions, %d torn tails"):format(compactions, torn))
  end)
end)
