-- SPDX-License-Identifier: MIT
local neap = require "neap"

local function status(code) return { status = code, headers = {} } end

--- Runs `n` calls at once, each for `seconds`; what each got, and how many ran at
--- a time at most.
local function run_at_once(policy, n, seconds)
  local running, most, kinds = 0, 0, {}
  local tasks = {}
  for i = 1, n do
    tasks[i] = neap.spawn(function()
      local res, err = policy:call(function()
        running = running + 1
        most = math.max(most, running)
        neap.sleep(seconds)
        running = running - 1
        return status(200)
      end)
      kinds[i] = res and "answered" or err.kind
    end)
  end
  for i = 1, n do tasks[i]:await() end
  return kinds, most
end

describe("neap.bulkhead", function()
  it("passes arguments in and all results out", function()
    local a, b, c = neap.bulkhead { limit = 1 }:call(function(...) return select("#", ...), nil, (select(2, ...)) end,
      nil, "x", nil)
    assert.same({ 3, nil, "x" }, { a, b, c })
  end)

  it("runs at most so many calls at a time, in order of arrival", function()
    local bulkhead = neap.bulkhead { limit = 3 }
    local began = neap.now()
    local kinds, most = run_at_once(bulkhead, 9, 1)
    assert.equal(3, most)
    assert.near(3, neap.now() - began, 1e-6)
    for i = 1, 9 do assert.equal("answered", kinds[i]) end
    assert.equal(0, bulkhead:snapshot().held)
  end)

  it("counts the seconds in line as queue", function()
    local bulkhead = neap.bulkhead { limit = 1 }
    local first = neap.spawn(bulkhead.call, bulkhead, neap.sleep, 4)
    neap.sleep(1)
    local res = bulkhead:call(status, 200)
    first:await()
    assert.near(3, res.spent.queue, 1e-6)
    assert.near(0, res.spent.wire, 1e-6)
  end)

  it("refuses with queue_full when the line is full", function()
    local bulkhead = neap.bulkhead { limit = 1, max_waiting = 2 }
    local kinds = run_at_once(bulkhead, 5, 1)
    assert.same({ "answered", "answered", "answered", "queue_full", "queue_full" }, kinds)
    local tasks = {}
    for i = 1, 3 do tasks[i] = neap.spawn(bulkhead.call, bulkhead, neap.sleep, 1) end
    neap.sleep(0)
    local _, err = bulkhead:call(status, 200)
    assert.equal("queue_full: no room in the bulkhead's line: 1 of 1 places in use, 2 in line", tostring(err))
    assert.same({ "bulkhead", "no", 0 }, { err.phase, err.sent, err.attempts })
    for i = 1, 3 do tasks[i]:await() end
  end)

  it("refuses with queue_timeout when the wait takes too long", function()
    local bulkhead = neap.bulkhead { limit = 1, timeout = 2 }
    local first = neap.spawn(bulkhead.call, bulkhead, neap.sleep, 10)
    neap.sleep(1)
    local began = neap.now()
    local _, err = bulkhead:call(status, 200)
    assert.near(2, neap.now() - began, 1e-6)
    assert.equal("queue_timeout: no place in the bulkhead after 2 s: 1 of 1 places in use, 0 in line", tostring(err))
    assert.same({ "bulkhead", "queue", "no" }, { err.phase, err.timeout, err.sent })
    assert.near(2, err.spent.queue, 1e-6)
    first:await()
    assert.equal(200, bulkhead:call(status, 200).status)
  end)

  it("only tries with a timeout of 0", function()
    local kinds = run_at_once(neap.bulkhead { limit = 2, timeout = 0 }, 3, 1)
    assert.same({ "answered", "answered", "queue_timeout" }, kinds)
  end)

  it("lets a retry around it try again", function()
    local bulkhead = neap.bulkhead { limit = 1, timeout = 0 }
    local first = neap.spawn(bulkhead.call, bulkhead, neap.sleep, 3)
    neap.sleep(0)
    local policy = neap.policy { neap.retry { backoff = { base = 5, jitter = "none" } }, bulkhead }
    local res = policy:call(status, 200)
    first:await()
    assert.same({ 200, 1 }, { res.status, res.attempts })
  end)

  it("gives the place back when the call raises, is cancelled inside, or is cancelled in line", function()
    local bulkhead = neap.bulkhead { limit = 1 }
    assert.is_false(pcall(bulkhead.call, bulkhead, error, "a bug"))
    assert.equal(0, bulkhead:snapshot().held)
    local inside = neap.spawn(bulkhead.call, bulkhead, neap.sleep, 10)
    local in_line = neap.spawn(bulkhead.call, bulkhead, neap.sleep, 10)
    neap.sleep(1)
    in_line:cancel()
    in_line:await()
    assert.same({ 1, 0 }, { bulkhead:snapshot().held, bulkhead:snapshot().waiting })
    inside:cancel()
    inside:await()
    assert.equal(0, bulkhead:snapshot().held)
    assert.equal(200, bulkhead:call(status, 200).status)
  end)

  it("holds no place during a backoff, and takes it again before those in line, however many", function()
    local bulkhead = neap.bulkhead { limit = 1, max_waiting = 2 }
    local policy = neap.policy { bulkhead, neap.retry { backoff = { base = 2, jitter = "none" } } }
    local order, n = {}, 0
    local retried = neap.spawn(policy.call, policy, function()
      n = n + 1
      order[#order + 1] = "attempt " .. n
      return status(n == 1 and 503 or 200)
    end)
    local others = {}
    neap.sleep(1)
    for i = 1, 3 do
      others[i] = neap.spawn(bulkhead.call, bulkhead, function()
        order[#order + 1] = "other " .. i
        neap.sleep(5)
        return status(200)
      end)
    end
    neap.sleep(3) -- the line is full when it comes back
    assert.same({ 1, 3 }, { bulkhead:snapshot().held, bulkhead:snapshot().waiting })
    assert.equal("bulkhead: 1 of 1 places in use, 3 in line (attempts 1, 4 s so far)",
      tostring(neap.explain(retried)))
    retried:await()
    for i = 1, 3 do others[i]:await() end
    assert.same({ "attempt 1", "other 1", "attempt 2", "other 2", "other 3" }, order)
    assert.equal(0, bulkhead:snapshot().held)
  end)

  it("takes the place again however long that takes", function()
    local bulkhead = neap.bulkhead { limit = 1, timeout = 1 }
    local policy = neap.policy { bulkhead, neap.retry { backoff = { base = 2, jitter = "none" } } }
    local held = {}
    local retried = neap.spawn(policy.call, policy, function()
      held[#held + 1] = bulkhead:snapshot().held
      return status(#held == 1 and 503 or 200)
    end)
    neap.sleep(1)
    bulkhead:call(neap.sleep, 10)
    local spent = retried:await().spent
    assert.near(2, spent.backoff, 1e-6)
    assert.near(9, spent.queue, 1e-6)
    assert.same({ 1, 1 }, held)
    assert.equal(0, bulkhead:snapshot().held)
  end)

  it("enters at the head of the line after a park", function()
    local bulkhead = neap.bulkhead { limit = 1 }
    local policy = neap.policy { neap.retry { park = true, max_retry_after = 1, backoff = { base = 0 } }, bulkhead }
    local order, n = {}, 0
    local parked = neap.spawn(policy.call, policy, function()
      n = n + 1
      if n == 1 then return { status = 429, headers = { ["retry-after"] = "5" } } end
      order[#order + 1] = "parked"
      return status(200)
    end)
    neap.sleep(1)
    local others = {}
    for i = 1, 3 do
      others[i] = neap.spawn(bulkhead.call, bulkhead, function()
        neap.sleep(10)
        order[#order + 1] = i
      end)
    end
    parked:await()
    for i = 1, 3 do others[i]:await() end
    assert.same({ 1, "parked", 2, 3 }, order)
  end)

  it("tells neap.explain who waits in it", function()
    local bulkhead = neap.bulkhead { limit = 2, name = "gpu" }
    local tasks = {}
    for i = 1, 4 do tasks[i] = neap.spawn(bulkhead.call, bulkhead, neap.sleep, 5) end
    neap.sleep(1)
    local found = neap.explain(tasks[3])
    assert.same({ "gpu", "bulkhead", "2 of 2 places in use, 2 in line" }, { found.policy, found.kind, found.reason })
    assert.is_nil(neap.explain(tasks[1]).policy)
    for i = 1, 4 do tasks[i]:await() end
  end)

  it("shows its state", function()
    local bulkhead = neap.bulkhead { limit = 2 }
    local tasks = {}
    assert.equal("open", bulkhead:snapshot().state)
    for i = 1, 3 do tasks[i] = neap.spawn(bulkhead.call, bulkhead, neap.sleep, 5) end
    neap.sleep(0)
    assert.same({ kind = "bulkhead", name = "bulkhead", state = "full", limit = 2, held = 2, waiting = 1,
      reason = "2 of 2 places in use, 1 in line" }, bulkhead:snapshot())
    for i = 1, 3 do tasks[i]:await() end
  end)

  it("changes its limit in use: a higher one at once, a lower one as calls end", function()
    local bulkhead = neap.bulkhead { limit = 1 }
    local tasks = {}
    for i = 1, 6 do tasks[i] = neap.spawn(bulkhead.call, bulkhead, neap.sleep, 5) end
    neap.sleep(1)
    bulkhead:update { limit = 4 }
    assert.equal(4, bulkhead:snapshot().held)
    bulkhead:update { limit = 2 }
    assert.same({ 4, 2, "full" }, { bulkhead:snapshot().held, bulkhead:snapshot().limit, bulkhead:snapshot().state })
    neap.sleep(4.5) -- the first has ended, the other three not
    assert.equal(3, bulkhead:snapshot().held)
    for i = 1, 6 do tasks[i]:await() end
    assert.has_error(function() bulkhead:update { max_waiting = 3 } end,
      "neap.bulkhead: update: option 'max_waiting' cannot change while it is in use")
  end)

  it("stops everything with a limit of 0, and lets go when it is raised", function()
    local bulkhead = neap.bulkhead { limit = 0 }
    local task = neap.spawn(bulkhead.call, bulkhead, status, 200)
    neap.sleep(5)
    bulkhead:update { limit = 1 }
    assert.equal(200, task:await().status)
  end)

  it("names what it accepts where options are wrong", function()
    for _, case in ipairs {
      { {}, "option 'limit' is required" }, { { limit = -1 }, "option 'limit' must be at least 0, got %-1" },
      { { limit = 1.5 }, "option 'limit' must be integer, got 1.5" },
      { { limit = 1, max_waiting = 0 }, "option 'max_waiting' must be at least 1, got 0" },
      { { limit = 1, timeout = -1 }, "option 'timeout' must be at least 0, got %-1" },
      { { limits = 1 }, "option 'limits' is unknown; did you mean 'limit'?" },
    } do
      local ok, message = pcall(neap.bulkhead, case[1])
      assert.is_false(ok)
      assert.matches("neap.bulkhead: " .. case[2], message)
    end
  end)

  it("never lets more through than its limit, through 20,000 random calls, cancels and changes", function()
    local core = require "neap.core"
    local bulkhead = neap.bulkhead { limit = 5, max_waiting = 20, timeout = 3 }
    local retry = neap.retry { backoff = { base = 0.5 }, max_attempts = 2 }
    local policy = neap.policy { bulkhead, retry }
    local running, limit, counts = 0, 5, { over = 0 }
    local function work()
      running = running + 1
      -- A lowered limit holds for whoever comes now.
      if running > math.max(limit, counts.before or 0) then counts.over = counts.over + 1 end
      local ok, err = pcall(neap.sleep, core.random())
      running = running - 1
      if not ok then error(err, 0) end
      return status(core.random() < 0.2 and 503 or 200)
    end
    neap.scope(function(s)
      for _ = 1, 20000 do
        neap.sleep(core.random() * 0.15)
        local dice = core.random()
        if dice < 0.01 then
          counts.before = running
          limit = 1 + math.floor(core.random() * 8)
          bulkhead:update { limit = limit }
        end
        s:spawn(function()
          local res, err = neap.timeout(0.2 + core.random() * 4, policy.call, policy, work)
          local kind = res and "answered" or err.kind
          counts[kind] = (counts[kind] or 0) + 1
        end)
      end
    end)
    assert.equal(0, counts.over)
    assert.same({ 0, 0, 0 }, { running, bulkhead:snapshot().held, bulkhead:snapshot().waiting })
    for _, kind in ipairs { "answered", "timeout", "queue_full", "queue_timeout" } do
      assert.is_true((counts[kind] or 0) > 100, kind .. ": " .. (counts[kind] or 0))
    end
    assert.equal(20000, counts.answered + counts.timeout + counts.queue_full + counts.queue_timeout)
  end)
end)
