-- SPDX-License-Identifier: MIT
local core = require "neap.core"
local neap = require "neap"

local group = neap.group

local function ms_since(start) return math.floor((neap.now() - start) * 1e3 + 0.5) end

local function itself(value) return value end

--- An iterator over 1, 2, ... count; how many it has given.
local function counter(count)
  local state = { taken = 0 }
  return function()
    if state.taken >= count then return nil end
    state.taken = state.taken + 1
    return state.taken
  end, state
end

local function all(iterator)
  local list = {}
  for value in iterator do list[#list + 1] = value end
  return list
end

local function weight_of(list)
  local sum = 0
  for _, weight in ipairs(list) do sum = sum + weight end
  return sum
end

describe("neap.group.chunks", function()
  it("cuts a list into chunks of a size, in order", function()
    assert.same({ { 1, 2 }, { 3, 4 }, { 5 } }, group.chunks({ 1, 2, 3, 4, 5 }, 2))
    assert.same({ { 1, 2 }, { 3, 4 } }, group.chunks({ 1, 2, 3, 4 }, 2))
    assert.same({ { 1 } }, group.chunks({ 1 }, 10))
    assert.same({}, group.chunks({}, 10))
  end)

  it("makes an iterator of chunks out of an iterator and reads no further than it must", function()
    local iterator, state = counter(5)
    local chunks = group.chunks(iterator, 2)
    assert.equal(0, state.taken)
    assert.same({ 1, 2 }, chunks())
    assert.equal(2, state.taken)
    assert.same({ { 3, 4 }, { 5 } }, all(chunks))
    assert.is_nil(chunks())
    assert.same({ { 1, 2, 3 } }, all(group.chunks(setmetatable({}, { __call = (counter(3)) }), 9)))
  end)

  it("refuses what is no size and what is no list", function()
    for _, size in ipairs { 0, -1, 1.5, 0 / 0, math.huge, "2" } do
      assert.error_matches(function() group.chunks({}, size) end, "size must be a whole number of at least 1")
    end
    assert.error_matches(function() group.chunks("abc", 2) end, "expected a list or an iterator function, got string")
  end)
end)

describe("neap.group.by_key", function()
  it("keeps the groups in the order in which their keys were seen, and the items in theirs", function()
    local groups = group.by_key({ "b1", "a1", "b2", "c1", "a2" }, function(item) return item:sub(1, 1) end)
    assert.same({ { "b1", "b2", key = "b" }, { "a1", "a2", key = "a" }, { "c1", key = "c" } }, groups)
  end)

  it("reads an iterator to its end and takes any key", function()
    local groups = group.by_key(counter(5), function(n) return n % 2 == 0 end)
    assert.same({ { 1, 3, 5, key = false }, { 2, 4, key = true } }, groups)
  end)

  it("refuses a missing key", function()
    assert.error_matches(function() group.by_key({ 1 }, function() end) end, "must return a key, got nil")
    assert.error_matches(function() group.by_key({ 1 }, function() return 0 / 0 end) end, "return a key, got %-?nan")
    assert.error_matches(function() group.by_key({ 1 }, "x") end, "the key function must be a function, got string")
  end)
end)

describe("neap.group.by_weight", function()
  it("ends a group where the next item does not fit", function()
    assert.same({ { 60, 40 }, { 1, 99 }, { 50 }, { 51 } }, group.by_weight({ 60, 40, 1, 99, 50, 51 }, 100, itself))
    assert.same({}, group.by_weight({}, 100, itself))
  end)

  it("makes a group of its own of an item that is too heavy", function()
    assert.same({ { 10 }, { 101 }, { 20, 30 } }, group.by_weight({ 10, 101, 20, 30 }, 100, itself))
    assert.same({ { 101 } }, group.by_weight({ 101 }, 100, itself))
  end)

  it("makes an iterator of groups out of an iterator, one item ahead", function()
    local iterator, state = counter(6)
    local groups = group.by_weight(iterator, 6, itself)
    assert.same({ 1, 2, 3 }, groups())
    assert.equal(4, state.taken)
    assert.same({ { 4 }, { 5 }, { 6 } }, all(groups))
    assert.is_nil(groups())
  end)

  it("that balances packs the heaviest first and keeps the order of the list", function()
    local list = { 4, 6, 6, 4, 6, 4 }
    assert.same({ { 4, 6 }, { 6, 4 }, { 6, 4 } }, group.by_weight(list, 10, itself))
    list = { 4, 4, 4, 6, 6, 6 }
    assert.same({ { 4, 4 }, { 4, 6 }, { 6 }, { 6 } }, group.by_weight(list, 10, itself))
    assert.same({ { 4, 6 }, { 4, 6 }, { 4, 6 } }, group.by_weight(list, 10, itself, { balance = true }))
    assert.same({ { 3 }, { 2, 1 } }, group.by_weight({ 3, 2, 1 }, 4, itself, { balance = true }))
    assert.same({ { 5, 5 }, { 50 } }, group.by_weight({ 5, 50, 5 }, 10, itself, { balance = true }))
    assert.same({}, group.by_weight({}, 10, itself, { balance = true }))
    assert.same({ { 1, 2 } }, all(group.by_weight(counter(2), 9, itself, { balance = true })))
  end)

  it("loses nothing, exceeds nothing, and balances to within the heaviest item", function()
    for round = 1, 300 do
      local list, max = {}, 20 + math.floor(core.random() * 80)
      for i = 1, round do list[i] = math.floor(core.random() * (round % 7 == 0 and 140 or 60)) end
      local flat = {}
      for _, part in ipairs(group.by_weight(list, max, itself)) do
        assert.is_true(weight_of(part) <= max or #part == 1)
        for _, weight in ipairs(part) do flat[#flat + 1] = weight end
      end
      assert.same(list, flat)
      local balanced = group.by_weight(list, max, itself, { balance = true })
      local seen, least, most, heaviest, count = {}, math.huge, 0, 0, 0
      for _, part in ipairs(balanced) do
        local weight = weight_of(part)
        assert.is_true(weight <= max or #part == 1)
        if weight <= max then
          least, most, count = math.min(least, weight), math.max(most, weight), count + 1
        end
        for _, item in ipairs(part) do
          seen[item] = (seen[item] or 0) + 1
          if item <= max then heaviest = math.max(heaviest, item) end
        end
      end
      for _, item in ipairs(list) do seen[item] = seen[item] - 1 end
      for item, left in pairs(seen) do assert.equal(0, left, "items of weight " .. item) end
      assert.is_true(count == 0 or most - least <= heaviest)
    end
  end)

  it("balances a long list in no time", function()
    local list = {}
    for i = 1, 50000 do list[i] = 34 + i % 17 end -- only two fit into a group
    local groups = group.by_weight(list, 100, itself, { balance = true })
    assert.is_true(#groups >= 25000 and #groups < 27500)
  end)

  it("refuses bad arguments by name", function()
    assert.error_matches(function() group.by_weight({}, 0, itself) end, "max_weight must be a number above 0, got 0")
    assert.error_matches(function() group.by_weight({}, 0 / 0, itself) end, "max_weight must be a number above 0")
    assert.error_matches(function() group.by_weight({}, 1) end, "weight must be a function, got nil")
    assert.error_matches(function() group.by_weight({ 1 }, 1, function() return -1 end) end,
      "weight must return a number of at least 0, got %-1")
    assert.error_matches(function() group.by_weight({}, 1, itself, { balanced = true }) end, "did you mean 'balance'")
    assert.error_matches(function() group.by_weight(nil, 1, itself) end, "expected a list or an iterator function")
  end)
end)

describe("neap.map_chunks", function()
  it("works chunk by chunk and gives results in order", function()
    local start, began = neap.now(), {}
    local results, errors = neap.map_chunks({ 3, 1, 2, 1, 1 }, function(seconds, index)
      began[index] = ms_since(start)
      neap.sleep(seconds)
      return index * 10
    end, { size = 2 })
    assert.same({ 10, 20, 30, 40, 50 }, results)
    assert.is_nil(errors)
    assert.same({ 0, 0, 3000, 3000, 5000 }, began)
    assert.equal(6000, ms_since(start))
  end)

  it("gives errors by the item's index and goes on", function()
    local results, errors = neap.map_chunks({ "a", "b", "c", "d" }, function(item)
      if item == "b" or item == "d" then return nil, "no " .. item end
      return item
    end, { size = 3 })
    assert.same({ [1] = "a", [3] = "c" }, results)
    assert.same({ [2] = "no b", [4] = "no d" }, errors)
  end)

  it("pauses between chunks, not around them", function()
    local start, began = neap.now(), {}
    neap.map_chunks({ 1, 2, 3, 4 }, function(_, index)
      began[index] = ms_since(start)
      neap.sleep(1)
    end, { size = 2, pause = 5 })
    assert.same({ 0, 0, 6000, 6000 }, began)
    assert.equal(7000, ms_since(start))
  end)

  it("bounds what runs at the same time within a chunk", function()
    local running, most = 0, 0
    neap.map_chunks(counter(9), function()
      running = running + 1
      most = math.max(most, running)
      neap.sleep(1)
      running = running - 1
    end, { size = 5, concurrency = 2 })
    assert.equal(2, most)
  end)

  it("reads an iterator chunk by chunk, tells on_chunk, and need not keep the results", function()
    local iterator, state = counter(5)
    local chunks, taken = {}, {}
    local count, errors = neap.map_chunks(iterator, function(item)
      neap.sleep(item)
      if item == 4 then return nil, "four" end
      return item * item
    end, { size = 2, keep = false, on_chunk = function(chunk)
      chunks[#chunks + 1] = chunk
      taken[#taken + 1] = state.taken
    end })
    assert.equal(5, count)
    assert.is_nil(errors)
    assert.same({ 2, 4, 5 }, taken)
    assert.same({
      { index = 1, first = 1, last = 2, items = { 1, 2 }, results = { 1, 4 }, seconds = 2 },
      { index = 2, first = 3, last = 4, items = { 3, 4 }, results = { 9 }, errors = { [2] = "four" }, seconds = 4 },
      { index = 3, first = 5, last = 5, items = { 5 }, results = { 25 }, seconds = 5 },
    }, chunks)
  end)

  it("ends with the chunk in which one raises; the next does not begin", function()
    local begun = 0
    local ok, err = pcall(neap.map_chunks, { 1, 2, 3, 4 }, function(item)
      begun = begun + 1
      if item == 2 then error "broke" end
      neap.sleep(1)
    end, { size = 2 })
    assert.is_false(ok)
    assert.matches("broke", err.message, 1, true)
    assert.equal(2, begun)
  end)

  it("that collects turns a raised error into that item's error", function()
    local results, errors = neap.map_chunks({ 1, 2, 3 }, function(item)
      if item == 2 then error "broke" end
      return item
    end, { size = 2, on_error = "collect" })
    assert.same({ [1] = 1, [3] = 3 }, results)
    assert.equal("internal", errors[2].kind)
  end)

  it("stops where it is when it is cancelled", function()
    local begun = 0
    local _, err = neap.timeout(2.5, neap.map_chunks, counter(100), function()
      begun = begun + 1
      neap.sleep(1)
    end, { size = 3 })
    assert.equal("timeout", err.kind)
    assert.equal(9, begun)
  end)

  it("of nothing is nothing", function()
    assert.same({}, (neap.map_chunks({}, itself)))
    assert.equal(0, (neap.map_chunks({}, itself, { keep = false, on_chunk = itself })))
  end)

  it("refuses bad options by name", function()
    local function refused(opts, text)
      assert.error_matches(function() neap.map_chunks({}, itself, opts) end, text)
    end
    refused({ size = 0 }, "neap.map_chunks: option 'size' must be at least 1, got 0")
    refused({ pause = -1 }, "option 'pause' must be at least 0, got %-1")
    refused({ concurrency = 0 }, "option 'concurrency' must be at least 1, got 0")
    refused({ on_error = "ignore" }, "option 'on_error' must be one of cancel, collect, got ignore")
    refused({ keep = false }, "option 'keep' = false needs 'on_chunk'")
    refused({ sise = 5 }, "did you mean 'size'")
    assert.error_matches(function() neap.map_chunks({}, "x") end, "the second argument must be a function, got string")
    assert.error_matches(function() neap.map_chunks(5, itself) end, "a list or an iterator function, got number")
  end)
end)
