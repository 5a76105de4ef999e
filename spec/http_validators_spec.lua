-- SPDX-License-Identifier: MIT
local http = require "spec.support.http"
local neap = require "neap"
local rules = require "neap.http.validators"
local tmp = require "spec.support.tmp"

local serve, client_of = http.serve, http.client

--- Sunday, 06 Nov 1994 08:49:37 GMT
local DATE, AT = "Sun, 06 Nov 1994 08:49:37 GMT", 784111777
local LATER = "Sun, 06 Nov 1994 08:50:37 GMT"

describe("Cache-Control", function()
  it("is read with its odd forms", function()
    for text, expected in pairs {
      [""] = {},
      ["no-store"] = { ["no-store"] = true },
      ["Public, MAX-AGE=60"] = { public = true, ["max-age"] = 60 },
["max-age = 60 , no-store"] = { ["max-age"] = 0, ["60"] = true, ["no-store"] = true }, -- malformed: not fresh
      ['private="x, no-store'] = { private = '"x', ["no-store"] = true },
      ['max-age="60"'] = { ["max-age"] = 60 },
      ['private="set-cookie, x", max-age=5'] = { private = "set-cookie, x", ["max-age"] = 5 },
      ["max-age=-1"] = { ["max-age"] = 0 },
      ["max-age=1.5"] = { ["max-age"] = 0 },
      ["max-age=x"] = { ["max-age"] = 0 },
      ["max-age"] = { ["max-age"] = 0 },
      ["max-age=10, max-age=5"] = { ["max-age"] = 5 },
      ["max-age=99999999999999999999"] = { ["max-age"] = 2 ^ 31 },
      ["max-stale"] = { ["max-stale"] = true },
      ["max-stale=7"] = { ["max-stale"] = 7 },
      ["a=b=c, d"] = { a = "b=c", d = true },
    } do
      assert.same(expected, rules.directives(text), text)
    end
    assert.same({}, rules.directives(nil))
  end)

  it("of a request has Pragma as its old form", function()
    assert.is_true(rules.request_directives { pragma = "no-cache" }["no-cache"])
    assert.is_nil(rules.request_directives { pragma = "no-cache", ["cache-control"] = "max-age=1" }["no-cache"])
    assert.is_nil(rules.request_directives {}["no-cache"])
  end)
end)

describe("a response's lifetime", function()
  it("is max-age, else Expires less Date, else nothing", function()
    for _, case in ipairs {
      { 60, { ["cache-control"] = "max-age=60" } },
      { 60, { ["cache-control"] = "max-age=60", expires = DATE, date = DATE } },
      { 0, { ["cache-control"] = "s-maxage=60" } }, -- for shared caches
      { 60, { expires = LATER, date = DATE } },
      { 0, { expires = DATE, date = LATER } },
      { 0, { expires = "0", date = DATE } },
      { 0, { expires = "-1" } },
      { 60, { expires = LATER } }, -- without a Date, from when it came
      { 0, { ["last-modified"] = DATE, etag = '"1"' } }, -- no guess
    } do
      assert.equal(case[1], rules.lifetime(case[2], AT))
    end
  end)
end)

describe("a response's age", function()
  it("counts what it had when it came, the way, and the time since", function()
    assert.equal(0, rules.age({}, AT, 0, AT))
    assert.equal(15, rules.age({}, AT, 5, AT + 10))
    assert.equal(45, rules.age({ age = "30" }, AT, 5, AT + 10))
    assert.equal(70, rules.age({ date = DATE }, AT + 60, 5, AT + 70))
    assert.equal(15, rules.age({ date = LATER }, AT, 5, AT + 10)) -- a clock that is ahead
    assert.equal(100, rules.age({ age = "100", date = DATE }, AT + 60, 0, AT + 60))
    assert.equal(0, rules.age({ age = "-5" }, AT, 0, AT))
    assert.equal(0, rules.age({ age = "x" }, AT, 0, AT))
    assert.equal(0, rules.age({}, AT, 0, AT - 100)) -- a clock that was set back
  end)
end)

