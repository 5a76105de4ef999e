-- SPDX-License-Identifier: MIT
-- Recording what clients send, and reading it again.
local cassette = require "neap.cassette"
local http = require "neap.http"
local neap = require "neap"
local network = require "neap.sim.network"
local reader = require "neap.cassette.reader"
local worlds = require "neap.world"
local child = require "spec.support.child"
local leaks = require "spec.support.leaks"
local made = require "spec.support.cassette"
local mocks = require "spec.support.mock"
local tmp = require "spec.support.tmp"

local dir, path

local function use_dir()
  dir = tmp.dir()
  path = dir .. "/cassette.jsonl"
end

--- Records what `body(client)` does and returns the tape, and the file's bytes.
local function recorded(opts, body)
  local recording = assert(cassette.record(path, { bodies = opts.bodies }))
  opts.bodies = nil
  local client = neap.http.client(opts)
  local ok, err = pcall(body, client, recording)
  assert(recording:stop())
  client:close()
  assert(ok, err)
  return assert(cassette.read(path)), tmp.read(path)
end

describe("a recording", function()
  before_each(use_dir)
  after_each(function()
    network.down()
    tmp.remove(dir)
  end)

  local function up(...) network.up(worlds.new { ... }, 1) end

  it("has each send with its address, hash, status, headers, body and seconds", function()
    up { host = "api.test", latency = 0.25, connect = 0.1, body = "hello" }
    local tape = recorded({ base_url = "https://api.test/v1" }, function(client)
      neap.sleep(2)
      client:post("/things?x=1", { json = { a = 1 } })
      client:get "/things"
    end)
    local first, second = tape.entries[1], tape.entries[2]
    assert.equal(2, #tape.entries)
    assert.same({ 1, 2, "POST", "https://api.test/v1/things?x=1", "https://api.test:443", 200, "hello" },
      { first.n, first.start, first.method, first.url, first.origin, first.status, first.body })
    assert.equal("text/plain; charset=utf-8", first.headers["content-type"])
    assert.same({ 0.05, 0.05, 0.25 }, { first.timings.connect, first.timings.tls, first.timings.first_byte })
    assert.near(2.1, first.arrived, 1e-8)
    assert.near(0.25, second.seconds, 1e-8)
    assert.equal(0, second.timings.connect)
    assert.is_truthy(first.key:find "^POST https://api.test/v1/things%?x=1 %x+$")
    assert.equal("GET https://api.test/v1/things -", second.key)
  end)

  it("has errors with what is known of them, cancels and timeouts too", function()
    up({ host = "drop.test", drop = 1, latency = 0.1 }, { host = "hang.test", hang = 1 },
      { host = "refuse.test", connect = { refuse = 1 } })
    local tape = recorded({ timeout = 5 }, function(client)
      client:get "http://drop.test/"
      client:get "http://hang.test/"
      client:get "http://refuse.test/"
      neap.timeout(0.5, client.get, client, "http://hang.test/")
    end)
    local seen = {}
    for i, entry in ipairs(tape.entries) do
      local err = entry.error
      seen[i] = ("%s %s %s %.3g"):format(err.kind, tostring(err.timeout), tostring(err.sent), err.after)
    end
    assert.same({ "receive nil maybe 0.1", "timeout total maybe 5", "connect nil no 0", "cancelled nil nil 0.5" }, seen)
  end)

  it("has a stream with the times of its chunks", function()
    up { host = "s.test", handler = function()
      return { status = 200, headers = {}, chunks = { { after = 0, data = "one" }, { after = 0.5, data = "three" } } }
    end }
    local tape = recorded({}, function(client)
      local res = assert(client:get("http://s.test/", { stream = true }))
      repeat until not res:read()
    end)
    assert.same({ { 0, 3 }, { 0.5, 5 } }, tape.entries[1].chunks)
    assert.equal("onethree", tape.entries[1].body)
    assert.near(0.5, tape.entries[1].seconds, 1e-8)
    assert.is_nil(tape.entries[1].error)
  end)

  it("notes a stream that was left, at its end at the latest", function()
    up { host = "s.test", handler = function()
      return { status = 200, headers = {}, chunks = { { after = 0, data = "one" }, { after = 50, data = "two" } } }
    end }
    local left
    local tape = recorded({}, function(client)
      local first = assert(client:get("http://s.test/", { stream = true }))
      first:read()
      first:close()
      left = assert(client:get("http://s.test/", { stream = true }))
      left:read()
    end)
    assert.same({ "closed", "closed" }, { tape.entries[1].error.kind, tape.entries[2].error.kind })
    assert.same({ "one", "one" }, { tape.entries[1].body, tape.entries[2].body })
    left:close()
  end)

  it("hashes a body that is sent in pieces like the same one in one piece", function()
    up { host = "a.test" }
    local tape = recorded({}, function(client)
      local pieces = { "ab", "cd" }
      client:post("http://a.test/", { body = function() return table.remove(pieces, 1) end })
      client:post("http://a.test/", { body = "abcd" })
    end)
    assert.equal(tape.entries[2].key, tape.entries[1].key)
  end)

  it("has each hop of a redirect", function()
    up { host = "r.test", handler = function(request)
      if request.path == "/a" then return { status = 302, headers = { location = "/b" }, body = "" } end
      return { status = 200, headers = {}, body = "here" }
    end }
    local tape = recorded({}, function(client) assert.equal("here", client:get("http://r.test/a").body) end)
    assert.same({ 302, 200 }, { tape.entries[1].status, tape.entries[2].status })
    assert.equal("http://r.test/b", tape.entries[2].url)
  end)

  it("keeps bytes that are no text", function()
    local bytes = "\0\255\254"
    up { host = "b.test", body = bytes }
    local tape = recorded({}, function(client) client:get "http://b.test/" end)
    assert.equal(bytes, tape.entries[1].body)
  end)

  it("leaves bodies out when told so, and still knows their size", function()
    up { host = "b.test", body = "precious" }
    local tape, text = recorded({ bodies = "none" }, function(client) client:get "http://b.test/" end)
    assert.is_nil(tape.entries[1].body)
    assert.equal("none", tape.bodies)
    assert.is_nil(text:find "precious")
    assert.is_truthy(text:find '"response_bytes":8')
  end)

  it("is there for clients that are made while it is on, and for no other", function()
    up { host = "a.test" }
    local before = neap.http.client {}
    local client
    local tape = recorded({}, function(inside)
      client = inside
      before:get "http://a.test/before"
      inside:get "http://a.test/inside"
    end)
    local after = neap.http.client {}
    after:get "http://a.test/after"
    assert.equal(1, #tape.entries)
    assert.is_nil(http.on_client)
    assert.equal("userdata", type(after.native))
    before:close()
    after:close()
    local _, err = client:get "http://a.test/"
    assert.equal("closed", err.kind) -- a client of the recording works on as any other
  end)

  it("replaces a cassette, and nothing else", function()
    up { host = "api.test" }
    local function record()
      local recording, err = cassette.record(path)
      if recording then assert(recording:stop()) end
      return recording ~= nil, err and err.message
    end
    assert.is_true(record())
    assert.is_true(record())
    tmp.write(path, "")
    assert.is_true(record())
    tmp.write(path, "print 'a script'")
    assert.same({ false, "'" .. path .. "' is there already and is no cassette; give another name, or remove it" },
      { record() })
    assert.equal("print 'a script'", tmp.read(path))
  end)

  it("is one at a time, and says why it cannot be", function()
    local recording = assert(cassette.record(path))
    local second, err = cassette.record(path .. "2")
    assert.is_nil(second)
    assert.equal("invalid", err.kind)
    assert(recording:stop())
    assert(recording:stop())
    local none, reason = cassette.record(dir .. "/no/such/folder")
    assert.is_nil(none)
    assert.is_truthy(reason.message:find "cannot open")
    assert.has_error(function() cassette.record(path, { bodies = "some" }) end)
    assert.has_error(function() cassette.record(5) end)
  end)

  it("holds no secret that the requests had or the answers gave", function()
    up { host = "echo.test", handler = function(request)
      local headers = {}
      for name, value in pairs(request.headers) do headers["x-echo-" .. name:gsub("[^%a]", "")] = value end
      headers["set-cookie"] = "session=cookie-secret"
      return { status = 200, headers = headers, body = '{"access_token":"given-secret","got":"'
        .. request.headers.authorization .. " " .. request.target .. '"}' }
    end }
    local _, text = recorded({ headers = { Authorization = "Bearer sk-secret", ["X-Tenant"] = "tenant-secret",
      Cookie = "id=sent-secret" }, secret_headers = { "X-Tenant" } }, function(client)
      client:post("http://me:url-secret@echo.test/?api_key=query-secret", { json = { password = "body-secret" } })
      local res = client:get("http://echo.test/?token=query-secret", { stream = true })
      repeat until not res:read()
    end)
    assert.is_truthy(text:find "REDACTED")
    assert.is_nil(text:match "[%w-]*secret")
  end)
end)

describe("a cassette's file", function()
  local function message_of(text)
    local tape, message = reader.parse("cassette.jsonl", text)
    assert.is_nil(tape)
    assert.is_nil(message:find "\n")
    return message
  end

  it("is read in the order of the sends", function()
    local text = made.text { {}, {} }
    local header, one, two = text:match "^(.-\n)(.-\n)(.-\n)$"
    local tape = assert(reader.parse("c", header .. two .. one))
    assert.same({ 1, 2 }, { tape.entries[1].n, tape.entries[2].n })
    assert.same({ "2026-11-23", false }, { tape.date, tape.torn })
  end)

  it("may have a torn last line", function()
    local text = made.text { {}, {} }
    for cut = 2, 100, 7 do
      local tape = assert(reader.parse("c", text:sub(1, -cut - 1)))
      assert.same({ 1, true }, { #tape.entries, tape.torn })
    end
    assert.is_false(reader.parse("c", text:sub(1, -2)).torn) -- only the line end is missing
  end)

  it("is refused in one line that names the place", function()
    local good = made.text { {} }
    assert.equal("cassette.jsonl: is empty", message_of "")
    assert.equal("cassette.jsonl:1: is no cassette of neap run --record", message_of "local x = 1\n")
    assert.equal("cassette.jsonl:1: is no cassette of neap run --record", message_of '{"a":1}\n')
    assert.is_truthy(message_of(good:gsub('"neap_cassette":1', '"neap_cassette":2')):find "^cassette.jsonl:1: is a "
      .. "cassette of version 2; this neap reads version 1$")
    assert.is_truthy(message_of(good .. "{broken\n{}\n"):find "^cassette.jsonl:3: ")
    assert.equal("cassette.jsonl:3: needs n and start, numbers", message_of(good .. "{}\n"))
    assert.equal("cassette.jsonl:2: 'ftp://x/' is no http address",
      message_of(made.text { { url = "ftp://x/" } }))
    assert.equal("cassette.jsonl:2: timings.queue must be a number of seconds",
      message_of((good:gsub('"queue":0', '"queue":-1'))))
    assert.equal("cassette.jsonl:2: status must be a whole number from 100 to 599",
      message_of((good:gsub('"status":200', '"status":700'))))
    assert.equal("cassette.jsonl:2: chunks: entry 1 must be [seconds, bytes]",
      message_of(made.text { { chunks = { 1, 2 } } }))
    assert.equal("cassette.jsonl:2: needs a status or an error", message_of((good:gsub('"status":200,', ""))))
  end)

  it("may have blank lines", function()
    local tape = assert(reader.parse("c.jsonl", made.text { {}, {} }:gsub("\n", "\n\n") .. "\n  \n"))
    assert.same({ 2, false }, { #tape.entries, tape.torn })
  end)

  it("that is not there is an error, not a failure", function()
    local tape, err = cassette.read "/nowhere/cassette.jsonl"
    assert.is_nil(tape)
    assert.equal("invalid", err.kind)
    assert.has_error(function() cassette.read(1) end)
  end)
end)

describe("a recording over sockets #real", function()
  before_each(use_dir)
  after_each(function()
    tmp.remove(dir)
    leaks.check_http()
  end)

  local CHAT = { model = "m", messages = { { role = "user", content = "hi" } } }

  it("has what a mock answered, streams too", mocks.served({ latency = { law = "fixed", seconds = 0.02 } },
    function(port)
      local tape, text = recorded({ base_url = ("http://127.0.0.1:%d"):format(port),
        headers = { Authorization = "Bearer sk-very-secret" } }, function(client)
        local list = {}
        for i = 1, 20 do list[i] = i end
        neap.map(list, function(i) return client:post("/echo/" .. i, { body = "x" }) end, { concurrency = 5 })
        local body = { model = CHAT.model, messages = CHAT.messages, stream = true }
        local res = assert(client:post("/v1/chat/completions", { json = body, stream = true }))
        for _ in res:events() do end
        res:close()
      end)
      assert.equal(21, #tape.entries)
      for i, entry in ipairs(tape.entries) do
        assert.same({ i, 200 }, { entry.n, entry.status })
        assert.is_true(entry.seconds >= 0.019 and entry.seconds < 1)
      end
      assert.is_truthy(tape.entries[21].body:find "%[DONE%]")
      assert.is_truthy(#tape.entries[21].chunks >= 1)
      assert.is_nil(text:find "sk-very-secret")
    end))

  it("is what neap run --record writes, whatever becomes of the script", mocks.served({}, function(port)
    local script = tmp.write(dir .. "/script.lua", [[
      local neap = require "neap"
      local client = neap.http.client { headers = { ["X-Api-Key"] = "key-secret" } }
      neap.spawn(function() assert(client:get(arg[1] .. "/late")) end)
      assert(client:get(arg[1] .. "/first"))
      if arg[2] then error "boom" end
    ]])
    local url = ("http://127.0.0.1:%d"):format(port)
    local run = child.run { "run", "--record", path, script, url }
    assert.same({ 0, "" }, { run.code, run.err })
    assert.equal(2, #cassette.read(path).entries)
    run = child.run { "run", "--record", path, "--record-bodies", "none", script, url, "boom" }
    assert.equal(1, run.code)
    assert.is_truthy(run.err:find "boom")
    local tape = cassette.read(path)
    assert.same({ "none", 2, 200 }, { tape.bodies, #tape.entries, tape.entries[1].status })
    assert.is_nil(tmp.read(path):find "key%-secret")
    run = child.run { "run", "--record", dir .. "/no/folder", script, url }
    assert.same({ 2, "" }, { run.code, run.out })
    assert.is_truthy(run.err:find "^neap: cannot open '.*/no/folder'")
  end))
end)
