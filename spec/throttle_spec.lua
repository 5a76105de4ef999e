local core = require "neap.core"
local errors = require "neap.error"
local neap = require "neap"
local telemetry = require "neap.telemetry"
local throttle = require "neap.throttle"
local windows = require "neap.throttle.window"

local function ok() return { status = 200 } end
local function overloaded() return { status = 503 } end

local function times(n, fn)
  for _ = 1, n do fn() end
end

--- `n` calls of `fn` through `policy`; how many were rejected here.
local function rejections(policy, n, fn)
  local count = 0
  for _ = 1, n do
    local _, err = policy:call(fn)
    if errors.is(err, "limit") then count = count + 1 end
  end
  return count
end

describe("throttle.window", function()
  local function window_with(requests, accepts)
    local window = windows.new(120)
    local slice = window:advance(0)
    times(requests, function() window:request(slice) end)
    for i = 1, requests do window:judge(slice, i <= accepts) end
    return window
  end

  it("gives the formula's probability: (requests - k * accepts) / (requests + 1), not below 0", function()
    assert.equal(0, windows.new(120):probability(2))
    assert.equal(1 / 2, window_with(1, 0):probability(2))
    assert.equal(0, window_with(100, 50):probability(2))
    assert.equal(0, window_with(100, 100):probability(2))
    assert.equal(60 / 101, window_with(100, 20):probability(2))
    assert.near(78 / 101, window_with(100, 20):probability(1.1), 1e-12)
    assert.equal(100 / 101, window_with(100, 0):probability(2))
  end)

  it("counts a rejection here as a request that was not accepted", function()
    local window = window_with(100, 50)
    local slice = window:advance(1)
    times(20, function()
      window:request(slice)
      window:reject(slice)
    end)
    assert.equal(20 / 121, window:probability(2))
  end)

  it("forgets a call and its answer together, a window after the call began", function()
    local window = windows.new(60)
    local slice = window:advance(0)
    window:request(slice)
    window:advance(50)
    window:judge(slice, false)
    assert.equal(1 / 2, window:probability(2))
    window:advance(59.9)
    assert.same({ 1, 1 }, { window.requests, window.refused })
    window:advance(60.1)
    assert.same({ 0, 0 }, { window.requests, window.refused })
  end)

  it("takes no notice of an answer to a call that has left the window", function()
    local window = windows.new(60)
    local slice = window:advance(0)
    window:request(slice)
    window:advance(100)
    window:judge(slice, true)
    window:forget(slice)
    assert.same({ 0, 0 }, { window.requests, window.accepts })
  end)

  it("expects of calls under way what the others got, and the best while there are none", function()
    local window = windows.new(120)
    local slice = window:advance(0)
    times(100, function() window:request(slice) end)
    assert.equal(0, window:probability(2))
    window:judge(slice, false)
    assert.near((100 - 99) / 101, window:probability(2), 1e-12)
    times(8, function() window:judge(slice, false) end)
    assert.near((100 - 2 * 91 / 10) / 101, window:probability(2), 1e-12)
  end)

  it("holds what a model that keeps every call holds, over 100,000 random operations", function()
    local window, now = windows.new(30), 0
    local calls, first, last, open = {}, 1, 0, {}
    local function draw(n) return math.floor(core.random() * n) + 1 end
    local function model()
      local sums = { requests = 0, rejected = 0, accepts = 0, refused = 0 }
      while first <= last and calls[first].slice <= math.floor(now / 0.5) - 60 do first = first + 1 end
      for i = first, last do
        local call = calls[i]
        if not call.forgotten then
          sums.requests = sums.requests + 1
          if call.became then sums[call.became] = sums[call.became] + 1 end
        end
      end
      return sums
    end
    for i = 1, 100000 do
      now = now + core.random() ^ 6 * (i % 501 == 0 and 60 or 2)
      local slice, what = window:advance(now), draw(5)
      if what <= 2 or #open == 0 then
        last = last + 1
        calls[last] = { slice = slice }
        window:request(slice)
        if draw(4) == 1 then
          calls[last].became = "rejected"
          window:reject(slice)
        else
          open[#open + 1] = calls[last]
        end
      else
        local call = table.remove(open, draw(#open))
        if what == 5 then
          call.forgotten = true
          window:forget(call.slice)
        else
          call.became = draw(2) == 1 and "accepts" or "refused"
          window:judge(call.slice, call.became == "accepts")
        end
      end
      if i % 7 == 0 or i % 501 == 0 then
        local sums = model()
        for name, sum in pairs(sums) do
          if sum ~= window[name] then assert.equal(sum, window[name], name .. " after " .. i) end
        end
      end
    end
  end)
end)

describe("neap.throttle", function()
  it("lets everything through while the upstream accepts it", function()
    local policy = throttle.new()
    assert.equal(0, rejections(policy, 1000, ok))
    assert.equal(0, policy:probability())
  end)

  it("returns all results, and passes the arguments on", function()
    local function fn(...) return { status = 200, n = select("#", ...) }, nil, "x" end
    local a, b, c = throttle.new():call(fn, nil, 1)
    assert.same({ 2, "x" }, { a.n, c })
    assert.is_nil(b)
  end)

  it("rejects with kind limit, retryable and never sent, without calling the function", function()
    local policy, calls = throttle.new { name = "api" }, 0
    local rejected
    for _ = 1, 200 do
      local _, err = policy:call(function()
        calls = calls + 1
        return { status = 503 }
      end)
      rejected = rejected or err
    end
    assert.equal("limit", rejected.kind)
    assert.same({ true, "no", "throttle" }, { rejected.retryable, rejected.sent, rejected.phase })
    assert.equal(0, rejected.attempts)
    assert.matches("rejected by 'api' before it was sent: 0 of %d+ calls accepted in the last 120 s", rejected.message)
    assert.is_true(calls < 50)
    assert.equal(200 - calls, policy:snapshot().rejected)
  end)

  it("takes 429, 503 and failures for not accepted, other answers for accepted", function()
    local failures = {
      function() return { status = 429 } end, overloaded, function() return { status = 500 } end,
      function() return nil, errors.new { kind = "timeout", message = "late" } end,
      function() return nil, errors.new { kind = "connect", message = "refused" } end,
    }
    for i, fn in ipairs(failures) do
      local policy = throttle.new()
      policy:call(fn)
      assert.equal(0.5, policy:probability(), "failure " .. i)
    end
    for _, fn in ipairs { ok, function() return { status = 404 } end, function() return "plain" end } do
      local policy = throttle.new()
      policy:call(fn)
      assert.equal(0, policy:probability())
      assert.equal(1, policy:snapshot().accepts)
    end
  end)

  it("does not count what says nothing about the upstream", function()
    local policy = throttle.new()
    policy:call(function() return nil, errors.new { kind = "circuit_open", message = "open" } end)
    assert.same({ 0, 0 }, { policy:snapshot().requests, policy:snapshot().probability })
  end)

  it("asks 'accepted' instead where it is given", function()
    local policy = throttle.new { accepted = function(res) return res.status ~= 503 and res.body ~= "busy" end }
    policy:call(function() return { status = 500 } end)
    policy:call(function() return { status = 200, body = "busy" } end)
    assert.same({ 2, 1 }, { policy:snapshot().requests, policy:snapshot().accepts })
  end)

  it("does not reject a start with many calls at once", function()
    local policy, sent = throttle.new(), 0
    neap.scope(function(s)
      for _ = 1, 500 do
        s:spawn(policy.call, policy, function()
          sent = sent + 1
          neap.sleep(10)
          return { status = 200 }
        end)
      end
    end)
    assert.equal(500, sent)
  end)

  it("counts calls under way, so that it throttles harder while the answers are outstanding", function()
    local policy = throttle.new { min_requests = 20 }
    neap.scope(function(s)
      times(19, function() policy:call(overloaded) end)
      local before = policy:probability()
      assert.equal(0, before)
      local hanging = s:spawn(policy.call, policy, function() neap.sleep(60) return { status = 503 } end)
      neap.sleep(1)
      assert.near((20 - 2 * 1 / 20) / 21, policy:probability(), 1e-12)
      hanging:cancel()
    end)
  end)

  -- A server that takes `capacity` calls a second and refuses the others at once.
  local function server_of(capacity)
    local second, taken = nil, 0
    local server = { sent = 0, accepted = 0 }
    function server.call()
      server.sent = server.sent + 1
      local this = math.floor(neap.now())
      if this ~= second then second, taken = this, 0 end
      taken = taken + 1
      if taken > capacity then return { status = 503 } end
      server.accepted = server.accepted + 1
      return { status = 200 }
    end
    return server
  end

  local function offer(policy, server, rate, seconds)
    for _ = 1, rate * seconds do
      policy:call(server.call)
      neap.sleep(1 / rate)
    end
  end

  it("brings what is sent to about k times what is accepted, at five times the capacity", function()
    for _, k in ipairs { 1.1, 2 } do
      local policy, server = throttle.new { k = k, window = 30 }, server_of(20)
      offer(policy, server, 100, 60)
      server.sent, server.accepted = 0, 0
      offer(policy, server, 100, 60)
      assert.is_true(server.accepted > 0.85 * 20 * 60, "the capacity is used")
      assert.near(k, server.sent / server.accepted, 0.1 * k)
    end
  end)

  -- After an outage longer than the window the formula alone grows back e-fold in
  -- window / k, from one probe; a bound on the probability keeps more probes.
  it("sends everything again after an outage, sooner with max_rejection", function()
    local function recovery(opts)
      local policy, healthy = throttle.new(opts), server_of(1000)
      offer(policy, server_of(0), 100, 60)
      local recovered = neap.now()
      while policy:probability() > 0 do offer(policy, healthy, 100, 1) end
      healthy.accepted = 0
      offer(policy, healthy, 100, 10)
      assert.equal(1000, healthy.accepted)
      return neap.now() - recovered - 10
    end
    assert.is_true(recovery { window = 30, max_rejection = 0.8 } < 2 * 30)
    local alone = recovery { window = 30 }
    assert.is_true(alone > 4 * 30, "without it, " .. alone)
  end)

  it("does not reject below min_requests, nor with more than max_rejection", function()
    local policy = throttle.new { min_requests = 50, max_rejection = 0.8 }
    assert.equal(0, rejections(policy, 50, overloaded))
    assert.equal(0.8, policy:probability())
    assert.near(800, rejections(policy, 1000, overloaded), 50)
  end)

  it("retunes live with the constructor's checks; a new window starts to learn again", function()
    local policy = throttle.new()
    times(9, function() policy:call(ok) end)
    policy:update { k = 1 }
    policy:call(overloaded)
    assert.near(1 / 11, policy:probability(), 1e-12)
    policy:update { window = 60 }
    assert.equal(0, policy:snapshot().requests)
    assert.error_matches(function() policy:update { k = 0.5 } end, "option 'k' must be at least 1, got 0.5")
    assert.equal(1, policy.options.k)
  end)

  it("changes its window while a call is under way", function()
    local policy = throttle.new()
    policy:call(function()
      policy:update { window = 10 }
      return { status = 503 }
    end)
    assert.equal(0, policy:snapshot().requests)
  end)

  it("tells telemetry when it begins and ceases to reject, with the reason", function()
    local events = {}
    local policy = throttle.new { window = 10 }
    local unsubscribe = telemetry.subscribe(function(event)
      if event.kind == "throttle" then events[#events + 1] = event end
    end)
    policy:call(overloaded)
    policy:call(ok)
    neap.sleep(11)
    policy:call(ok)
    unsubscribe()
    assert.same({ "throttling", "clear" }, { events[1].event, events[2].event })
    assert.equal(0.5, events[1].probability)
    assert.equal("0 of 1 calls accepted in the last 10 s", events[1].reason)
  end)

  it("leaves a raised error alone and goes on", function()
    local policy = throttle.new()
    assert.error_matches(function() policy:call(function() error("a bug", 0) end) end, "a bug")
    assert.equal(0, policy:probability())
    assert.equal(200, policy:call(ok).status)
  end)

  it("refuses bad options with the option's name and what it accepts", function()
    local function refused(pattern, opts)
      assert.error_matches(function()
        local policy = throttle.new(opts)
        return policy
      end, pattern)
    end
    refused("neap.throttle: option 'k' must be at least 1, got 0.9", { k = 0.9 })
    refused("option 'window' must be at least 0.1, got 0", { window = 0 })
    refused("option 'max_rejection' must be above 0, got 0", { max_rejection = 0 })
    refused("option 'accepted' must be function, got boolean", { accepted = true })
    refused("option 'windw' is unknown; did you mean 'window'?", { windw = 5 })
  end)
end)
