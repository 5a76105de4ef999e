-- SPDX-License-Identifier: MIT
local errors = require "neap.error"
local neap = require "neap"
local telemetry = require "neap.telemetry"

local function status(code) return { status = code, headers = {} } end
local function failing(kind)
  return function() return nil, errors.new { kind = kind, message = "it was so" } end
end

describe("neap.fallback", function()
  it("passes arguments in and all results of a success out", function()
    local fallback = neap.fallback { with = function() error "not called" end }
    local a, b, c = fallback:call(function(...) return select("#", ...), nil, (select(2, ...)) end, nil, "x", nil)
    assert.same({ 3, nil, "x" }, { a, b, c })
  end)

  it("answers in place of a failure, and gets the outcome and the arguments", function()
    local got
    local fallback = neap.fallback { with = function(...)
      got = { n = select("#", ...), ... }
      neap.sleep(1) -- it may wait
      return { text = "from elsewhere" }, "more"
    end }
    local res, more = fallback:call(failing "connect", "a", nil)
    assert.same({ "from elsewhere", true, "more" }, { res.text, res.from_fallback, more })
    assert.same({ 4, nil, "connect", "a", nil }, { got.n, got[1], got[2].kind, got[3], got[4] })
  end)

  it("gets the response that it replaces", function()
    local fallback = neap.fallback { with = function(res, err)
      assert.is_nil(err)
      return { instead_of = res.status }
    end }
    assert.equal(503, fallback:call(status, 503).instead_of)
  end)

  it("may fail itself, or leave the outcome as it was", function()
    local _, err = neap.fallback { with = failing "limit" }:call(failing "connect")
    assert.equal("limit", err.kind)
    local res = neap.fallback { with = function(...) return ... end }:call(status, 500)
    assert.same({ 500, nil }, { res.status, res.from_fallback })
  end)

  it("replaces errors and statuses by which the upstream does not work, and nothing else", function()
    local fallback = neap.fallback { value = "instead" }
    for _, code in ipairs { 408, 429, 500, 502, 503, 504, 529 } do
      assert.equal("instead", fallback:call(status, code), code)
    end
    for _, code in ipairs { 200, 204, 301, 400, 401, 404, 422 } do
      assert.equal(code, fallback:call(status, code).status)
    end
    for kind in pairs(errors.kinds) do
      local res, err = fallback:call(failing(kind))
      if kind == "cancelled" then
        assert.equal("cancelled", err.kind)
      else
        assert.equal("instead", res, kind)
      end
    end
    assert.equal("instead", fallback:call(function() return nil, "some text" end))
    assert.is_nil((fallback:call(function() return nil end)))
    assert.is_false((fallback:call(function() return false end)))
  end)

  it("lets `on` decide", function()
    local fallback = neap.fallback { value = "instead", on = function(res, err)
      return err and err.kind == "budget" or res and res.status == 404
    end }
    assert.equal("instead", fallback:call(status, 404))
    assert.equal(500, fallback:call(status, 500).status)
    assert.equal("instead", fallback:call(failing "budget"))
    assert.is_nil((fallback:call(failing "connect")))
  end)

  it("hands out one value, which it never writes into", function()
    local value = { text = "closed today" }
    local fallback = neap.fallback { value = value }
    assert.equal(value, fallback:call(status, 500))
    assert.same({ text = "closed today" }, value)
    assert.is_false(neap.fallback { value = false }:call(failing "connect"))
  end)

  it("does not replace raised errors and cancels", function()
    local fallback = neap.fallback { value = "instead" }
    local ok, err = pcall(fallback.call, fallback, error, { mine = true })
    assert.is_false(ok)
    assert.is_true(err.mine)
    local _, timed_out = neap.timeout(1, fallback.call, fallback, neap.sleep, 5)
    assert.equal("timeout", timed_out.kind)
  end)

  it("answers for an open breaker, and for a deadline inside it", function()
    local breaker = neap.circuit_breaker()
    local policy = neap.policy { neap.fallback { with = function(_, err) return { why = err.kind } end },
      neap.deadline { seconds = 2 }, breaker }
    assert.equal("timeout", policy:call(neap.sleep, 5).why)
    breaker:isolate()
    assert.equal("circuit_open", policy:call(status, 200).why)
  end)

  it("may call another policy, whose retry loops", function()
    local n = 0
    local spare = neap.retry { backoff = { base = 0 } }
    local policy = neap.policy {
      neap.fallback { with = function()
        return spare:call(function()
          n = n + 1
          return status(n == 3 and 200 or 503)
        end)
      end },
      neap.deadline { seconds = 2 },
      neap.retry(),
    }
    assert.equal(200, policy:call(status, 500).status)
    n = 0
    assert.equal(200, policy:call(neap.sleep, 5).status) -- cut off in the middle of the loop
    assert.equal(3, n)
  end)

  it("tells telemetry why", function()
    local reasons = {}
    local stop = telemetry.subscribe(function(event)
      if event.event == "fallback" then reasons[#reasons + 1] = event.reason end
    end)
    local fallback = neap.fallback { value = "instead", on = function() return true end }
    fallback:call(status, 503)
    fallback:call(failing "connect")
    fallback:call(function() return nil, "text" end)
    fallback:call(function() return "not good enough" end)
    fallback:call(function() return nil, { code = 7 } end)
    stop()
    assert.same({ "503", "connect", "failed", "failed", "failed" }, reasons)
  end)

  it("changes in use", function()
    local fallback = neap.fallback { value = 1 }
    fallback:update { value = 2, on = function() return true end }
    assert.equal(2, fallback:call(status, 200))
    assert.has_error(function() fallback:update { with = print } end)
    assert.equal(2, fallback:call(status, 200))
  end)

  it("wants one of 'with' and 'value'", function()
    for _, case in ipairs {
      { {}, "needs one of the options 'with' %(a function%) and 'value' %(the answer%), got neither" },
      { { with = print, value = 1 }, "got both" },
      { { with = 7 }, "option 'with' must be function, got number" },
      { { wiht = print }, "option 'wiht' is unknown; did you mean 'with'?" },
    } do
      local ok, message = pcall(neap.fallback, case[1])
      assert.is_false(ok)
      assert.matches("neap.fallback: .*" .. case[2], message)
    end
  end)
end)
