-- SPDX-License-Identifier: MIT
local sweep = require "neap.lab.sweep"

local function values(text, has)
  local dimension, message = sweep.parse(text, has)
  assert(dimension, message)
  return dimension.values, dimension
end

local function refused(text, wanted, has)
  local dimension, message = sweep.parse(text, has)
  assert.is_nil(dimension)
  assert.matches(wanted, message)
  assert.is_nil(message:find "\n")
end

describe("a sweep", function()
  it("knows options by their full names and their endings", function()
    local _, dimension = values "retry.backoff.base=1,2"
    assert.same({ "retry", { "backoff", "base" } }, { dimension.part, dimension.path })
    _, dimension = values "backoff.base=1,2"
    assert.same({ "retry", { "backoff", "base" } }, { dimension.part, dimension.path })
    _, dimension = values "circuit_breaker.failure_rate=0.1,0.5"
    assert.equal("breaker", dimension.part)
    _, dimension = values "budget.ratio=0.1,0.2"
    assert.equal("budget", dimension.part)
  end)

  it("asks which of several is meant, unless the policies at hand have one", function()
    refused("window=1..2", "several options are called 'window': say which, ")
    local _, dimension = values("window=1..2", { throttle = true })
    assert.equal("throttle", dimension.part)
  end)

  it("divides a wide range by equal factors, a narrow one by equal steps", function()
    assert.same({ 0.1, 0.211, 0.447, 0.946, 2 }, (values "backoff.base=0.1..2"))
    assert.same({ 1, 1.5, 2, 2.5, 3 }, (values "backoff.base=1..3"))
    assert.same({ 1, 10, 100 }, (values "backoff.max=1..100:3"))
  end)

  it("has whole numbers where the option has", function()
    assert.same({ 1, 2, 3, 4 }, (values "max_attempts=1..4:10"))
    assert.same({ 1, 2, 4, 9, 20 }, (values "max_attempts=1..20"))
  end)

  it("takes lists of numbers, names and switches", function()
    assert.same({ "full", "none" }, (values "backoff.jitter=full,none"))
    assert.same({ true, false }, (values "respect_retry_after=true,false"))
    assert.same({ 3, math.huge }, (values "max_attempts=3,inf"))
  end)

  it("is refused in one sentence that names the option", function()
    refused("bakoff.base=1..2", "there is no option 'bakoff.base' in any policy; did you mean 'backoff.base'")
    refused("something.else=1", "there is no option 'something.else'")
    refused("backoff.base", "must be an option and its values")
    refused("backoff.base=", "must be an option and its values")
    refused("backoff.base=2..1", "must be a range such as")
    refused("backoff.base=1..2:1", "a range has 2 to")
    refused("backoff.base=-1..2", "option 'backoff.base' must be at least 0, got %-1")
    refused("backoff.jitter=ful", "option 'backoff.jitter' must be one of full")
    refused("max_attempts=1.5,2", "option 'max_attempts' must be integer, got 1.5")
  end)

  it("makes every combination for the policies that have the options, and keeps the others", function()
    local parts = { a = { retry = true }, b = { retry = true, hedge = true }, c = {} }
    local dimensions = assert(sweep.parse_all({ "max_attempts=1,2", "backoff.base=1,2,3" }, parts))
    local variants = assert(sweep.variants({ "a", "b", "c" }, parts, dimensions))
    assert.equal(13, #variants)
    assert.equal("a, max_attempts=1 backoff.base=2", variants[2].name)
    assert.same({ max_attempts = 1, ["backoff.base"] = 2 }, variants[2].at)
    assert.same({ name = "c", policy = "c" }, variants[13])
  end)

  it("says so where no policy has them, or there are too many", function()
    local parts = { a = { retry = true } }
    local hedges = assert(sweep.parse_all({ "hedge.max_extra_load=0.01..0.1" }, parts))
    local variants, message = sweep.variants({ "a" }, parts, hedges)
    assert.is_nil(variants)
    assert.equal("no policy of the script has hedge.max_extra_load", message)
    local many = assert(sweep.parse_all({ "backoff.base=1..2:50", "backoff.max=1..2:50" }, parts))
    variants, message = sweep.variants({ "a" }, parts, many)
    assert.is_nil(variants)
    assert.matches("more than 1000 variants", message)
  end)

  it("around a value stays inside what the option allows", function()
    local found = assert(sweep.find "hedge.max_extra_load")
    local dimension = sweep.around(found.part, found.path, found.option, 0.5)
    assert.is_true(dimension.high <= (found.option.max or math.huge))
    assert.near(0.125, dimension.low, 1e-9)
    found = assert(sweep.find "retry.max_attempts")
    dimension = sweep.around(found.part, found.path, found.option, 3)
    assert.same({ 1, 12, true }, { dimension.low, dimension.high, dimension.integer })
  end)
end)

describe("a variant", function()
  local paste = require "neap.lab.paste"
  local policies = require "neap.lab.policies"
  local parts = { p = { retry = true, bulkhead = true } }

  local function changes(...)
    return sweep.variants({ "p" }, parts, assert(sweep.parse_all({ ... }, parts)))[1].changes
  end

  it("changes a copy of the options", function()
    local spec = { retry = { max_attempts = 3, backoff = { base = 1 } }, bulkhead = 10 }
    local changed = policies.changed(spec, changes("backoff.base=2", "bulkhead.limit=20", "max_attempts=inf"))
    assert.same({ retry = { max_attempts = math.huge, backoff = { base = 2 } }, bulkhead = { limit = 20 } }, changed)
    assert.same({ retry = { max_attempts = 3, backoff = { base = 1 } }, bulkhead = 10 }, spec)
    assert.same({ retry = { backoff = { base = 2 } } }, policies.changed({ retry = true }, changes "backoff.base=2"))
  end)

  it("can be pasted: the text makes the same options", function()
    local spec = { retry = { max_attempts = 3 }, adaptive = false }
    local text = paste.text(spec, { policy = "p", changes = changes("backoff.base=0.25", "backoff.jitter=none") })
    local chunk = assert(loadstring("local neap = ... return " .. text))
    assert.same({ retry = { max_attempts = 3, backoff = { base = 0.25, jitter = "none" } }, adaptive = false },
      chunk { policy = { standard = function(opts) return opts end } })
  end)

  it("of a policy that a function makes is pasted as an update", function()
    local text = paste.text(function() end, { policy = "p", changes = changes "backoff.base=0.25" })
    assert.equal("policy:update { retry = { backoff = { base = 0.25 } } } -- of the policy 'p'", text)
  end)
end)
