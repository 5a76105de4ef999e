local core = require "neap.core"
local neap = require "neap"

local function ns_since(start) return math.floor((neap.now() - start) * 1e9 + 0.5) end

local function sleeper(seconds, ...)
  local results, n = { ... }, select("#", ...)
  return function()
    neap.sleep(seconds)
    return unpack(results, 1, n)
  end
end

local function failure(kind) return neap.error.new { kind = kind, message = "as asked" } end

--- 1, 2, ... count; counts how many were taken.
local function counter(count)
  local state = { taken = 0 }
  return function()
    if state.taken >= count then return nil end
    state.taken = state.taken + 1
    return state.taken
  end, state
end

describe("neap.gather", function()
  it("runs all at once and gives results by position", function()
    local start = neap.now()
    local results, errors = neap.gather { sleeper(3, "a"), sleeper(1, "b"), sleeper(2, "c") }
    assert.same({ "a", "b", "c" }, results)
    assert.is_nil(errors)
    assert.equal(3000000000, ns_since(start))
  end)

  it("of nothing is nothing", function()
    local results, errors = neap.gather {}
    assert.same({}, results)
    assert.is_nil(errors)
  end)

  it("gives what was returned as nil, err by position and lets the others go on", function()
    local err = failure "status"
    local results, errors = neap.gather { sleeper(1, "a"), sleeper(0.5, nil, err), sleeper(1, false) }
    assert.equal("a", results[1])
    assert.is_nil(results[2])
    assert.is_false(results[3])
    assert.same({ [2] = err }, errors)
  end)

  it("raises what one raised and cancels the rest", function()
    local start, late = neap.now(), nil
    local ok, err = pcall(neap.gather, {
      function()
        neap.sleep(1)
        error "broke"
      end,
      function()
        neap.sleep(100)
        late = true
      end,
    })
    assert.is_false(ok)
    assert.matches("broke", err.message, 1, true)
    assert.is_nil(late)
    assert.equal(1000000000, ns_since(start))
  end)

  it("that collects turns a raised error into that position's error", function()
    local results, errors = neap.gather({ sleeper(2, "a"), function() error "broke" end }, { on_error = "collect" })
    assert.same({ "a" }, results)
    assert.equal("internal", errors[2].kind)
    assert.matches("broke", errors[2].message, 1, true)
    assert.is_nil(errors[1])
  end)
end)

describe("neap.race", function()
  it("gives the results of the first that returns, once the others have ended", function()
    local start, cleaned = neap.now(), nil
    local a, b, c = neap.race { sleeper(5), sleeper(1, "first", nil, 3), function()
      pcall(neap.sleep, 100)
      neap.shield(neap.sleep, 1)
      cleaned = true
    end }
    assert.equal("first", a)
    assert.is_nil(b)
    assert.equal(3, c)
    assert.is_true(cleaned)
    assert.equal(2000000000, ns_since(start))
  end)

  it("goes to whoever comes first in the list when both are done", function()
    assert.equal(1, neap.race { function() return 1 end, function() return 2 end })
    assert.equal(1, neap.race { sleeper(1, 1), sleeper(1, 2) })
  end)

  it("is also won by nil, err", function()
    local value, err = neap.race { sleeper(1, nil, "no"), sleeper(2, "late") }
    assert.is_nil(value)
    assert.equal("no", err)
  end)

  it("raises what is raised before anybody has won", function()
    local ok, err = pcall(neap.race, { sleeper(2, "late"), function()
      neap.sleep(1)
      error "broke"
    end })
    assert.is_false(ok)
    assert.matches("broke", err.message, 1, true)
  end)

  it("frees what the losers held", function()
    local sem = neap.semaphore(1)
    neap.race { function() sem:with(neap.sleep, 100) end, function() sem:with(neap.sleep, 100) end, sleeper(1) }
    assert.equal(0, sem:held())
    assert.equal(0, sem:waiting())
  end)
end)

