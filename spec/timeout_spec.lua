local neap = require "neap"

local function ns_since(start) return math.floor((neap.now() - start) * 1e9 + 0.5) end

describe("a timeout that its body swallows", function()
  it("still returns nil and kind timeout", function()
    local result, err = neap.timeout(1, function()
      pcall(neap.sleep, 5)
      return "swallowed"
    end)
    assert.is_nil(result)
    assert.equal("timeout", err.kind)
  end)

  it("leaves the results of a body that no wait has told", function()
    assert.equal("late", neap.timeout(1, function()
      neap.shield(neap.sleep, 5)
      return "late"
    end))
  end)
end)

describe("neap.timeout", function()
  it("passes arguments in and results out when there is time enough", function()
    local start = neap.now()
    assert.same({ 3, 1, 2 }, { neap.timeout(5, function(a, b)
      neap.sleep(1)
      return a + b, a, b
    end, 1, 2) })
    assert.equal(1000000000, ns_since(start))
  end)

  it("gives nil and a timeout error at the very nanosecond", function()
    local start = neap.now()
    local value, err = neap.timeout(0.123456789, function()
      neap.sleep(100)
      return "late"
    end)
    assert.is_nil(value)
    assert.equal("timeout", err.kind)
    assert.is_true(err.retryable)
    assert.equal(123456789, ns_since(start))
  end)

  it("lets what was done just in time count", function()
    assert.equal("in time", neap.timeout(1, function()
      neap.sleep(0.999999999)
      return "in time"
    end))
  end)

  it("of 0 breaks off the first wait, and needs none to succeed", function()
    assert.equal("at once", neap.timeout(0, function() return "at once" end))
    local value, err = neap.timeout(0, function() neap.sleep(1) end)
    assert.is_nil(value)
    assert.equal("timeout", err.kind)
  end)

  it("cancels every task inside, and is left when all have ended", function()
    local start, children = neap.now(), {}
    local _, err = neap.timeout(1, function()
      for i = 1, 3 do
        children[i] = neap.spawn(function()
          pcall(neap.sleep, 100)
          neap.shield(function() neap.sleep(0.5) end)
        end)
      end
      neap.sleep(100)
    end)
    assert.equal("timeout", err.kind)
    assert.equal(1500000000, ns_since(start))
    for _, child in ipairs(children) do assert.is_not_equal("waiting", child:status()) end
  end)

  it("also counts the time that its tasks take after its function has returned", function()
    local child
    local start = neap.now()
    local value, err = neap.timeout(1, function()
      child = neap.spawn(function() neap.sleep(100) end)
      return "body done"
    end)
    assert.is_nil(value)
    assert.equal("timeout", err.kind)
    assert.equal(1000000000, ns_since(start))
    assert.equal("cancelled", child:status())
  end)

  it("never gives the half results of combinators that it cut off", function()
    local function slow()
      neap.sleep(100)
      return 1
    end
    for _, cut_off in ipairs {
      function() return neap.map({ 1, 2 }, slow) end,
      function() return neap.gather { slow } end,
      function() return neap.race { slow } end,
      function() return neap.scope(function(s) s:spawn(slow) return "half" end) end,
      function()
        local list = {}
        for _, result in neap.imap(function() return 1 end, slow) do list[#list + 1] = result end
        return list
      end,
    } do
      local value, err = neap.timeout(1, cut_off)
      assert.is_nil(value)
      assert.equal("timeout", err.kind)
    end
  end)

  it("lets raised errors through", function()
    local raised = {}
    local ok, err = pcall(neap.timeout, 5, function() error(raised) end)
    assert.is_false(ok)
    assert.equal(raised, err)
  end)

  it("nested: the shorter one inside leaves the outer one alone", function()
    local start = neap.now()
    local outer = neap.timeout(5, function()
      local _, err = neap.timeout(1, neap.sleep, 100)
      assert.equal("timeout", err.kind)
      neap.sleep(1)
      return "outer done"
    end)
    assert.equal("outer done", outer)
    assert.equal(2000000000, ns_since(start))
  end)

  it("nested: the shorter one outside ends both, and the inner one does not take it for its own", function()
    local start, went_on = neap.now(), nil
    local value, err = neap.timeout(1, function()
      neap.timeout(5, neap.sleep, 100)
      went_on = true
    end)
    assert.is_nil(value)
    assert.equal("timeout", err.kind)
    assert.is_nil(went_on)
    assert.equal(1000000000, ns_since(start))
  end)

  it("nested with the same deadline gives the error once, outside", function()
    local value, err = neap.timeout(1, function()
      local inner, inner_err = neap.timeout(1, neap.sleep, 100)
      neap.sleep(100)
      return inner, inner_err
    end)
    assert.is_nil(value)
    assert.equal("timeout", err.kind)
  end)

  it("is not swallowed by pcall", function()
    local tries = 0
    local value, err = neap.timeout(1, function()
      while tries < 100 do
        tries = tries + 1
        if not pcall(neap.sleep, 10) and tries > 3 then neap.sleep(0) end
      end
      return "went on"
    end)
    assert.is_nil(value)
    assert.equal("timeout", err.kind)
    assert.equal(4, tries)
  end)

  it("raises 'cancelled' when the task was cancelled from outside", function()
    local kind
    neap.scope(function(s)
      local task = s:spawn(function()
        local _, err = pcall(neap.timeout, 50, neap.sleep, 100)
        kind = err.kind
        neap.sleep(0)
      end)
      neap.sleep(1)
      task:cancel()
      task:await()
      assert.equal("cancelled", task:status())
    end)
    assert.equal("cancelled", kind)
  end)

  it("gives back a permit, a queue place and an event place that it broke off", function()
    local sem, queue, event = neap.semaphore(1), neap.queue { max = 1 }, neap.event()
    sem:acquire()
    queue:put(1)
    for _, wait in ipairs {
      function() sem:acquire() end, function() queue:put(2) end, function() event:wait() end,
      function() queue:join() end, function() neap.queue():get() end,
    } do
      local _, err = neap.timeout(1, wait)
      assert.equal("timeout", err.kind)
    end
    assert.equal(0, sem:waiting())
    assert.same({ 0, 0 }, { queue:waiting() })
    assert.equal(0, event:waiting())
    assert.equal(1, queue:len())
  end)

  it("frees what a broken-off function held", function()
    local sem = neap.semaphore(1)
    neap.timeout(1, sem.with, sem, neap.sleep, 100)
    assert.equal(0, sem:held())
  end)

  it("raises for a time that makes no sense", function()
    assert.has_error(function() neap.timeout(-1, function() end) end)
    assert.has_error(function() neap.timeout("soon", function() end) end)
    assert.has_error(function() neap.timeout(0 / 0, function() end) end)
  end)
end)