describe("a kept response", function()
  local function usable(response, request, age, lifetime)
    return rules.is_usable({ ["cache-control"] = response }, rules.directives(request), age, lifetime)
  end

  it("is given while it is fresh", function()
    assert.is_true(usable(nil, nil, 9, 10))
    assert.is_false(usable(nil, nil, 10, 10))
    assert.is_false(usable("no-cache", nil, 0, 10))
    assert.is_false(usable('no-cache="set-cookie"', nil, 0, 10))
  end)

  it("is given as the request wants it", function()
    assert.is_false(usable(nil, "no-cache", 0, 10))
    assert.is_true(usable(nil, "max-age=5", 5, 10))
    assert.is_false(usable(nil, "max-age=5", 6, 10))
    assert.is_true(usable(nil, "min-fresh=5", 5, 10))
    assert.is_false(usable(nil, "min-fresh=5", 6, 10))
    assert.is_true(usable(nil, "max-stale", 1000, 10))
    assert.is_true(usable(nil, "max-stale=5", 15, 10))
    assert.is_false(usable(nil, "max-stale=5", 16, 10))
    assert.is_false(usable("must-revalidate", "max-stale", 11, 10))
  end)

  it("is one that may be kept", function()
    local etag = { etag = '"1"' }
    local function storable(status, headers, request)
      return rules.is_storable(status, headers, rules.directives(request))
    end
    for _, status in ipairs { 200, 203, 204, 300, 301, 308, 404, 405, 410, 414 } do
      assert.is_true(storable(status, etag), status)
      assert.is_false(storable(status, {}), status)
    end
    for _, status in ipairs { 201, 302, 303, 307, 400, 401, 403 } do
      assert.is_false(storable(status, etag), status)
      assert.is_true(storable(status, { ["cache-control"] = "max-age=5" }), status)
      assert.is_true(storable(status, { expires = LATER }), status)
    end
    for _, status in ipairs { 101, 206, 304, 408, 428, 429, 431, 500, 503, 504 } do
      assert.is_false(storable(status, { ["cache-control"] = "max-age=5", etag = '"1"' }), status)
    end
    assert.is_false(storable(200, { ["cache-control"] = "max-age=5, no-store" }))
    assert.is_false(storable(200, etag, "no-store"))
    assert.is_true(storable(200, { ["cache-control"] = "private, max-age=5" }))
    assert.is_true(storable(200, { etag = '"1"', ["cache-control"] = "no-cache" }))
  end)

  it("depends on the names in Vary, on anything with *", function()
    assert.same({}, rules.vary {})
    assert.same({ "accept", "x-a" }, rules.vary { vary = "X-A , Accept,accept" })
    assert.is_nil(rules.vary { vary = "accept, *" })
  end)

  it("is asked about with what it has", function()
    assert.same({ "If-None-Match", 'W/"1"' }, rules.conditions { etag = 'W/"1"' })
    assert.same({ "If-Modified-Since", DATE }, rules.conditions { ["last-modified"] = DATE })
    assert.same({ "If-None-Match", '"1"', "If-Modified-Since", DATE },
      rules.conditions { etag = '"1"', ["last-modified"] = DATE })
    assert.is_nil(rules.conditions { date = DATE })
  end)

  it("takes over a 304's headers but those of its bytes", function()
    assert.same({ "content-type", "a", "content-length", "5", "x", "1", "etag", '"2"', "set-cookie", "c",
      "set-cookie", "d" }, rules.merge(
      { "content-type", "a", "etag", '"1"', "content-length", "5", "x", "1", "age", "9", "set-cookie", "old" },
      { "etag", '"2"', "content-length", "0", "content-type", "b", "set-cookie", "c", "set-cookie", "d",
        "connection", "close" }))
  end)

  it("is what a 304 speaks of only when the validators agree", function()
    assert.is_true(rules.is_about({ etag = '"1"' }, { etag = '"1"' }))
    assert.is_true(rules.is_about({ etag = 'W/"1"' }, { etag = '"1"' }))
    assert.is_false(rules.is_about({ etag = '"1"' }, { etag = '"2"' }))
    assert.is_false(rules.is_about({ ["last-modified"] = DATE }, { etag = '"2"' }))
    assert.is_true(rules.is_about({ etag = '"1"' }, {}))
    assert.is_false(rules.is_about({ ["last-modified"] = DATE }, { ["last-modified"] = LATER }))
  end)
end)

