-- SPDX-License-Identifier: MIT
-- The default controller alone: rounds of calls are fed to it, without a task.
local gates = require "neap.adaptive.gates"
local schema = require "neap.schema"

local floor, max = math.floor, math.max

--- A controller and an upstream that answers it: `full(n)` has n rounds in which
--- the whole limit is in use, each call taking `latency` seconds.
local Rig = {}
Rig.__index = Rig

local function rig(opts)
  local checked = schema.check("adaptive", opts or {})
  return setmetatable({ now = 0, latency = 1, gates = gates.new(checked, 0), seen = {} }, Rig)
end

function Rig:limit() return floor(self.gates.limit) end

--- A call that began `latency` ago has ended.
function Rig:ended(verdict, in_flight, hint, seconds)
  local before = self:limit()
  self.gates:sample(self.now, verdict, self.now - (seconds or self.latency), in_flight or before, hint)
  if self:limit() ~= before then self.seen[#self.seen + 1] = self.gates.reason end
end

--- `count` latencies of a closed load at `share` of the limit.
function Rig:rounds(count, share, verdict)
  for _ = 1, count do
    local calls = max(1, floor(self:limit() * (share or 1)))
    for _ = 1, calls do
      self.now = self.now + self.latency / calls
      self:ended(verdict or "ok", calls)
    end
  end
end

--- A call just sent is refused at once.
function Rig:refused(in_flight, hint)
  self.now = self.now + self.latency + 0.001
  self:ended("throttled", in_flight, hint, 0)
end

--- Up to `level` by slow start, refused there, and rested until back.
local function settled(level, opts)
  local r = rig(opts)
  repeat r:rounds(1) until r:limit() > level
  r:refused(level + 1)
  repeat r:rounds(1) until r:limit() == level or r.now > 100
  assert.equal(level, r:limit())
  r.seen = {}
  return r
end

describe("the controller gates", function()
  describe("growing", function()
    it("doubles in slow start", function()
      local r = rig()
      r:rounds(10)
      assert.is_true(r:limit() > 80)
      for _, reason in ipairs(r.seen) do assert.equal("slow_start", reason) end
    end)

    it("does not when less than four fifths of the limit is in use", function()
      local r = rig()
      r:rounds(50, 0.7)
      assert.same({ 20, {} }, { r:limit(), r.seen })
      r:rounds(10, 0.85)
      assert.is_true(r:limit() > 20)
    end)

    it("does not while calls fail or the upstream is overloaded, which cuts nothing either", function()
      for _, verdict in ipairs { "failed", "overloaded" } do
        local r = rig()
        r:rounds(20, 1, verdict)
        assert.same({ 20, {} }, { r:limit(), r.seen })
        r:rounds(10)
        assert.is_true(r:limit() > 20)
      end
    end)

    it("takes no notice of what was our own doing", function()
      local r = rig()
      r:rounds(50, 1, "neutral")
      assert.same({ 20, {} }, { r:limit(), r.seen })
    end)

    it("stays within its bounds", function()
      local r = rig { max = 30 }
      r:rounds(30)
      assert.equal(30, r:limit())
      r = rig { min = 15 }
      for _ = 1, 30 do r:refused(r:limit()) end
      assert.equal(15, r:limit())
    end)
  end)

  describe("refused", function()
    it("cuts to a share of what was accepted, and remembers it", function()
      local r = rig()
      r:rounds(10)
      local before = r:limit()
      assert.is_true(before > 52)
      r:refused(51)
      assert.is_true(r:limit() >= 40 and r:limit() < before)
      assert.equal("rate_limit", r.gates.reason)
      assert.equal(50, r.gates.good)
    end)

    it("cuts once for all calls that were sent before the cut", function()
      local r = settled(50)
      r:refused(51)
      local limit = r:limit()
      for _ = 1, 49 do
        r.now = r.now + 0.01
        r:ended("throttled", 50, nil, r.latency)
      end
      assert.equal(limit, r:limit())
      assert.equal(1, #r.seen)
    end)

    it("does not grow before the cooldown is over, then goes back to the good level by steps", function()
      local r = rig { cooldown = 20 }
      repeat r:rounds(1) until r:limit() == 80
      r:refused(61)
      local limit, cut = r:limit(), r.now
      while r.now < cut + 19 do r:rounds(1) end
      assert.equal(limit, r:limit())
      repeat r:rounds(1) until r:limit() >= 60 or r.now > cut + 60
      assert.equal(60, r:limit())
      assert.equal("steady_up", r.seen[#r.seen])
    end)

    it("does not grow before the time that the server named is over", function()
      local r = rig { cooldown = 2 }
      repeat r:rounds(1) until r:limit() == 80
      r:refused(61, 50)
      local limit, cut = r:limit(), r.now
      while r.now < cut + 48 do r:rounds(1) end
      assert.equal(limit, r:limit())
      repeat r:rounds(1) until r:limit() >= 60 or r.now > cut + 100
      assert.equal(60, r:limit())
    end)

    it("goes down call by call, and comes back within half a minute of the end, however long it lasted", function()
      for _, minutes in ipairs { 1, 60 } do
        local r = settled(50)
        for _ = 1, minutes * 60 do r:refused(r:limit()) end
        assert.equal(1, r:limit())
        local ended = r.now
        while r:limit() < 45 and r.now < ended + 300 do r:rounds(1) end
        assert.message(("%g s after it"):format(r.now - ended)).is_true(r.now - ended < 30)
      end
    end)
  end)

  describe("at the good level", function()
    it("rests for the probe interval, then tries one more", function()
      local r = settled(50, { probe_interval = 10 })
      local from = r.now
      repeat r:rounds(1) until #r.seen > 0
      assert.same({ 51, { "probe" } }, { r:limit(), r.seen })
      assert.is_true(r.now - from >= 9 and r.now - from < 14)
    end)

    it("goes back to it without a cut when the try is refused, and waits longer each time", function()
      local r, waits = settled(50, { probe_interval = 10, max_probe_interval = 30 }), {}
      for i = 1, 5 do
        local from = r.now
        repeat r:rounds(1) until r:limit() > 50
        waits[i] = r.now - from
        r:refused(r:limit())
        assert.same({ 50, "probe_refused" }, { r:limit(), r.gates.reason })
      end
      assert.is_true(waits[2] > waits[1] + 2 and waits[3] > waits[2] + 2)
      assert.is_true(waits[4] < 34 and waits[5] < 34)
    end)

    it("takes a limit that was accepted for the new good level", function()
      local r = settled(50)
      repeat r:rounds(1) until r:limit() >= 60
      local accepted = r.gates.good
      assert.is_true(accepted > 50)
      r:refused(r:limit())
      assert.same({ floor(accepted), "probe_refused" }, { r:limit(), r.gates.reason })
    end)

    it("takes larger steps as long as they go well", function()
      local r = settled(50)
      repeat r:rounds(1) until #r.seen > 0
      local from = r.now
      while r:limit() < 100 and r.now < from + 100 do r:rounds(1) end
      assert.is_true(r.now - from < 30)
      for _, reason in ipairs(r.seen) do assert.equal("probe", reason) end
    end)

    it("cuts when it is refused there, too: the upstream takes less than it did", function()
      local r = settled(50)
      for _ = 1, 6 do
        if r:limit() > 25 then r:refused(r:limit()) end
      end
      assert.is_true(r:limit() <= 25)
      assert.equal("rate_limit", r.gates.reason)
    end)
  end)

  describe("with queueing calls", function()
    --- Latency in proportion to the limit beyond `slots`.
    local function queue(r, slots, rounds)
      for _ = 1, rounds do
        r.latency = 0.1 * max(1, r:limit() / slots)
        r:rounds(1)
      end
    end

    it("ends slow start and comes down to where calls take little longer", function()
      local r = rig()
      queue(r, 50, 200)
      assert.equal("slow_start", r.seen[1])
      local cut
      for _, reason in ipairs(r.seen) do cut = cut or reason == "latency" or reason == "latency_dip" end
      assert.is_true(cut)
      assert.is_true(r:limit() >= 50 * 0.55 and r:limit() <= 50 * 1.75)
    end)

    it("looks now and then at what calls take at a lower limit", function()
      local r = rig()
      queue(r, 50, 2000)
      local dips = 0
      for i, reason in ipairs(r.seen) do
        if reason == "latency_dip" then
          dips = dips + 1
          assert.matches("^latency_dip", r.seen[i + 1] or "latency_dip_end")
        end
      end
      assert.is_true(dips >= 2)
    end)

    it("finds the unloaded latency even if its first calls queued already", function()
      local r = rig { start = 40 }
      queue(r, 10, 3000)
      assert.near(0.1, r.gates.gauge.base, 0.02)
      assert.is_true(r:limit() <= 20)
    end)

    it("follows a capacity that falls", function()
      local r = rig()
      queue(r, 50, 500)
      local from = r.now
      while r.now < from + 30 do queue(r, 25, 1) end
      assert.is_true(r:limit() >= 14 and r:limit() <= 44)
    end)
  end)

  it("keeps its limit when the upstream becomes slower for other reasons", function()
    for _, times in ipairs { 1.7, 3, 10 } do
      local r = settled(50)
      r.latency = 1
      r:rounds(30)
      r.latency = times
      r:rounds(60)
      local least, most = 50, 0
      for _ = 1, 100 do
        r:rounds(1)
        if r:limit() > 50 then r:refused(51) end
        least, most = math.min(least, r:limit()), max(most, r:limit())
      end
      assert.message(("%g times slower: %d"):format(times, least)).is_true(least >= 24 and most == 50)
    end
  end)

  it("cuts for latency by the ratio, and not for a smaller one than its tolerance", function()
    local function after(tolerance)
      local r = rig { latency_tolerance = tolerance, max = 20 }
      r:rounds(60)
      r.latency = 2
      r:rounds(5)
      return r
    end
    local r = after(1.5)
    assert.same({ "latency" }, r.seen)
    assert.equal(15, r:limit()) -- midway between 1 and 1.5, by a mean of little less than 2
    assert.same({ 20, {} }, { after(2.5):limit(), after(2.5).seen })
  end)

  it("goes back by doubling after an outage, in which single calls were refused", function()
    local r = settled(50)
    for _ = 1, 60 do r:refused(r:limit()) end
    assert.equal(1, r:limit())
    r.seen = {}
    repeat r:rounds(1) until r:limit() == 50 or #r.seen > 20
    assert.same({ 50, "recovery" }, { r:limit(), r.seen[1] })
    assert.is_true(#r.seen <= 6)
  end)

  it("takes a limit by hand in the midst of a dip or a cooldown, and goes on from there", function()
    local r = settled(50)
    r:refused(40) -- a cut, and 2 s of cooldown
    r.gates:force(30)
    assert.same({ 30, "manual" }, { r:limit(), r.gates.reason })
    assert.is_nil(r.gates:next_change())
    for _ = 1, 200 do r:rounds(1) end
    assert.is_true(r:limit() > 50) -- nobody refused
  end)

  it("says when it may try more, and only while it rests", function()
    local r = rig { probe_interval = 10 }
    assert.is_nil(r.gates:next_change())
    r = settled(50, { probe_interval = 10 })
    local at = r.gates:next_change()
    assert.is_true(at > r.now and at <= r.now + 10)
    repeat r:rounds(1) until r:limit() > 50
    assert.is_true(r.now >= at)
  end)

  it("bears calls that take no time", function()
    local r = rig { max = 100 }
    for _ = 1, 500 do r:ended("ok", r:limit(), nil, 0) end
    assert.equal(100, r:limit())
    assert.is_true(r.gates.limit == r.gates.limit)
  end)

end)
