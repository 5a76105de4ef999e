-- SPDX-License-Identifier: MIT
local core = require "neap.core"
local neap = require "neap"
local support = require "spec.support.batcher"

local recorder, submit_all, items_of = support.recorder, support.submit_all, support.items_of

local function ms_since(start) return math.floor((neap.now() - start) * 1e3 + 0.5) end

local function failure(kind) return neap.error.new { kind = kind, message = "as asked" } end

describe("a batcher's answers", function()
  local function answers(run, items)
    return submit_all(neap.batcher { run = run, max_delay = 0 }, items or { "a", "b", "c" })
  end

  it("may be an error for each item, as neap.map gives them", function()
    local got = answers(function(items)
      return neap.map(items, function(item)
        if item == "b" then return nil, failure "status" end
        return item:upper()
      end)
    end)
    assert.same({ "A", "C" }, { got[1].result, got[3].result })
    assert.is_nil(got[2].result)
    assert.equal("status", got[2].err.kind)
    assert.is_nil(got[1].err)
  end)

  it("are one error for all when run fails, each a table of its own", function()
    local got = answers(function() return nil, failure "connect" end)
    for i = 1, 3 do
      assert.is_nil(got[i].result)
      assert.equal("connect: as asked", tostring(got[i].err))
      assert.is_true(got[i].err.retryable)
    end
    got[1].err.attempts = 7
    assert.is_nil(got[2].err.attempts)
  end)

  it("are an error of kind protocol for all when run gives too few", function()
    local got = answers(function() return { "A", "B" } end)
    for i = 1, 3 do
      assert.equal("protocol", got[i].err.kind)
      assert.matches("2 answers for 3 items", got[i].err.message, 1, true)
    end
    got = answers(function() return { "A", nil, "C" } end)
    assert.matches("2 answers for 3 items", got[1].err.message, 1, true)
  end)

  it("are an error of kind protocol for all when run gives too many", function()
    for _, got in ipairs {
      answers(function() return { "A", "B", "C", "D" } end),
      answers(function() return { "A", "B", "C" }, { [4] = failure "status" } end),
    } do
      assert.equal("protocol", got[1].err.kind)
      assert.matches("more than the 3 answers", got[3].err.message, 1, true)
    end
  end)

  it("are an error of kind internal for all when run raises", function()
    local cause = failure "connect"
    for i, got in ipairs {
      answers(function() error "broke" end),
      answers(function()
        neap.sleep(1)
        error(cause)
      end),
    } do
      for place = 1, 3 do
        local err = got[place].err
        assert.equal("internal", err.kind)
        assert.is_false(err.retryable)
        assert.matches(i == 1 and "broke" or "as asked", err.message, 1, true)
        assert.matches("batcher_answers_spec.lua", err.traceback, 1, true)
      end
      if i == 2 then assert.equal(cause, got[1].err.cause) end
    end
  end)

  it("are an error of kind internal when a task of run's raises", function()
    local got = answers(function()
      neap.spawn(function() error "broke" end)
      neap.sleep(60)
    end)
    assert.equal("internal", got[3].err.kind)
    assert.matches("broke", got[3].err.message, 1, true)
    assert.matches("spawned at", got[3].err.traceback, 1, true)
  end)

  it("wait for the tasks that run has spawned, and end those of the background", function()
    local tasks, start = core.stats().tasks, neap.now()
    local got = answers(function(items)
      neap.spawn(neap.sleep, 2)
      local numbers = neap.imap(function() return 1 end, neap.sleep)
      numbers() -- the rest is never asked for
      return items
    end)
    assert.equal("a", got[1].result)
    assert.equal(2000, ms_since(start))
    assert.equal(tasks, core.stats().tasks)
  end)

  it("are an error of kind internal for all when run breaks its contract", function()
    for text, run in pairs {
      ["neither results nor an error"] = function() end,
      ["a boolean instead of a list"] = function() return true end,
      ["a string instead of a table of errors"] = function() return { 1, 2, 3 }, "no" end,
    } do
      local got = answers(run)
      assert.equal("internal", got[3].err.kind)
      assert.matches(text, got[3].err.message, 1, true)
    end
  end)

  it("may be false", function()
    local got = answers(function() return { false, false, false } end)
    assert.same({ result = false }, got[2])
  end)

  it("come in the order of the submits", function()
    local order = {}
    local batcher = neap.batcher { run = function(items) return items end, max_size = 3 }
    neap.scope(function(s)
      for i = 1, 9 do
        s:spawn(function()
          local answer = batcher:submit(i)
          order[#order + 1] = answer
        end)
      end
    end)
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9 }, order)
  end)

  it("do not hold up the next batch when one fails", function()
    local run, sent = recorder(1, function() error "broke" end)
    local got = submit_all(neap.batcher { run = run, max_size = 1, concurrency = 1 }, { "a", "b" })
    assert.same({ "a", "b" }, items_of(sent))
    assert.equal("internal", got[2].err.kind)
  end)
end)