describe("neap.map", function()
  it("calls for each item and gives results by index", function()
    local start = neap.now()
    local results, errors = neap.map({ 30, 10, 20 }, function(item, index)
      neap.sleep(item / 10)
      return item + index
    end)
    assert.same({ 31, 12, 23 }, results)
    assert.is_nil(errors)
    assert.equal(3000000000, ns_since(start))
  end)

  it("keeps to its concurrency and starts the next item as soon as one ends", function()
    local start, running, peak, order = neap.now(), 0, 0, {}
    neap.map({ 3, 1, 1, 1, 1 }, function(item, index)
      running = running + 1
      peak = math.max(peak, running)
      order[#order + 1] = index
      neap.sleep(item)
      running = running - 1
    end, { concurrency = 2 })
    assert.equal(2, peak)
    assert.same({ 1, 2, 3, 4, 5 }, order)
    assert.equal(4000000000, ns_since(start))
  end)

  it("gives errors by index beside the results", function()
    local err = failure "status"
    local results, errors = neap.map({ 1, 2, 3 }, function(item)
      if item == 2 then return nil, err end
      return item
    end)
    assert.equal(1, results[1])
    assert.is_nil(results[2])
    assert.equal(3, results[3])
    assert.same({ [2] = err }, errors)
  end)

  it("raises what one raised and starts no further item", function()
    local started = {}
    local ok, err = pcall(neap.map, { 1, 2, 3, 4 }, function(item)
      started[#started + 1] = item
      neap.sleep(item)
      if item == 1 then error "broke" end
    end, { concurrency = 2 })
    assert.is_false(ok)
    assert.matches("broke", err.message, 1, true)
    assert.same({ 1, 2 }, started)
  end)

  it("that collects goes on after a raised error", function()
    local results, errors = neap.map({ 1, 2, 3 }, function(item)
      if item == 2 then error("item 2", 0) end
      return item
    end, { concurrency = 1, on_error = "collect" })
    assert.equal(3, results[3])
    assert.equal("item 2", errors[2].message)
    assert.equal("internal", errors[2].kind)
  end)

  it("of nothing is nothing", function()
    assert.same({}, (neap.map({}, error)))
  end)
end)

describe("neap.imap", function()
  it("yields index, result and error as items finish", function()
    local got, err = {}, failure "status"
    for index, result, item_err in neap.imap(counter(3), function(item)
      neap.sleep(4 - item)
      if item == 2 then return nil, err end
      return item * 10
    end) do got[#got + 1] = { index, result, item_err } end
    assert.same({ { 3, 30 }, { 2, nil, err }, { 1, 10 } }, got)
  end)

  it("keeps input order when told to", function()
    local got = {}
    for index, result in neap.imap(counter(6), function(item)
      neap.sleep(item % 3)
      return item
    end, { ordered = true, concurrency = 3 }) do
      assert.equal(index, result)
      got[#got + 1] = index
    end
    assert.same({ 1, 2, 3, 4, 5, 6 }, got)
  end)

  it("raises a worker's error from the loop, where it can be caught", function()
    local ok, err = pcall(function()
      for _ in neap.imap(function() return 1 end, function() error "of the worker" end) do error "no item" end
    end)
    assert.is_false(ok)
    assert.matches("of the worker", tostring(err))
    neap.sleep(1)
  end)

  it("ends its workers with the scope in which a loop was left early", function()
    local working = 0
    local function endless() return true end
    neap.scope(function()
      for index in neap.imap(endless, function()
        working = working + 1
        local ok, err = pcall(neap.sleep, 1)
        working = working - 1
        if not ok then error(err, 0) end
        return true
      end, { concurrency = 3 }) do
        if index >= 5 then break end
      end
      neap.sleep(0.5)
      assert.is_true(working > 0)
    end)
    assert.equal(0, working)
  end)

  for _, ordered in ipairs { false, true } do
    local title = "holds at most concurrency + buffer items of an endless input"
    it(title .. (ordered and ", ordered" or ""), function()
      local alive, peak, seen = 0, 0, 0
      neap.scope(function(s)
        local n = 0
        local function endless()
          n = n + 1
          alive = alive + 1
          peak = math.max(peak, alive)
          return n
        end
        for _ in neap.imap(endless, function(item)
          neap.sleep(core.random())
          return item
        end, { concurrency = 4, buffer = 3, ordered = ordered }) do
          alive = alive - 1
          seen = seen + 1
          if seen % 10 == 0 then neap.sleep(3) end
          if seen == 200 then break end
        end
        s:cancel()
      end)
      assert.equal(200, seen)
      -- The one that the loop is looking at has made room already.
      assert.is_true(peak <= 4 + 3 + 1, peak)
    end)
  end

  it("runs `concurrency` items at a time while the loop keeps up", function()
    local start, running, peak = neap.now(), 0, 0
    for _ in neap.imap(counter(12), function()
      running = running + 1
      peak = math.max(peak, running)
      neap.sleep(1)
      running = running - 1
    end, { concurrency = 4 }) do end
    assert.equal(4, peak)
    assert.equal(3000000000, ns_since(start))
  end)

  it("reads no further than it must while the loop stands still", function()
    local iterator, state = counter(100)
    neap.scope(function(s)
      local take = neap.imap(iterator, function(item) return item end, { concurrency = 2, buffer = 1 })
      neap.sleep(10)
      assert.equal(3, state.taken)
      assert.equal(1, (take()))
      neap.sleep(10)
      assert.equal(4, state.taken)
      s:cancel()
    end)
  end)

  it("takes an iterator that waits, one call at a time", function()
    local inside, n, got = 0, 0, {}
    for _, result in neap.imap(function()
      inside = inside + 1
      assert.equal(1, inside)
      neap.sleep(1)
      inside = inside - 1
      n = n + 1
      if n <= 5 then return n end
    end, function(item) return item end, { concurrency = 3 }) do got[#got + 1] = result end
    table.sort(got)
    assert.same({ 1, 2, 3, 4, 5 }, got)
  end)

  it("drains a queue until it is closed", function()
    local queue, sum = neap.queue { max = 2 }, 0
    neap.scope(function(s)
      s:spawn(function()
        for i = 1, 10 do queue:put(i) end
        queue:close()
      end)
      for _, result in neap.imap(queue:iter(), function(item) return item end) do sum = sum + result end
    end)
    assert.equal(55, sum)
  end)

  it("of nothing ends at once", function()
    for _ in neap.imap(function() end, error) do error "no item" end
  end)

  it("raises what the function or the iterator raised, in the loop's scope", function()
    for _, broken in ipairs {
      { counter(3), function(item)
        if item == 2 then error "broke" end
        return item
      end },
      { function() error "broke" end, function() end },
    } do
      local ok, err = pcall(neap.scope, function()
        for _ in neap.imap(broken[1], broken[2]) do end
      end)
      assert.is_false(ok)
      assert.matches("broke", err.message, 1, true)
    end
  end)

  it("that collects yields a raised error with its index", function()
    local errors = {}
    for index, result, err in neap.imap(counter(3), function(item)
      if item == 2 then error("item 2", 0) end
      return item
    end, { on_error = "collect" }) do
      if err then errors[index] = err.message else assert.equal(index, result) end
    end
    assert.same({ [2] = "item 2" }, errors)
  end)
end)

describe("misuse of a combinator raises", function()
  it("for things that are no functions or lists", function()
    assert.has_error(function() neap.gather { 1 } end)
    assert.has_error(function() neap.gather(print) end)
    assert.has_error(function() neap.race {} end)
    assert.has_error(function() neap.map(1, print) end)
    assert.has_error(function() neap.map({}, nil) end)
    assert.has_error(function() neap.imap({ 1, 2 }, print) end)
    assert.has_error(function() neap.imap(pairs {}, nil) end)
  end)

  it("for options that make no sense", function()
    assert.has_error(function() neap.map({}, print, { concurrency = 0 }) end)
    assert.has_error(function() neap.map({}, print, { concurrency = 1.5 }) end)
    assert.has_error(function() neap.gather({}, { on_error = "ignore" }) end)
    assert.has_error(function() neap.imap(print, print, { buffer = -1 }) end)
    local _, err = pcall(neap.map, {}, print, { concurency = 1 })
    assert.matches("did you mean 'concurrency'", err, 1, true)
  end)
end)
