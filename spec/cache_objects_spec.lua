-- SPDX-License-Identifier: MIT
--- Objects that say what they are to a cache: cache_key, cache_copy, cache_name.
local neap = require "neap"
local values = require "neap.cache.values"
local caches = require "spec.support.cache"
local tmp = require "spec.support.tmp"

local numbered, slow = caches.numbered, caches.slow

describe("neap.cache and objects", function()
  local Question = { cache_key = function(question) return question.text end }
  local function ask(text) return setmetatable({ text = text, at = neap.now() }, Question) end

  it("take an argument's key from its metatable, also inside tables", function()
    local fn, work = slow(1, numbered)
    local cache = neap.cache()
    assert.equal("result 1", cache:call(fn, ask "a", 1))
    assert.equal("result 1", cache:call(fn, ask "a", 1))
    assert.equal("result 2", cache:call(fn, ask "b", 1))
    assert.equal("result 3", cache:call(fn, { q = ask "a" }))
    assert.equal("result 3", cache:call(fn, { q = ask "a" }))
    assert.equal(3, work.started)
  end)

  it("tell two classes apart that say the same, and a string from them", function()
    local cache = neap.cache()
    local Other = { cache_key = Question.cache_key }
    local fn = slow(0, numbered)
    assert.equal("result 1", cache:call(fn, ask "a"))
    assert.equal("result 2", cache:call(fn, setmetatable({ text = "a" }, Other)))
    assert.equal("result 3", cache:call(fn, "a"))
    assert.equal("result 1", cache:call(fn, ask "a"))
  end)

  it("let a call pass whose argument says nil", function()
    local fn = slow(0, numbered)
    local cache = neap.cache()
    assert.equal("result 1", cache:call(fn, ask(nil)))
    assert.equal("result 2", cache:call(fn, { { ask(nil) } }))
    assert.equal(0, cache:snapshot().entries)
  end)

  it("refuse a key that is no string", function()
    local cache = neap.cache()
    assert.error_matches(function() cache:call(numbered, ask(7)) end,
      "option 'key' is needed: argument 1 holds an object whose cache_key is a number")
    local hidden = setmetatable({}, { __metatable = "hidden" })
    assert.error_matches(function() cache:call(numbered, hidden) end, "argument 1 holds an object")
  end)

  local Answer = { cache_name = "spec.answer" }
  function Answer.cache_copy(answer, from)
    return setmetatable({ text = answer.text, from = from or "kept" }, Answer)
  end

  it("hand out copies that results make of themselves", function()
    local fn = slow(1, function(n) return setmetatable({ text = "a" .. n, from = "sent" }, Answer) end)
    local cache = neap.cache()
    local results = neap.gather {
      function() return cache:call(fn, 1) end, function() return cache:call(fn, 1) end,
    }
    results[3], results[4] = cache:call(fn, 1), cache:fetch("k", fn)
    assert.same({ "sent", "shared", "fresh", "sent" },
      { results[1].from, results[2].from, results[3].from, results[4].from })
    assert.same({ 1, 0, 0 }, { results[1].attempts, results[2].attempts, results[3].attempts })
    results[1].text, results[3].text = "spoilt", "spoilt"
    assert.equal("a1", cache:call(fn, 1).text)
    assert.equal("fresh", cache:get("k").from)
    assert.equal("a2", cache:get("k").text)
  end)

  it("keep nothing of a result that gives no copy", function()
    local Once = { cache_copy = function() end }
    local fn, work = slow(1, function() return setmetatable({}, Once) end)
    for _, singleflight in ipairs { true, false } do
      local cache = neap.cache { singleflight = singleflight }
      local before = work.started
      local results = neap.gather {
        function() return cache:call(fn, 1) end, function() return cache:call(fn, 1) end,
      }
      assert.not_equal(results[1], results[2])
      assert.equal(before + 2, work.started)
      assert.equal(0, cache:snapshot().entries)
      local ok, err = cache:put("k", setmetatable({}, Once))
      assert.is_nil(ok)
      assert.equal("invalid", err.kind)
    end
  end)

  it("come back from a file as objects where their class is known, else as tables", function()
    local folder = tmp.dir()
    local store = assert(neap.cache.file(folder .. "/cache"))
    local ok, err = store:put("k", setmetatable({ text = "a" }, Answer), 60)
    assert.is_nil(ok)
    assert.equal("invalid", err.kind)
    values.classes["spec.answer"] = Answer
    finally(function()
      values.classes["spec.answer"] = nil
      store:close()
      tmp.remove(folder)
    end)
    assert(store:put("k", setmetatable({ text = "a" }, Answer), 60))
    store:close()
    store = assert(neap.cache.file(folder .. "/cache"))
    local found = store:get "k"
    assert.equal(Answer, getmetatable(found))
    assert.same({ "a", "fresh" }, { found.text, found.from })
    values.classes["spec.answer"] = nil
    found = store:get "k"
    assert.is_nil(getmetatable(found))
    assert.same({ "a", "kept" }, { found.text, found.from })
    assert.equal(0, store:snapshot().corrupt)
  end)
end)
