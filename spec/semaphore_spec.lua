local core = require "neap.core"
local neap = require "neap"

--- Nanoseconds since `start`, exact.
local function ns_since(start) return math.floor((neap.now() - start) * 1e9 + 0.5) end

--- Runs ready tasks until they wait.
local function settle() for _ = 1, 3 do neap.sleep(0) end end

local function assert_idle(sem, limit)
  assert.equal(0, sem:held())
  assert.equal(0, sem:waiting())
  assert.equal(limit, sem:available())
end

describe("a semaphore", function()
  it("hands out permits up to its limit at once", function()
    local sem = neap.semaphore(3)
    local start = neap.now()
    assert.is_true(sem:acquire())
    assert.is_true(sem:acquire(2))
    assert.equal(0, sem:available())
    assert.equal(3, sem:held())
    assert.equal(0, ns_since(start))
    sem:release(3)
    assert_idle(sem, 3)
  end)

  it("wakes waiters in the order of arrival, at the instant of the release", function()
    local sem, log, start = neap.semaphore(1), {}, neap.now()
    neap.scope(function(s)
      for i = 1, 5 do
        s:spawn(function()
          sem:acquire()
          log[#log + 1] = ("%d at %d"):format(i, ns_since(start))
          neap.sleep(0.5)
          sem:release()
        end)
      end
    end)
    assert.same({ "1 at 0", "2 at 500000000", "3 at 1000000000", "4 at 1500000000", "5 at 2000000000" }, log)
    assert_idle(sem, 1)
  end)

  it("never lets a small request pass a big one at the head", function()
    local sem, log = neap.semaphore(3), {}
    sem:acquire(2)
    neap.scope(function(s)
      s:spawn(function()
        sem:acquire(3)
        log[#log + 1] = "big"
        sem:release(3)
      end)
      s:spawn(function()
        sem:acquire(1)
        log[#log + 1] = "small"
        sem:release(1)
      end)
      settle()
      assert.equal(2, sem:waiting())
      assert.equal(1, sem:available())
      assert.is_nil((sem:acquire(1, 0)))
      sem:release(2)
    end)
    assert.same({ "big", "small" }, log)
  end)

  it("lets in the ones behind a head that is cancelled", function()
    local sem, entered = neap.semaphore(3), {}
    sem:acquire(2)
    neap.scope(function(s)
      local head = s:spawn(function() sem:acquire(3) end)
      for i = 1, 2 do
        s:spawn(function()
          if sem:acquire(1) then entered[#entered + 1] = i end
        end)
      end
      settle()
      assert.same({}, entered)
      head:cancel()
      settle()
      assert.same({ 1 }, entered)
      assert.equal(3, sem:held())
      sem:release(2)
    end)
    assert.same({ 1, 2 }, entered)
    assert.equal(2, sem:held())
    assert.equal(0, sem:waiting())
  end)

  it("lets in the ones behind a head that times out, at that instant", function()
    local sem, start, entered_at = neap.semaphore(3), neap.now(), nil
    sem:acquire(2)
    neap.scope(function(s)
      s:spawn(function()
        local ok, err = sem:acquire(3, 0.25)
        assert.is_nil(ok)
        assert.equal("timeout", err.kind)
        assert.equal("semaphore", err.phase)
      end)
      s:spawn(function()
        sem:acquire(1)
        entered_at = ns_since(start)
      end)
    end)
    assert.equal(250000000, entered_at)
    assert.equal(3, sem:held())
  end)

  it("gives nothing to the cancelled and takes nothing from them", function()
    local sem = neap.semaphore(1)
    sem:acquire()
    local task
    local _, failures = neap.scope(function(s)
      task = s:spawn(function() sem:acquire() end)
      settle()
      assert.equal(1, sem:waiting())
      task:cancel()
      settle()
      assert.equal(0, sem:waiting())
    end, { on_error = "collect" })
    assert.is_nil(failures)
    assert.equal("cancelled", task:status())
    sem:release()
    assert_idle(sem, 1)
  end)

  it("tries once with timeout 0", function()
    local sem, start = neap.semaphore(1), neap.now()
    assert.is_true(sem:acquire(1, 0))
    local ok, err = sem:acquire(1, 0)
    assert.is_nil(ok)
    assert.equal("timeout", err.kind)
    assert.is_true(err.retryable)
    assert.equal(0, ns_since(start))
    assert.equal(0, sem:waiting())
  end)

  it("refuses more waiters than max_waiting at once", function()
    local sem = neap.semaphore(1, { max_waiting = 1 })
    sem:acquire()
    neap.scope(function(s)
      s:spawn(function() assert.is_true(sem:acquire()) end)
      settle()
      local ok, err = sem:acquire()
      assert.is_nil(ok)
      assert.equal("queue_full", err.kind)
      assert.equal("semaphore", err.phase)
      sem:release()
    end)
    assert.equal(1, sem:held())
  end)

  it("with a limit of 0 lets nobody in until it is raised", function()
    local sem, start = neap.semaphore(0), neap.now()
    neap.scope(function(s)
      s:spawn(function()
        sem:acquire()
        assert.equal(1000000000, ns_since(start))
      end)
      neap.sleep(1)
      sem:set_limit(1)
    end)
    assert.equal(1, sem:held())
  end)

  it("lets a request above the limit wait for a higher limit", function()
    local sem = neap.semaphore(2)
    neap.scope(function(s)
      local task = s:spawn(function() return sem:acquire(3) end)
      settle()
      assert.equal("waiting", task:status())
      sem:set_limit(3)
      settle()
      assert.equal("done", task:status())
    end)
    sem:release(3)
    assert_idle(sem, 3)
  end)

  it("lowered below what is held lets nobody in until enough came back", function()
    local sem, log = neap.semaphore(4), {}
    sem:acquire(4)
    sem:set_limit(2)
    assert.equal(2, sem:limit())
    assert.equal(0, sem:available())
    neap.scope(function(s)
      s:spawn(function()
        sem:acquire()
        log[#log + 1] = sem:held()
      end)
      for _ = 1, 2 do
        sem:release()
        settle()
        assert.same({}, log)
      end
      sem:release()
    end)
    assert.same({ 2 }, log)
  end)
end)

describe("the front of a semaphore's line", function()
  it("comes before all others, first come, first served among its own", function()
    local sem, log = neap.semaphore(1), {}
    sem:acquire()
    neap.scope(function(s)
      for _, name in ipairs { "a", "front 1", "b", "front 2" } do
        s:spawn(function()
          assert.is_true(sem:acquire(1, nil, name:find "front" ~= nil))
          log[#log + 1] = name
          sem:release()
        end)
      end
      settle()
      assert.equal(4, sem:waiting())
      sem:release()
    end)
    assert.same({ "front 1", "front 2", "a", "b" }, log)
    assert_idle(sem, 1)
  end)

  it("is never refused for a full line, and enters at once where it fits though others wait", function()
    local sem = neap.semaphore(3, { max_waiting = 1 })
    sem:acquire(2)
    neap.scope(function(s)
      s:spawn(function()
        sem:acquire(3)
        sem:release(3)
      end)
      settle()
      assert.equal("queue_full", select(2, sem:acquire(1)).kind)
      assert.is_true(sem:acquire(1, 0, true))
      assert.equal("timeout", select(2, sem:acquire(1, 0, true)).kind)
      assert.equal("timeout", select(2, sem:acquire(1, 0.5, true)).kind)
      local waiter = s:spawn(function() assert.is_true(sem:acquire(2, nil, true)) end)
      settle()
      assert.equal(2, sem:waiting())
      sem:release(2)
      settle()
      assert.equal("done", waiter:status())
      sem:release(3)
    end)
    assert_idle(sem, 3)
  end)

  it("holds nobody up once it has left", function()
    local sem = neap.semaphore(2)
    sem:acquire()
    neap.scope(function(s)
      local big = s:spawn(function() sem:acquire(2, nil, true) end)
      local small = s:spawn(function() sem:acquire() end)
      settle()
      assert.equal("waiting", small:status())
      big:cancel()
      settle()
      assert.equal("done", small:status())
    end)
    sem:release(2)
    assert_idle(sem, 2)
  end)
end)

describe("semaphore:acquire of free permits", function()
  it("does not give way to other tasks", function()
    local sem, others = neap.semaphore(2), 0
    neap.scope(function(s)
      s:spawn(function() others = others + 1 end)
      for _ = 1, 1000 do
        sem:acquire()
        sem:release()
      end
      assert.equal(0, others)
    end)
  end)
end)

describe("semaphore:with", function()
  it("passes arguments in and results out, nil among them", function()
    local sem = neap.semaphore(1)
    local results = { n = select("#", sem:with(function(...) return ... end, 1, nil, 3, nil)),
      sem:with(function(...) return ... end, 1, nil, 3, nil) }
    assert.equal(4, results.n)
    assert.equal(1, results[1])
    assert.is_nil(results[2])
    assert.equal(3, results[3])
    assert_idle(sem, 1)
  end)

  it("holds one permit, or as many as its first argument says", function()
    local sem = neap.semaphore(3)
    assert.equal(1, sem:with(function() return sem:held() end))
    assert.equal(2, sem:with(2, function() return sem:held() end))
    assert_idle(sem, 3)
  end)

  it("gives the permit back when the function raises, and passes the error on as it is", function()
    local sem = neap.semaphore(1)
    local raised = { "a table" }
    local ok, err = pcall(sem.with, sem, function()
      neap.sleep(1)
      error(raised)
    end)
    assert.is_false(ok)
    assert.equal(raised, err)
    assert_idle(sem, 1)
  end)

  it("gives the permit back on cancel before the next waiter runs", function()
    local sem, log = neap.semaphore(1), {}
    neap.scope(function(s)
      local holder = s:spawn(function()
        sem:with(function()
          local _, err = pcall(neap.sleep, 100)
          log[#log + 1] = err.kind
          neap.sleep(0)
        end)
      end)
      s:spawn(function()
        sem:acquire()
        log[#log + 1] = "next, held " .. sem:held()
        sem:release()
      end)
      settle()
      holder:cancel()
    end)
    assert.same({ "cancelled", "next, held 1" }, log)
    assert_idle(sem, 1)
  end)

  it("returns nil, err without calling when the line is full", function()
    local sem = neap.semaphore(1, { max_waiting = 1 })
    sem:acquire()
    neap.scope(function(s)
      s:spawn(function() sem:with(function() end) end)
      settle()
      local ok, err = sem:with(function() error "must not run" end)
      assert.is_nil(ok)
      assert.equal("queue_full", err.kind)
      sem:release()
    end)
    assert_idle(sem, 1)
  end)
end)

describe("misuse of a semaphore raises", function()
  local sem = neap.semaphore(2)

  it("for a release of more than is held, and changes nothing", function()
    sem:acquire()
    local ok, err = pcall(sem.release, sem, 2)
    assert.is_false(ok)
    assert.matches("release of 2 permits, but only 1 are held", tostring(err), 1, true)
    assert.equal(1, sem:held())
    sem:release()
    assert.has_error(function() sem:release() end)
  end)

  it("for counts and timeouts that make no sense", function()
    for _, n in ipairs { 0, -1, 1.5, 2 ^ 40, "many", 0 / 0 } do
      assert.has_error(function() sem:acquire(n) end)
    end
    for _, timeout in ipairs { -1, 0 / 0, "soon" } do
      assert.has_error(function() sem:acquire(1, timeout) end)
    end
    assert.has_error(function() sem:set_limit(-1) end)
    assert.has_error(function() sem:set_limit() end)
    assert_idle(sem, 2)
  end)

  it("for a limit that is no whole number and for unknown options", function()
    for _, limit in ipairs { -1, 1.5, "1", 0 / 0, 2 ^ 31, 1e300, math.huge } do
      assert.has_error(function() neap.semaphore(limit) end)
    end
    assert.has_error(function() neap.semaphore() end)
    local _, err = pcall(neap.semaphore, 1, { max_wating = 1 })
    assert.matches("did you mean 'max_waiting'", err, 1, true)
    _, err = pcall(neap.semaphore, 1, { max_waiting = 1e300 })
    assert.matches("option 'max_waiting' must be at most 2147483647", err, 1, true)
  end)

  it("at the script's line, with the method's name", function()
    for text, fn in pairs {
      ["'semaphore:acquire' (number expected, got string)"] = function() return sem:acquire "x" end,
      ["#2 to 'semaphore:acquire' (timeout must be 0"] = function() sem:acquire(1, -1) end,
      ["'semaphore:set_limit' (must be a whole number from 0 to 2147483647)"] = function() sem:set_limit(1e300) end,
      ["semaphore:release: release of 1 permits"] = function() return sem:release() end,
      ["a neap.semaphore expected"] = function() sem.acquire() end,
      ["neap.semaphore: the limit must be a whole number from 0"] = function() return neap.semaphore(-1) end,
      ["'neap.sleep' (number expected, got string)"] = function() return neap.sleep "x" end,
    } do
      local _, err = pcall(fn)
      assert.matches("^%S*semaphore_spec%.lua:%d+: ", err)
      assert.matches(text, err, 1, true)
    end
    assert_idle(sem, 2)
  end)

  it("for a wait outside a task's reach", function()
    local ok, err = pcall(table.sort, { 2, 1 }, function() sem:acquire() end)
    assert.is_false(ok)
    assert.matches("cannot wait here", tostring(err), 1, true)
    assert_idle(sem, 2)
  end)

  it("for something that is no function in with", function()
    local ok, err = pcall(sem.with, sem, nil)
    assert.is_false(ok)
    assert.matches("expected a function", err, 1, true)
    assert_idle(sem, 2)
  end)
end)

--- What a semaphore should do, in a list.
local function model_new(limit)
  local model = { limit = limit, held = 0, line = {} }
  function model.admit()
    while model.line[1] and model.line[1].n <= model.limit - model.held do
      local first = table.remove(model.line, 1)
      model.held = model.held + first.n
      first.state = "in"
    end
  end
  function model.enter(entry)
    local place = #model.line + 1
    while entry.front and model.line[place - 1] and not model.line[place - 1].front do place = place - 1 end
    table.insert(model.line, place, entry)
  end
  function model.leave(entry)
    for i, candidate in ipairs(model.line) do
      if candidate == entry then table.remove(model.line, i) end
    end
    entry.state = "out"
    model.admit()
  end
  return model
end

describe("a semaphore under random use", function()
  it("does what a plain model does: enter, enter at the front, leave, cancel, new limits", function()
    local function draw(n) return math.floor(core.random() * n) + 1 end
    local sem, model = neap.semaphore(4), model_new(4)
    local entries = {}
    neap.scope(function(s)
      for step = 1, 3000 do
        local action, entry = draw(10), entries[draw(#entries + 1)]
        if action <= 4 then
          local new = { n = draw(5), state = "waiting", front = draw(4) == 1 }
          entries[#entries + 1] = new
          model.enter(new)
          model.admit()
          new.task = s:spawn(function() new.got = sem:acquire(new.n, nil, new.front) end)
        elseif action <= 7 and entry and entry.state == "in" then
          sem:release(entry.n)
          entry.state = "out"
          model.held = model.held - entry.n
          model.admit()
        elseif action <= 9 and entry and entry.state == "waiting" then
          entry.task:cancel()
          model.leave(entry)
        elseif action == 10 then
          model.limit = draw(7) - 1
          sem:set_limit(model.limit)
          model.admit()
        end
        settle()
        assert.equal(model.held, sem:held(), "step " .. step)
        assert.equal(#model.line, sem:waiting(), "step " .. step)
        for _, other in ipairs(entries) do
          if other.state == "in" then assert.is_true(other.got, "step " .. step) end
          if other.state == "waiting" then assert.equal("waiting", other.task:status()) end
        end
        if #entries > 40 then
          for i = #entries, 1, -1 do
            if entries[i].state == "out" then table.remove(entries, i) end
          end
        end
      end
      s:cancel()
    end)
    assert.equal(0, sem:waiting())
  end)
end)
