-- SPDX-License-Identifier: MIT
-- The mock's slots, brownouts and disconnects, over sockets.
local json = require "neap.json"
local mock = require "neap.mock"
local neap = require "neap"
local syntax = require "neap.mock.syntax"
local child = require "spec.support.child"
local mocks = require "spec.support.mock"
local raw = require "spec.support.raw_http"

local function get(port, id)
  return raw.fetch(port, "GET", "/x", { headers = id and { "X-Client-Request-Id: " .. id } or nil })
end

--- Sends a request and does not wait for its answer.
local function open(port, id)
  return raw.connect(port):send(raw.request("GET", "/x", { headers = { "X-Client-Request-Id: " .. id } }))
end

local function stats_of(port)
  return assert(json.decode(raw.fetch(port, "GET", "/stats?full=1").body))
end

--- Waits until the statistics satisfy `condition`, and returns them.
local function wait_for(port, condition)
  for _ = 1, 1000 do
    local stats = stats_of(port)
    if condition(stats) then return stats end
    neap.sleep(0.002)
  end
  error "the mock never got there"
end

local function arrived(n)
  return function(stats) return stats.requests == n end
end

--- Id -> row of the log.
local function rows_of(stats)
  local rows = {}
  for _, row in ipairs(stats.full) do rows[row.id] = row end
  return rows
end

local function at_least(least, value)
  assert.message(("expected at least %g, got %g"):format(least, value)).is_true(value >= least)
end

local function within(least, most, value)
  assert.message(("expected %g to %g, got %g"):format(least, most, value)).is_true(value >= least and value <= most)
end

describe("the mock's slots #real", function()
  local function serves(name, config, body) it(name, mocks.served(config, body)) end

  serves("turn away with 429 what comes while all are taken",
    { capacity = 2, retry_after = 1.5, latency = 0.2 }, function(port)
      local results = neap.map({ "a", "b", "c", "d" }, function(id) return get(port, id) end)
      local statuses, rejected = {}, nil
      for i, res in ipairs(results) do
        statuses[i] = res.status
        if res.status == 429 then rejected = res end
      end
      table.sort(statuses)
      assert.same({ 200, 200, 429, 429 }, statuses)
      assert.equal("2", rejected.headers["retry-after"])
      assert.equal("rate_limit_exceeded", json.decode(rejected.body).error.code)
      local stats = stats_of(port)
      assert.same({ limit = 2, busy = 0, waiting = 0 }, stats.slots)
      assert.same({ ["200"] = 2, ["429"] = 2 }, stats.statuses)
      assert.equal(200, get(port, "e").status)
    end)

  serves("have no Retry-After for it unless told", { capacity = 0 }, function(port)
    local res = get(port, "a")
    assert.equal(429, res.status)
    assert.is_nil(res.headers["retry-after"])
  end)

  serves("serve a line in order of arrival", { capacity = 1, over = "queue", latency = 0.03 }, function(port)
    neap.map({ "a", "b", "c" }, function(id) assert.equal(200, get(port, id).status) end)
    local full = stats_of(port).full
    for i, row in ipairs(full) do at_least(i * 0.03 - (row.arrived - full[1].arrived) - 1e-6, row.duration) end
    within(0.09, 2, full[3].arrived + full[3].duration - full[1].arrived)
  end)

  serves("change by schedule, and their line notices",
    { capacity = syntax.capacity "0@t=0.2:3", over = "queue" }, function(port)
      neap.map({ "a", "b", "c" }, function(id) assert.equal(200, get(port, id).status) end)
      for _, row in ipairs(stats_of(port).full) do within(0.2, 2, row.arrived + row.duration) end
    end)

  serves("are free again at once when a client leaves, in line or at work",
    { capacity = 1, over = "queue", latency = 5 }, function(port)
      local first = open(port, "a")
      wait_for(port, arrived(1))
      local second = open(port, "b")
      wait_for(port, arrived(2))
      local third = open(port, "c")
      local stats = wait_for(port, arrived(3))
      assert.same({ 3, 3, { limit = 1, busy = 1, waiting = 2 } },
        { stats.in_flight, stats.max_in_flight, stats.slots })
      neap.sleep(0.03)
      second:close()
      stats = wait_for(port, function(s) return s.in_flight == 2 end)
      assert.same({ limit = 1, busy = 1, waiting = 1 }, stats.slots)
      first:close()
      stats = wait_for(port, function(s) return s.in_flight == 1 end)
      assert.same({ limit = 1, busy = 1, waiting = 0 }, stats.slots)
      third:close()
      stats = wait_for(port, function(s) return s.in_flight == 0 end)
      assert.same({ { disconnect = 3 }, { limit = 1, busy = 0, waiting = 0 }, 3 },
        { stats.statuses, stats.slots, stats.max_in_flight })
      for id, row in pairs(rows_of(stats)) do
        assert.equal("disconnect", row.status, id)
        within(0.03, 4, row.duration)
      end
    end)

  serves("stay taken until the work ends for clients who left, when told so",
    { capacity = 1, over = "queue", latency = 0.4, on_disconnect = "continue" }, function(port)
      local first = open(port, "a")
      wait_for(port, arrived(1))
      local second = open(port, "b")
      wait_for(port, arrived(2))
      first:close()
      second:close()
      local stats = wait_for(port, function(s) return s.in_flight == 0 end)
      assert.same({ limit = 1, busy = 1, waiting = 1 }, stats.slots)
      assert.equal(200, get(port, "c").status)
      local rows = rows_of(stats_of(port))
      within(0, 0.35, rows.a.duration)
      at_least(1.2, rows.c.arrived + rows.c.duration - rows.a.arrived)
    end)

  serves("are held by what hangs, until its client leaves", { capacity = 1, hang = 1 }, function(port)
    local connection = open(port, "a")
    wait_for(port, arrived(1))
    assert.equal(429, get(port, "b").status)
    connection:close()
    local stats = wait_for(port, function(s) return s.in_flight == 0 end)
    assert.same({ { hang = 1, ["429"] = 1 }, 0 }, { stats.statuses, stats.slots.busy })
  end)

  serves("notes when a client leaves in the middle of a stream", { token_delay = 0.05, capacity = 1 },
    function(port)
      local body = '{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}'
      local connection = raw.connect(port):send(raw.request("POST", "/v1/chat/completions", { body = body }))
      assert.truthy(connection:take_to "data: ")
      connection:close()
      local stats = wait_for(port, function(s) return s.in_flight == 0 and s.slots.busy == 0 end)
      assert.same({ disconnect = 1 }, stats.statuses)
      within(0, 0.5, stats.full[1].duration)
    end)

  serves("slow down under load by the brownout", { latency = 0.05, brownout = { knee = 1, slope = 1 } },
    function(port)
      local connections = {}
      for i, id in ipairs { "a", "b", "c" } do
        connections[i] = open(port, id)
        wait_for(port, arrived(i))
      end
      for _, connection in ipairs(connections) do
        assert.equal(200, connection:response().status)
        connection:close()
      end
      -- However the three overlapped, nobody was faster than alone.
      local rows = rows_of(stats_of(port))
      at_least(0.05, rows.a.duration)
      if rows.b.arrived < rows.a.arrived + 0.04 then at_least(0.1, rows.b.duration) end
    end)

  serves("fail in the window of a brownout", { brownout = syntax.brownout "error=1,status=529@t=0..0.4" },
    function(port)
      assert.equal(529, get(port, "a").status)
      neap.sleep(0.45)
      assert.equal(200, get(port, "b").status)
    end)
end)

