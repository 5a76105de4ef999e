-- SPDX-License-Identifier: MIT
-- What a new connection costs is the operation's, not the order of arrival's.
local core = require "neap.core"
local neap = require "neap"
local network = require "neap.sim.network"
local worlds = require "neap.world"

local function up()
  return network.up(worlds.new { { host = "a.test", latency = 0.1,
    connect = { latency = { law = "exponential", mean = 1 }, refuse = 0.2 } } }, 9)
end

describe("a connection's cost", function()
  after_each(network.down)

  --- Seconds and kinds of each attempt of 20 operations, among so many other requests.
  local function run(others, ask)
    up()
    local client = neap.http.client { force_close = true }
    local seen = {}
    for i = 1, 20 do
      for _ = 1, others do client:get "http://a.test/other" end
      ask(client, i, function(res, err, began)
        seen[#seen + 1] = ("%d %s %.6f"):format(i, res and res.status or err.kind, core.now() - began)
      end)
    end
    client:close()
    network.down()
    return seen
  end

  local function by_policy(client, i, note)
    neap.retry({ max_attempts = 3, backoff = { base = 0.1, jitter = "none" } }):call(function()
      local began = core.now()
      local res, err = client:get("http://a.test/" .. i)
      note(res, err, began)
      return res, err
    end)
  end

  local function by_key(client, i, note)
    for _ = 1, 2 do
      local began = core.now()
      local res, err = client:post("http://a.test/", { body = "x", idempotency_key = "key-" .. i })
      note(res, err, began)
    end
  end

  it("is the same for a policy's call however many others there are", function()
    local alone = run(0, by_policy)
    assert.is_true(#alone > 20) -- some were refused, and tried again
    assert.same(alone, run(3, by_policy))
  end)

  it("is the same for an idempotency key however many others there are", function()
    local alone = run(0, by_key)
    assert.equal(40, #alone)
    assert.same(alone, run(3, by_key))
  end)

  it("differs between a call's connections, and between calls", function()
    local costs, count = {}, 0
    for _, row in ipairs(run(0, by_key)) do
      local cost = row:match "200 (.*)$"
      if cost then
        assert.is_nil(costs[cost])
        costs[cost], count = true, count + 1
      end
    end
    assert.is_true(count > 20)
  end)

  it("goes by the order of arrival where there is no telling", function()
    local function plain(client, i, note)
      local began = core.now()
      local res, err = client:get("http://a.test/" .. i)
      note(res, err, began)
    end
    local alone = run(0, plain)
    assert.same(alone, run(0, plain))
    assert.are_not.same(alone, run(1, plain))
  end)
end)
