-- SPDX-License-Identifier: MIT
-- How a server and its connections end.
local core = require "neap.core"
local errors = require "neap.error"
local neap = require "neap"
local raw = require "spec.support.raw_http"
local servers = require "spec.support.server"

describe("a server #real", function()
  local server

  local function start(handler, opts)
    server = servers.start(handler, opts)
    return server:port()
  end

  local function serves(name, body) it(name, servers.stopped_after(body)) end

  serves("closes connections that are idle, not those that a handler works for", function()
    local port = start(function()
      neap.sleep(1.3)
      return 200, "late"
    end, { idle_timeout = 1 })
    local idle, busy = raw.connect(port), raw.connect(port)
    busy:send(raw.request("GET", "/"))
    assert.equal("late", busy:response().body)
    assert.same({ "", "eof" }, { idle:rest() })
    idle:close()
    busy:close()
  end)

  describe("when it stops", function()
    serves("finishes what runs and waits, refuses what is new, and frees the port", function()
      local go, ended = neap.event(), 0
      local port = start(function()
        go:wait()
        ended = ended + 1
        return 200, "done"
      end, { max_concurrency = 1 })
      local first, second = raw.connect(port), raw.connect(port)
      first:send(raw.request("GET", "/1"))
      second:send(raw.request("GET", "/2"))
      while server:stats().waiting < 1 do neap.sleep(0.001) end
      local stop = neap.spawn(function() return server:stop(5) end)
      neap.sleep(0.01)
      assert.is_false(pcall(raw.connect, port))
      go:set()
      local res = first:response()
      assert.same({ "done", "close" }, { res.body, res.headers.connection })
      assert.equal("done", second:response().body)
      assert.is_true(stop:await())
      assert.equal(2, ended)
      assert.same({ "", "eof" }, { first:rest() })
      first:close()
      second:close()
      start(function() return 200 end, { port = port })
    end)

    serves("answers 503 to new requests on old connections", function()
      local go = neap.event()
      local port = start(function()
        go:wait()
        return 200
      end)
      local busy, idle = raw.connect(port), raw.connect(port)
      busy:send(raw.request("GET", "/"))
      while server:stats().running < 1 or server:stats().connections < 2 do neap.sleep(0.001) end
      server:shutdown()
      assert.equal(503, idle:send(raw.request("GET", "/")):response().status)
      go:set()
      assert.equal(200, busy:response().status)
      assert.is_true(server:wait())
      busy:close()
      idle:close()
    end)

    serves("cancels handlers after the timeout and closes their connections unanswered", function()
      local cancelled = 0
      local port = start(function()
        local ok, err = pcall(neap.sleep, 60)
        if not ok and errors.is(err, "cancelled") then cancelled = cancelled + 1 end
        neap.sleep(60)
      end)
      local one, two = raw.connect(port), raw.connect(port)
      one:send(raw.request("GET", "/"))
      two:send(raw.request("GET", "/"))
      while server:stats().running < 2 do neap.sleep(0.001) end
      local ok, err = server:stop(0.02)
      assert.same({ nil, "timeout" }, { ok, err.kind })
      assert.equal(2, cancelled)
      assert.same({ "", "eof" }, { one:rest() })
      assert.same({ "", "eof" }, { two:rest() })
      one:close()
      two:close()
    end)

    serves("ends streams and hanging requests too", function()
      local port = start(function(request)
        if request.path == "/hang" then return request:hang() end
        local writer = request:respond()
        while writer:write "tick" do neap.sleep(0.001) end
      end)
      local hang = raw.connect(port):send(raw.request("GET", "/hang"))
      local stream = raw.connect(port):send(raw.request("GET", "/stream"))
      stream:take_to "tick"
      while server:stats().running < 2 do neap.sleep(0.001) end
      assert.equal("timeout", select(2, server:stop(0.02)).kind)
      hang:rest()
      stream:rest()
      assert.truthy(hang.ended and stream.ended)
      hang:close()
      stream:close()
    end)

    serves("can be told so by a handler", function()
      local port = start(function(request)
        request.server:shutdown()
        return 200, "bye"
      end)
      assert.equal("bye", raw.fetch(port, "GET", "/").body)
      assert.is_true(server:wait())
    end)

    serves("may be told so twice", function()
      start(function() return 200 end)
      assert.is_true(server:stop(1))
      assert.is_true(server:stop(1))
      server:shutdown()
    end)
  end)

  serves("ends with the scope that it was started in", function()
    local port
    local _, err = neap.timeout(0.05, function()
      port = start(function() neap.sleep(60) end)
      raw.fetch(port, "GET", "/")
    end)
    assert.equal("timeout", err.kind)
    assert.is_false(pcall(raw.connect, port))
  end)

  serves("keeps the scope open until it is stopped", function()
    local at = neap.now()
    neap.scope(function(s)
      local inner = assert(neap.serve { handler = function() return 200 end })
      s:spawn(function()
        neap.sleep(0.03)
        inner:stop()
      end)
    end)
    assert.is_true(neap.now() - at >= 0.03)
  end)

  serves("leaves nothing behind", function()
    local before = core.stats()
    local port = start(function() return 200, "x" end)
    local connection = raw.connect(port)
    for _ = 1, 100 do
      connection:send(raw.request("GET", "/"))
      connection:response()
    end
    connection:close()
    server:stop()
    local after = core.stats()
    assert.same({ before.waiting, before.ready }, { after.waiting, after.ready })
  end)
end)