describe("the mock's count of what is there at a time #real", function()
  it("is never above what its clients have open, whether they wait or give up", function()
    local upstream = assert(mock.start { latency = syntax.latency "exponential:0.01" })
    local client = neap.http.client { base_url = upstream.server:url() }
    neap.scope(function(s)
      for _ = 1, 20 do
        s:spawn(function()
          for i = 1, 15 do neap.timeout(i % 3 == 0 and 0.005 or 5, client.get, client, "/x") end
        end)
      end
    end)
    client:close()
    local stats = wait_for(upstream.server:port(), function(s) return s.in_flight == 0 end)
    upstream:stop(0)
    within(10, 20, stats.max_in_flight)
    -- The log says the same: those who were there at each arrival, but for the
    -- moment in which a leaving is not noticed yet.
    local most, disconnects = 0, 0
    for _, row in ipairs(stats.full) do
      local there, at = 1, row.arrived
      for _, other in ipairs(stats.full) do
        local ends = other.arrived + other.duration
        if other.status == "disconnect" then ends = ends - 0.01 end
        if other ~= row and other.arrived <= at and ends > at then there = there + 1 end
      end
      most = math.max(most, there)
      if row.status == "disconnect" then disconnects = disconnects + 1 end
    end
    within(10, 20, most)
    within(10, 100, disconnects)
    assert.equal(stats.statuses.disconnect, disconnects)
  end)
end)

describe("neap mock #real", function()
  it("has the module's slots, brownouts and disconnects as flags", function()
    local process = child.start { "mock", "--port", "0", "--capacity", "1@t=60:5", "--over",
      "reject,retry_after=2", "--latency", "fixed:0.1", "--brownout", "latency=2", "--brownout", "knee=9,slope=1",
      "--on-disconnect", "continue" }
    process:wait_for "\n"
    local port = tonumber(process.out:match ":(%d+)\n")
    local at = neap.now()
    local results = neap.map({ "a", "b" }, function(id) return get(port, id) end)
    table.sort(results, function(a, b) return a.status < b.status end)
    assert.same({ 200, 429, "2" }, { results[1].status, results[2].status, results[2].headers["retry-after"] })
    at_least(0.2, neap.now() - at)
    process:kill "sigterm"
    assert.equal(0, process:wait().code)
    assert.message(process.out).truthy(process.out:find("2 requests: 1 x 200, 1 x 429", 1, true))
  end)

  it("has answered, by its log, clients who close as soon as they have the answer", function()
    local process = child.start { "mock", "--port", "0", "--latency", "fixed:0.001" }
    process:wait_for "\n"
    local port = tonumber(process.out:match ":(%d+)\n")
    local ids = {}
    for i = 1, 300 do ids[i] = tostring(i) end
    neap.map(ids, function(id) assert.equal(200, get(port, id).status) end, { concurrency = 5 })
    local stats = wait_for(port, function(s) return s.in_flight == 0 end)
    process:kill "sigterm"
    process:wait()
    assert.same({ ["200"] = 300 }, stats.statuses)
    within(2, 5, stats.max_in_flight)
  end)
end)
