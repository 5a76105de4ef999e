-- SPDX-License-Identifier: MIT
local core = require "neap.core"
local errors = require "neap.error"
local neap = require "neap"
local support = require "spec.support.router"

local response, endpoints, new = support.response, support.endpoints, support.new

describe("neap.router's cooldown", function()
  it("follows a 429's hint, and goes elsewhere in the meantime", function()
    local world = new { strategy = "order", endpoints = endpoints "a b" }
    world.answers.a = function() return response(429, { headers = { ["retry-after"] = "30" } }) end
    assert.equal("b", world.call().from)
    local state = world.state "a"
    assert.equal("cooldown", state.state)
    assert.equal("429", state.reason)
    assert.near(30, state.next_change, 1e-6)
    world.answers.a = nil
    neap.sleep(29)
    assert.equal("b", world.call().from)
    neap.sleep(2)
    assert.equal("a", world.call().from)
  end)

  it("lasts `cooldown` after a 429 without a hint", function()
    local world = new { strategy = "order", endpoints = endpoints "a b", cooldown = 7 }
    world.answers.a = 429
    world.call()
    assert.near(7, world.state("a").next_change, 1e-6)
  end)

  it("is extended by a longer hint of a call that was under way, never shortened", function()
    local world = new { endpoints = endpoints "a" }
    world.answers.a = function(_, hint, seconds)
      neap.sleep(seconds)
      return response(429, { headers = { ["retry-after"] = tostring(hint) } })
    end
    neap.gather {
      function() return world.call(10, 1) end,
      function() return world.call(60, 2) end,
      function() return world.call(5, 3) end,
    }
    assert.near(59, world.state("a").next_change, 1e-6)
  end)

  it("comes after more than allowed_fails failures within the window", function()
    local world = new { strategy = "order", endpoints = endpoints "a b" }
    world.answers.a = 503
    world.calls(3)
    assert.equal("available", world.state("a").state)
    neap.sleep(61) -- the window is over, it counts from the start
    world.answers.a = 200
    world.calls(1) -- not in a row
    world.answers.a = 503
    world.calls(3)
    assert.equal("available", world.state("a").state)
    world.calls(1)
    assert.equal("cooldown", world.state("a").state)
    assert.matches("4 failures, the last one: 503", world.state("a").reason)
    assert.near(5, world.state("a").next_change, 1e-6)
  end)

  it("waits for a breaker that says when it lets calls through", function()
    local world = new { strategy = "order", endpoints = endpoints "a b" }
    world.answers.a = function()
      return nil, errors.new { kind = "circuit_open", message = "open", sent = "no", retry_after = 12 }
    end
    world.call()
    assert.near(12, world.state("a").next_change, 1e-6)
    assert.equal(0, world.state("a").failures)
  end)

  it("of all endpoints refuses calls and says when to come back", function()
    local world = new { endpoints = endpoints "a b" }
    local hints = { a = "20", b = "30" }
    local function refuse(endpoint)
      return response(429, { headers = { ["retry-after"] = hints[endpoint.name] } })
    end
    world.answers = { a = refuse, b = refuse }
    local res = world.call()
    assert.equal(429, res.status)
    assert.near(20, res.retry_after, 1e-6) -- the sooner one's, whichever came last
    assert.equal(2, #world.sent)
    local none, err = world.call()
    assert.is_nil(none)
    assert.equal("circuit_open", err.kind)
    assert.equal("no", err.sent)
    assert.near(20, err.retry_after, 1e-6)
    assert.matches("a: cooldown for 20 s more %(429%); b: cooldown for 30 s more %(429%)", err.message)
    assert.equal(2, #world.sent)
  end)

  it("is waited out by a retry around it", function()
    local world = new { endpoints = endpoints "a" }
    world.answers.a = function()
      world.answers.a = nil
      return response(429, { headers = { ["retry-after"] = "30" } })
    end
    local policy = neap.policy { neap.retry { backoff = { base = 0.1, jitter = "none" } }, world.router }
    local began = neap.now()
    assert.equal(200, policy:call(world.fn).status)
    assert.near(30, neap.now() - began, 1e-6)
    assert.equal(2, #world.sent)
  end)
end)

describe("neap.router's ejection", function()
  local lasting = { allowed_fails = math.huge, strategy = "order", endpoints = endpoints "a b" }

  local function with(changes)
    local opts = {}
    for key, value in pairs(lasting) do opts[key] = value end
    for key, value in pairs(changes or {}) do opts[key] = value end
    return new(opts)
  end

  it("follows failures in a row, for longer each time, up to a maximum", function()
    local world = with { ejection = { interval = 1000, max_time = 70 } }
    world.answers.a = 500
    for _, seconds in ipairs { 30, 60, 70 } do
      world.calls(5)
      local state = world.state "a"
      assert.equal("ejected", state.state)
      assert.near(seconds, state.next_change, 1e-6)
      assert.equal("b b", world.calls(2))
      neap.sleep(seconds)
    end
    assert.equal("a b", world.calls(1))
  end)

  it("does not follow failures with successes between them", function()
    local world = with()
    for _ = 1, 5 do
      world.answers.a = 500
      world.calls(4)
      world.answers.a = 200
      world.calls(1)
    end
    assert.equal("available", world.state("a").state)
    assert.equal(20, world.state("a").failures)
  end)

  it("follows the failure rate of an interval with enough calls", function()
    local n = 0
    local function mostly_bad() n = n + 1; return response(n % 10 == 0 and 200 or 500) end
    local function run(calls)
      local world = with { ejection = { consecutive_failures = math.huge } }
      n, world.answers.a = 0, mostly_bad
      world.calls(calls)
      neap.sleep(10)
      world.calls(1)
      return world
    end
    local world = run(60)
    assert.equal("ejected", world.state("a").state)
    assert.equal("54 of 60 calls failed", world.state("a").reason)
    assert.equal("available", run(40).state("a").state)
  end)

  it("pays off past ejections with time in service", function()
    local world = with { ejection = { interval = 10 } }
    world.answers.a = 500
    world.calls(5)
    neap.sleep(30)
    world.calls(5)
    assert.near(60, world.state("a").next_change, 1e-6)
    assert.equal(2, world.state("a").ejections)
    neap.sleep(60)
    world.answers.a = 200
    neap.sleep(10)
    world.calls(1)
    assert.equal(1, world.state("a").ejections)
    neap.sleep(50)
    world.calls(1)
    assert.equal(0, world.state("a").ejections)
  end)

  it("takes out at most max_percent, though one in any case", function()
    local function ejected(opts)
      local world = new { strategy = "round_robin", endpoints = endpoints "a b c d e", allowed_fails = math.huge,
        ejection = opts }
      for _, name in ipairs { "a", "b", "c", "d" } do world.answers[name] = 500 end
      world.calls(40)
      local n = 0
      for _, state in ipairs(world.router:snapshot().endpoints) do n = n + (state.state == "ejected" and 1 or 0) end
      return n
    end
    assert.equal(2, ejected { max_percent = 50 })
    assert.equal(1, ejected { max_percent = 10 })
    assert.equal(0, ejected { max_percent = 0 })
    assert.equal(4, ejected { max_percent = 100 })
  end)

  it("and failures' cooldown leave the last one in service", function()
    local world = new { endpoints = endpoints "a b", ejection = { max_percent = 100 } }
    world.answers = { a = 500, b = 500 }
    world.calls(50)
    local snapshot = world.router:snapshot()
    assert.equal("degraded", snapshot.state)
    local alone = new { endpoints = endpoints "a" }
    alone.answers.a = 500
    alone.calls(50)
    assert.equal("ready", alone.router:snapshot().state)
    assert.equal(50, #alone.sent)
  end)

  it("ignores failures of calls that were under way", function()
    local world = with { ejection = { interval = 1000 } }
    local function slow(_, seconds) neap.sleep(seconds); return response(500) end
    world.answers = { a = slow }
    neap.scope(function(s)
      for i = 1, 20 do s:spawn(world.call, i) end
    end)
    neap.sleep(30)
    assert.equal(1, world.state("a").ejections)
    world.answers.a = 500
    world.calls(4)
    assert.equal("available", world.state("a").state)
  end)
end)

-- Against a reference that knows only the rules of docs/api/router.md for who may
-- be called, and checks each choice as it is made.
describe("neap.router under random operations", function()
  it("calls only endpoints in service, each once a call, and counts them right", function()
    local rng = core.rng(7, 1)
    local names = { "a", "b", "c", "d", "e" }
    local world = new { strategy = "least_busy", endpoints = endpoints(table.concat(names, " ")), cooldown = 3,
      allowed_fails = math.huge, ejection = { consecutive_failures = 3, interval = 1e6, max_percent = 100 } }
    local model, busy, done, failures = {}, {}, 0, 0
    for _, name in ipairs(names) do model[name], busy[name] = { row = 0, out = 0, ejections = 0 }, 0 end

    local function in_service(name) return not model[name].isolated and neap.now() >= model[name].out end

    local function learn(name, status)
      local m = model[name]
      if not in_service(name) then
        if status == 429 and not m.isolated then m.out = math.max(m.out, neap.now() + 3) end
      elseif status == 200 then
        m.row = 0
      elseif status == 429 then
        m.out, m.row = neap.now() + 3, 0
      else
        m.row = m.row + 1
        local others = false
        for _, other in ipairs(names) do others = others or other ~= name and in_service(other) end
        if m.row >= 3 and others then
          m.ejections = m.ejections + 1
          m.out, m.row = neap.now() + math.min(300, 30 * m.ejections), 0
        end
      end
    end

    local function one_call()
      local seen = {}
      local _, err = world.router:call(function(endpoint)
        local name = endpoint.name
        assert(in_service(name) and not seen[name], name)
        for _, other in ipairs(names) do
          assert(not in_service(other) or seen[other] or busy[other] >= busy[name], "not the least busy one")
        end
        seen[name], busy[name] = true, busy[name] + 1
        neap.sleep(rng:double() * 4)
        busy[name] = busy[name] - 1
        local draw = rng:double()
        local status = draw < 0.7 and 200 or draw < 0.97 and 500 or 429
        failures = failures + (status ~= 200 and 1 or 0)
        learn(name, status)
        return response(status)
      end)
      if err then
        assert(err.kind == "circuit_open")
        for _, name in ipairs(names) do assert(not in_service(name), name) end
      end
      done = done + 1
    end

    neap.scope(function(s)
      for i = 1, 100000 do
        local draw = rng:double()
        if draw < 0.9 then
          s:spawn(one_call)
        elseif draw < 0.95 then
          neap.sleep(rng:double() * 10)
        else
          local name = names[1 + math.floor(rng:double() * 5)]
          if rng:double() < 0.2 then
            world.router:isolate(name)
            if not model[name].isolated then model[name].isolated, model[name].out = true, 0 end
          else
            world.router:restore(name)
            local m = model[name]
            m.ejections = 0
            if m.isolated or neap.now() < m.out then m.isolated, m.out, m.row = nil, 0, 0 end
          end
        end
        if i % 100 == 0 then neap.sleep(2) end
      end
    end)
    for _, name in ipairs(names) do assert.equal(0, world.state(name).busy) end
    assert.is_true(done > 85000 and failures > 1000)
  end)
end)
