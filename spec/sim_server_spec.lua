local core = require "neap.core"
local neap = require "neap"
local network = require "neap.sim.network"
local measure = require "spec.support.measure"
local worlds = require "spec.support.simulated_world"

local near, took = measure.near, measure.took

local client

local function up(hosts)
  local world = worlds.new(hosts)
  network.up(world, 1)
  return world
end

describe("the simulated network:", function()
  before_each(function() client = neap.http.client {} end)

  after_each(function()
    client:close()
    network.down()
  end)

  describe("a handler", function()
    it("is a task that may wait, and answers as a server's", function()
      up { ["api.test"] = { handler = function(request)
        neap.sleep(0.5)
        return 201, { path = request.path, q = request.query.a, body = request.body, operation = request.operation }
      end } }
      local seconds, res = took(client.post, client, "http://api.test/x%20y?a=1", { body = "b" })
      near(0.5, seconds)
      assert.equal(201, res.status)
      assert.same({ path = "/x y", q = "1", body = "b" }, res:json())
    end)

    it("may write its answer, or give it in pieces", function()
      up { ["w.test"] = { handler = function(request)
        local writer = request:respond { headers = { ["Content-Type"] = "text/event-stream" } }
        writer:event "one"
        neap.sleep(1)
        writer:event "two"
      end }, ["c.test"] = { handler = function()
        return { status = 200, headers = {}, chunks = { { after = 0, data = "a" }, { after = 2, data = "b" } } }
      end } }
      local seconds, res = took(client.get, client, "http://w.test/")
      near(1, seconds)
      assert.equal("data: one\n\ndata: two\n\n", res.body)
      seconds, res = took(client.get, client, "http://c.test/")
      near(2, seconds)
      assert.equal("ab", res.body)
    end)

    it("that raises is a 500", function()
      local log = core.log
      local said = {}
      core.log = function(_, text) said[#said + 1] = text end
      finally(function() core.log = log end)
      up { ["api.test"] = { handler = function() error "broken" end } }
      assert.equal(500, client:get("http://api.test/").status)
      assert.truthy(said[1]:find "broken")
    end)

    it("learns that its client has left, and goes on", function()
      local gone_at, ended
      up { ["api.test"] = { handler = function(request)
        request:wait_disconnect()
        gone_at = core.now()
        neap.sleep(3)
        ended = true
        return 200
      end } }
      local began = core.now()
      neap.timeout(2, function() client:get "http://api.test/" end)
      near(2, core.now() - began)
      neap.sleep(4)
      near(2, gone_at - began)
      assert.is_true(ended)
    end)

    it("waits while its client does not read", function()
      local written = 0
      up { ["api.test"] = { handler = function(request)
        local writer = request:respond()
        for _ = 1, 20 do
          writer:write(("x"):rep(100000))
          written = written + 1
        end
      end } }
      local res = client:get("http://api.test/", { stream = true })
      neap.sleep(1)
      assert.is_true(written < 10)
      assert.equal(2000000, #assert(res:read_all()))
      assert.equal(20, written)
    end)

    it("is cancelled when the network goes down", function()
      local cancelled
      up { ["api.test"] = { handler = function()
        local ok = pcall(neap.sleep, 1000)
        cancelled = not ok
        neap.sleep(0)
      end } }
      neap.timeout(1, function() client:get "http://api.test/" end)
      network.down()
      neap.sleep(1)
      assert.is_true(cancelled)
    end)
  end)

  describe("neap.serve inside it", function()
    local function serve(opts)
      return assert(neap.serve(opts))
    end

    it("is reached by the script's own clients", function()
      network.up()
      local server = serve { port = 8080, handler = function(request)
        neap.sleep(0.25)
        return 200, { path = request.path, body = request.body, remote = request.remote }
      end }
      assert.equal("http://127.0.0.1:8080", server:url())
      for _, host in ipairs { "127.0.0.1", "localhost" } do
        local seconds, res = took(client.post, client, ("http://%s:8080/a"):format(host), { body = "b" })
        near(0.25, seconds)
        assert.same({ path = "/a", body = "b", remote = "127.0.0.1" }, res:json())
      end
      assert.equal(2, server:stats().requests)
      server:stop()
      local _, err = client:get "http://127.0.0.1:8080/"
      assert.equal("connect", err.kind)
      assert.truthy(err.message:find "nobody listens there")
    end)

    it("picks a port, and refuses one that is taken", function()
      network.up()
      local one = serve { handler = function() return 204 end }
      local two = serve { handler = function() return 204 end }
      assert.are_not.equal(one:port(), two:port())
      local none, err = neap.serve { port = one:port(), handler = function() return 204 end }
      assert.is_nil(none)
      assert.equal("connect", err.kind)
      assert.equal(204, client:get(two:url()).status)
      one:stop()
      two:stop()
    end)

    it("runs so many handlers at a time, keeps so many waiting and turns the rest away", function()
      network.up()
      local server = serve { port = 80, max_concurrency = 1, max_waiting = 1, handler = function()
        neap.sleep(1)
        return 200, "ok"
      end }
      local began, rows = core.now(), {}
      neap.map({ 1, 2, 3 }, function(i)
        local res = client:get "http://127.0.0.1/"
        rows[i] = ("%d at %.0f"):format(res.status, core.now() - began)
      end)
      assert.same({ "200 at 1", "200 at 2", "503 at 0" }, rows)
      assert.equal(1, server:stats().refused)
      server:stop()
    end)

    it("answers a body that is too large with 413", function()
      network.up()
      local server = serve { port = 80, max_body = 3, handler = function() return 204 end }
      assert.equal(413, client:post("http://127.0.0.1/", { body = "1234" }).status)
      assert.equal(204, client:post("http://127.0.0.1/", { body = "123" }).status)
      server:stop()
    end)

    it("tells on_finish how each request ended", function()
      network.up()
      local rows = {}
      local server = serve { port = 80, handler = function(request)
        if request.path == "/drop" then return request:drop() end
        neap.sleep(1)
        return 200, "ok"
      end, on_finish = function(request, done)
        rows[#rows + 1] = ("%s %s %.1f"):format(request.path, done.outcome, done.duration)
      end }
      client:get "http://127.0.0.1/a"
      neap.timeout(0.5, function() client:get "http://127.0.0.1/b" end)
      neap.sleep(1)
      client:post("http://127.0.0.1/drop", { body = "" })
      neap.sleep(0)
      server:stop()
      assert.same({ "/a sent 1.0", "/b disconnected 0.5", "/drop dropped 0.0" }, rows)
    end)

    it("serves what is there when it stops, and cancels it after the timeout", function()
      network.up()
      local server = serve { port = 80, handler = function()
        neap.sleep(10)
        return 200, "late"
      end }
      local res, err
      neap.scope(function(s)
        s:spawn(function() res = client:get "http://127.0.0.1/" end)
        neap.sleep(1)
        assert.is_true(server:stop())
      end)
      assert.equal("late", res.body)
      server = serve { port = 80, handler = function() neap.sleep(100) end }
      neap.scope(function(s)
        s:spawn(function() res, err = client:get "http://127.0.0.1/" end)
        neap.sleep(1)
        local ok, reason = server:stop(2)
        assert.is_nil(ok)
        assert.equal("timeout", reason.kind)
      end)
      assert.is_nil(res)
      assert.equal("receive", err.kind)
    end)

    it("leaves a world's hosts alone", function()
      up { ["api.test"] = {} }
      local server = serve { host = "0.0.0.0", port = 80, handler = function() return 200, "own" end }
      assert.equal("yes", client:get("http://api.test/").body)
      assert.equal("own", client:get("http://localhost/").body)
      assert.equal("own", client:get("http://my-machine/").body)
      server:stop()
    end)
  end)

  it("does the same in each run with the same seed", function()
    local function run()
      up { ["api.test"] = { latency = { law = "lognormal", median = 0.1, sigma = 0.8 }, capacity = 5, over = "queue",
        errors = { { status = 503, probability = 0.2 } }, drop = 0.05, connect = { seconds = 0.01 } } }
      local own, rows, began = neap.http.client { max_connections = 8 }, {}, core.now()
      local policy = neap.policy { neap.retry { max_attempts = 5, backoff = { jitter = "none" } } }
      neap.map({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20 }, function(i)
        local res, err = policy:call(own.get, own, "http://api.test/")
        rows[#rows + 1] = ("%d %.6f %s"):format(i, core.now() - began, res and res.status or err.kind)
      end)
      own:close()
      network.down()
      return table.concat(rows, "\n")
    end
    core.clock_virtual(true)
    local first = run()
    assert.equal(first, run())
  end)
end)
