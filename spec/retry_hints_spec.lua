-- SPDX-License-Identifier: MIT
-- How long a retry waits when the server says how long.
local backoff = require "neap.policy.backoff"
local errors = require "neap.error"
local neap = require "neap"
local retries = require "spec.support.retry"

local OK, fixed, script_of, status = retries.OK, retries.fixed, retries.script_of, retries.status

describe("neap.retry", function()
  describe("hints", function()
    it("waits as long as Retry-After says when that is longer than the backoff", function()
      local fn, calls = script_of { status(429, { ["retry-after"] = "7" }), OK }
      fixed {}:call(fn)
      assert.near(7, calls.at[2] - calls.at[1], 1e-6)
    end)

    it("waits for the backoff when that is longer", function()
      local fn, calls = script_of { status(429, { ["retry-after"] = "1" }), OK }
      fixed { backoff = { base = 4, jitter = "none" } }:call(fn)
      assert.near(4, calls.at[2] - calls.at[1], 1e-6)
    end)

    it("spreads a hint by up to a tenth, at most a second", function()
      assert.equal(5.25, backoff.with_hint(1, 5, "full", function() return 0.5 end))
      assert.near(101, backoff.with_hint(1, 100, "full", function() return 0.999999 end), 1e-4)
      assert.equal(5, backoff.with_hint(1, 5, "none", function() return 0.5 end))
      assert.equal(1, backoff.with_hint(1, nil, "full", function() return 0.5 end))
    end)

    it("takes the hint of an error too", function()
      local err = errors.new { kind = "circuit_open", message = "open", retry_after = 9 }
      local fn, calls = script_of { { nil, err }, OK }
      fixed {}:call(fn)
      assert.near(9, calls.at[2] - calls.at[1], 1e-6)
    end)

    it("gives up when the server asks for more than max_retry_after", function()
      local fn, calls = script_of { status(429, { ["retry-after"] = "121" }), OK }
      assert.equal(429, fixed {}:call(fn).status)
      assert.equal(1, calls.n)
      fn, calls = script_of { status(429, { ["retry-after"] = "121" }), OK }
      assert.equal(200, fixed { max_retry_after = 121 }:call(fn).status)
      assert.equal(2, calls.n)
    end)

    it("takes zero, negative and garbage for no hint", function()
      for _, value in ipairs { "0", "-5", "soon", "" } do
        local fn, calls = script_of { status(429, { ["retry-after"] = value }), OK }
        fixed {}:call(fn)
        assert.near(1, calls.at[2] - calls.at[1], 1e-6)
      end
    end)

    it("are ignored with respect_retry_after = false", function()
      local fn, calls = script_of { status(429, { ["retry-after"] = "500" }), OK }
      fixed { respect_retry_after = false }:call(fn)
      assert.near(1, calls.at[2] - calls.at[1], 1e-6)
    end)
  end)

  describe("park", function()
    it("waits out a hint above max_retry_after", function()
      local fn, calls = script_of { status(429, { ["retry-after"] = "600" }), OK }
      local events = {}
      local res = fixed { park = true, on_retry = function(event) events[1] = event end }:call(fn)
      assert.equal(200, res.status)
      assert.is_true(events[1].parked)
      assert.near(600, calls.at[2] - calls.at[1], 1e-3)
    end)

    it("counts against the deadline", function()
      local fn, calls = script_of { status(429, { ["retry-after"] = "600" }), OK }
      local res = fixed { park = true, deadline = 500 }:call(fn)
      assert.equal(429, res.status)
      assert.equal("deadline", res.gave_up)
      assert.equal(1, calls.n)
    end)

    it("re-enters at the head of the limiter's line", function()
      local order = {}
      local policy = neap.policy {
        fixed { park = true, max_retry_after = 1 },
        neap.rate_limiter { rate = 0.01, burst = 1 },
      }
      neap.scope(function(s)
        local tries = 0
        s:spawn(policy.call, policy, function()
          tries = tries + 1
          order[#order + 1] = "parked"
          if tries == 1 then return status(429, { ["retry-after"] = "150" })[1] end
        end)
        neap.sleep(1)
        for i = 1, 3 do
          s:spawn(policy.call, policy, function() order[#order + 1] = i end)
        end
      end)
      assert.same({ "parked", 1, "parked", 2, 3 }, order)
    end)
  end)
end)
