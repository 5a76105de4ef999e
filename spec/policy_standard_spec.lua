-- SPDX-License-Identifier: MIT
local neap = require "neap"
local support = require "spec.support.standard"
local upstreams = require "neap.world.upstream"

local standard = neap.policy.standard
local kinds_of, message_of, only = support.kinds_of, support.message_of, support.only
local send_all, status = support.send_all, support.status

local METHODS = { "request", "get", "post", "put", "patch", "delete", "head" }

--- A client whose methods answer with `answer(method, ...)`; what they were called with.
local function fake_client(answer)
  local client, calls = {}, {}
  for _, method in ipairs(METHODS) do
    client[method] = function(self, ...)
      calls[#calls + 1] = { method = method, client = self, n = select("#", ...), ... }
      return answer(method, ...)
    end
  end
  return client, calls
end

describe("neap.policy.standard", function()
  describe("order", function()
    it("is the recommended one, whatever is asked for, and warns of nothing", function()
      local policy = standard {
        limiter = { rate = 5 }, bulkhead = 3, breaker = true, router = { endpoints = { { name = "a" } } },
        hedge = { delay = 1 }, throttle = true, retry = true, cache = true, fallback = { value = 1 }, deadline = 9,
      }
      assert.same({
        "deadline", "fallback", "cache", "retry", "hedge", "throttle", "router", "circuit_breaker", "bulkhead", "pace",
      }, kinds_of(policy))
      assert.same({}, policy.warnings)
    end)

    it("has retry with a budget and an adaptive limit by default", function()
      local policy = standard()
      assert.same({ "retry", "adaptive" }, kinds_of(policy))
      assert.equal("finagle", policy:layer("retry").options.budget.options.form)
      assert.equal(200, policy:call(status, 200).status)
      assert.equal(0, policy:layer("adaptive"):snapshot().held)
    end)

    it("has the fixed limit in place of the adaptive one where that is asked for", function()
      assert.same({ "retry", "bulkhead" }, kinds_of(standard { bulkhead = 3 }))
      assert.same({ "retry", "bulkhead" }, kinds_of(standard { bulkhead = 3, adaptive = false }))
      assert.same({ "retry", "adaptive" }, kinds_of(standard { bulkhead = false }))
    end)
  end)

  describe("parts", function()
    -- Option, kind, options, and one of those with its value.
    local PARTS = {
      { "deadline", "deadline", { seconds = 7 }, "seconds", 7 },
      { "fallback", "fallback", { value = "v" }, "value", "v" },
      { "cache", "cache", { ttl = 7 }, "ttl", 7 },
      { "retry", "retry", { max_attempts = 7 }, "max_attempts", 7 },
      { "throttle", "throttle", { k = 7 }, "k", 7 },
      { "hedge", "hedge", { delay = 7 }, "delay", 7 },
      { "router", "router", { endpoints = { { name = "a" } }, max_failovers = 7 }, "max_failovers", 7 },
      { "breaker", "circuit_breaker", { half_open_calls = 7 }, "half_open_calls", 7 },
      { "adaptive", "adaptive", { max = 700 }, "max", 700 },
      { "bulkhead", "bulkhead", { limit = 7 }, "limit", 7 },
    }

    for _, part in ipairs(PARTS) do
      local option, kind, opts, name, value = unpack(part)

      it(("take options, or a policy that is there: %s"):format(option), function()
        local built = only { [option] = opts }
        assert.same({ kind }, kinds_of(built))
        assert.equal(value, built:layer(kind).options[name])
        local ready = neap[kind](opts)
        assert.equal(ready, only { [option] = ready }.layers[1])
      end)

      it(("are left out by false: %s"):format(option), function()
        local other = option == "deadline" and { cache = true } or { deadline = 1 }
        other[option] = false
        assert.same({ option == "deadline" and "cache" or "deadline" }, kinds_of(only(other)))
      end)
    end

    it("have their defaults by true, where nothing is needed", function()
      for option, kind in pairs { cache = "cache", retry = "retry", throttle = "throttle", hedge = "hedge",
        breaker = "circuit_breaker", adaptive = "adaptive" } do
        assert.same({ kind }, kinds_of(only { [option] = true }))
      end
      for option, wanted in pairs { deadline = "'seconds' is required", bulkhead = "'limit' is required",
        router = "'endpoints' is required", fallback = "needs one of the options 'with'" } do
        assert.matches(("neap.%s: .*%s"):format(option, wanted), message_of(only, { [option] = true }))
      end
    end)

    it("take the one value that matters by itself", function()
      local function spare() return "spare" end
      assert.equal(7, only({ deadline = 7 }):layer("deadline").options.seconds)
      assert.equal(7, only({ bulkhead = 7 }):layer("bulkhead").options.limit)
      assert.equal("spare", only({ fallback = spare }):call(status, 500))
    end)

    it("leave the tables that they are given alone", function()
      local retry, budget = { max_attempts = 2 }, { form = "envoy" }
      standard { adaptive = false, retry = retry, budget = budget }
      assert.same({ { max_attempts = 2 }, { form = "envoy" } }, { retry, budget })
    end)

    it("take a limiter, its options, or a neap.pace", function()
      local limiter = neap.rate_limiter { rate = 5 }
      local pace = neap.pace { limiter = limiter }
      assert.equal(limiter, only({ limiter = limiter }):layer("pace").limiter)
      assert.equal(pace, only({ limiter = pace }).layers[1])
      local policy = only { limiter = { rate = 1, burst = 1 } }
      local began = neap.now()
      for _ = 1, 4 do policy:call(status, 200) end
      assert.near(3, neap.now() - began, 1e-6)
    end)

    it("reserve the amounts and settle what was used", function()
      local limiter = neap.rate_limiter { tokens_per_minute = 60, tokens_burst = 60 }
      local policy = only {
        limiter = limiter,
        amounts = function(tokens) return { tokens = tokens } end,
        actual = function(res, _, tokens) return { tokens = tokens - res.unused } end,
      }
      local function ask() return { status = 200, headers = {}, unused = 50 } end
      local began = neap.now()
      policy:call(ask, 60) -- 10 were used, the rest came back
      policy:call(ask, 50)
      assert.equal(began, neap.now())
      policy:call(ask, 60) -- there are 50: ten more at one a second
      assert.near(10, neap.now() - began, 0.01)
    end)
  end)

  describe("budget", function()
    local function denied(policy) return policy:layer("retry").options.budget:snapshot().denied end

    it("is one for the retries and the hedges", function()
      local policy = standard { adaptive = false, hedge = { delay = 1 } }
      local budget = policy:layer("retry").options.budget
      assert.equal(budget, policy:layer("hedge").options.budget)
      assert.is_true(neap.retry_budget { name = "standard_spec" } ~= budget)
    end)

    it("may be given, ready or as options, and a part may have its own", function()
      local shared, own = neap.retry_budget { form = "envoy" }, neap.retry_budget { form = "aws" }
      local policy = standard { adaptive = false, budget = shared, hedge = { delay = 1, budget = own } }
      assert.equal(shared, policy:layer("retry").options.budget)
      assert.equal(own, policy:layer("hedge").options.budget)
      policy = standard { adaptive = false, budget = { form = "grpc" } }
      assert.equal("grpc", policy:layer("retry").options.budget.options.form)
    end)

    it("bounds what an upstream gets that refuses everything, and false takes the bound away", function()
      local function sends(budget)
        local upstream = upstreams.new { latency = 0.01, errors = { { status = 503, probability = 1 } } }
        local policy = standard { adaptive = false, budget = budget, retry = { backoff = { base = 0 } } }
        send_all(policy, upstream, 1000)
        return upstream.stats.count, policy
      end
      local bounded, policy = sends(true)
      assert.is_true(bounded > 1000 and bounded < 1500, bounded)
      assert.is_true(denied(policy) > 0)
      assert.equal(3000, (sends(false)))
    end)
  end)

  describe("client", function()
    it("has its methods in front, with their arguments and results", function()
      local client, calls = fake_client(function(method) return status(200), method end)
      local policy = standard { adaptive = false, client = client }
      for i, method in ipairs(METHODS) do
        local res, more = policy[method](policy, "/path", nil, { json = i }, nil)
        assert.same({ 200, 1, method }, { res.status, res.attempts, more })
        local got = calls[i]
        assert.equal(client, got.client)
        assert.same({ method, 4, "/path", nil, i }, { got.method, got.n, got[1], got[2], got[3].json })
      end
      assert.equal(client, policy.client)
    end)

    it("is called through every part", function()
      local n = 0
      local client, calls = fake_client(function()
        n = n + 1
        neap.sleep(1)
        return status(n == 1 and 503 or 200)
      end)
      local policy = standard {
        client = client, bulkhead = 1, limiter = { rate = 0.1, burst = 1 }, deadline = 60,
        retry = { backoff = { base = 2, jitter = "none" } },
      }
      local res = policy:get "/a"
      assert.same({ 200, 2 }, { res.status, res.attempts })
      assert.near(2, res.spent.backoff, 1e-6)
      assert.near(7, res.spent.pace, 1e-6) -- the second turn is at 10, and it came at 3
      assert.equal(2, #calls)
    end)

    it("is not called for what the cache has, whatever the path was reached by", function()
      local client, calls = fake_client(function(_, path) return { status = 200, headers = {}, path = path } end)
      local policy = standard { client = client, cache = { key = function(_, path) return path end } }
      for _, path in ipairs { "/a", "/a", "/b", "/a" } do assert.equal(path, policy:get(path).path) end
      assert.equal(2, #calls)
    end)

    it("hedges only what may be sent twice, unless told otherwise", function()
      local world = { get = "GET", post = "POST" }
      local sent = {}
      local client = {}
      for _, method in ipairs { "request", "get", "post", "put", "patch", "delete", "head" } do
        client[method] = function()
          sent[method] = (sent[method] or 0) + 1
          neap.sleep(1)
          return { status = 200, headers = {} }
        end
      end
      local api = standard { adaptive = false, client = client, hedge = { delay = 0.1, max_extra_load = 10 } }
      for method in pairs(world) do api[method](api, "/x", {}) end
      assert.same({ get = 2, post = 1 }, sent)
      api:post("/x", { idempotency_key = true })
      api:request { url = "/x", method = "post" }
      api:request { url = "/x", method = "put" }
      assert.same({ get = 2, post = 3, request = 3 }, sent)
    end)

    it("may be left out: any function will do", function()
      local policy = standard { adaptive = false }
      local ok, message = pcall(policy.get, policy, "/a")
      assert.is_false(ok)
      assert.matches("policy:get: this policy has no client", message)
      local a, b, c = policy:call(function(...) return select("#", ...), nil, (select(2, ...)) end, nil, "x", nil)
      assert.same({ 3, nil, "x" }, { a, b, c })
    end)

    it("must have all methods", function()
      local client = fake_client(status)
      client.patch = nil
      assert.matches("neap.policy.standard: option 'client' must be a neap.http.client, it has no method patch",
        message_of(standard, { client = client }))
    end)
  end)

  describe("refuses", function()
    local function refused(opts, wanted)
      local message = message_of(function() standard(opts) end)
      assert.matches(wanted, message)
      assert.matches("^spec/policy_standard_spec.lua:%d+: ", message) -- the line that is to be mended
    end

    it("what cannot go together", function()
      refused({ adaptive = true, bulkhead = 3 }, "'adaptive' and 'bulkhead' both limit concurrency; choose one")
      refused({ client = fake_client(status), router = { endpoints = { { name = "a" } } } },
        "'client' and 'router' do not go together: .* use policy:call")
      refused({ amounts = print }, "options 'amounts' and 'actual' need 'limiter'")
      refused({ actual = print, limiter = false }, "options 'amounts' and 'actual' need 'limiter'")
      refused({ amounts = print, limiter = neap.pace { limiter = { rate = 1 } } },
        "'amounts' and 'actual' belong to the neap.pace given as 'limiter'")
      refused({ fallback = { value = 1, with = print } }, "neap.fallback: needs one of .* got both")
    end)

    it("a budget that nothing would use", function()
      for _, opts in ipairs {
        { retry = false }, { retry = neap.retry() }, { retry = { budget = { form = "envoy" } } },
        { retry = false, hedge = neap.hedge { delay = 1 } },
      } do
        opts.budget = { form = "grpc" }
        refused(opts, "nothing uses the option 'budget'")
      end
      assert.same({ "hedge" }, kinds_of(only { hedge = { delay = 1 }, budget = { form = "grpc" } }))
    end)

    it("a policy in another one's place", function()
      refused({ retry = neap.bulkhead { limit = 1 } },
        "option 'retry' must be a neap.retry or its options, got a neap.bulkhead")
      refused({ breaker = neap.policy { neap.circuit_breaker() } },
        "option 'breaker' must be a neap.circuit_breaker or its options, got another object")
      refused({ limiter = neap.retry() }, "option 'limiter' must be a neap.rate_limiter, its options or a neap.pace, "
        .. "got a neap.retry")
      refused({ limiter = true }, "option 'limiter' must be .* got true")
      refused({ limiter = neap.semaphore(1) }, "'limiter' must be a neap.rate_limiter or its options")
    end)

    it("options that are unknown or out of range, in every part", function()
      refused({ retrry = true }, "neap.policy.standard: option 'retrry' is unknown; did you mean 'retry'%?")
      refused({ retry = 3 }, "option 'retry' must be table or boolean, got number")
      refused({ deadline = -1 }, "neap.deadline: option 'seconds' must be above 0, got %-1")
      refused({ bulkhead = 1.5 }, "neap.bulkhead: option 'limit' must be integer, got 1.5")
      refused({ retry = { max_attempts = 0 } }, "neap.retry: option 'max_attempts' must be at least 1, got 0")
      refused({ retry = { backoff = { jitter = "ful" } } }, "option 'jitter' must be one of full, equal")
      refused({ breaker = { failure_rat = 1 } }, "neap.circuit_breaker: option 'failure_rat' is unknown")
      refused({ limiter = { rate = -1 } }, "neap.rate_limiter: option 'rate' must be above 0, got %-1")
      refused({ budget = { form = "gold" } }, "neap.retry_budget: option 'form' must be one of")
      refused(7, "neap.policy.standard: options must be a table, got number")
    end)

    it("to be nothing at all", function()
      refused({ retry = false, adaptive = false }, "neap.policy.standard: every part is off")
    end)
  end)
end)
