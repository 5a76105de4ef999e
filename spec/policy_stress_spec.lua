-- Random pipelines under random failures, limits of time and cancels: when the last
-- call has ended nothing is held, nobody waits, and no bulkhead was overrun.
local core = require "neap.core"
local neap = require "neap"

local PIPELINES, CALLS = 300, 40

local function failed(res) return not res or res.status ~= 200 end

--- A pipeline of two to five random layers; nil where the order is refused.
local function new_pipeline(random)
  local holders, has_retry, makers = {}, false, nil

  local function keep(layer)
    holders[#holders + 1] = layer
    return layer
  end

  local function bulkhead()
    return keep(neap.bulkhead { limit = math.floor(random() * 4) + 1, timeout = random() < 0.3 and 2 or nil,
      name = "bulkhead " .. #holders })
  end

  local function any() return makers[math.floor(random() * #makers) + 1]() end

  local function retry()
    if has_retry then return bulkhead() end
    has_retry = true
    return neap.retry { max_attempts = 3, backoff = { base = 0.5 }, park = random() < 0.3, max_retry_after = 2,
      deadline = random() < 0.3 and 4 or nil, budget = random() < 0.3 and {} or nil }
  end

  local function router()
    local endpoints = {}
    for i = 1, 2 do endpoints[i] = { name = "e" .. i, policy = neap.policy { any(), bulkhead() } } end
    return keep(neap.router { endpoints = endpoints, failover_on = failed, name = "router " .. #holders })
  end

  local function substitute()
    neap.sleep(random() * 0.5)
    return { status = 200, headers = {} }
  end

  makers = {
    bulkhead, retry, router,
    function() return keep(neap.adaptive { max = 5, start = 2, name = "adaptive " .. #holders }) end,
    function() return neap.deadline { seconds = 0.2 + random() * 5 } end,
    function() return neap.hedge { delay = 0.3, max_extra_load = 1, burst = 3 } end,
    function() return neap.fallback { with = substitute } end,
    function() return neap.circuit_breaker {} end,
    function() return neap.pace { limiter = neap.rate_limiter { rate = 50, burst = 5 } } end,
    function() return neap.throttle {} end,
  }
  local layers = {}
  for i = 1, 2 + math.floor(random() * 4) do layers[i] = any() end
  local ok, policy = pcall(neap.policy, layers)
  return ok and policy or nil, holders
end

local function outcome(random)
  local luck = random()
  if luck < 0.3 then return { status = 503, headers = {}, retry_after = random() < 0.2 and 3 or nil } end
  if luck < 0.4 then return { status = 429, headers = {} } end
  if luck < 0.45 then return nil, neap.error.new { kind = "timeout", message = "too slow" } end
  if luck < 0.47 then error "boom" end
  return { status = 200, headers = {} }
end

--- Runs the calls; how often the function ran, and how many were in it at most.
local function load(policy, random)
  local runs, inside, most = 0, 0, 0
  local function fn()
    runs, inside = runs + 1, inside + 1
    most = math.max(most, inside)
    local ok, err = pcall(neap.sleep, random() * 2)
    inside = inside - 1
    if not ok then error(err, 0) end
    return outcome(random)
  end
  neap.scope(function(s)
    for _ = 1, CALLS do
      local task = s:spawn(function()
        neap.sleep(random() * 3)
        if random() < 0.3 then return neap.timeout(random() * 3, policy.call, policy, fn) end
        policy:call(fn)
      end)
      if random() < 0.2 then
        s:spawn(function()
          neap.sleep(random() * 5)
          task:cancel()
        end)
      end
    end
  end, { on_error = "collect" })
  assert.equal(0, inside)
  return runs, most
end

local function assert_empty(layer, text)
  if layer.kind == "bulkhead" then
    assert.message(text).equal(0, layer.semaphore:held() + layer.semaphore:waiting())
  elseif layer.kind == "adaptive" then
    for _, state in pairs(layer.states) do
      assert.message(text).equal(0, state.in_flight + state.semaphore:held() + state.semaphore:waiting())
    end
  else
    for _, endpoint in ipairs(layer:snapshot().endpoints) do assert.message(text).equal(0, endpoint.busy) end
  end
end

--- The least limit of the bulkheads that every run of the function is behind.
local function tightest(layers)
  local least = math.huge
  for i = #layers, 1, -1 do
    local kind = layers[i].kind
    if kind == "hedge" or kind == "router" then return least end
    if kind == "bulkhead" then least = math.min(least, layers[i].options.limit) end
  end
  return least
end

describe("random pipelines", function()
  local log = core.log
  before_each(function() core.log = function() end end) -- their orders are warned about
  after_each(function() core.log = log end)

  it("hold nothing when their calls have ended, and keep their limits", function()
    local used, ran = 0, 0
    for seed = 1, PIPELINES do
      local rng = core.rng(seed, 1)
      local function random() return rng:double() end
      local policy, holders = new_pipeline(random)
      if policy then
        local runs, most = load(policy, random)
        local text = ("seed %d: %s"):format(seed, policy:describe())
        used, ran = used + 1, ran + runs
        for _, layer in ipairs(holders) do assert_empty(layer, text) end
        assert.message(text).is_true(most <= tightest(policy.layers))
      end
    end
    assert.is_true(used > PIPELINES / 2 and ran > used * CALLS / 4)
  end)
end)
