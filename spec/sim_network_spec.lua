local core = require "neap.core"
local neap = require "neap"
local network = require "neap.sim.network"
local measure = require "spec.support.measure"
local worlds = require "spec.support.simulated_world"

local near, took = measure.near, measure.took

local client, net

local function up(hosts)
  local world = worlds.new(hosts)
  net = network.up(world, 1)
  return world
end

describe("the simulated network", function()
  before_each(function() client = neap.http.client {} end)

  after_each(function()
    client:close()
    network.down()
    net = nil
  end)

  it("is not there until it is up, and not after it went down", function()
    local _, err = client:get "http://api.test/"
    assert.equal("connect", err.kind)
    up { ["api.test"] = {} }
    assert.equal(200, client:get("http://api.test/").status)
    network.down()
    _, err = client:get "http://api.test/"
    assert.equal("connect", err.kind)
    assert.truthy(err.message:find "no network in simulated time")
  end)

  it("carries a request to the upstream of its host, and its answer back", function()
    local world = up { ["api.test"] = { latency = 0.25, reads = true } }
    local seconds, res = took(client.post, client, "http://API.test/v1/x?y=1",
      { json = { a = 1 }, headers = { ["X-Mark"] = "m" } })
    near(0.25, seconds)
    assert.equal(200, res.status)
    assert.equal("yes", res.body)
    assert.equal("3", res.headers["content-length"])
    local seen = world.by_host["api.test"].seen[1]
    assert.equal("POST", seen.method)
    assert.equal("/v1/x", seen.path)
    assert.equal('{"a":1}', seen.body)
    assert.equal("m", seen.headers["x-mark"])
    assert.equal("api.test:80", seen.headers.host)
    assert.equal("application/json", seen.headers["content-type"])
    assert.equal("7", seen.headers["content-length"])
  end)

  it("tells the timings of each phase", function()
    up { ["api.test"] = { latency = 0.2, connect = { seconds = 0.06, dns = 0.02 } } }
    local res = client:get "https://api.test/"
    near(0.02, res.timings.dns)
    near(0.02, res.timings.connect)
    near(0.02, res.timings.tls)
    near(0.2, res.timings.first_byte)
    near(0.26, res.timings.total)
    assert.equal(1, res.sends)
  end)

  it("says the server's time, which is the clock's", function()
    up { ["api.test"] = {} }
    local date = client:get("http://api.test/").headers.date
    assert.truthy(date:find "^%a%a%a, %d%d %a%a%a %d%d%d%d %d%d:%d%d:%d%d GMT$")
    local said = require("neap.rate_headers").http_date(date, core.time())
    assert.equal(math.floor(core.time()), said)
  end)

  it("gives heads in which a field is found without a look at them all", function()
    local headers = { ["X-RateLimit-Remaining"] = "3", ["content-type"] = "text/plain" }
    up { ["api.test"] = { answer = function() return { status = 200, headers = headers, body = "" } end },
      ["wait.test"] = { answer = function()
        return { status = 200, headers = { ["Retry-After"] = " 7 " }, body = "" }
      end },
      ["plain.test"] = { answer = function()
        return { status = 200, headers = { ["x-rate"] = "retry-after" }, body = "" }
      end } }
    local raw = client:get("http://api.test/").raw
    assert.is_true(core.http_mentions_limits(raw))
    assert.equal("3", core.http_header(raw, "x-ratelimit-remaining"))
    assert.equal("text/plain", core.http_header(raw, "Content-Type"))
    assert.is_nil(core.http_header(raw, "content"))
    assert.is_nil(core.http_header(raw, "HTTP/1.1 200 "))
    raw = client:get("http://wait.test/").raw
    assert.is_true(core.http_mentions_limits(raw))
    assert.equal("7", core.http_header(raw, "retry-after"))
    assert.is_false(core.http_mentions_limits(client:get("http://plain.test/").raw))
  end)

  describe("connections", function()
    it("are paid for once and kept alive", function()
      up { ["api.test"] = { latency = 0.1, connect = { seconds = 0.05 } } }
      near(0.15, (took(client.get, client, "http://api.test/")))
      near(0.1, (took(client.get, client, "http://api.test/")))
      assert.equal(1, client:stats().connections)
    end)

    it("are not used again after the client's or the server's idle time", function()
      up { ["api.test"] = { connect = { seconds = 0.05, keepalive = 20 } } }
      client:close()
      client = neap.http.client { keepalive_timeout = 5 }
      client:get "http://api.test/"
      neap.sleep(4.9)
      near(0, (took(client.get, client, "http://api.test/")))
      neap.sleep(5.1)
      assert.equal(0, client:stats().connections)
      near(0.05, (took(client.get, client, "http://api.test/")))
      local other = neap.http.client {}
      other:get "http://api.test/"
      neap.sleep(20.1)
      near(0.05, (took(other.get, other, "http://api.test/")))
      other:close()
    end)

    it("are closed after each request with force_close, or when the answer says so", function()
      up { ["api.test"] = { connect = { seconds = 0.05 } }, ["close.test"] = { connect = { seconds = 0.05 },
        answer = function() return { status = 200, headers = { Connection = "close" }, body = "" } end } }
      client:get "http://close.test/"
      assert.equal(0, client:stats().connections)
      local once = neap.http.client { force_close = true }
      once:get "http://api.test/"
      near(0.05, (took(once.get, once, "http://api.test/")))
      assert.equal(0, once:stats().connections)
      once:close()
    end)

    it("are at most as many as requests may run", function()
      up { ["*"] = { latency = 0.1 } }
      local few = neap.http.client { max_connections = 3 }
      neap.map({ 1, 2, 3, 4, 5, 6 }, function(i) return few:get(("http://h%d.test/"):format(i)) end)
      assert.equal(3, few:stats().connections)
      few:close()
    end)

    it("that are refused were never sent", function()
      up { ["api.test"] = { connect = { seconds = 0.02, refused = true } } }
      local seconds, res, err = took(client.get, client, "http://api.test/")
      near(0.02, seconds)
      assert.is_nil(res)
      assert.same({ "connect", "connect", "no", 0 }, { err.kind, err.phase, err.sent, err.sends })
      assert.equal(0, client:stats().connections)
    end)

    it("that hang last until the connect timeout", function()
      up { ["api.test"] = { connect = { hang = true } } }
      local seconds, _, err = took(client.get, client, "http://api.test/", { timeout = { connect = 2 } })
      near(2, seconds)
      assert.same({ "timeout", "connect", "no", 0 }, { err.kind, err.timeout, err.sent, err.sends })
    end)
  end)

  describe("the pool in front of it", function()
    it("keeps its limits, and a line in order", function()
      up { ["api.test"] = { latency = 1 } }
      local two = neap.http.client { max_connections = 2, max_waiting = 1 }
      local ends, kinds = {}, {}
      neap.scope(function(s)
        for i = 1, 4 do
          s:spawn(function()
            local res, err = two:get "http://api.test/"
            ends[i], kinds[i] = core.now(), res and res.timings.queue or err.kind
          end)
        end
      end)
      near(ends[1], ends[2])
      near(1, ends[3] - ends[1])
      near(1, kinds[3])
      assert.equal("queue_full", kinds[4])
      two:close()
    end)
  end)

  describe("limits of time", function()
    it("of the first byte, between bytes and in all are the client's own", function()
      up { ["slow.test"] = { latency = 5 }, ["pause.test"] = { answer = function()
        return { status = 200, headers = {}, chunks = { { after = 0, data = "a" }, { after = 9, data = "b" } } }
      end } }
      local seconds, _, err = took(client.get, client, "http://slow.test/", { timeout = { first_byte = 2 } })
      near(2, seconds)
      assert.same({ "first_byte", "maybe" }, { err.timeout, err.sent })
      seconds, _, err = took(client.get, client, "http://pause.test/", { timeout = { idle = 3 } })
      near(3, seconds)
      assert.same({ "idle", "download", "yes" }, { err.timeout, err.phase, err.sent })
      seconds, _, err = took(client.get, client, "http://pause.test/", { timeout = { total = 4 } })
      near(4, seconds)
      assert.equal("total", err.timeout)
    end)

    it("and cancels tell the upstream that its client has left", function()
      local world = up { ["api.test"] = { latency = 5, on_disconnect = "stop" }, ["hang.test"] = { hang = 1 } }
      neap.timeout(2, function() client:get "http://api.test/" end)
      neap.timeout(1, function() client:get "http://hang.test/" end)
      neap.sleep(0)
      local left = world.by_host["api.test"].left
      assert.equal(1, #left)
      assert.is_true(left[1].gone)
      assert.equal(1, #world.by_host["hang.test"].left)
      assert.equal(0, client:stats().connections)
      assert.same({ gone = 1, hang = 1 }, net.statuses)
    end)

    it("that end before the request begins tell it nothing", function()
      local world = up { ["api.test"] = { connect = { seconds = 1 } } }
      neap.timeout(0.5, function() client:get "http://api.test/" end)
      neap.sleep(2)
      assert.equal(0, #world.by_host["api.test"].seen)
      assert.equal(0, #world.by_host["api.test"].left)
    end)
  end)

  describe("a law", function()
    it("with one server and a line serves one after the other", function()
      up { ["api.test"] = { latency = 1, capacity = 1, over = "queue" } }
      local began, ends = core.now(), {}
      neap.map({ 1, 2, 3 }, function(i)
        client:get "http://api.test/"
        ends[i] = core.now() - began
      end)
      near(1, ends[1])
      near(2, ends[2])
      near(3, ends[3])
    end)

    it("whose capacity changes by schedule lets the line go on then", function()
      up { ["api.test"] = { latency = 1, capacity = { { at = 0, slots = 0 }, { at = 7, slots = 1 } }, over = "queue" } }
      near(8, (took(client.get, client, "http://api.test/")))
    end)

    it("goes on without a client when it says so: the next one waits", function()
      up { ["api.test"] = { latency = 3, capacity = 1, over = "queue", on_disconnect = "continue" } }
      local began = core.now()
      neap.timeout(1, function() client:get "http://api.test/" end)
      client:get "http://api.test/"
      near(6, core.now() - began)
    end)

    it("that leaves the line is nobody's when its turn comes", function()
      up { ["api.test"] = { latency = 3, capacity = 1, over = "queue", on_disconnect = "continue" } }
      local began, third = core.now(), nil
      neap.scope(function(s)
        s:spawn(client.get, client, "http://api.test/")
        s:spawn(neap.timeout, 1, client.get, client, "http://api.test/") -- works from 3 to 6 for nobody
        neap.sleep(2)
        client:get "http://api.test/"
        third = core.now() - began
      end)
      near(9, third)
    end)

    it("that turns away answers at once", function()
      up { ["api.test"] = { latency = 3, rate_limit = { rpm = 1 } } }
      client:get "http://api.test/"
      local seconds, res = took(client.get, client, "http://api.test/")
      near(0, seconds)
      assert.equal(429, res.status)
      assert.truthy(res.headers["retry-after"])
      assert.equal(1, net.statuses[429])
    end)

    it("may give the head before the work ends", function()
      up { ["api.test"] = { latency = 2, first_byte = 0.5 } }
      local res = client:get "http://api.test/"
      near(0.5, res.timings.first_byte)
      near(1.5, res.timings.download)
      assert.equal("yes", res.body)
    end)

    it("may give its body in pieces, each at its time", function()
      up { ["api.test"] = { latency = 0.1, answer = function()
        return { status = 200, headers = {}, chunks = { { after = 0, data = "a" }, { after = 0.3, data = "b" } } }
      end } }
      local began, times = core.now(), {}
      local res = client:get("http://api.test/", { stream = true })
      for chunk in res:chunks() do times[#times + 1] = ("%s%.1f"):format(chunk, core.now() - began) end
      assert.same({ "a0.1", "b0.4" }, times)
    end)

    it("that fails ends the request with kind internal, and says why", function()
      up { ["api.test"] = { answer = function() error "no such luck" end } }
      local _, err = client:get "http://api.test/"
      assert.equal("internal", err.kind)
      assert.truthy(err.message:find("the simulated world failed: .*no such luck"))
    end)

    it("whose answer cannot be sent ends it too", function()
      up { ["api.test"] = { answer = function() return { status = 200, headers = { a = "x\ny" }, body = "" } end } }
      local _, err = client:get "http://api.test/"
      assert.equal("internal", err.kind)
      assert.truthy(err.message:find "line break")
    end)
  end)

  describe("a reset connection", function()
    it("breaks the request, which may have arrived", function()
      up { ["api.test"] = { latency = 0.1, drop = 1 } }
      local seconds, _, err = took(client.post, client, "http://api.test/", { body = "x" })
      near(0.1, seconds)
      assert.same({ "receive", "first_byte", "maybe", 1 }, { err.kind, err.phase, err.sent, err.sends })
      assert.equal(0, client:stats().connections)
    end)

    it("that was used before is tried again when the request may be", function()
      local count = 0
      local world = up { ["api.test"] = { latency = 0.1 } }
      local upstream = world.by_host["api.test"]
      local arrive = upstream.arrive
      upstream.arrive = function(...)
        local fate = arrive(...)
        count = count + 1
        if count % 2 == 0 then fate.kind = "drop" end
        return fate
      end
      client:get "http://api.test/"
      local res = client:get "http://api.test/" -- dropped on the kept connection, then again on a new one
      assert.equal(200, res.status)
      assert.equal(2, res.sends)
      local _, err = client:post("http://api.test/", { body = "x" })
      assert.same({ "receive", "maybe", 1 }, { err.kind, err.sent, err.sends })
      assert.truthy(err.message:find "not sent again")
      _, err = client:post("http://api.test/", { body = "x", idempotent = true })
      assert.is_nil(err)
    end)
  end)

  describe("bodies", function()
    it("go up in pieces, and the request arrives when they are complete", function()
      local world = up { ["api.test"] = { reads = true } }
      local began, at = core.now(), 0
      local res = client:post("http://api.test/", { body = function()
        at = at + 1
        neap.sleep(1)
        if at <= 3 then return ("x"):rep(at) end
      end })
      assert.equal(200, res.status)
      assert.equal("xxxxxx", world.by_host["api.test"].seen[1].body)
      near(4, world.by_host["api.test"].seen[1].at - began)
    end)

    it("of any size arrive whole, both ways", function()
      local big = ("0123456789abcdef"):rep(20000)
      local world = up { ["api.test"] = { reads = true,
        answer = function(_, _, request) return { status = 200, headers = {}, body = request.body } end } }
      local res = client:post("http://api.test/", { body = big })
      assert.is_true(world.by_host["api.test"].seen[1].body == big)
      assert.is_true(res.body == big)
    end)

    it("that nobody reads wait, and lose nothing", function()
      local big = ("0123456789abcdef"):rep(100000)
      up { ["api.test"] = { answer = function() return { status = 200, headers = {}, body = big } end } }
      local res = client:get("http://api.test/", { stream = true })
      neap.sleep(5)
      local parts = {}
      for chunk in res:chunks() do
        parts[#parts + 1] = chunk
        neap.sleep(0.01)
      end
      assert.is_true(#parts > 3)
      assert.is_true(table.concat(parts) == big)
    end)

    it("are not there for HEAD", function()
      up { ["api.test"] = { answer = function() return { status = 200, headers = {}, body = "12345" } end } }
      local res = client:head "http://api.test/"
      assert.equal("", res.body)
      assert.equal("5", res.headers["content-length"])
    end)

    it("too large for the client end the request, and the upstream learns it", function()
      local world = up { ["api.test"] = { latency = 1, answer = function()
        return { status = 200, headers = {},
          chunks = { { after = 0, data = ("x"):rep(100) }, { after = 5, data = "y" } } }
      end } }
      local _, err = client:get("http://api.test/", { max_body = 10 })
      assert.equal("too_large", err.kind)
      neap.sleep(0)
      assert.is_true(world.by_host["api.test"].left[1].gone)
    end)
  end)

  it("follows redirects from host to host", function()
    up { ["a.test"] = { answer = function()
      return { status = 302, headers = { location = "http://b.test/there" }, body = "" }
    end }, ["b.test"] = { answer = function(_, _, request)
      return { status = 200, headers = {}, body = request.path }
    end } }
    local res = client:get "http://a.test/"
    assert.equal("/there", res.body)
    assert.equal(2, res.sends)
  end)

  it("says which host nobody serves, and in which file", function()
    up { ["api.test"] = {} }
    local log, said = core.log, {}
    core.log = function(level, text) said[#said + 1] = level .. ": " .. text end
    local _, err = client:get "https://other.test/"
    client:get "https://other.test/again"
    core.log = log
    assert.same({ "warning: worlds/hand.lua: no upstream serves https://other.test:443" }, said)
    assert.equal("invalid", err.kind)
    assert.equal("no", err.sent)
    assert.equal("worlds/hand.lua: no upstream serves https://other.test:443", err.message)
  end)

  it("asks the upstream that catches the rest", function()
    up { ["api.test"] = {}, ["*"] = { answer = function() return { status = 404, headers = {}, body = "" } end } }
    assert.equal(404, client:get("http://other.test/").status)
    assert.equal(200, client:get("http://api.test/").status)
  end)

  it("ends what is under way when it goes down", function()
    up { ["api.test"] = { latency = 10 } }
    local err
    neap.scope(function(s)
      s:spawn(function() err = select(2, client:get "http://api.test/") end)
      neap.sleep(1)
      network.down()
    end)
    assert.equal("closed", err.kind)
    assert.equal("maybe", err.sent)
  end)

  describe("an operation", function()
    it("is a policy's call: its attempts at a host are counted", function()
      local world = up { ["api.test"] = { errors = { { status = 503, probability = 0.5 } } } }
      local policy = neap.policy { neap.retry { max_attempts = 20 } }
      neap.map({ 1, 2, 3 }, function() return policy:call(client.get, client, "http://api.test/") end)
      local last, seen = {}, world.by_host["api.test"].seen
      for _, request in ipairs(seen) do
        assert.equal((last[request.operation] or 0) + 1, request.attempt)
        last[request.operation] = request.attempt
      end
      assert.equal(3, #last)
      assert.is_true(#seen > 3)
      assert.same({ #seen, 3 }, { net.requests, net.operations.count })
    end)

    it("is the same for a call inside each attempt of an outer one", function()
      local world = up { ["api.test"] = { errors = { { status = 503, probability = 1 } } } }
      local inner = neap.policy { neap.circuit_breaker {} }
      neap.policy { neap.retry { max_attempts = 3 } }:call(function()
        return inner:call(client.get, client, "http://api.test/")
      end)
      local seen = world.by_host["api.test"].seen
      assert.same({ 1, 1, 1 }, { seen[1].operation == seen[3].operation and 1, seen[1].attempt, seen[1].attempt })
      assert.same({ 1, 2, 3 }, { seen[1].attempt, seen[2].attempt, seen[3].attempt })
    end)

    it("is known by its idempotency key outside of policies, else by nothing", function()
      local world = up { ["api.test"] = {}, ["b.test"] = {} }
      for _ = 1, 2 do client:post("http://api.test/", { body = "", idempotency_key = "k1" }) end
      client:post("http://b.test/", { body = "", idempotency_key = "k1" })
      client:get "http://api.test/"
      local seen = world.by_host["api.test"].seen
      assert.same({ "k1", 1 }, { seen[1].operation, seen[1].attempt })
      assert.same({ "k1", 2 }, { seen[2].operation, seen[2].attempt })
      assert.is_nil(seen[3].operation)
      assert.equal(1, world.by_host["b.test"].seen[1].attempt)
      assert.same({ 4, 2 }, { net.requests, net.operations.count })
    end)
  end)
end)
