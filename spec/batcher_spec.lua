-- SPDX-License-Identifier: MIT
local core = require "neap.core"
local neap = require "neap"
local support = require "spec.support.batcher"

local echo, recorder, submit_all, items_of = support.echo, support.recorder, support.submit_all, support.items_of

local function ms_since(start) return math.floor((neap.now() - start) * 1e3 + 0.5) end

describe("neap.batcher", function()
  it("sends a full batch at once and gives each caller its own answer", function()
    local run, sent = recorder()
    local start = neap.now()
    local got = submit_all(neap.batcher { run = run, max_size = 3, max_delay = 60 }, { "a", "b", "c" })
    assert.same({ { result = "re a" }, { result = "re b" }, { result = "re c" } }, got)
    assert.same({ "a b c" }, items_of(sent))
    assert.equal(0, ms_since(start))
  end)

  it("sends a smaller batch max_delay after its first item", function()
    local run, sent = recorder()
    local batcher, start = neap.batcher { run = run, max_size = 10, max_delay = 0.25 }, neap.now()
    neap.scope(function(s)
      s:spawn(batcher.submit, batcher, "a")
      neap.sleep(0.2)
      s:spawn(batcher.submit, batcher, "b")
      neap.sleep(0.1)
      s:spawn(batcher.submit, batcher, "c")
    end)
    assert.same({ "a b", "c" }, items_of(sent))
    assert.equal(250, math.floor((sent[1].at - start) * 1e3 + 0.5))
    assert.equal(550, math.floor((sent[2].at - start) * 1e3 + 0.5))
  end)

  it("without a delay sends together what is submitted in the same turn", function()
    local run, sent = recorder()
    local batcher, start = neap.batcher { run = run, max_delay = 0 }, neap.now()
    submit_all(batcher, { "a", "b", "c" })
    submit_all(batcher, { "d", "e" })
    assert.same({ "a b c", "d e" }, items_of(sent))
    assert.equal(0, ms_since(start))
  end)

  it("sends a batch that reaches max_weight, and one that the next item would make too heavy", function()
    local run, sent = recorder()
    local batcher = neap.batcher {
      run = run, max_delay = 1, max_weight = 10, weight = function(item) return #item end,
    }
    submit_all(batcher, { "aaaa", "bbbbbb", "cccccccc", "ddd", "e" })
    assert.same({ "aaaa bbbbbb", "cccccccc", "ddd e" }, items_of(sent))
  end)

  it("sends an item that is heavier than max_weight alone", function()
    local run, sent = recorder()
    local batcher = neap.batcher {
      run = run, max_delay = 1, max_weight = 3, weight = function(item) return #item end,
    }
    submit_all(batcher, { "a", "bbbbb", "c" })
    assert.same({ "a", "bbbbb", "c" }, items_of(sent))
  end)

  it("keeps items with different keys apart and tells run the key", function()
    local run, sent = recorder()
    local batcher = neap.batcher { run = run, max_size = 2, max_delay = 1, group_by = function(item)
      return item:sub(1, 1)
    end }
    local got = submit_all(batcher, { "x1", "y1", "x2", "z1", "y2" })
    assert.same({ "x1 x2", "y1 y2", "z1" }, items_of(sent))
    assert.same({ "x", "y", "z" }, { sent[1].key, sent[2].key, sent[3].key })
    assert.equal("re z1", got[4].result)
    assert.equal(0, batcher:snapshot().open)
  end)

  it("runs no more than concurrency batches; one that waits takes in items until it is full", function()
    local run, sent = recorder(1)
    local batcher = neap.batcher { run = run, max_size = 3, max_delay = 0.1, concurrency = 1 }
    neap.scope(function(s)
      for _, item in ipairs { "a", "b", "c" } do s:spawn(batcher.submit, batcher, item) end
      neap.sleep(0.2)
      s:spawn(batcher.submit, batcher, "d")
      neap.sleep(0.5)
      assert.equal("concurrency", batcher:snapshot().reason)
      assert.equal(1, batcher:snapshot().due)
      s:spawn(batcher.submit, batcher, "e") -- d has waited its delay, but not yet got its turn
    end)
    assert.same({ "a b c", "d e" }, items_of(sent))
    assert.equal(1, sent.most)
    assert.equal(1000, math.floor((sent[2].at - sent[1].at) * 1e3 + 0.5))
  end)

  it("sends waiting batches in the order in which they became due", function()
    local run, sent = recorder(1)
    local batcher = neap.batcher { run = run, max_size = 2, max_delay = 9, concurrency = 2 }
    submit_all(batcher, { "a", "b", "c", "d", "e", "f", "g", "h" })
    assert.same({ "a b", "c d", "e f", "g h" }, items_of(sent))
    assert.equal(2, sent.most)
  end)

  it("sends what waits on flush", function()
    local run, sent = recorder()
    local batcher, start = neap.batcher { run = run, max_delay = 60 }, neap.now()
    neap.scope(function(s)
      local first = s:spawn(batcher.submit, batcher, "a")
      s:spawn(batcher.submit, batcher, "b")
      neap.sleep(1)
      batcher:flush()
      assert.equal("re a", first:await())
      batcher:flush() -- nothing waits
    end)
    assert.same({ "a b" }, items_of(sent))
    assert.equal(1000, ms_since(start))
  end)

  it("never sends for age when max_delay is math.huge", function()
    local run, sent = recorder()
    local batcher = neap.batcher { run = run, max_size = 2, max_delay = math.huge }
    neap.scope(function(s)
      s:spawn(batcher.submit, batcher, "a")
      neap.sleep(1e6)
      assert.is_nil(batcher:snapshot().next_change)
      s:spawn(batcher.submit, batcher, "b")
    end)
    assert.same({ "a b" }, items_of(sent))
  end)
end)

