-- SPDX-License-Identifier: MIT
-- Answers in parts, and requests that end without one.
local neap = require "neap"
local raw = require "spec.support.raw_http"
local servers = require "spec.support.server"

local MB = 1024 * 1024

describe("a server #real", function()
  local function start(handler) return servers.start(handler):port() end
  local function serves(name, body) it(name, servers.stopped_after(body)) end

  describe("that streams", function()
    serves("sends chunks as they are written", function()
      local step = neap.event()
      local port = start(function(request)
        local writer = request:respond { status = 203, headers = { ["X-A"] = "b" } }
        assert(writer:write "one")
        step:wait()
        assert(writer:write "two")
        writer:close()
      end)
      local connection = raw.connect(port):send(raw.request("GET", "/") .. raw.request("GET", "/"))
      assert.truthy(connection:take_to "\r\n\r\n":find "203 .*X%-A: b")
      assert.equal("3\r\none\r\n", connection:take(8))
      step:set()
      assert.equal("3\r\ntwo\r\n0\r\n\r\n", connection:take(13))
      assert.equal("onetwo", connection:response().body)
      connection:close()
    end)

    serves("sends server-sent events", function()
      local port = start(function(request)
        local writer = request:respond { headers = { ["content-type"] = "text/event-stream" } }
        writer:event "plain"
        writer:event { event = "e", id = "7", retry = 1.5, data = "a\r\nb" }
      end)
      assert.equal("data: plain\n\nevent: e\nid: 7\nretry: 1500\ndata: a\ndata: b\n\n",
        raw.fetch(port, "GET", "/").body)
    end)

    serves("keeps a Content-Length", function()
      local port = start(function(request)
        local writer = request:respond { headers = { ["Content-Length"] = 6 } }
        writer:write "abc"
        writer:write "def"
      end)
      local res = raw.fetch(port, "GET", "/")
      assert.same({ "6", "abcdef", nil }, { res.headers["content-length"], res.body, res.headers["transfer-encoding"] })
    end)

    serves("waits for a client that does not read", function()
      local written, done = 0, false
      local port = start(function(request)
        local writer = request:respond()
        for _ = 1, 400 do
          assert(writer:write(("x"):rep(100000)))
          written = written + 100000
        end
        done = true
      end)
      local connection = raw.connect(port)
      connection:deafen()
      connection:send(raw.request("GET", "/"))
      local before
      repeat
        before = written
        neap.sleep(0.05)
      until written == before and written > 0
      assert.is_false(done)
      assert.is_true(written < 20 * MB)
      connection:listen()
      local res = connection:response()
      assert.same({ 40000000, true }, { #res.body, res.whole })
      assert.is_true(done)
      connection:close()
    end)

    serves("tells the writer that the client has left", function()
      local err, count = nil, 0
      local gone = neap.event()
      local port = start(function(request)
        local writer = request:respond()
        local ok
        repeat
          ok, err = writer:write "tick"
          count = count + 1
          neap.sleep(0.005)
        until not ok
        assert.is_true(request:disconnected())
        gone:set()
      end)
      local connection = raw.connect(port):send(raw.request("GET", "/"))
      connection:take_to "tick"
      connection:close()
      gone:wait()
      assert.equal("closed", err.kind)
    end)

    serves("wakes a writer that waits when the client resets", function()
      local err
      local gone = neap.event()
      local port = start(function(request)
        local writer = request:respond()
        local ok
        repeat ok, err = writer:write(("x"):rep(100000)) until not ok
        gone:set()
      end)
      local connection = raw.connect(port)
      connection:deafen()
      connection:send(raw.request("GET", "/"))
      neap.sleep(0.05)
      connection:reset()
      gone:wait()
      assert.equal("closed", err.kind)
    end)

    serves("breaks the connection off when the handler fails in the middle", function()
      local port = start(function(request)
        request:respond():write "half"
        neap.sleep(0.02)
        error "boom"
      end, { on_error = function() return 200, "not sent" end })
      local res = raw.fetch(port, "GET", "/")
      assert.same({ 200, "half", false }, { res.status, res.body, res.whole })
    end)

    serves("swallows the body of a HEAD request", function()
      local port = start(function(request)
        local writer = request:respond { headers = { ["x-a"] = "1", ["content-length"] = request.query.length } }
        assert(writer:write "four")
      end)
      local connection = raw.connect(port)
      connection:send(raw.request("HEAD", "/?length=4") .. raw.request("HEAD", "/"))
      assert.equal("4", connection:response(true).headers["content-length"])
      assert.equal("1", connection:response(true).headers["x-a"])
      assert.same({ "", "eof" }, { connection:rest() })
      connection:close()
    end)

    serves("refuses a second answer and writing after the end", function()
      local failures = {}
      local port = start(function(request)
        local writer = request:respond()
        failures[1] = select(2, pcall(request.respond, request))
        writer:close()
        failures[2] = select(2, pcall(writer.write, writer, "x"))
        failures[3] = select(2, pcall(request.respond, request, { stauts = 1 }))
      end)
      assert.equal(200, raw.fetch(port, "GET", "/").status)
      assert.truthy(tostring(failures[1]):find "answered already")
      assert.truthy(tostring(failures[2]):find "the writer is closed")
      assert.truthy(tostring(failures[3]):find "field 'stauts' is unknown")
    end)
  end)

  serves("resets the connection when the handler drops the request", function()
    local port = start(function(request) request:drop() end)
    local res, ended = raw.fetch(port, "GET", "/")
    assert.is_nil(res)
    assert.equal("ECONNRESET", ended)
  end)

  serves("resets the connection in the middle of a stream", function()
    local port = start(function(request)
      request:respond():write "half"
      neap.sleep(0.02)
      request:drop()
    end)
    local res, ended = raw.fetch(port, "GET", "/")
    assert.is_false(res.whole)
    assert.equal("ECONNRESET", ended)
  end)

  serves("hangs until the client leaves", function()
    local left = neap.event()
    local port = start(function(request)
      request:hang()
      left:set()
    end)
    local connection = raw.connect(port):send(raw.request("GET", "/"))
    assert.equal("timeout", select(2, neap.timeout(0.05, function() connection:take(1) end)).kind)
    assert.is_false(left:is_set())
    connection:close()
    assert.is_true(left:wait(5))
  end)

  serves("tells a handler whether its client is still there", function()
    local before, timeout, gone, after
    local done = neap.event()
    local port = start(function(request)
      before = request:disconnected()
      timeout = select(2, request:wait_disconnect(0.01))
      gone = request:wait_disconnect()
      after = request:disconnected()
      done:set()
      return 200, "to nobody"
    end)
    local connection = raw.connect(port):send(raw.request("GET", "/"))
    neap.sleep(0.05)
    connection:reset()
    done:wait()
    assert.same({ false, "timeout", true, true }, { before, timeout.kind, gone, after })
  end)
end)
