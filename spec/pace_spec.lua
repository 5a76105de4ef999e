-- SPDX-License-Identifier: MIT
local errors = require "neap.error"
local neap = require "neap"

local function response(status, fields)
  local res = { status = status, headers = {} }
  for key, value in pairs(fields or {}) do res[key] = value end
  return res
end

local function failure(fields)
  return function() return nil, errors.new(fields) end
end

--- What is left of a minute's tokens and requests after one call through a pace
--- that reserved 100 tokens.
local function left_after(fn, opts)
  local limiter = neap.rate_limiter { requests_per_minute = 1000, requests_burst = 10, tokens_per_minute = 1000 }
  opts = opts or {}
  opts.limiter, opts.amounts = limiter, opts.amounts or function() return { tokens = 100 } end
  neap.pace(opts):call(fn, "question")
  return limiter:available "tokens", limiter:available "requests"
end

describe("neap.pace", function()
  it("takes turns one by one, and says how long that took", function()
    local pace = neap.pace { limiter = { rate = 1, burst = 1 } }
    pace:call(function() end)
    local res = pace:call(function() return response(200) end)
    assert.near(1, res.spent.pace, 1e-6)
    assert.near(1, res.paced, 1e-6)
  end)

  it("charges every attempt and every hedge", function()
    local limiter = neap.rate_limiter { rate = 1e-3, burst = 10 }
    neap.policy { neap.retry { backoff = { base = 0 }, max_attempts = 4 }, limiter }
      :call(function() return response(503) end)
    assert.equal(6, limiter:available "requests")
  end)

  describe("settles", function()
    it("what the result's usage says", function()
      assert.equal(930, (left_after(function() return response(200, { usage = { total_tokens = 70 } }) end)))
      assert.equal(850, (left_after(function() return response(200, { usage = { total_tokens = 150 } }) end)))
    end)

    it("only the request for what the server refused", function()
      local tokens, requests = left_after(function() return response(429) end)
      assert.same({ 1000, 9 }, { tokens, requests })
    end)

    it("nothing for what was never sent", function()
      local tokens, requests = left_after(failure { kind = "connect", message = "refused", sent = "no" })
      assert.same({ 1000, 10 }, { tokens, requests })
    end)

    it("all that was reserved when nobody knows", function()
      local tokens, requests = left_after(failure { kind = "receive", message = "gone", sent = "maybe", sends = 1 })
      assert.same({ 900, 9 }, { tokens, requests })
    end)

    it("what the caller says, which wins", function()
      local seen
      local tokens = left_after(function() return response(200, { usage = { total_tokens = 70 } }) end, {
        actual = function(result, err, question)
          seen = { result.status, err, question }
          return { tokens = 1 }
        end,
      })
      assert.equal(999, tokens)
      assert.same({ 200, nil, "question" }, seen)
    end)

    it("nothing that is no amount, and never more than a burst", function()
      for _, wrong in ipairs { -5, "12", 0 / 0, math.huge } do
        assert.equal(900, (left_after(function() return response(200, { usage = { total_tokens = wrong } }) end)))
      end
      local limiter, seen = neap.rate_limiter { tokens_per_minute = 600 }, {}
      local unsubscribe = neap.telemetry.subscribe(function(event) seen[#seen + 1] = event end)
      local pace = neap.pace { limiter = limiter, amounts = function() return { tokens = 10 } end }
      pace:call(function() return response(200, { usage = { total_tokens = 1e300 } }) end)
      unsubscribe()
      assert.equal("capped", seen[1].event)
      local began = neap.now()
      pace:call(function() end)
      assert.near(1, neap.now() - began, 0.01) -- ten tokens at ten a second
    end)

    it("what `actual` says, or raises in plain words", function()
      for _, wrong in ipairs { { tokens = -1 }, { token = 1 }, { tokens = "1" } } do
        local ok, message = pcall(left_after, function() return response(200) end, {
          actual = function() return wrong end,
        })
        assert.is_false(ok)
        assert.matches("option 'actual' must return requests, tokens", message)
      end
    end)

    it("every send of one call: redirect hops, libcurl's own repeats", function()
      local _, requests = left_after(function() return response(200, { sends = 3 }) end)
      assert.equal(7, requests)
    end)
  end)

  it("learns from the response's headers, unless told not to", function()
    local headers = { ["x-ratelimit-limit-requests"] = "100", ["x-ratelimit-remaining-requests"] = "0",
      ["x-ratelimit-reset-requests"] = "30s" }
    for _, observe in ipairs { true, false, "limits" } do
      local pace = neap.pace { limiter = { requests_per_minute = 6000 }, observe = observe }
      pace:call(function() return response(200, { headers = headers }) end)
      local began = neap.now()
      pace:call(function() end)
      assert.equal(observe ~= false, neap.now() - began > 0.1)
    end
  end)

  it("holds everybody back for a refusal's Retry-After, unless it is to look at limits alone", function()
    for _, observe in ipairs { true, "limits" } do
      local pace = neap.pace { limiter = { requests_per_minute = 6000 }, observe = observe }
      pace:call(function() return response(429, { headers = { ["retry-after"] = "30" } }) end)
      local began = neap.now()
      pace:call(function() end)
      assert.near(observe == true and 30 or 0, neap.now() - began, 0.1)
    end
  end)

  it("gives up its place after its timeout, with an error that says so", function()
    local pace = neap.pace { limiter = { rate = 0.1, burst = 1 }, timeout = 2 }
    pace:call(function() end)
    local _, err = pace:call(function() error "must not run" end)
    assert.same({ "queue_timeout", "pace", "no" }, { err.kind, err.phase, err.sent })
  end)

  it("refuses what can never pass", function()
    local pace = neap.pace { limiter = { tokens_per_minute = 100 }, amounts = function(n) return { tokens = n } end }
    local _, err = pace:call(function() end, 101)
    assert.same({ "invalid", "no" }, { err.kind, err.sent })
  end)

  it("shows up in the client's timings, and charges redirect hops #real", function()
    local server = assert(neap.serve {
      handler = function(request)
        if request.path == "/a" then return 302, "", { Location = "/b" } end
        return 200, "there"
      end,
    })
    local client = neap.http.client { base_url = server:url() }
    local limiter = neap.rate_limiter { rate = 20, burst = 2 }
    local pace = neap.pace { limiter = limiter }
    assert.equal(2, pace:call(client.get, client, "/a").sends)
    assert.equal(0, limiter:available "requests")
    local res = pace:call(client.get, client, "/b")
    assert.is_true(res.timings.pace > 0.02)
    assert.is_true(res.timings.total < res.timings.pace + 1)
    client:close()
    server:stop()
  end)
end)