describe("a caller of a batcher that leaves", function()
  it("before the batch is sent takes its item along", function()
    local run, sent = recorder()
    local batcher = neap.batcher { run = run, max_delay = 1 }
    neap.scope(function(s)
      local first = s:spawn(batcher.submit, batcher, "a")
      local second = s:spawn(batcher.submit, batcher, "b")
      neap.sleep(0.5)
      first:cancel()
      assert.equal("re b", second:await())
    end)
    assert.same({ "b" }, items_of(sent))
    assert.equal(1, batcher:snapshot().dropped)
  end)

  it("makes room: neither its place nor its weight counts any more", function()
    local run, sent = recorder()
    local batcher = neap.batcher {
      run = run, max_delay = 1, max_size = 2, max_weight = 4, weight = function(item) return #item end,
    }
    neap.scope(function(s)
      local heavy = s:spawn(batcher.submit, batcher, "aaa")
      neap.sleep(0.1)
      heavy:cancel()
      neap.sleep(0)
      s:spawn(batcher.submit, batcher, "bbb")
      neap.sleep(0)
      local light = s:spawn(batcher.submit, batcher, "c", { timeout = 1e9 })
      light:cancel()
      neap.sleep(0.1)
      s:spawn(batcher.submit, batcher, "d")
    end)
    assert.same({ "bbb d" }, items_of(sent))
  end)

  it("while it runs leaves it to the others", function()
    local run, sent = recorder(1)
    local batcher = neap.batcher { run = run, max_size = 2 }
    neap.scope(function(s)
      local first = s:spawn(batcher.submit, batcher, "a")
      local second = s:spawn(batcher.submit, batcher, "b")
      neap.sleep(0.5)
      first:cancel()
      assert.equal("re b", second:await())
      assert.equal("cancelled", first:status())
    end)
    assert.equal(1, sent.ended)
  end)

  it("may have opened it inside a scope that has ended", function()
    local run, sent = recorder(1)
    local batcher = neap.batcher { run = run, max_size = 2 }
    neap.scope(function(s)
      local _, err = neap.timeout(0.5, function()
        s:spawn(batcher.submit, batcher, "b")
        return batcher:submit "a"
      end)
      assert.equal("timeout", err.kind)
      assert.equal(1, sent.running)
    end)
    assert.same({ "a b" }, items_of(sent))
    assert.equal(1, sent.ended)
  end)

  it("as the last one cancels the run", function()
    local run, sent = recorder(60)
    local batcher, start = neap.batcher { run = run, max_size = 2 }, neap.now()
    neap.scope(function(s)
      local tasks = { s:spawn(batcher.submit, batcher, "a"), s:spawn(batcher.submit, batcher, "b") }
      neap.sleep(0.5)
      tasks[1]:cancel()
      neap.sleep(0.5)
      assert.is_nil(sent.cancelled)
      tasks[2]:cancel()
    end)
    assert.is_true(batcher:close())
    assert.is_true(sent.cancelled)
    assert.equal(1000, ms_since(start))
  end)

  it("as the last one before it is sent leaves nothing behind", function()
    local tasks = core.stats().tasks
    local run, sent = recorder()
    local batcher = neap.batcher { run = run, max_delay = 60 }
    for _ = 1, 3 do assert.equal("timeout", select(2, batcher:submit("a", { timeout = 1 })).kind) end
    assert.is_true(batcher:close())
    assert.equal(0, #sent)
    assert.equal(tasks, core.stats().tasks)
    assert.same({ 0, 0, 3 }, { batcher:snapshot().waiting, batcher:snapshot().open, batcher:snapshot().dropped })
  end)

  it("as the last one in the line gives up its batch's turn", function()
    local run, sent = recorder(10)
    local batcher = neap.batcher { run = run, max_size = 1, concurrency = 1 }
    neap.scope(function(s)
      s:spawn(batcher.submit, batcher, "a")
      neap.sleep(1)
      s:spawn(batcher.submit, batcher, "b", { timeout = 2 })
      s:spawn(batcher.submit, batcher, "c")
      s:spawn(batcher.submit, batcher, "d", { timeout = 3 })
      neap.sleep(5)
      assert.equal(1, batcher:snapshot().due)
    end)
    assert.same({ "a", "c" }, items_of(sent))
  end)

  it("at its timeout knows whether its item may have been sent", function()
    local run = recorder(5)
    local batcher = neap.batcher { run = run, max_size = 2, max_delay = 60, name = "embed" }
    neap.scope(function(s)
      local _, err = batcher:submit("a", { timeout = 1 })
      assert.same({ "timeout", "batcher", "no" }, { err.kind, err.phase, err.sent })
      assert.equal("no answer from embed within 1 s", err.message)
      s:spawn(batcher.submit, batcher, "b")
      neap.sleep(0)
      _, err = batcher:submit("c", { timeout = 1 })
      assert.same({ "timeout", "maybe" }, { err.kind, err.sent })
    end)
  end)

  it("just as its batch is sent does not keep its item in it", function()
    local run, sent = recorder()
    local batcher = neap.batcher { run = run, max_size = 2 }
    neap.scope(function(s)
      local first = s:spawn(batcher.submit, batcher, "a")
      s:spawn(function()
        -- The batch is full before the first caller can leave it.
        first:cancel()
        batcher:submit "b"
      end)
    end)
    assert.same({ "b" }, items_of(sent))
    assert.same({ 1, 1 }, { batcher:snapshot().items, batcher:snapshot().dropped })
  end)

  it("because of a deadlock leaves nothing behind", function()
    local tasks = core.stats().tasks
    local batcher = neap.batcher { run = function() return neap.event():wait() end, max_size = 2 }
    local ok, err = pcall(submit_all, batcher, { "a", "b" })
    assert.is_false(ok)
    assert.matches("deadlock", err.message, 1, true)
    assert.is_true(batcher:close())
    assert.equal(tasks, core.stats().tasks)
  end)

  it("never began: a cancelled task submits nothing", function()
    local run, sent = recorder()
    local batcher = neap.batcher { run = run, max_size = 1 }
    neap.scope(function(s)
      s:cancel()
      assert.equal("cancelled", select(2, pcall(batcher.submit, batcher, "a")).kind)
    end)
    assert.equal(0, #sent)
  end)
end)
