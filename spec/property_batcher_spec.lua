-- SPDX-License-Identifier: MIT
-- The batcher against a small model of what it promises, by random use with a
-- fixed seed in virtual time: 100,000 operations in two tests.
local core = require "neap.core"
local neap = require "neap"

local function draw(n) return math.floor(core.random() * n) + 1 end

local MAX_SIZE, MAX_WEIGHT, MAX_DELAY = 6, 40, 0.02

--- Seconds that a batch runs for, and what its items get, as functions of the
--- items: the model knows them without asking.
local function latency_of(first) return 0.001 + (first * 7919 % 1000) / 1e5 end
local function fails(first) return first % 11 == 0 end
local function item_fails(id) return id % 13 == 0 end

--- The answer that item `id` is owed by a batch that begins with `first`.
local function owed(id, first)
  if fails(first) then return "batch failed" end
  return item_fails(id) and "item failed" or "answer " .. id
end

local function run_of(log)
  return function(items, key)
    local ids, weight = {}, 0
    for i, item in ipairs(items) do
      ids[i], weight = item.id, weight + item.weight
      assert(item.key == key, "a stranger in the batch")
    end
    local batch = { ids = table.concat(ids, " "), size = #ids, weight = weight, at = neap.now(), first = ids[1] }
    log[#log + 1] = batch
    log.running = log.running + 1
    log.most = math.max(log.most, log.running)
    local ok, err = pcall(neap.sleep, latency_of(ids[1]))
    log.running = log.running - 1
    if not ok then
      batch.cancelled = true
      error(err, 0)
    end
    if fails(ids[1]) then return nil, "batch failed" end
    return neap.map(items, function(item)
      if item_fails(item.id) then return nil, "item failed" end
      return "answer " .. item.id
    end)
  end
end

--- One caller; `outcomes` counts what it got, and how often.
local function submit(batcher, item, outcomes)
  local result, err = batcher:submit(item, item.timeout and { timeout = item.timeout })
  local got = result or type(err) == "table" and err.kind .. " " .. tostring(err.sent) or err
  outcomes[item.id] = outcomes[item.id] and "answered twice" or got
end

-- ---------------------------------------------------------------------------
-- The model: batches close on time, whatever runs
-- ---------------------------------------------------------------------------

local function new_model() return { open = {}, closed = {}, outcomes = {} } end

--- Takes out of a batch who has left before `at`.
local function prune(model, batch, at)
  for i = #batch, 1, -1 do
    local item = batch[i]
    if item.leaves < at then
      model.outcomes[item.id] = item.cancelled and "cancelled" or "timeout no"
      batch.weight = batch.weight - item.weight
      table.remove(batch, i)
    end
  end
end

local function close(model, batch, at)
  model.open[batch.key] = nil
  prune(model, batch, at)
  if #batch == 0 then return end
  batch.at = at
  model.closed[#model.closed + 1] = batch
end

--- What happens by itself until `at`.
local function pass_time(model, at)
  for _, key in ipairs { "a", "b", "c" } do
    local batch = model.open[key]
    if batch and batch.began + MAX_DELAY < at then
      close(model, batch, batch.began + MAX_DELAY)
    elseif batch then
      prune(model, batch, at)
      if #batch == 0 then model.open[key] = nil end
    end
  end
end

local function model_submit(model, item, at)
  local batch = model.open[item.key]
  if batch and batch.weight + item.weight > MAX_WEIGHT then
    close(model, batch, at)
    batch = nil
  end
  batch = batch or { key = item.key, began = at, weight = 0 }
  model.open[item.key] = batch
  batch[#batch + 1], batch.weight = item, batch.weight + item.weight
  if #batch == MAX_SIZE or batch.weight >= MAX_WEIGHT then close(model, batch, at) end
end

--- What the callers of the closed batches got: those who stayed their answers.
local function settle(model)
  local cancelled = 0
  for _, batch in ipairs(model.closed) do
    local first = batch[1].id
    local ends, stayed = batch.at + latency_of(first), 0
    for _, item in ipairs(batch) do
      if item.leaves < ends then
        model.outcomes[item.id] = item.cancelled and "cancelled" or "timeout maybe"
      else
        model.outcomes[item.id] = owed(item.id, first)
        stayed = stayed + 1
      end
    end
    if stayed == 0 then cancelled = cancelled + 1 end
  end
  return cancelled
end

local function ids_of(batch)
  local ids = {}
  for i, item in ipairs(batch) do ids[i] = item.id end
  return table.concat(ids, " ")
end

--- By the instant at which they were sent; together: by their first item.
local function sort(batches)
  table.sort(batches, function(a, b)
    if math.abs(a.at - b.at) > 1e-7 then return a.at < b.at end
    return a.first < b.first
  end)
end

local function random_item(id)
  local item = { id = id, weight = draw(14) - 1, key = ({ "a", "b", "c" })[draw(3)], leaves = math.huge }
  if draw(50) == 1 then item.weight = MAX_WEIGHT + draw(9) end
  if draw(6) == 1 then item.timeout = core.random() * 0.04 end
  return item
end

local function new_batcher(log, opts)
  opts.run, opts.max_size, opts.max_delay, opts.max_weight = run_of(log), MAX_SIZE, MAX_DELAY, MAX_WEIGHT
  opts.weight = function(item) return item.weight end
  opts.group_by = function(item) return item.key end
  return neap.batcher(opts)
end

describe("a batcher under random use", function()
  it("sends the very batches of the model, when it says, and everybody gets what is due", function()
    local model, outcomes, log = new_model(), {}, { running = 0, most = 0 }
    local batcher = new_batcher(log, {})
    local count = 0
    neap.scope(function(s)
      local callers = {}
      for _ = 1, 60000 do
        local kind = draw(20)
        if kind <= 17 then
          count = count + 1
          local item = random_item(count)
          pass_time(model, neap.now())
          if item.timeout then item.leaves = neap.now() + item.timeout end
          model_submit(model, item, neap.now())
          callers[count % 32 + 1] = { item = item, task = s:spawn(submit, batcher, item, outcomes) }
          if draw(3) > 1 then neap.sleep(core.random() * 0.004) end
        else
          neap.sleep(core.random() * 0.004) -- alone in its instant
          local at = neap.now()
          pass_time(model, at)
          local caller = callers[draw(32)]
          if kind == 18 and caller and caller.task:status() == "waiting" then
            caller.task:cancel()
            caller.item.leaves, caller.item.cancelled = at, true
            outcomes[caller.item.id] = "cancelled"
          elseif kind == 19 then
            batcher:flush()
            for _, key in ipairs { "a", "b", "c" } do
              if model.open[key] then close(model, model.open[key], at) end
            end
          end
          neap.sleep(core.random() * 0.004)
        end
      end
    end)
    pass_time(model, math.huge)
    local cancelled = settle(model)
    for _, batch in ipairs(model.closed) do batch.first = batch[1].id end
    sort(model.closed)
    sort(log)
    assert.equal(#model.closed, #log)
    local reached = { cancelled = 0, full = 0, small = 0 }
    for i, batch in ipairs(log) do
      local expected = model.closed[i]
      assert.equal(ids_of(expected), batch.ids)
      assert.is_true(math.abs(expected.at - batch.at) < 1e-7, "the batch that begins with " .. batch.first)
      if batch.cancelled then reached.cancelled = reached.cancelled + 1 end
      if batch.size == MAX_SIZE then reached.full = reached.full + 1 else reached.small = reached.small + 1 end
    end
    for id = 1, count do
      if model.outcomes[id] ~= outcomes[id] then assert.equal(id .. model.outcomes[id], id .. outcomes[id]) end
    end
    assert.equal(cancelled, reached.cancelled)
    assert.is_true(reached.cancelled > 20 and reached.full > 1000 and reached.small > 1000)
    local seen = batcher:snapshot()
    assert.same({ 0, 0, 0, "idle" }, { seen.waiting, seen.running, seen.open, seen.state })
  end)

  it("with a concurrency and a bounded line keeps all bounds, loses nobody and never idles", function()
    local outcomes, log = {}, { running = 0, most = 0 }
    local limit, most_waiting = 3, 20
    local batcher = new_batcher(log, { concurrency = limit, max_waiting = most_waiting })
    local count, line_was_seen = 0, 0
    neap.scope(function(s)
      local callers = {}
      for _ = 1, 40000 do
        local kind = draw(20)
        if kind <= 16 then
          count = count + 1
          local item = random_item(count)
          callers[count % 64 + 1] = { id = count, task = s:spawn(submit, batcher, item, outcomes) }
        elseif kind == 17 then
          local caller = callers[draw(64)]
          if caller and caller.task:status() == "waiting" then
            caller.task:cancel()
            outcomes[caller.id] = "cancelled"
          end
        elseif kind == 18 and draw(10) == 1 then
          batcher:flush()
        else
          limit = draw(4)
          batcher:update { concurrency = limit }
        end
        if draw(2) == 1 then neap.sleep(core.random() * 0.002) end
        local seen = batcher:snapshot()
        assert.is_true(seen.waiting <= most_waiting)
        if seen.due > 0 then
          line_was_seen = line_was_seen + 1
          assert.is_true(seen.running >= limit, "a batch waits though there is room")
        end
      end
    end)
    assert.is_true(line_was_seen > 1000)
    assert.is_true(log.most <= 4)
    local sent = {}
    for _, batch in ipairs(log) do
      assert.is_true(batch.size <= MAX_SIZE)
      assert.is_true(batch.weight <= MAX_WEIGHT or batch.size == 1)
      local before = 0
      for id in batch.ids:gmatch "%d+" do
        id = tonumber(id)
        assert.is_true(id > before, "the order of the submits")
        assert.is_nil(sent[id], "sent twice")
        before, sent[id] = id, batch
      end
    end
    local got = {}
    for id = 1, count do
      local outcome, batch = outcomes[id], sent[id]
      assert.is_string(outcome, "lost: " .. id)
      if outcome == "queue_full no" or outcome == "timeout no" then assert.is_nil(batch, outcome) end
      if outcome == "timeout maybe" then assert.is_truthy(batch, outcome) end
      if not outcome:find "^timeout" and outcome ~= "cancelled" and outcome ~= "queue_full no" then
        assert.equal(owed(id, batch.first), outcome)
      end
      local kind = outcome:match "^%a+"
      got[kind] = (got[kind] or 0) + 1
    end
    for _, kind in ipairs { "answer", "item", "batch", "timeout", "cancelled", "queue" } do
      assert.is_true((got[kind] or 0) > 100, kind)
    end
    assert.equal(0, batcher:snapshot().waiting)
  end)
end)
