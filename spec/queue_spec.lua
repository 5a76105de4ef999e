local core = require "neap.core"
local neap = require "neap"

local function ns_since(start) return math.floor((neap.now() - start) * 1e9 + 0.5) end
local function settle() for _ = 1, 3 do neap.sleep(0) end end

local function drain(queue)
  local values = {}
  while queue:len() > 0 do values[#values + 1] = queue:get() end
  return values
end

describe("a queue", function()
  it("gives values in the order in which they were put", function()
    local queue = neap.queue()
    for i = 1, 100 do assert.is_true(queue:put(i)) end
    assert.equal(100, queue:len())
    for i = 1, 100 do assert.equal(i, queue:get()) end
    assert.equal(0, queue:len())
  end)

  it("carries any value but nil, by identity", function()
    local queue, value = neap.queue(), {}
    for _, v in ipairs { value, false, 0, "", print } do queue:put(v) end
    assert.equal(value, queue:get())
    assert.is_false(queue:get())
    assert.equal(0, queue:get())
    assert.equal("", queue:get())
    assert.equal(print, queue:get())
    assert.has_error(function() queue:put(nil) end)
    assert.has_error(function() queue:put() end)
  end)

  it("hands a value to the getter that has waited longest", function()
    local queue, log, start = neap.queue(), {}, neap.now()
    neap.scope(function(s)
      for i = 1, 3 do
        s:spawn(function()
          local value = queue:get()
          log[#log + 1] = ("%d got %s at %d"):format(i, value, ns_since(start))
        end)
      end
      neap.sleep(0.5)
      assert.same({ 3, 0 }, { queue:waiting() })
      for i = 1, 3 do queue:put(("value %d"):format(i)) end
      assert.equal(0, queue:len())
    end)
    assert.same({ "1 got value 1 at 500000000", "2 got value 2 at 500000000", "3 got value 3 at 500000000" }, log)
  end)

  it("does not let a late getter take what was handed to an earlier one", function()
    local queue, early = neap.queue(), nil
    neap.scope(function(s)
      s:spawn(function() early = queue:get() end)
      settle()
      queue:put "first"
      assert.is_nil((queue:get(0)))
    end)
    assert.equal("first", early)
  end)

  it("makes putters wait while it is full, first come, first served", function()
    local queue, log, start = neap.queue { max = 1 }, {}, neap.now()
    queue:put "a"
    neap.scope(function(s)
      for _, value in ipairs { "b", "c" } do
        s:spawn(function()
          assert.is_true(queue:put(value))
          log[#log + 1] = ("%s at %d"):format(value, ns_since(start))
        end)
      end
      for _, expected in ipairs { "a", "b", "c" } do
        neap.sleep(0.5)
        assert.equal(expected, queue:get())
        assert.is_true(queue:len() <= 1)
      end
    end)
    assert.same({ "b at 500000000", "c at 1000000000" }, log)
  end)

  it("tries once with timeout 0 and gives up at the deadline", function()
    local queue, start = neap.queue { max = 1 }, neap.now()
    local value, err = queue:get(0)
    assert.is_nil(value)
    assert.equal("timeout", err.kind)
    assert.equal("queue.get", err.phase)
    queue:put "a"
    local ok
    ok, err = queue:put("b", { timeout = 0 })
    assert.is_nil(ok)
    assert.equal("timeout", err.kind)
    assert.equal("queue.put", err.phase)
    assert.equal(0, ns_since(start))
    assert.is_nil((queue:put("b", { timeout = 0.25 })))
    assert.equal(250000000, ns_since(start))
    assert.same({ "a" }, drain(queue))
    assert.is_nil((queue:get(0.5)))
    assert.equal(750000000, ns_since(start))
    assert.same({ 0, 0 }, { queue:waiting() })
  end)

  it("forgets the value of a putter that is cancelled and lets the next one in", function()
    local queue = neap.queue { max = 1 }
    local doomed = setmetatable({}, { __mode = "v" })
    queue:put "a"
    neap.scope(function(s)
      local task = s:spawn(function()
        doomed[1] = {}
        queue:put(doomed[1])
      end)
      s:spawn(function() queue:put "c" end)
      settle()
      task:cancel()
      settle()
      assert.same({ 0, 1 }, { queue:waiting() })
      assert.equal("a", queue:get())
      settle()
      assert.equal("c", queue:get())
      assert.equal(0, queue:len())
    end)
    collectgarbage()
    collectgarbage()
    assert.is_nil(doomed[1])
  end)

  it("gives a value to the next getter when the first is cancelled", function()
    local queue, got = neap.queue(), nil
    neap.scope(function(s)
      local task = s:spawn(function() queue:get() end)
      s:spawn(function() got = queue:get() end)
      settle()
      task:cancel()
      queue:put "a"
    end)
    assert.equal("a", got)
  end)

  it("does not lose a value whose getter is cancelled after it was handed over", function()
    local queue, got = neap.queue(), nil
    neap.scope(function(s)
      local task = s:spawn(function() got = queue:get() end)
      settle()
      queue:put "a"
      task:cancel()
    end)
    assert.equal("a", got)
  end)

  it("keeps nothing that was got", function()
    local queue, weak = neap.queue(), setmetatable({}, { __mode = "v" })
    for i = 1, 3 do
      weak[i] = {}
      queue:put(weak[i])
      queue:get()
    end
    collectgarbage()
    collectgarbage()
    assert.same({}, weak)
  end)
end)

describe("a priority queue", function()
  it("gives the lowest number first and equals in order of arrival", function()
    local queue = neap.queue { priority = true }
    for _, item in ipairs { { 5, "e" }, { 1, "b" }, { -3.5, "a" }, { 1, "c" }, { 1, "d" }, { math.huge, "f" } } do
      queue:put(item[2], { priority = item[1] })
    end
    assert.same({ "a", "b", "c", "d", "e", "f" }, drain(queue))
  end)

  it("takes 0 where no priority is given, and -0 for 0", function()
    local queue = neap.queue { priority = true }
    queue:put("b", { priority = 0 })
    queue:put "c"
    queue:put("d", { priority = -0.0 })
    queue:put("a", { priority = -1 })
    queue:put("e", { priority = 1e-300 })
    assert.same({ "a", "b", "c", "d", "e" }, drain(queue))
  end)

  it("lets putters in by arrival, not by priority", function()
    local queue, log = neap.queue { max = 1, priority = true }, {}
    queue:put("first", { priority = 9 })
    neap.scope(function(s)
      for _, priority in ipairs { 5, 1 } do
        s:spawn(function() queue:put(priority, { priority = priority }) end)
      end
      settle()
      for i = 1, 3 do
        log[i] = queue:get()
        settle()
      end
    end)
    assert.same({ "first", 5, 1 }, log)
  end)

  it("refuses NaN, and a plain queue any priority", function()
    assert.has_error(function() neap.queue({ priority = true }):put(1, { priority = 0 / 0 }) end)
    local ok, err = pcall(function() neap.queue():put(1, { priority = 1 }) end)
    assert.is_false(ok)
    assert.matches("priority=true", tostring(err), 1, true)
  end)
end)

describe("a priority queue with aging", function()
  it("lets a priority number sink by so much a second", function()
    local queue = neap.queue { priority = true, aging = 0.5 }
    queue:put("old", { priority = 5 })
    neap.sleep(4)
    queue:put("urgent", { priority = 2.5 })
    queue:put("not so urgent", { priority = 3.5 })
    assert.same({ "urgent", "old", "not so urgent" }, drain(queue))
  end)

  it("gives equals in order of arrival, also those that have become equal", function()
    local queue = neap.queue { priority = true, aging = 0.25 }
    queue:put("a", { priority = 2 })
    neap.sleep(4)
    queue:put("b", { priority = 1 })
    neap.sleep(4)
    queue:put "c"
    queue:put "d"
    assert.same({ "a", "b", "c", "d" }, drain(queue))
  end)

  it("starves nobody under a stream of urgent items", function()
    local function got_after(aging)
      local queue, at = neap.queue { priority = true, aging = aging }, nil
      queue:put("patient", { priority = 10 })
      neap.scope(function(s)
        s:spawn(function()
          for i = 1, 3000 do
            queue:put(i, { priority = 0 })
            neap.sleep(0.1)
          end
        end)
        for _ = 1, 3000 do
          neap.sleep(0.1)
          if queue:get() == "patient" then at = neap.now() end
        end
      end)
      return at
    end
    local start = neap.now()
    local at = got_after(0.1)
    assert.is_true(at - start > 99 and at - start < 101, at - start)
    assert.is_nil(got_after(0))
  end)

  it("counts the age of a putter that waits from its call", function()
    local queue = neap.queue { max = 2, priority = true, aging = 1 }
    queue:put("first", { priority = 0 })
    queue:put("second", { priority = 0 })
    neap.scope(function(s)
      s:spawn(function() queue:put("waited", { priority = 10 }) end)
      neap.sleep(20)
      assert.equal("first", queue:get())
      settle()
      assert.equal("second", queue:get())
      queue:put("late", { priority = 0 })
      assert.same({ "waited", "late" }, drain(queue))
    end)
  end)

  it("leaves infinite priorities where they are", function()
    local queue = neap.queue { priority = true, aging = 1 }
    queue:put("last", { priority = math.huge })
    neap.sleep(1e6)
    queue:put("middle", { priority = 1e9 })
    queue:put("first", { priority = -math.huge })
    assert.same({ "first", "middle", "last" }, drain(queue))
  end)
end)

describe("closing a queue", function()
  it("lets getters take what is left, then says 'closed'", function()
    local queue = neap.queue()
    queue:put(1)
    queue:put(2)
    queue:close()
    queue:close()
    assert.is_true(queue:is_closed())
    assert.equal(1, queue:get())
    assert.equal(2, queue:get())
    local value, err = queue:get()
    assert.is_nil(value)
    assert.equal("closed", err.kind)
    assert.equal("queue.get", err.phase)
  end)

  it("refuses puts", function()
    local queue = neap.queue()
    queue:close()
    local ok, err = queue:put(1)
    assert.is_nil(ok)
    assert.equal("closed", err.kind)
    assert.equal("queue.put", err.phase)
    assert.equal(0, queue:len())
  end)

  it("wakes waiting getters and putters", function()
    local empty, full, kinds = neap.queue(), neap.queue { max = 1 }, {}
    full:put "kept"
    neap.scope(function(s)
      s:spawn(function()
        local _, err = empty:get()
        kinds[#kinds + 1] = err.kind
      end)
      s:spawn(function()
        local _, err = full:put "refused"
        kinds[#kinds + 1] = err.kind
      end)
      settle()
      empty:close()
      full:close()
    end)
    assert.same({ "closed", "closed" }, kinds)
    assert.same({ "kept" }, drain(full))
  end)

  it("ends an iteration once it is drained", function()
    local queue, seen = neap.queue { max = 2 }, {}
    neap.scope(function(s)
      s:spawn(function()
        for i = 1, 5 do queue:put(i) end
        queue:close()
      end)
      for value in queue:iter() do seen[#seen + 1] = value end
    end)
    assert.same({ 1, 2, 3, 4, 5 }, seen)
  end)
end)

describe("queue:join", function()
  it("waits until every value that was put is done", function()
    local queue, start = neap.queue(), neap.now()
    assert.is_true(queue:join())
    for i = 1, 4 do queue:put(i) end
    neap.scope(function(s)
      for _ = 1, 2 do
        s:spawn(function()
          while queue:get(0) do
            neap.sleep(1)
            queue:task_done()
          end
        end)
      end
      assert.is_true(queue:join())
      assert.equal(2000000000, ns_since(start))
      assert.equal(0, queue:unfinished())
    end)
  end)

  it("counts a value that was handed over directly", function()
    local queue = neap.queue()
    neap.scope(function(s)
      s:spawn(function()
        queue:get()
        neap.sleep(1)
        queue:task_done()
      end)
      settle()
      queue:put(1)
      assert.equal(1, queue:unfinished())
      assert.is_true(queue:join())
    end)
  end)

  it("does not count a put that failed", function()
    local queue = neap.queue { max = 1 }
    queue:put(1)
    queue:put(2, { timeout = 0 })
    queue:put(3, { timeout = 0.1 })
    assert.equal(1, queue:unfinished())
  end)

  it("gives up at its deadline and can be cancelled", function()
    local queue, start = neap.queue(), neap.now()
    queue:put(1)
    local ok, err = queue:join(0.5)
    assert.is_nil(ok)
    assert.equal("timeout", err.kind)
    assert.equal("queue.join", err.phase)
    assert.equal(500000000, ns_since(start))
    neap.scope(function(s)
      local task = s:spawn(function() queue:join() end)
      settle()
      task:cancel()
      settle()
      assert.equal("cancelled", task:status())
    end)
  end)

  it("task_done raises when nothing that was got is open", function()
    local queue = neap.queue()
    assert.has_error(function() queue:task_done() end)
    queue:put(1)
    local ok, err = pcall(queue.task_done, queue)
    assert.is_false(ok)
    assert.matches("more often than get", tostring(err), 1, true)
    queue:get()
    queue:task_done()
    assert.equal(0, queue:unfinished())
  end)
end)

describe("misuse of a queue raises", function()
  it("for options that make no sense", function()
    assert.has_error(function() neap.queue { max = 0 } end)
    assert.has_error(function() neap.queue { max = 1.5 } end)
    assert.has_error(function() neap.queue { priority = 1 } end)
    local _, err = pcall(neap.queue, { maxx = 1 })
    assert.matches("did you mean 'max'", err, 1, true)
    assert.has_error(function() neap.queue { priority = true, aging = -1 } end)
    _, err = pcall(neap.queue, { aging = 0.1 })
    assert.matches("'aging' needs 'priority'", err, 1, true)
    assert.has_error(function() neap.queue():put(1, { timeut = 1 }) end)
    assert.has_error(function() neap.queue():put(1, { timeout = -1 }) end)
    assert.has_error(function() neap.queue():get(-1) end)
  end)
end)

describe("a queue under random use", function()
  --- A plain list; `best` finds what get must give.
  local function best(list)
    local at
    for i, item in ipairs(list) do
      if not at or item.priority < list[at].priority then at = i end
    end
    return at
  end

  for _, by_priority in ipairs { false, true } do
    it(("does what a plain model does, %s priorities"):format(by_priority and "with" or "without"), function()
      local function draw(n) return math.floor(core.random() * n) + 1 end
      local max = 4
      local queue = neap.queue { max = max, priority = by_priority }
      local inside, putting, getting, serial = {}, {}, {}, 0
      neap.scope(function(s)
        for step = 1, 3000 do
          local action = draw(10)
          if action <= 4 then
            serial = serial + 1
            local item = { value = serial, priority = by_priority and draw(3) or 0 }
            local options = by_priority and { priority = item.priority } or nil
            item.task = s:spawn(function() item.put = queue:put(item.value, options) end)
            local getter = table.remove(getting, 1)
            if getter then
              getter.expected = item.value
            elseif #inside < max then
              inside[#inside + 1] = item
            else
              putting[#putting + 1] = item
            end
          elseif action <= 8 then
            local getter = {}
            getter.task = s:spawn(function() getter.got = queue:get() end)
            local at = best(inside)
            if at then
              getter.expected = table.remove(inside, at).value
              inside[#inside + 1] = table.remove(putting, 1)
            else
              getting[#getting + 1] = getter
            end
            settle()
            assert.equal(getter.expected, getter.got, "step " .. step)
          else
            local line = #putting > 0 and putting or getting
            if #line > 0 then table.remove(line, draw(#line)).task:cancel() end
          end
          settle()
          assert.equal(#inside, queue:len(), "step " .. step)
          assert.same({ #getting, #putting }, { queue:waiting() }, "step " .. step)
        end
        s:cancel()
      end)
    end)
  end
end)