describe("a batcher", function()
  it("that is closed sends what waits, returns when all has ended, and refuses the rest", function()
    local run, sent = recorder(1)
    local batcher, start = neap.batcher { run = run, max_delay = 60 }, neap.now()
    neap.scope(function(s)
      local first = s:spawn(batcher.submit, batcher, "a")
      neap.sleep(0)
      local ok, err = batcher:close(0.5)
      assert.is_nil(ok)
      assert.equal("timeout", err.kind)
      assert.equal("closed", select(2, batcher:submit "b").kind)
      assert.is_true(batcher:close())
      assert.equal(1000, ms_since(start))
      assert.equal("re a", first:await())
      assert.is_true(batcher:close())
    end)
    assert.same({ "a" }, items_of(sent))
    assert.equal("closed", batcher:snapshot().state)
  end)

  it("refuses items beyond max_waiting; what is under way does not count", function()
    local run = recorder(1)
    local batcher = neap.batcher { run = run, max_size = 2, max_delay = 1, max_waiting = 2, concurrency = 1 }
    local got = submit_all(batcher, { "a", "b", "c", "d", "e" })
    assert.equal("re d", got[4].result)
    assert.same({ "queue_full", "no", true }, { got[5].err.kind, got[5].err.sent, got[5].err.retryable })
    assert.equal(1, batcher:snapshot().refused)
  end)

  it("that is idle has no task and no timer", function()
    local stats = core.stats()
    local batcher = neap.batcher { run = echo, max_size = 1 }
    assert.equal("re a", (batcher:submit "a"))
    neap.sleep(0)
    assert.same({ stats.tasks, stats.timers }, { core.stats().tasks, core.stats().timers })
  end)

  it("outlives the scope in which it was made", function()
    local batcher = neap.scope(function() return neap.batcher { run = echo, max_delay = 1 } end)
    assert.equal("re a", (batcher:submit "a"))
  end)

  it("says what it does", function()
    local run = recorder(1)
    local batcher = neap.batcher { run = run, max_size = 2, max_delay = 3, concurrency = 1, name = "embed" }
    assert.equal("idle", batcher:snapshot().state)
    local start = neap.now()
    neap.scope(function(s)
      for i = 1, 5 do s:spawn(batcher.submit, batcher, i, { timeout = 60 }) end
      neap.sleep(0.5)
      local seen = batcher:snapshot()
      assert.near(start + 3 - neap.now(), seen.next_change, 1e-9)
      seen.next_change = nil
      assert.same({ kind = "batcher", name = "embed", state = "running", reason = "concurrency", limit = 1,
        waiting = 3, running = 1, open = 1, due = 1, batches = 1, items = 2, dropped = 0, refused = 0 }, seen)
    end)
    assert.equal(3, batcher:snapshot().batches)
  end)

  it("tells neap.telemetry what it sends and why", function()
    local events = {}
    local unsubscribe = neap.telemetry.subscribe(function(event) events[#events + 1] = event end)
    local batcher = neap.batcher { run = echo, max_size = 2, max_delay = 1, name = "embed" }
    submit_all(batcher, { "a", "b", "c" })
    batcher:close()
    unsubscribe()
    local told = {}
    for i, event in ipairs(events) do
      assert.same({ "batcher", "embed" }, { event.kind, event.source })
      told[i] = ("%s %s %s"):format(event.event, event.reason or event.ok, event.size)
    end
    assert.same({ "send size 2", "done true 2", "send delay 1", "done true 1", "close manual nil" }, told)
  end)

  it("changes while in use", function()
    local run, sent = recorder(1)
    local batcher = neap.batcher { run = run, max_size = 10, max_delay = 60, concurrency = 1 }
    neap.scope(function(s)
      for i = 1, 3 do s:spawn(batcher.submit, batcher, i) end
      neap.sleep(1)
      batcher:update { max_size = 3 } -- the batch is full now
      for i = 4, 9 do s:spawn(batcher.submit, batcher, i) end
      neap.sleep(0)
      assert.equal(1, sent.running)
      batcher:update { concurrency = 2 }
      neap.sleep(0)
      assert.equal(2, sent.running)
    end)
    assert.same({ "1 2 3", "4 5 6", "7 8 9" }, items_of(sent))
    assert.has_error(function() batcher:update { name = "other" } end)
    assert.error_matches(function() batcher:update { max_size = 0 } end, "'max_size' must be at least 1, got 0")
    assert.equal(3, batcher.options.max_size)
  end)

  it("raises what group_by and weight raise, in the caller, and sends nothing of it", function()
    local run, sent = recorder()
    local function try(opts)
      opts.run = run
      return select(2, pcall(neap.batcher(opts).submit, neap.batcher(opts), "a"))
    end
    assert.matches("no key", tostring(try { group_by = function() error "no key" end }), 1, true)
    assert.matches("group_by must return a key, got nil", try { group_by = function() end }, 1, true)
    assert.matches("weight must return a number of at least 0, got nil",
      try { max_weight = 1, weight = function() end }, 1, true)
    assert.matches("got -1", try { max_weight = 1, weight = function() return -1 end }, 1, true)
    assert.equal(0, #sent)
  end)

  it("refuses bad options by name when it is made", function()
    local function make(opts)
      local batcher = neap.batcher(opts)
      return batcher
    end
    local function refused(opts, text)
      local ok, err = pcall(function() return { make(opts) } end)
      assert.is_false(ok)
      assert.matches(text, err, 1, true)
      assert.matches("batcher_spec.lua", err, 1, true)
    end
    refused({}, "neap.batcher: option 'run' is required")
    refused({ run = echo, max_size = 0 }, "option 'max_size' must be at least 1, got 0")
    refused({ run = echo, max_delay = -1 }, "option 'max_delay' must be at least 0, got -1")
    refused({ run = echo, max_weight = 0, weight = echo }, "option 'max_weight' must be above 0, got 0")
    refused({ run = echo, max_weight = 5 }, "option 'max_weight' needs 'weight'")
    refused({ run = echo, weight = echo }, "option 'weight' needs 'max_weight'")
    refused({ run = echo, max_size = 8, max_waiting = 4 }, "'max_waiting' must be at least 'max_size' (8), got 4")
    refused({ run = echo, concurrency = 1.5 }, "option 'concurrency' must be integer, got 1.5")
    refused({ run = echo, max_dealy = 1 }, "did you mean 'max_delay'?")
  end)

  it("refuses a nil item and unknown options of submit", function()
    local batcher = neap.batcher { run = echo }
    assert.error_matches(function() batcher:submit() end, "needs an item, got nil")
    assert.error_matches(function() batcher:submit("a", { timout = 1 }) end, "did you mean 'timeout'?", 1, true)
  end)

  it("gathers in real time too #real", function()
    local run, sent = recorder(0.01)
    local batcher = neap.batcher { run = run, max_size = 40, max_delay = 0.02, concurrency = 2 }
    local items = {}
    for i = 1, 100 do items[i] = "item " .. i end
    local got = submit_all(batcher, items)
    for i = 1, 100 do assert.equal("re item " .. i, got[i].result) end
    assert.equal(3, #sent)
    assert.equal(2, sent.most)
  end)
end)