describe("a client with a cache #real", function()
  after_each(http.finish)

  --- A server that numbers its answers, and a client of it. `answer(request, n)`
  --- gives the header lines, and may give a status and a body.
  local function world(answer, opts)
    local server = serve(function(c, r)
      local n = #c.server.requests
      local lines, status, body = answer(r, n)
      if status == 304 then
        return c:write("HTTP/1.1 304 Not Modified\r\n" .. table.concat(lines, "\r\n") .. "\r\n\r\n")
      end
      c:respond(status or 200, body or "body " .. n, lines)
    end)
    opts = opts or {}
    if opts.cache == nil then opts.cache = true end
    return server, client_of(server, opts)
  end

  local function get(client, url, opts)
    return assert(client:get(url or "/", opts))
  end

  it("answers what is fresh without a send", function()
    local server, client = world(function() return { "Cache-Control: max-age=60", "X-A: 1", "Age: 7" } end)
    local first, second = get(client), get(client)
    assert.is_nil(first.from_cache)
    assert.equal("fresh", second.from_cache)
    assert.equal("body 1", second.body)
    assert.equal("1", second.headers["x-a"])
    assert.equal("7", second.headers.age)
    assert.equal(0, second.sends)
    assert.equal(0, second.timings.total)
    assert.equal(server.url .. "/", second.url)
    assert.is_true(second.replay_safe)
    assert.equal(1, #server.requests)
    second.headers["x-a"], second.body = "2", "changed"
    assert.equal("body 1", get(client).body)
    assert.equal("1", get(client).headers["x-a"])
    assert.equal(1, #server.requests)
    assert.equal(3, client.cache:snapshot().hits)
  end)

  it("asks again for what is not fresh, and answers a 304 with the body it has", function()
    local server, client = world(function(r, n)
      if r.headers["if-none-match"] == '"v1"' then return { "X-A: " .. n, 'ETag: "v1"' }, 304 end
      return { 'ETag: "v1"', "X-A: " .. n, "X-B: kept", "Content-Type: text/x" }
    end)
    get(client)
    for n = 2, 3 do
      local res = get(client)
      assert.equal("revalidated", res.from_cache)
      assert.equal(200, res.status)
      assert.equal("body 1", res.body)
      assert.equal(tostring(n), res.headers["x-a"])
      assert.equal("kept", res.headers["x-b"])
      assert.equal("text/x", res.headers["content-type"])
      assert.equal(1, res.sends)
      assert.is_true(res.timings.total > 0)
      assert.equal('"v1"', server.requests[n].headers["if-none-match"])
    end
    assert.equal(2, client.cache:snapshot().revalidated)
  end)

  it("asks with the date where there is no tag", function()
    local server, client = world(function(r)
      if r.headers["if-modified-since"] then return {}, 304 end
      return { "Last-Modified: " .. DATE }
    end)
    get(client)
    assert.equal("revalidated", get(client).from_cache)
    assert.equal(DATE, server.requests[2].headers["if-modified-since"])
    assert.is_nil(server.requests[2].headers["if-none-match"])
  end)

  it("is fresh again for as long as a 304 says", function()
    local server, client = world(function(r)
      if r.headers["if-none-match"] then return { "Cache-Control: max-age=60" }, 304 end
      return { 'ETag: "v1"', "Cache-Control: max-age=0" }
    end)
    get(client)
    assert.equal("revalidated", get(client).from_cache)
    assert.equal("fresh", get(client).from_cache)
    assert.equal(2, #server.requests)
  end)

  it("gives and keeps the new response when the old one is not right any more", function()
    local server, client = world(function(r, n)
      if r.headers["if-none-match"] == '"2"' then return {}, 304 end
      return { ('ETag: "%d"'):format(n) }
    end)
    get(client)
    local second = get(client)
    assert.equal("body 2", second.body)
    assert.is_nil(second.from_cache)
    local third = get(client)
    assert.equal("body 2", third.body)
    assert.equal("revalidated", third.from_cache)
    assert.equal(3, #server.requests)
  end)

  it("sends once more when a 304 speaks of something else", function()
    local server, client = world(function(r, n)
      if r.headers["if-none-match"] then return { 'ETag: "other"' }, 304 end
      return { ('ETag: "%d"'):format(n) }
    end)
    get(client)
    local res = get(client)
    assert.equal(200, res.status)
    assert.equal("body 3", res.body)
    assert.equal(2, res.sends)
    assert.equal(3, #server.requests)
  end)

  it("passes on a failure of asking, and keeps what it has", function()
    local server, client = world(function(r, n)
      if n == 2 then return {}, 503 end
      if r.headers["if-none-match"] then return {}, 304 end
      return { 'ETag: "1"' }
    end)
    get(client)
    assert.equal(503, get(client).status)
    assert.equal("revalidated", get(client).from_cache)
    assert.equal(3, #server.requests)
  end)

  it("keeps nothing that must not be kept", function()
    for _, lines in ipairs {
      { "Cache-Control: no-store, max-age=60", 'ETag: "1"' }, { "Cache-Control: max-age=60", "Vary: *" }, {},
      { "Cache-Control: max-age=0" }, { "Expires: 0" },
    } do
      local server, client = world(function() return lines end)
      get(client)
      local second = get(client)
      assert.is_nil(second.from_cache)
      assert.is_nil(server.requests[2].headers["if-none-match"])
      assert.equal(2, #server.requests)
    end
  end)

  it("keeps what is private, and what answers a request with a key", function()
    local server, client = world(function() return { "Cache-Control: private, max-age=60" } end,
      { headers = { Authorization = "Bearer a" } })
    get(client)
    assert.equal("fresh", get(client).from_cache)
    assert.equal(1, #server.requests)
  end)

  it("never gives one key's answer to another", function()
    local cache = neap.cache()
    local server, client = world(function() return { "Cache-Control: max-age=60" } end, { cache = cache })
    local a, b = { headers = { Authorization = "Bearer a" } }, { headers = { ["X-Api-Key"] = "b" } }
    assert.equal("body 1", get(client, "/", a).body)
    assert.equal("body 2", get(client, "/", b).body)
    assert.equal("body 3", get(client, "/").body)
    assert.equal("body 1", get(client, "/", a).body)
    assert.equal("body 2", get(client, "/", b).body)
    local other = client_of(server, { cache = cache, headers = { authorization = "Bearer a" } })
    assert.equal("body 1", get(other, "/").body)
    assert.equal(3, #server.requests)
    for _, key in ipairs(cache.storage.memory:keys()) do assert.is_nil(key:find "Bearer") end
  end)

  it("keeps a response for each value of what it varies on", function()
    local server, client = world(function(r)
      return { "Cache-Control: max-age=60", "Vary: Accept-Language, Accept-Encoding" }, 200,
        r.headers["accept-language"] or "none"
    end)
    local function ask(language)
      return get(client, "/", { headers = { ["Accept-Language"] = language } })
    end
    for _ = 1, 2 do
      assert.equal("de", ask("de").body)
      assert.equal("en", ask("en").body)
      assert.equal("none", get(client).body)
    end
    assert.equal(3, #server.requests)
    assert.equal(200, get(client, "/", { compression = false }).status)
    assert.equal(4, #server.requests)
  end)

  it("does as the request's Cache-Control says", function()
    local server, client = world(function(r)
      if r.headers["if-none-match"] then return {}, 304 end
      return { "Cache-Control: max-age=60", 'ETag: "1"' }
    end)
    local function ask(control) return get(client, "/", { headers = { ["Cache-Control"] = control } }) end
    assert.equal(504, ask("only-if-cached").status)
    assert.equal(0, #server.requests)
    ask "no-store"
    assert.is_nil(get(client).from_cache)
    assert.equal("fresh", ask("only-if-cached").from_cache)
    assert.equal("revalidated", ask("no-cache").from_cache)
    assert.equal("revalidated", get(client, "/", { headers = { Pragma = "no-cache" } }).from_cache)
    assert.is_nil(ask("no-store").from_cache)
    assert.equal("fresh", ask("max-age=30").from_cache)
    assert.equal(5, #server.requests)
  end)

  it("leaves a request alone that has conditions of its own, a range, a body or a stream", function()
    local server, client = world(function(r)
      if r.headers["if-none-match"] then return { 'ETag: "1"' }, 304 end
      return { "Cache-Control: max-age=60", 'ETag: "1"' }
    end)
    get(client)
    local res = get(client, "/", { headers = { ["If-None-Match"] = '"1"' } })
    assert.equal(304, res.status)
    assert.equal("", res.body)
    assert.is_nil(get(client, "/", { headers = { Range = "bytes=0-1" } }).from_cache)
    assert.is_nil(get(client, "/", { body = "x" }).from_cache)
    local stream = get(client, "/", { stream = true })
    assert.equal("body 5", stream:read_all())
    assert.equal(5, #server.requests)
    assert.equal("fresh", get(client).from_cache)
  end)

  it("forgets a url after a method that may change it", function()
    for _, method in ipairs { "POST", "PUT", "PATCH", "DELETE", "PURGE" } do
      local server, client = world(function() return { "Cache-Control: max-age=60" } end)
      get(client, "/a")
      get(client, "/b")
      assert(client:head "/a")
      assert(client:request { method = method, url = "/a" })
      assert.is_nil(get(client, "/a").from_cache)
      assert.is_nil(assert(client:head "/a").from_cache)
      assert.equal("fresh", get(client, "/b").from_cache)
      assert.equal(6, #server.requests)
    end
  end)

  it("forgets also the urls that such an answer names, on that host only", function()
    local server, client = world(function(r)
      if r.method == "POST" then return { "Location: /made", "Content-Location: http://other/x" }, 201 end
      return { "Cache-Control: max-age=60" }
    end)
    get(client, "/made")
    get(client, "/x")
    assert(client:post("/form", { json = { a = 1 } }))
    assert.is_nil(get(client, "/made").from_cache)
    assert.equal("fresh", get(client, "/x").from_cache)
    assert.equal(4, #server.requests)
  end)

  it("keeps a url after such a method that failed, unless it may have been processed", function()
    local server, client = world(function(r)
      if r.method == "POST" then return {}, 403 end
      return { "Cache-Control: max-age=60" }
    end)
    get(client)
    assert(client:post("/", { body = "x" }))
    assert.equal("fresh", get(client).from_cache)
    server.on_request = function(c) c:reset() end
    local _, err = client:post("/", { body = "x" })
    assert.are_not.equal("no", err.sent)
    _, err = client:get "/"
    assert.is_table(err) -- sent again, and lost again
  end)

  it("keeps redirects, hop by hop", function()
    local server, client = world(function(r)
      if r.target == "/old" then return { "Location: /new", "Cache-Control: max-age=60" }, 301 end
      return {}
    end)
    assert.equal("body 2", get(client, "/old").body)
    local res = get(client, "/old")
    assert.equal("body 3", res.body)
    assert.equal(server.url .. "/new", res.url)
    assert.equal(1, res.sends)
    assert.equal(3, #server.requests)
  end)

  it("keeps answers to HEAD apart", function()
    local server, client = world(function() return { "Cache-Control: max-age=60" } end)
    assert(client:head "/")
    assert.equal("fresh", assert(client:head "/").from_cache)
    assert.equal("body 2", get(client).body)
    assert.equal(2, #server.requests)
  end)

  it("tells queries apart, and not fragments", function()
    local server, client = world(function() return { "Cache-Control: max-age=60" } end)
    get(client, "/", { query = { a = 1 } })
    get(client, "/", { query = { a = 2 } })
    assert.equal("fresh", get(client, "/?a=1#here").from_cache)
    assert.equal(2, #server.requests)
  end)

  it("has its answers in a file for the next process", function()
    local folder = tmp.dir()
    local store = assert(neap.cache.file(folder .. "/cache"))
    local server, client = world(function(r)
      if r.headers["if-none-match"] then return { "X-B: 2" }, 304 end
      return r.target == "/fresh" and { "Cache-Control: max-age=60", "X-A: 1", "X-A: 2" } or { 'ETag: "1"' }
    end, { cache = neap.cache { store = store } })
    get(client, "/fresh")
    get(client, "/asked")
    store:close()
    store = assert(neap.cache.file(folder .. "/cache"))
    local next_client = client_of(server, { cache = neap.cache { store = store } })
    local res = get(next_client, "/fresh")
    assert.equal("fresh", res.from_cache)
    assert.equal("body 1", res.body)
    assert.same({ "1", "2" }, res:header_values "x-a")
    res = get(next_client, "/asked")
    assert.equal("revalidated", res.from_cache)
    assert.equal("body 2", res.body)
    assert.equal("2", res.headers["x-b"])
    store:close()
    tmp.remove(folder)
  end)

  it("is as before without one", function()
    local server, client = world(function() return { "Cache-Control: max-age=60" } end, { cache = false })
    get(client)
    assert.is_nil(get(client).from_cache)
    assert.equal(2, #server.requests)
  end)

  it("takes a neap.cache or true, nothing else", function()
    for _, value in ipairs { {}, 1, "x" } do
      local ok, err = pcall(neap.http.client, { cache = value })
      assert.is_false(ok)
      assert.matches("option 'cache'", err)
    end
  end)
end)
