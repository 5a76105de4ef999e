-- SPDX-License-Identifier: MIT
local errors = require "neap.error"
local neap = require "neap"
local support = require "spec.support.router"
local telemetry = require "neap.telemetry"

local response, count, endpoints, new = support.response, support.count, support.endpoints, support.new

describe("neap.router", function()
  it("hands the endpoint to the function, before the arguments, and says its name on the call", function()
    local calls = require "neap.policy.call"
    local mine = { name = "eu", key = "secret" }
    local router = neap.router { endpoints = { mine } }
    local got, a, b, name = router:call(function(endpoint, ...)
      return endpoint, select("#", ...), ..., calls.of().endpoint
    end, nil)
    assert.equal(mine, got)
    assert.equal(1, a)
    assert.is_nil(b)
    assert.equal("eu", name)
  end)

  it("passes all results through", function()
    local router = neap.router { endpoints = endpoints "a" }
    assert.same({ n = 4, 1, nil, 3, nil },
      (function(...) return { n = select("#", ...), ... } end)(router:call(function() return 1, nil, 3, nil end)))
  end)

  describe("by weight", function()
    it("spreads calls exactly by weight, and evenly", function()
      local world = new { endpoints = { { name = "a", weight = 5 }, { name = "b" }, { name = "c" } } }
      assert.equal("a a b a c a a", world.calls(7))
      assert.same({ a = 500, b = 100, c = 100 }, world.spread(700))
    end)

    it("sends nothing to weight 0", function()
      local world = new { endpoints = { { name = "a", weight = 0 }, { name = "b" } } }
      assert.equal("b b b", world.calls(3))
    end)

    it("takes other weights while in use", function()
      local world = new { endpoints = endpoints "a b" }
      world.calls(3)
      world.router:update { weights = { a = 3 } }
      assert.same({ a = 300, b = 100 }, world.spread(400))
      world.router:update { weights = { b = 0 } }
      assert.equal("a a", world.calls(2))
    end)

    it("keeps the proportion among those that are left", function()
      local world = new { endpoints = { { name = "a", weight = 2 }, { name = "b" }, { name = "c", weight = 7 } } }
      world.router:isolate "c"
      assert.same({ a = 200, b = 100 }, world.spread(300))
    end)
  end)

  it("goes round without regard to weights by round_robin", function()
    local world = new { strategy = "round_robin", endpoints = { { name = "a", weight = 5 }, { name = "b" } } }
    assert.equal("a b a b", world.calls(4))
  end)

  it("takes the first of the list by order", function()
    local world = new { strategy = "order", endpoints = endpoints "a b c" }
    assert.equal("a a", world.calls(2))
    world.router:isolate "a"
    assert.equal("b b", world.calls(2))
  end)

  it("uses a higher order only while no endpoint of a lower one is in service", function()
    local world = new { strategy = "round_robin",
      endpoints = { { name = "spare", order = 2 }, { name = "a" }, { name = "b" } } }
    assert.equal("a b a b", world.calls(4))
    world.router:isolate "a"
    assert.equal("b b", world.calls(2))
    world.router:isolate "b"
    assert.equal("spare spare", world.calls(2))
    world.router:restore "b"
    assert.equal("b", world.calls(1))
  end)

  describe("by least_busy", function()
    it("calls the one with the fewest calls under way", function()
      local world = new { strategy = "least_busy", endpoints = endpoints "slow fast" }
      world.answers.slow = function() neap.sleep(10); return response(200) end
      world.answers.fast = function() neap.sleep(1); return response(200) end
      local began = neap.now()
      neap.scope(function(s)
        for _ = 1, 12 do
          s:spawn(world.call)
          neap.sleep(0.5)
        end
        assert.equal(3, world.state("slow").busy + world.state("fast").busy)
      end)
      assert.same({ slow = 2, fast = 10 }, count(world.sent))
      assert.near(10, neap.now() - began, 2)
      assert.equal(0, world.state("slow").busy)
    end)

    it("counts a heavier one as less busy", function()
      local world = new { strategy = "least_busy", endpoints = { { name = "a", weight = 3 }, { name = "b" } } }
      local function slow() neap.sleep(1); return response(200) end
      world.answers = { a = slow, b = slow }
      neap.scope(function(s)
        for _ = 1, 8 do s:spawn(world.call) end
        neap.sleep(0.5)
        assert.equal(6, world.state("a").busy)
        assert.equal(2, world.state("b").busy)
      end)
    end)

    it("forgets calls that were cancelled, timed out or raised", function()
      local world = new { strategy = "least_busy", endpoints = endpoints "a" }
      world.answers.a = function(_, what)
        if what == "raise" then error { kind = "mine" } end
        neap.sleep(100)
      end
      local task = neap.spawn(world.call)
      neap.sleep(1)
      assert.equal(1, world.state("a").busy)
      task:cancel()
      task:await()
      assert.is_nil((neap.timeout(1, world.call)))
      local ok, err = pcall(world.call, "raise")
      assert.is_false(ok)
      assert.equal("mine", err.kind)
      assert.equal(0, world.state("a").busy)
      assert.equal("available", world.state("a").state)
    end)
  end)
end)

