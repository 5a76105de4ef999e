-- SPDX-License-Identifier: MIT
-- A cassette in the place of the network.
local cassette = require "neap.cassette"
local core = require "neap.core"
local neap = require "neap"
local network = require "neap.sim.network"
local worlds = require "neap.world"
local made = require "spec.support.cassette"
local measure = require "spec.support.measure"
local tmp = require "spec.support.tmp"

local took = measure.took
local client

--- Puts a replay of these rows up.
local function up(rows, opts, seed)
  local world = cassette.world(made.tape(rows), opts)
  network.up(world, seed or 1)
  return world
end

local function get(path, opts) return client:get("https://api.test" .. (path or "/"), opts) end

local function counts_of(world)
  local counts = {}
  for name, count in pairs(world.upstreams[1].counts) do
    if count > 0 then counts[name] = count end
  end
  return counts
end

describe("a replay", function()
  before_each(function() client = neap.http.client {} end)
  after_each(function()
    client:close()
    network.down()
  end)

  it("gives the n-th request of one method, url and body what the n-th got", function()
    local world = up { { url = "https://api.test/a", body = "1", seconds = 0.1 },
      { url = "https://api.test/a", body = "2", status = 503, seconds = 0.2 },
      { url = "https://api.test/b?x=1", body = "3", seconds = 0.3 } }
    local seen = {}
    for i, path in ipairs { "/b?x=1", "/a", "/a" } do
      local seconds, res = took(get, path)
      seen[i] = ("%d %s %.3f"):format(res.status, res.body, seconds)
    end
    assert.same({ "200 3 0.300", "200 1 0.100", "503 2 0.200" }, seen)
    assert.same({ recorded = 3 }, counts_of(world))
  end)

  it("tells bodies apart by what they say, not by how", function()
    local key = require "neap.cassette.key"
    up { { method = "POST", body_hash = key.body_hash '{"a":1,"b":2}', body = "one" },
      { method = "POST", body_hash = key.body_hash '{"a":2,"b":2}', body = "two" } }
    assert.equal("two", client:post("https://api.test/", { body = '{ "b": 2, "a": 2 }' }).body)
    assert.equal("one", client:post("https://api.test/", { body = '{ "b": 2, "a": 1 }' }).body)
  end)

  it("finds requests whose addresses had secrets", function()
    local world = up { { url = "https://api.test/?key=REDACTED", body = "found" } }
    assert.equal("found", client:get("https://api.test/?key=another-key").body)
    assert.same({ recorded = 1 }, counts_of(world))
  end)

  it("draws from the endpoint past the recording, and counts that", function()
    local rows = {}
    for i = 1, 100 do
      rows[i] = { url = "https://api.test/items/" .. i, seconds = i / 1000, status = i % 4 == 0 and 500 or 200 }
    end
    rows[101] = { url = "https://api.test/other", seconds = 9 }
    local world = up(rows)
    local failures, sum = 0, 0
    for i = 1, 1000 do
      local seconds, res = took(get, "/items/" .. 1000 + i)
      assert.is_true(seconds <= 0.1 + 1e-9)
      sum = sum + seconds
      if res.status == 500 then failures = failures + 1 end
    end
    assert.is_true(math.abs(failures - 250) < 4 * math.sqrt(1000 * 0.25 * 0.75))
    assert.is_true(math.abs(sum / 1000 - 0.0505) < 4 * 0.0289 / math.sqrt(1000))
    get "/new"
    get "/items/1"
    assert.same({ past = 1000, unknown = 1, recorded = 1 }, counts_of(world))
    assert.is_truthy(world:report()[1]:find("1 of 1,002 requests as recorded, 1,001 extrapolated (99.9 %: 1,000 "
      .. "past the recording, 1 of endpoints that were not recorded)", 1, true))
  end)

  it("draws the same at the same seed, another at another", function()
    local rows = {}
    for i = 1, 50 do rows[i] = { url = "https://api.test/items/" .. i, seconds = i } end
    local function draw(seed)
      up(rows, nil, seed)
      local seconds = took(get, "/items/99")
      network.down()
      return seconds
    end
    assert.equal(draw(1), draw(1))
    local different = false
    for seed = 2, 5 do different = different or draw(seed) ~= draw(1) end
    assert.is_true(different)
  end)

  it("resets, hangs and refuses as was recorded", function()
    local rows = { { url = "https://api.test/drop", error = { kind = "receive", sent = "maybe", after = 0.5 } },
      { url = "https://api.test/hang", error = { kind = "timeout", phase = "first_byte", sent = "maybe", after = 5 } },
      { url = "https://api.test/fine" } }
    for i = 4, 23 do
      rows[i] = { url = "https://no.test/", error = { kind = "connect", phase = "connect", sent = "no", after = 0 } }
    end
    rows[24] = { url = "https://no.test/" }
    up(rows)
    local seconds, _, err = took(get, "/drop")
    assert.same({ "receive", "0.500" }, { err.kind, ("%.3f"):format(seconds) })
    seconds, _, err = took(get, "/hang", { timeout = 7 })
    assert.same({ "timeout", "7.000" }, { err.kind, ("%.3f"):format(seconds) })
    _, err = client:get "https://no.test/"
    assert.equal("connect", err.kind)
  end)

  it("lets a request that its client gave up take longer than that, where any did", function()
    local rows = { { url = "https://api.test/items/1", error = { kind = "cancelled", after = 2 } } }
    for i = 2, 20 do rows[i] = { url = "https://api.test/items/" .. i, seconds = i / 5 } end
    local world = up(rows)
    local seconds = took(get, "/items/1")
    assert.is_true(seconds > 2 and seconds <= 4 + 1e-9)
    assert.same({ unfinished = 1 }, counts_of(world))
  end)

  it("has the cost of connections", function()
    up { { connect = 0.05, tls = 0.1, dns = 0.01, seconds = 1 }, { seconds = 1 } }
    local _, res = took(get)
    assert.same({ "0.010", "0.050", "0.100" }, { ("%.3f"):format(res.timings.dns), ("%.3f"):format(res.timings.connect),
      ("%.3f"):format(res.timings.tls) })
    assert.equal("1.000", ("%.3f"):format((took(get))))
  end)

  it("streams in the recorded pieces", function()
    up { { body = "onethree", chunks = { { 0, 3 }, { 0.5, 5 } }, seconds = 1, download = 0.5 } }
    local began = core.now()
    local res = assert(get("/", { stream = true }))
    local seen = {}
    for chunk in res:chunks() do seen[#seen + 1] = ("%s %.3f"):format(chunk, core.now() - began) end
    assert.same({ "one 1.000", "three 1.500" }, seen)
  end)

  it("keeps headers, but for those of the old connection; dates become seconds", function()
    up { { status = 503, headers = { ["x-a"] = "1", ["set-cookie"] = { "a", "b" }, ["content-length"] = "99",
      ["content-encoding"] = "gzip", date = "Mon, 23 Nov 2026 06:00:00 GMT",
      ["retry-after"] = "Mon, 23 Nov 2026 06:00:30 GMT" } } }
    local res = get()
    assert.same({ "1", "30", "2" }, { res.headers["x-a"], res.headers["retry-after"], res.headers["content-length"] })
    assert.is_nil(res.headers["content-encoding"])
    assert.same({ "a", "b" }, res:header_values "set-cookie")
  end)

  it("has nobody for a host that was not recorded", function()
    up { {} }
    local _, err = client:get "https://other.test/"
    assert.same({ "invalid", true }, { err.kind, err.message:find("cassette.jsonl", 1, true) ~= nil })
    _, err = client:get "http://api.test/"
    assert.equal("invalid", err.kind)
  end)

  it("is the recording again: statuses, bodies and seconds, of a world", function()
    local dir = tmp.dir()
    local function run()
      local inside = neap.http.client { base_url = "https://api.test" }
      local seen, order = {}, {}
      for i = 1, 200 do order[i] = i end
      local began = core.now()
      neap.map(order, function(i)
        local seconds, res, err = took(inside.post, inside, "/items", { json = { item = i } })
        seen[i] = ("%s %.6f"):format(res and res.status .. res.body or err.kind, seconds)
      end, { concurrency = 7 })
      inside:close()
      return seen, core.now() - began
    end
    network.up(worlds.new { { host = "api.test", latency = { law = "lognormal", median = 0.1, sigma = 0.8 },
      errors = { { status = 503, probability = 0.1 } }, drop = 0.05 } }, 3)
    local recording = assert(cassette.record(dir .. "/c.jsonl"))
    local first, seconds = run()
    assert(recording:stop())
    network.down()
    local world = cassette.world(dir .. "/c.jsonl")
    network.up(world, 4)
    local second, again = run()
    tmp.remove(dir)
    assert.same(first, second)
    assert.near(seconds, again, 1e-6)
    assert.same({ recorded = 200 }, counts_of(world))
    assert.is_truthy(world:report()[1]:find("200 of 200 requests as recorded, none extrapolated", 1, true))
  end)
end)

describe("a perturbed replay", function()
  before_each(function() client = neap.http.client {} end)
  after_each(function()
    client:close()
    network.down()
  end)

  local TOLD = { ["x-ratelimit-limit-requests"] = "60", ["x-ratelimit-remaining-requests"] = "30",
    ["x-ratelimit-reset-requests"] = "30s" }

  local function rows_of(count, row)
    local rows = {}
    for i = 1, count do rows[i] = row end
    return rows
  end

  local function statuses(count)
    local seen = {}
    for _ = 1, count do
      local res = get()
      seen[res.status] = (seen[res.status] or 0) + 1
    end
    return seen
  end

  it("limits as the recorded headers told, scaled", function()
    local world = up(rows_of(100, { headers = TOLD, seconds = 0 }), { scale = { quota = 0.5 } })
    assert.equal(30, world.upstreams[1].rate_limit.rpm)
    assert.same({ [200] = 30, [429] = 10 }, statuses(40))
    local res = get()
    assert.same({ "30", "0", "2" }, { res.headers["x-ratelimit-limit-requests"],
      res.headers["x-ratelimit-remaining-requests"], res.headers["retry-after"] })
    assert.same({ recorded = 30, limited = 11 }, counts_of(world))
    neap.sleep(4)
    assert.same({ [200] = 2, [429] = 1 }, statuses(3)) -- what was refused was not used up
    assert.is_truthy(world:report()[3]:find("quota: api.test rpm=30", 1, true))
  end)

  it("lets the law give the 429s, in the server's words, instead of those that were recorded", function()
    local rows = rows_of(60, { headers = TOLD, seconds = 0 })
    for i = 1, 10 do rows[i] = { status = 429, headers = TOLD, body = "too much", seconds = 0 } end
    up(rows)
    assert.same({ [200] = 60, [429] = 1 }, statuses(61))
    local res = get()
    assert.same({ 429, "too much", "1" }, { res.status, res.body, res.headers["retry-after"] })
  end)

  it("needs the quota where nobody told it", function()
    local function message(rows, opts)
      local ok, text = pcall(cassette.world, made.tape(rows), opts)
      assert.is_false(ok)
      return text
    end
    assert.equal("cassette.jsonl: api.test answered 429 without rate-limit headers; say its quota: --quota rpm=600 "
      .. "(--quota recorded: 429s come as they did, whatever the load)", message({ {}, { status = 429 } }))
    assert.equal("cassette.jsonl: api.test has no rate-limit headers, so there is no quota to scale; say it: "
      .. "--quota rpm=600", message({ {} }, { scale = { quota = 2 } }))
    assert.is_truthy(message({ { headers = TOLD } }, { quota = { rpm = 5 } }):find("every host told its quota", 1,
      true))
    assert.equal("cassette.jsonl: api.test never gave an answer that could be replayed",
      message({ { error = { kind = "cancelled", after = 1 } } }))
    assert.equal("cassette.jsonl: has no requests to replay", message {})
  end)

  it("loses sends that were lost, so that a failure stays one", function()
    local lost = { kind = "receive", phase = "first_byte", sent = "maybe", after = 0.2 }
    up { { url = "https://api.test/a" }, { url = "https://api.test/b", sends = 2 },
      { url = "https://api.test/c", sends = 2, error = lost } }
    get "/a" -- a connection that is there: only on such a one libcurl sends again
    local res = assert(get "/b")
    assert.same({ 200, 2 }, { res.status, res.sends })
    local seconds, failed, err = took(get, "/c")
    assert.same({ nil, "receive", 2 }, { failed, err.kind, err.sends })
    assert.near(0.2, seconds, 1e-6)
  end)

  it("opens connections in the recorded order: a service that came up late does again", function()
    local rows = {}
    for i = 1, 3 do rows[i] = { error = { kind = "connect", phase = "connect", sent = "no", after = 0.001 } } end
    rows[4], rows[5] = { connect = 0.01 }, {}
    local world = up(rows)
    local seen = {}
    for i = 1, 5 do
      local res, err = get()
      seen[i] = res and res.status or err.kind
    end
    assert.same({ "connect", "connect", "connect", 200, 200 }, seen)
    assert.is_truthy(world:report()[1]:find("2 of 2 requests as recorded, none extrapolated, 3 failed connections", 1,
      true))
  end)

  it("has names that are not found and certificates that are not trusted", function()
    up { { error = { kind = "dns", phase = "dns", sent = "no", after = 0 } },
      { error = { kind = "tls", phase = "tls", sent = "no", after = 0.1 } }, { connect = 0.01 } }
    local _, first = get()
    local _, second = get()
    assert.same({ "dns", "dns", "tls", "tls" }, { first.kind, first.phase, second.kind, second.phase })
    assert.equal("no", second.sent)
    assert.equal(200, get().status)
  end)

  it("does not take the client's own line for the server's time", function()
    local rows = {}
    for i = 1, 6 do
      rows[i] = { method = "POST", start = 0, error = { kind = "receive", phase = "first_byte", sent = "maybe",
        after = i * 0.1, queue = (i - 1) * 0.1 } }
    end
    local world = up(rows, { load_model = "mm-c" })
    assert.equal(1, world.upstreams[1].servers)
    local seconds = took(client.post, client, "https://api.test/")
    assert.near(0.1, seconds, 1e-6)
  end)

  it("breaks off within a stream that broke off, after what had come", function()
    up { { status = 200, body = "abcd", seconds = 0.1, chunks = { { 0, 2 }, { 0.1, 2 } }, download = 0.1,
      error = { kind = "receive", phase = "download", sent = "yes", after = 0.3 } } }
    local res = assert(get("/", { stream = true }))
    local parts, chunk, err = {}, res:read()
    while chunk do
      parts[#parts + 1] = chunk
      chunk, err = res:read()
    end
    assert.same({ "abcd", "receive", "download", "yes" }, { table.concat(parts), err.kind, err.phase, err.sent })
  end)

  it("says that a body was too long to be kept", function()
    local text = made.text { { body = "" } }
    text = text:gsub('"body":""', '"body_left_out":true'):gsub('"response_bytes":0', '"response_bytes":17000000')
    local world = cassette.world(assert(require("neap.cassette.reader").parse("cassette.jsonl", text)))
    network.up(world, 1)
    assert.equal("", get().body)
    assert.is_truthy(world:report()[1]:find("1 bodies empty that were too long to be kept", 1, true))
  end)

  it("tells urls apart that differ in what was taken for a secret only", function()
    local dir = tmp.dir()
    network.up(worlds.new { { host = "api.test", handler = function(request)
      return 200, "item " .. request.query.key
    end } }, 1)
    local recording = assert(cassette.record(dir .. "/c.jsonl"))
    local recorder = neap.http.client {}
    for i = 1, 3 do assert(recorder:get("https://api.test/lookup?key=" .. i)) end
    recorder:close()
    assert(recording:stop())
    network.down()
    network.up(cassette.world(dir .. "/c.jsonl"), 1)
    for i = 3, 1, -1 do assert.equal("item " .. i, get("/lookup?key=" .. i).body) end
    assert.equal("item 1", get("/lookup?key=none-of-them").body)
    tmp.remove(dir)
  end)

  it("has hosts that only ever refused refuse again", function()
    local world = up { {}, { url = "https://dead.test/", error = { kind = "connect", phase = "connect", sent = "no",
      after = 0.1 } } }
    local res, err = client:get "https://dead.test/other"
    assert.same({ nil, "connect" }, { res, err.kind })
    assert.equal(200, get().status)
    assert.equal(1, world.upstreams[1].counts.recorded)
  end)

  it("limits by the quota that it is given, or has 429s as they came", function()
    up({ { seconds = 0 }, { seconds = 0, status = 429 } }, { quota = { rpm = 60, window = 5 } })
    assert.same({ [200] = 5, [429] = 5 }, statuses(10))
    network.down()
    up({ { seconds = 0 }, { seconds = 0, status = 429 } }, { quota = "recorded" })
    assert.same({ [200] = 1, [429] = 1 }, statuses(2))
  end)

  it("counts tokens by the estimate of neap.llm and by max_tokens", function()
    local rows = rows_of(10, { method = "POST", url = "https://api.test/v1/chat/completions", seconds = 0 })
    up(rows, { quota = { tpm = 1000 } })
    local body = { model = "m", max_tokens = 300, messages = { { role = "user", content = "hi" } } }
    local seen = {}
    for i = 1, 5 do seen[i] = client:post("https://api.test/v1/chat/completions", { json = body }).status end
    assert.same({ 200, 200, 200, 429, 429 }, seen)
  end)

  it("injects failures by chance, which use nothing of the recording up", function()
    local world = up(rows_of(2000, { seconds = 0.01 }), { inject = { { status = 503, probability = 0.25 } } })
    local seen = statuses(1000)
    assert.is_true(math.abs(seen[503] - 250) < 4 * math.sqrt(1000 * 0.25 * 0.75))
    assert.same({ recorded = seen[200], injected = seen[503] }, counts_of(world))
  end)

  it("injects resets and hangs", function()
    up(rows_of(5, { seconds = 0.01 }), { drop = 1 })
    local _, err = get()
    assert.equal("receive", err.kind)
    network.down()
    up(rows_of(5, { seconds = 0.01 }), { hang = 1 })
    _, err = get("/", { timeout = 3 })
    assert.equal("timeout", err.kind)
  end)

  it("scales latencies", function()
    up({ { seconds = 0.5, connect = 0.1 } }, { scale = { latency = 3 } })
    assert.near(1.8, (took(get)), 1e-6)
  end)

  local function completion(rows, opts, concurrency)
    up(rows, opts)
    local list = {}
    for i = 1, #rows do list[i] = i end
    local seconds = took(neap.map, list, function() return get() end, { concurrency = concurrency })
    network.down()
    return seconds
  end

  it("takes the recorded seconds whatever the load, by default", function()
    assert.near(1, completion(rows_of(100, { seconds = 1, start = 0 }), nil, 100), 1e-6)
  end)

  it("with mm-c has as many servers as there were requests at a time, and a line", function()
    local rows = {}
    for i = 1, 100 do rows[i] = { seconds = 1, start = math.floor((i - 1) / 10) } end -- ten at a time
    assert.near(10, completion(rows, { load_model = "mm-c" }, 10), 1e-6) -- at the recorded load: as recorded
    assert.near(10, completion(rows, { load_model = "mm-c" }, 100), 1e-6) -- more load makes nothing faster
    assert.near(5, completion(rows, { load_model = "mm-c", servers = 20 }, 100), 1e-6)
    assert.near(20, completion(rows, { load_model = "mm-c", servers = 5 }, 10), 1e-6)
    local world = up(rows, { load_model = "mm-c" })
    assert.equal("latency reacts to load (--load-model mm-c): api.test 10 servers, the most requests at a time when "
      .. "recorded", world:report()[2])
  end)

  it("refuses options that it does not know", function()
    local tape = made.tape { {} }
    for _, case in ipairs { { { scale = { quto = 1 } }, "quto" }, { { scale = { quota = 0 } }, "above 0" },
      { { inject = { { status = 200, probability = 1 } } }, "option 'inject'" }, { { quota = {} }, "option 'quota'" },
      { { quota = "none" }, "option 'quota'" }, { { load_model = "mm1" }, "load_model" },
      { { servers = 2 }, "option 'servers' needs load_model" } } do
      local ok, message = pcall(cassette.world, tape, case[1])
      assert.is_false(ok)
      assert.message(message).is_truthy(message:find(case[2], 1, true))
    end
  end)
end)
