-- SPDX-License-Identifier: MIT
-- Streams that an outage cuts off: what was sent before has come.
local core = require "neap.core"
local neap = require "neap"
local network = require "neap.sim.network"
local world_mock = require "neap.mock.world"
local worlds = require "neap.world"
local measure = require "spec.support.measure"

local near = measure.near

--- Half a second to the first token, then one each half second: at 0.5, 1, ... 5.
local function world_of(outage, more)
  local spec = { host = "llm.test", latency = 0.5, tokens = { output = 10, per_second = 2 }, outage = outage }
  for name, value in pairs(more or {}) do spec[name] = value end
  return worlds.new { spec }
end

local BODY = { model = "m", stream = true, messages = { { role = "user", content = "hi" } } }

--- The events that a stream had, when its last one came, and how it ended.
local function read(base_url, timeout)
  local client, began = neap.http.client { base_url = base_url, timeout = timeout }, core.now()
  local res, err = client:post("/v1/chat/completions", { stream = true, json = BODY })
  local count, last = 0, nil
  if res then
    local ok
    ok, err = pcall(function()
      for _ in res:events() do count, last = count + 1, core.now() - began end
    end)
    if ok then err = nil end
  end
  client:close()
  return { events = count, last = last, status = res and res.status, kind = err and err.kind, err = err,
    took = core.now() - began }
end

describe("a stream that an outage cuts off", function()
  local net

  local function ask(outage, timeout, more)
    local world = world_of(outage, more)
    net = network.up(world, 1)
    return read("http://llm.test", timeout), world.upstreams[1]
  end

  after_each(network.down)

  it("has come up to the cut, and is reset then", function()
    local whole = ask(nil)
    network.down()
    local got, upstream = ask { from = 2.75, to = 10 }
    assert.same({ 200, "receive" }, { got.status, got.kind })
    assert.equal("download", got.err.phase)
    near(2.5, got.last)
    near(2.75, got.took)
    assert.is_true(got.events >= 5 and got.events < whole.events)
    assert.same({ drop = 1 }, net.statuses)
    assert.same({ drop = 1 }, upstream.stats.statuses)
    assert.same({ 0, 0 }, { upstream.stats.open, upstream.law.capacity.busy })
    near(2.75, upstream.law.wasted)
  end)

  it("has nothing of what was due at the cut or later", function()
    local before = ask { from = 2.4 }
    network.down()
    local at = ask { from = 2.5 }
    assert.equal(before.events, at.events)
    near(2, at.last)
  end)

  it("is a reset without an answer when it is cut before its first byte", function()
    local got = ask { from = 0.4 }
    assert.same({ "receive", 0 }, { got.kind, got.events })
    assert.is_nil(got.status)
    near(0.4, got.took)
  end)

  it("comes to a halt, and hangs, when nothing comes through any more", function()
    local got, upstream = ask({ from = 2.75, to = 4, how = "hang" }, { idle = 10 })
    assert.same({ 200, "timeout" }, { got.status, got.kind })
    near(2.5, got.last)
    near(12.5, got.took)
    assert.same({ hang = 1 }, net.statuses)
    assert.same({ 0, 0 }, { upstream.stats.open, upstream.law.capacity.busy })
  end)

  it("is not touched by an outage that ends before its first byte, or begins after its last", function()
    local whole = ask(nil)
    network.down()
    local got = ask { { from = 0.1, to = 0.4, how = "hang" }, { from = 5.1 } }
    assert.equal(whole.events, got.events)
    assert.is_nil(got.kind)
  end)

  it("has come up to the first of several, in whatever order they are written", function()
    for _, outage in ipairs {
      { { from = 2.75, to = 3, how = "hang" }, { from = 4.2 } },
      { { from = 4.2 }, { from = 2.75, to = 3, how = "hang" } },
    } do
      local got = ask(outage, { idle = 60 })
      assert.equal("receive", got.kind)
      near(2.5, got.last)
      near(4.2, got.took)
      network.down()
    end
    local got = ask { { from = 3 }, { from = 0.3 } }
    assert.equal(0, got.events)
    near(0.3, got.took)
  end)

  it("is counted as left when its client does not wait for the cut", function()
    local got, upstream = ask({ from = 2.75 }, 1.2)
    assert.equal("timeout", got.kind)
    assert.same({ gone = 1 }, net.statuses)
    neap.sleep(5)
    upstream.law:advance(core.now())
    assert.same({ 0, 0 }, { upstream.stats.open, upstream.law.capacity.busy })
  end)

  it("is counted as hanging also when it had to wait in line first", function()
    net = network.up(world_of({ from = 6, to = 12, how = "hang" }, { capacity = 1, over = "queue" }), 1)
    local rows = neap.map({ 1, 2 }, function() return read("http://llm.test", 20) end)
    assert.same({ "timeout", 200 }, { rows[2].kind, rows[2].status })
    assert.same({ [200] = 1, hang = 1 }, net.statuses)
  end)
end)

describe("a stream that an outage cuts off, over real sockets #real", function()
  local function served(outage, timeout)
    local world = worlds.new { { host = "llm.test", latency = 0.05, tokens = { output = 10, per_second = 20 },
      outage = outage } }
    local mock = assert(world_mock.start { world = world, upstream = "llm.test" })
    local got = read(mock.server:url(), timeout)
    mock:stop(0)
    return got, world.upstreams[1]
  end

  it("has come up to the cut, and is reset then", function()
    local got, upstream = served { from = 0.275 }
    assert.same({ 200, "receive" }, { got.status, got.kind })
    assert.is_true(got.events >= 3 and got.events <= 6, got.events .. " events")
    assert.is_true(got.took >= 0.2 and got.took < 0.4, got.took .. " s")
    assert.equal(0, upstream.stats.open)
  end)

  it("comes to a halt, and hangs", function()
    local got = served({ from = 0.275, to = 0.4, how = "hang" }, { idle = 0.5 })
    assert.same({ 200, "timeout" }, { got.status, got.kind })
    assert.is_true(got.events >= 3 and got.events <= 6, got.events .. " events")
  end)
end)