describe("neap.router's failover", function()
  it("tries each other endpoint once, at once, and returns the first success", function()
    local world = new { strategy = "order", endpoints = endpoints "a b c" }
    world.answers = { a = 503, b = 500 }
    local began = neap.now()
    local res = world.call()
    assert.equal("c", res.from)
    assert.equal(3, res.attempts)
    assert.same({ "a", "b", "c" }, world.sent)
    assert.equal(began, neap.now())
  end)

  it("returns the last outcome when all have failed", function()
    local world = new { strategy = "order", endpoints = endpoints "a b" }
    world.answers = { a = 503, b = 502 }
    assert.equal(502, world.call().status)
    assert.same({ "a", "b" }, world.sent)
  end)

  it("goes on after errors and open breakers", function()
    local world = new { strategy = "order", endpoints = endpoints "a b c" }
    world.answers.a = function() return nil, errors.new { kind = "connect", message = "refused", sent = "no" } end
    world.answers.b = function() return nil, errors.new { kind = "circuit_open", message = "open", sent = "no" } end
    assert.equal("c", world.call().from)
  end)

  it("never sends again what may have been processed and is not replay-safe", function()
    local world = new { endpoints = endpoints "a b" }
    world.answers.a = function() return { status = 500, headers = {} } end
    world.answers.b = world.answers.a
    assert.equal(500, world.call().status)
    assert.equal(1, #world.sent)
    local function lost() return nil, errors.new { kind = "receive", message = "cut off", sent = "yes" } end
    world.answers = { a = lost, b = lost }
    local _, err = world.call()
    assert.equal("receive", err.kind)
    assert.equal(2, #world.sent)
  end)

  it("stops after max_failovers", function()
    local world = new { strategy = "order", endpoints = endpoints "a b c d", max_failovers = 1 }
    world.answers = { a = 503, b = 503 }
    assert.equal(503, world.call().status)
    assert.same({ "a", "b" }, world.sent)
    world.router:update { max_failovers = 0 }
    world.sent = {}
    world.call()
    assert.same({ "a" }, world.sent)
  end)

  it("asks failover_on where it is given", function()
    local world = new { strategy = "order", endpoints = endpoints "a b",
      failover_on = function(res) return res and res.status == 401 end }
    world.answers = { a = 401 }
    assert.equal("b", world.call().from)
    world.answers = { a = 503 }
    assert.equal(503, world.call().status)
  end)

  it("closes the result that it gives up", function()
    local closed = 0
    local world = new { strategy = "order", endpoints = endpoints "a b" }
    world.answers.a = function() return response(503, { close = function() closed = closed + 1 end }) end
    assert.equal("b", world.call().from)
    assert.equal(1, closed)
  end)

  it("leaves waiting and repeating to a retry around it", function()
    local world = new { strategy = "order", endpoints = endpoints "a b", allowed_fails = math.huge }
    local rounds = 0
    world.answers.a = function() rounds = rounds + 1; return response(rounds < 3 and 503 or 200, { from = "a" }) end
    world.answers.b = 503
    local policy = neap.policy { neap.retry { backoff = { base = 2, jitter = "none" } }, world.router }
    local began = neap.now()
    assert.equal("a", policy:call(world.fn).from)
    assert.same({ "a", "b", "a", "b", "a" }, world.sent)
    assert.near(6, neap.now() - began, 1e-9)
  end)

  it("lets an endpoint's own policy work, and gives way when its breaker or limit refuses", function()
    local bulky = neap.retry { max_attempts = 2, backoff = { base = 1, jitter = "none" } }
    local world = new { strategy = "order",
      endpoints = { { name = "a", policy = neap.policy { bulky, neap.rate_limiter { rate = 1000 } } },
        { name = "b", policy = bulky } } }
    world.answers = { a = 503 }
    assert.equal("b", world.call().from)
    assert.same({ "a", "a", "b" }, world.sent)
  end)

  it("is not busy with a call that backs off inside", function()
    local world = new { endpoints = { { name = "a",
      policy = neap.retry { backoff = { base = 10, jitter = "none" } } } } }
    local n = 0
    world.answers.a = function() n = n + 1; neap.sleep(1); return response(n == 1 and 503 or 200) end
    local task = neap.spawn(world.call)
    neap.sleep(0.5)
    assert.equal(1, world.state("a").busy)
    neap.sleep(5)
    assert.equal(0, world.state("a").busy)
    neap.sleep(6)
    assert.equal(1, world.state("a").busy)
    assert.equal(200, task:await().status)
    assert.equal(0, world.state("a").busy)
  end)

  it("sends a hedge's copy elsewhere", function()
    local world = new { strategy = "order", endpoints = endpoints "a b" }
    world.answers.a = function() neap.sleep(50); return response(200, { from = "a" }) end
    local policy = neap.policy { neap.hedge { delay = 1, max_extra_load = 1 }, world.router }
    local began = neap.now()
    assert.equal("b", policy:call(world.fn).from)
    assert.near(1, neap.now() - began, 1e-9)
    assert.equal(0, world.state("a").busy)
  end)
end)

describe("neap.router's groups", function()
  local function models()
    return { { name = "gpt-eu", group = "gpt", model = "gpt-eu-1" }, { name = "gpt-us", group = "gpt" },
      { model = "claude" }, { model = "llama" } }
  end

  it("keep a call to the group that it names", function()
    local world = new { endpoints = models() }
    for _ = 1, 4 do world.call { model = "gpt" } end
    assert.same({ ["gpt-eu"] = 2, ["gpt-us"] = 2 }, count(world.sent))
    assert.equal("claude", world.call("x", { model = "claude" }).from)
  end)

  it("fall back in the given order when a group is used up", function()
    local world = new { endpoints = models(), fallbacks = { gpt = { "llama", "claude" } } }
    world.answers = { ["gpt-eu"] = 503, ["gpt-us"] = 503, llama = 503 }
    assert.equal("claude", world.call({ model = "gpt" }).from)
    assert.same({ "gpt-eu", "gpt-us", "llama", "claude" }, world.sent)
    world.sent = {}
    assert.equal(503, world.call({ model = "llama" }).status)
    assert.same({ "llama" }, world.sent)
  end)

  it("are one where a call names none", function()
    local world = new { strategy = "order", endpoints = models() }
    world.answers = { ["gpt-eu"] = 503, ["gpt-us"] = 503 }
    assert.equal("claude", world.call().from)
  end)

  it("are told by option group", function()
    local world = new { endpoints = models(), group = "claude" }
    assert.equal("claude", world.call({ model = "gpt" }).from)
    world.router:update { group = function(what) return what end }
    assert.equal("llama", world.call("llama").from)
  end)

  it("refuse a group that no endpoint has", function()
    local world = new { endpoints = models() }
    local res, err = world.call { model = "gpt-7" }
    assert.is_nil(res)
    assert.equal("invalid", err.kind)
    assert.matches("no endpoint has the group 'gpt%-7'; there are claude, gpt, llama", err.message)
    assert.equal(200, new({ endpoints = endpoints "a" }).call({ model = "any" }).status)
  end)
end)

describe("neap.router", function()
  it("isolates and restores by hand", function()
    local world = new { strategy = "order", endpoints = endpoints "a b" }
    world.router:isolate("a", "maintenance")
    local snapshot = world.router:snapshot()
    assert.equal("degraded", snapshot.state)
    assert.equal("a: isolated (maintenance)", snapshot.reason)
    assert.is_nil(snapshot.next_change)
    neap.sleep(1e6)
    assert.equal("b", world.calls(1))
    world.router:isolate "b"
    assert.equal("unavailable", world.router:snapshot().state)
    local _, err = world.call()
    assert.equal("circuit_open", err.kind)
    assert.is_nil(err.retry_after)
    world.router:restore "a"
    assert.equal("a", world.calls(1))
    assert.has_error(function() world.router:isolate "c" end,
      "neap.router: isolate: there is no endpoint 'c'; there are a, b")
  end)

  it("keeps an isolated endpoint out when its calls under way end badly", function()
    local world = new { endpoints = endpoints "a b" }
    world.answers.a = function() neap.sleep(1); return response(429) end
    local task = neap.spawn(world.call)
    neap.sleep(0.5)
    world.router:isolate "a"
    task:await()
    neap.sleep(100)
    assert.equal("isolated", world.state("a").state)
  end)

  it("tells of every change with its reason", function()
    local seen = {}
    local stop = telemetry.subscribe(function(event)
      if event.kind == "router" then
        seen[#seen + 1] = ("%s %s: %s"):format(event.event, event.endpoint, event.reason)
      end
    end)
    local world = new { strategy = "order", endpoints = endpoints "a b", name = "models" }
    world.answers.a = 429
    world.call()
    neap.sleep(6)
    world.answers.a = nil
    world.call()
    world.router:isolate "b"
    world.router:restore "b"
    stop()
    assert.same({ "cooldown a: 429", "failover a: 429", "available a: cooldown is over", "isolated b: manual",
      "available b: manual" }, seen)
  end)

  it("describes itself without what the endpoints hold", function()
    local router = neap.router { endpoints = { { name = "a", api_key = "sk-secret" } }, cooldown = 9 }
    local text = router:describe()
    assert.equal('router cooldown=9 endpoints={"a"}', (text:gsub("(endpoints=%b{}) (cooldown=9)", "%2 %1")))
    assert.not_matches("secret", neap.policy({ router }):describe())
  end)

  it("refuses bad options at construction, with the option's name", function()
    local function fails(opts, message)
      local ok, err = pcall(neap.router, opts)
      assert.is_false(ok, message)
      assert.matches(message, err, 1, true)
    end
    local good = endpoints "a b"
    fails({}, "neap.router: option 'endpoints' is required")
    fails({ endpoints = {} }, "option 'endpoints' must be an array of at least one endpoint")
    fails({ endpoints = { "a" } }, "option 'endpoints': entry 1 must be a table, got string")
    fails({ endpoints = { {} } }, "option 'endpoints': entry 1 needs a 'name' or a 'model'")
    fails({ endpoints = endpoints "a a" }, "entries 1 and 2 are both called 'a'")
    fails({ endpoints = { { name = "a", weight = -1 } } },
      "option 'endpoints': entry 1: 'weight' must be a number of at least 0, got -1")
    fails({ endpoints = { { name = "a", order = "first" } } }, "'order' must be a number, got first")
    fails({ endpoints = { { name = "a", policy = {} } } },
      "entry 1: 'policy' must be a neap.policy or a single policy, got table")
    fails({ endpoints = { { name = "a", weight = 0 } } }, "at least one endpoint needs a weight above 0")
    fails({ endpoints = good, weights = { c = 1 } }, "option 'weights': there is no endpoint 'c'")
    fails({ endpoints = good, weights = { a = "1" } }, "option 'weights': 'a' must be a number of at least 0, got 1")
    fails({ endpoints = good, strategy = "random" },
      "option 'strategy' must be one of weighted, round_robin, least_busy, order, got random")
    fails({ endpoints = good, fallbacks = { gpt = { "x" } } }, "no endpoint is of the group 'gpt'")
    local grouped = { { model = "m" }, { model = "n" } }
    fails({ endpoints = grouped, fallbacks = { m = { "o" } } }, "'m' names the group 'o', which no endpoint is of")
    fails({ endpoints = grouped, fallbacks = { m = { "m" } } }, "'m' falls back to 'm' twice, or to itself")
    fails({ endpoints = grouped, fallbacks = { m = "n" } }, "'m' must be an array of groups, got string")
    fails({ endpoints = grouped, group = "o" }, "option 'group': no endpoint is of the group 'o'")
    fails({ endpoints = good, cooldown = -1 }, "option 'cooldown' must be at least 0, got -1")
    fails({ endpoints = good, ejection = { base_time = 400 } },
      "ejection: option 'base_time' must be at most 'max_time' (300), got 400")
    fails({ endpoints = good, colldown = 1 }, "option 'colldown' is unknown; did you mean 'cooldown'?")
  end)

  it("changes nothing when an update is refused", function()
    local world = new { endpoints = endpoints "a b" }
    assert.has_error(function() world.router:update { weights = { a = -1 } } end)
    assert.has_error(function() world.router:update { endpoints = endpoints "c" } end)
    assert.same({ a = 2, b = 2 }, world.spread(4))
    world.router:update { weights = { a = 3 } }
    assert.equal(3, world.state("a").weight)
  end)

  it("is refused in a pipeline that holds it twice", function()
    local router = neap.router { endpoints = endpoints "a" }
    local outer = neap.router { endpoints = { { name = "x", policy = router } } }
    assert.has_error(function() neap.policy { router, outer } end)
    assert.equal("a", outer:call(function(inner, first) return first.name == "x" and inner.name end))
  end)
end)
