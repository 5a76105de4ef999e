local core = require "neap.core"
local neap = require "neap"

local function ns_since(start) return math.floor((neap.now() - start) * 1e9 + 0.5) end
local function settle() for _ = 1, 3 do neap.sleep(0) end end

describe("a task", function()
  it("runs with its arguments and gives its results to whoever awaits it", function()
    local task = neap.spawn(function(...) return select("#", ...), ... end, 1, nil, 3, nil)
    local results = { task:await() }
    assert.equal(4, results[1])
    assert.equal(1, results[2])
    assert.is_nil(results[3])
    assert.equal(3, results[4])
    assert.equal(5, select("#", task:await()))
    assert.equal("done", task:status())
  end)

  it("starts after its spawner has given way, in the order of spawning", function()
    local log = {}
    for i = 1, 3 do neap.spawn(function() log[#log + 1] = i end) end
    log[#log + 1] = "spawned"
    neap.sleep(0)
    assert.same({ "spawned", 1, 2, 3 }, log)
  end)

  it("says what state it is in", function()
    local statuses, task = {}, nil
    task = neap.spawn(function()
      statuses[2] = task:status()
      neap.sleep(1)
    end)
    statuses[1] = task:status()
    neap.sleep(0)
    statuses[3] = task:status()
    task:await()
    statuses[4] = task:status()
    assert.same({ "ready", "running", "waiting", "done" }, statuses)
  end)

  it("can be awaited by many, before and after it has ended", function()
    local task = neap.spawn(function()
      neap.sleep(1)
      return "x"
    end)
    local got = {}
    neap.scope(function(s)
      for i = 1, 3 do s:spawn(function() got[i] = task:await() end) end
    end)
    assert.same({ "x", "x", "x" }, got)
    assert.equal("x", task:await())
  end)

  it("is called by its place or by the name it was given", function()
    local task = neap.spawn(function() neap.sleep(0) end)
    assert.matches("task_spec.lua:%d+$", task:name())
    assert.equal(task, task:set_name "fetch page 7")
    assert.equal("fetch page 7", task:name())
    assert.equal("task fetch page 7", tostring(task))
    task:await()
  end)

  it("may run a thousand at once, each waking at its own nanosecond", function()
    local start, late = neap.now(), 0
    neap.scope(function(s)
      for i = 1, 1000 do
        s:spawn(function()
          neap.sleep(i * 1e-6)
          if ns_since(start) ~= i * 1000 then late = late + 1 end
        end)
      end
    end)
    assert.equal(0, late)
  end)

  it("may wait inside pcall, a metamethod, an iterator and a coroutine of its own", function()
    local start = neap.now()
    assert.is_true(pcall(neap.sleep, 1))
    local lazy = setmetatable({}, { __index = function(_, key)
      neap.sleep(1)
      return key .. "!"
    end })
    assert.equal("a!", lazy.a)
    local seen = {}
    for i in function(_, i)
      neap.sleep(1)
      if i < 2 then return i + 1 end
    end, nil, 0 do seen[#seen + 1] = i end
    assert.same({ 1, 2 }, seen)
    local generator = coroutine.wrap(function()
      for i = 1, 2 do
        neap.sleep(1)
        coroutine.yield(i)
      end
    end)
    assert.equal(1, generator())
    assert.equal(2, generator())
    assert.equal(7000000000, ns_since(start))
  end)

  it("is told in plain words where it cannot wait", function()
    local ok, err = pcall(string.gsub, "x", "x", function() neap.sleep(1) end)
    assert.is_false(ok)
    assert.matches("cannot wait here: inside table.sort, a string.gsub callback", tostring(err), 1, true)
    neap.sleep(0)
  end)

  it("cannot await itself", function()
    neap.scope(function(s)
      local task
      task = s:spawn(function()
        local ok, err = pcall(task.await, task)
        assert.is_false(ok)
        assert.matches("cannot await itself", tostring(err), 1, true)
      end)
    end)
  end)
end)

describe("a task that fails", function()
  it("gives nil and its error, with kind and traceback, to whoever awaits it", function()
    local task, value, err
    neap.scope(function(s)
      task = s:spawn(function() error "boom" end)
      value, err = task:await()
    end, { on_error = "collect" })
    assert.is_nil(value)
    assert.equal("internal", err.kind)
    assert.matches("boom", err.message, 1, true)
    assert.matches("task_spec.lua", err.traceback, 1, true)
    assert.matches("spawned at", err.traceback, 1, true)
    assert.equal("failed", task:status())
  end)

  it("passes an error table on as it is", function()
    local raised = neap.error.new { kind = "limit", message = "enough" }
    local _, failures = neap.scope(function(s)
      s:spawn(function() error(raised) end)
    end, { on_error = "collect" })
    assert.equal(1, #failures)
    assert.equal("limit", failures[1].kind)
    assert.equal(raised, failures[1])
  end)

  it("keeps a value that is no error table as the cause", function()
    local value = { 1 }
    local _, failures = neap.scope(function(s)
      s:spawn(function() error(value) end)
    end, { on_error = "collect" })
    assert.equal("internal", failures[1].kind)
    assert.equal(value, failures[1].cause)
  end)

  it("fails when it yields outside a coroutine of its own", function()
    local _, failures = neap.scope(function(s)
      s:spawn(function() coroutine.yield(1) end)
    end, { on_error = "collect" })
    assert.matches("coroutine.yield", failures[1].message, 1, true)
  end)
end)

describe("cancelling a task", function()
  it("ends its wait at once and the task is 'cancelled'", function()
    local start, task = neap.now(), nil
    neap.scope(function(s)
      task = s:spawn(function() neap.sleep(100) end)
      neap.sleep(1)
      task:cancel()
      local value, err = task:await()
      assert.is_nil(value)
      assert.equal("cancelled", err.kind)
    end)
    assert.equal("cancelled", task:status())
    assert.equal(1000000000, ns_since(start))
  end)

  it("is level-triggered: every later wait raises again", function()
    local kinds = {}
    neap.scope(function(s)
      local task = s:spawn(function()
        for i = 1, 3 do
          local ok, err = pcall(neap.sleep, 100)
          kinds[i] = ok or err.kind
        end
        neap.sleep(100)
      end)
      settle()
      task:cancel()
      task:await()
      assert.equal("cancelled", task:status())
    end)
    assert.same({ "cancelled", "cancelled", "cancelled" }, kinds)
  end)

  it("before it has started keeps it from waiting", function()
    local task, ran
    neap.scope(function(s)
      task = s:spawn(function()
        ran = true
        neap.sleep(1)
        ran = "too far"
      end)
      task:cancel()
    end)
    assert.is_not_equal("too far", ran)
    assert.equal("cancelled", task:status())
  end)

  it("does nothing to one that has ended, and twice is as good as once", function()
    local task = neap.spawn(function() return 1 end)
    task:await()
    task:cancel()
    task:cancel()
    assert.equal("done", task:status())
    assert.equal(1, task:await())
  end)

  it("does not fail the scope it belongs to, and leaves its siblings alone", function()
    local sibling
    assert.equal("fine", neap.scope(function(s)
      local task = s:spawn(function() neap.sleep(100) end)
      s:spawn(function()
        neap.sleep(1)
        sibling = "done"
      end)
      settle()
      task:cancel()
      return "fine"
    end))
    assert.equal("done", sibling)
  end)

  it("that awaits another leaves the other alone", function()
    neap.scope(function(s)
      local worker = s:spawn(function()
        neap.sleep(1)
        return "done"
      end)
      local awaiter = s:spawn(function() worker:await() end)
      settle()
      awaiter:cancel()
      settle()
      assert.equal("cancelled", awaiter:status())
      assert.equal("done", worker:await())
    end)
  end)

  it("cancels the tasks of scopes it is inside", function()
    local inner
    neap.scope(function(s)
      local task = s:spawn(function()
        neap.scope(function(s2) inner = s2:spawn(function() neap.sleep(100) end) end)
      end)
      settle()
      task:cancel()
      task:await()
      assert.equal("cancelled", inner:status())
      assert.equal("cancelled", task:status())
    end)
  end)

  it("lets what it ran into during clean-up pass as an error", function()
    local _, failures = neap.scope(function(s)
      local task = s:spawn(function()
        pcall(neap.sleep, 100)
        error "clean-up failed"
      end)
      settle()
      task:cancel()
    end, { on_error = "collect" })
    assert.matches("clean-up failed", failures[1].message, 1, true)
  end)
end)

describe("after many tasks", function()
  it("nothing is left in the runtime", function()
    local before = core.stats()
    neap.scope(function(s)
      for i = 1, 500 do
        local task = s:spawn(function() neap.sleep(i) end)
        if i % 2 == 0 then task:cancel() end
      end
      neap.sleep(100)
      s:cancel()
    end)
    local after = core.stats()
    for _, name in ipairs { "tasks", "waiting", "timers", "holds" } do
      assert.equal(before[name], after[name], name)
    end
  end)
end)

describe("misuse of tasks raises", function()
  it("for something that is no function", function()
    assert.has_error(function() neap.spawn(nil) end)
    assert.has_error(function() neap.spawn { 1 } end)
    assert.has_error(function() neap.sleep(-1) end)
    assert.has_error(function() neap.sleep(0 / 0) end)
    assert.has_error(function() neap.sleep "soon" end)
  end)
end)
