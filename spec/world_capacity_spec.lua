-- SPDX-License-Identifier: MIT
local capacities = require "neap.world.capacity"
local core = require "neap.core"

local huge = math.huge

--- A capacity whose tickets take ten seconds; `nudged` collects who was nudged.
local function new(spec, over)
  local nudged = {}
  return capacities.new(spec, over or "queue", 100, {
    begin = function(ticket, at) ticket.ends = at + 10 end,
    nudge = function(ticket) nudged[#nudged + 1] = ticket end,
  }), nudged
end

local function enter(capacity, now, n)
  local tickets = {}
  for i = 1, n do
    tickets[i] = {}
    capacity:enter(now, tickets[i])
  end
  return tickets
end

local function states(tickets)
  local list = {}
  for i, ticket in ipairs(tickets) do list[i] = ticket.state or "away" end
  return table.concat(list, " ")
end

describe("a capacity", function()
  it("lets everybody in when it has no limit", function()
    local capacity = new(nil)
    enter(capacity, 100, 1000)
    assert.same({ 1000, 0 }, { capacity.busy, capacity.waiting })
  end)

  it("turns away whom it has no slot for", function()
    local capacity = new(2, "reject")
    local tickets = enter(capacity, 100, 3)
    assert.equal("serving serving away", states(tickets))
    capacity:leave(101, tickets[1])
    assert.equal("serving", capacity:enter(101, {}))
  end)

  it("serves its line in order, from the moment a slot is free", function()
    local capacity = new(1)
    local tickets = enter(capacity, 100, 3)
    assert.equal("serving queued queued", states(tickets))
    capacity:leave(110, tickets[1])
    assert.equal("left serving queued", states(tickets))
    assert.same({ 110, 120 }, { tickets[2].began, tickets[2].ends })
  end)

  it("forgets who leaves the line", function()
    local capacity = new(1)
    local tickets = enter(capacity, 100, 3)
    capacity:leave(101, tickets[2])
    capacity:leave(110, tickets[1])
    assert.equal("left left serving", states(tickets))
    assert.same({ 1, 0 }, { capacity.busy, capacity.waiting })
  end)

  it("changes its slots by schedule, counted from the start", function()
    local capacity = new { { at = 0, slots = 1 }, { at = 30, slots = 3 }, { at = 60, slots = 0 } }
    local tickets = enter(capacity, 100, 4)
    assert.equal(130, capacity:next_change())
    capacity:advance(129.9)
    assert.equal("serving queued queued queued", states(tickets))
    capacity:advance(131)
    assert.equal("serving serving serving queued", states(tickets))
    assert.equal(130, tickets[2].began) -- the date of the change, not of the call
    capacity:advance(160)
    for i = 1, 3 do capacity:leave(165, tickets[i]) end
    assert.equal("left left left queued", states(tickets))
    assert.same({ 0, 0, 1, huge }, { capacity.limit, capacity.busy, capacity.waiting, capacity:next_change() })
  end)

  it("lets those finish whose slot is taken away", function()
    local capacity = new({ { at = 0, slots = 2 }, { at = 5, slots = 1 } }, "reject")
    local tickets = enter(capacity, 100, 2)
    capacity:advance(106)
    assert.same({ 1, 2 }, { capacity.limit, capacity.busy })
    capacity:leave(107, tickets[1])
    assert.is_nil(capacity:enter(107, {}))
    capacity:leave(108, tickets[2])
    assert.equal("serving", capacity:enter(108, {}))
  end)

  it("keeps the slot of an abandoned request until its work ends", function()
    local capacity = new(1)
    local tickets = enter(capacity, 100, 2)
    capacity:abandon(103, tickets[1])
    assert.same({ 1, 110 }, { capacity.busy, capacity:next_change() })
    capacity:advance(112)
    assert.same({ "serving", 110 }, { tickets[2].state, tickets[2].began })
  end)

  it("works on for a client who left the line, when its turn comes", function()
    local capacity = new(1)
    local tickets = enter(capacity, 100, 3)
    capacity:abandon(101, tickets[2])
    capacity:leave(110, tickets[1])
    capacity:advance(119)
    assert.equal("queued", tickets[3].state)
    capacity:advance(121)
    assert.same({ "serving", 120 }, { tickets[3].state, tickets[3].began })
  end)

  it("ends at once what is abandoned and would never end", function()
    local capacity = new(1)
    local tickets = enter(capacity, 100, 2)
    tickets[1].endless = true
    capacity:abandon(103, tickets[1])
    assert.same({ "serving", 103 }, { tickets[2].state, tickets[2].began })
  end)

  it("nudges the first who waits when a date comes up", function()
    local capacity, nudged = new(1)
    local tickets = enter(capacity, 100, 3)
    capacity:abandon(103, tickets[1])
    assert.same({ 1, true }, { #nudged, nudged[1] == tickets[2] })
    capacity:leave(104, tickets[2])
    assert.same({ 2, true }, { #nudged, nudged[2] == tickets[3] })
  end)
end)

-- -- A reference model ---------------------------------------------------------

--- The same rules, as plainly as possible: a list of all requests, searched anew
--- each time.
local function reference(steps, queues)
  local model = { all = {}, limit = steps[1].slots, step = 1 }

  function model.count(state)
    local n = 0
    for _, r in ipairs(model.all) do
      if r.state == state then n = n + 1 end
    end
    return n
  end

  local function serve(at)
    for _, r in ipairs(model.all) do
      if r.state == "queued" and model.count "serving" < model.limit then
        r.state, r.began, r.ends = "serving", at, at + r.length
      end
    end
  end

  --- The earliest thing that happens by itself: its date, and the ghost or nil.
  local function next_event()
    local at, ghost = steps[model.step + 1] and steps[model.step + 1].at or huge, nil
    for _, r in ipairs(model.all) do
      if r.ghost and r.state == "serving" and r.ends < at then at, ghost = r.ends, r end
    end
    return at, ghost
  end

  function model.next_change() return (next_event()) end

  function model.advance(now)
    local at, ghost = next_event()
    while at <= now and at < huge do
      if ghost then
        ghost.state = "left"
      else
        model.step = model.step + 1
        model.limit = steps[model.step].slots
      end
      serve(at)
      at, ghost = next_event()
    end
    for i = #model.all, 1, -1 do -- keeps the list short
      if model.all[i].state == "left" then table.remove(model.all, i) end
    end
  end

  function model.enter(now, length)
    local r = { length = length, state = "queued" }
    local room = model.count "serving" < model.limit
    if not room and not queues then return { state = nil } end
    model.all[#model.all + 1] = r
    if room then serve(now) end
    return r
  end

  function model.leave(now, r)
    r.state = "left"
    serve(now)
  end

  return model
end

--- Schedules with outages; small numbers, so that the limit is felt.
local function random_steps(draw)
  local steps, at = { { at = 0, slots = 3 } }, 0
  for i = 2, 400 do
    at = at + draw() * 40
    at = math.floor(at * 1e9 + 0.5) / 1e9 -- an instant of the clock
    steps[i] = { at = at, slots = math.floor(draw() * 7) }
  end
  return steps
end

local function check_same(capacity, model, pairs_of)
  assert(capacity.limit == model.limit, "limit")
  assert(capacity.busy == model.count "serving", "busy")
  assert(capacity.waiting == model.count "queued", "waiting")
  assert(capacity:next_change() == model.next_change(), "next change")
  for _, pair in ipairs(pairs_of) do
    assert(pair.ticket.state == pair.model.state, "state")
    assert(pair.ticket.began == pair.model.began, "began")
  end
end

--- Whoever is first in line knows of the next change, and wakes for it.
local function check_told(capacity, clients)
  if capacity:next_change() == huge then return end
  for _, pair in ipairs(clients) do
    if pair.ticket.state == "queued" then
      assert(pair.ticket.told <= capacity:next_change(), "the first in line was not told")
      return
    end
  end
end

local function run(over, seed, operations)
  local rng = core.rng(seed, 9)
  local function draw() return rng:double() end
  local steps = random_steps(draw)
  local capacity
  capacity = capacities.new(steps, over, 0, {
    begin = function(ticket, at) ticket.ends = at + ticket.length end,
    nudge = function(ticket) ticket.told = capacity:next_change() end,
  })
  local model, clients, now = reference(steps, over == "queue"), {}, 0
  for _ = 1, operations do
    now = now + draw() * 0.3
    local choice = draw()
    model.advance(now)
    if choice < 0.45 and #clients < 25 then
      local length = draw() * 2
      local ticket = { length = length }
      local state = capacity:enter(now, ticket)
      ticket.told = capacity:next_change()
      local r = model.enter(now, length)
      assert(state == r.state, "entrance")
      if state then clients[#clients + 1] = { ticket = ticket, model = r } end
    elseif choice < 0.9 and #clients > 0 then
      local pair = table.remove(clients, 1 + math.floor(draw() * #clients))
      if choice < 0.75 then
        capacity:leave(now, pair.ticket)
        model.leave(now, pair.model)
      else
        capacity:abandon(now, pair.ticket)
        pair.model.ghost = true
      end
    else
      capacity:advance(now)
    end
    -- Those whose date has come look at the next one.
    for _, pair in ipairs(clients) do
      if pair.ticket.told <= now then
        capacity:advance(now)
        model.advance(now)
        pair.ticket.told = capacity:next_change()
      end
    end
    check_same(capacity, model, clients)
    check_told(capacity, clients)
  end
  return capacity
end

describe("a capacity under random operations", function()
  for _, over in ipairs { "queue", "reject" } do
    it(("does what the plain model does: 50,000 of them, over = %s"):format(over), function()
      local capacity = run(over, 4, 50000)
      assert.is_true(capacity.max_busy > 3)
    end)
  end
end)
