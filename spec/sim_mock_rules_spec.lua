-- SPDX-License-Identifier: MIT
-- A mock's rules: what they are for, what they say of a request that differs, and what
-- they refuse where they are written.
local core = require "neap.core"
local neap = require "neap"

describe("a mock's rule", function()
  local client, mock

  before_each(function()
    mock = neap.sim.mock()
    client = neap.http.client { timeout = 10 }
  end)

  after_each(function()
    client:close()
    mock:close()
  end)

  --- What the mock says of a request, without the rule's place.
  local function complaint(method, url, opts)
    opts = opts or {}
    opts.method, opts.url = method, url
    client:request(opts)
    local problem = mock:problem()
    mock:reset()
    return problem
  end

  local function differs(rule, sent, expected, headers)
    mock:on(rule):optional()
    local text = complaint("POST", "http://a.test/x", { body = sent, headers = headers })
    assert.is_truthy(text:find(expected, 1, true), text)
    return text
  end

  describe("that wants a body", function()
    it("names the path of what differs in JSON", function()
      local function message(text) return { model = "m", messages = { { role = "user", content = text } } } end
      differs({ body = message "hello" }, neap.json.encode(message "hallo"),
        'body.messages[1].content is "hallo", not "hello"')
      differs({ body = { a = 1 } }, '{"a":1,"b c":true}', 'body["b c"] is true, not nothing')
      differs({ body = { a = { 1, 2 } } }, '{"a":[1]}', "body.a[2] is nothing, not 2")
      differs({ body = { a = 1, b = 2, c = 3 } }, '{"a":2,"b":3,"c":4}', "body.a is 2, not 1 (and 2 more differences)")
      differs({ body = { a = 1, b = 2 } }, '{"a":2,"b":3}', "body.a is 2, not 1 (and 1 more difference)")
      differs({ body = { 1 } }, "[[1]]", "body[1] is [1], not 1")
      differs({ body = { id = 1 } }, '{"id":9007199254740993}', 'body.id is "9007199254740993", not 1')
      differs({ body = { a = 1 } }, "no json", "body is 'no json', not '{\"a\":1}'")
    end)

    it("shows long texts around the first byte that differs", function()
      local long = ("x"):rep(5000)
      local text = differs({ body = long .. "right" .. long }, long .. "wrong" .. long, "(from byte 5001 on)")
      assert.is_truthy(text:find("xxwrongxx", 1, true) and text:find("xxrightxx", 1, true), text)
      assert.is_true(#text < 500)
      text = differs({ body = { text = long .. "right" } }, neap.json.encode { text = long .. "wrong" }, "body.text is")
      assert.is_truthy(text:find('xxwrong"', 1, true) and text:find('xxright"', 1, true), text)
    end)

    it("takes neap.json.null for the JSON null", function()
      mock:on({ body = neap.json.null }):reply(201)
      assert.equal(201, client:post("http://a.test/", { body = "null" }).status)
      mock:reset()
      differs({ body = neap.json.null }, "[]", "body is [], not null")
    end)

    it("shows no secret of it", function()
      local function secret(rule, sent, expected, headers)
        local text = differs(rule, sent, expected, headers)
        assert.is_nil(text:find("sk-", 1, true), text)
      end
      secret({ body = { api_key = "sk-WANTED" } }, '{"api_key":"sk-SENT"}',
        "body.api_key is something else, not as wanted")
      secret({ body = { auth = { password = "sk-1" } } }, '{"auth":{"password":"sk-2"}}',
        "body.auth.password is something else")
      secret({ body = "client_secret=sk-WANTED&a=1" }, "client_secret=sk-SENT&a=2",
        "body is 'client_secret=REDACTED&a=2', not 'client_secret=REDACTED&a=1'")
      secret({ body = "password=sk-1" }, "password=sk-2", "body is something else, not as wanted")
      secret({ body = { 1 } }, '[{"api_key":"sk-SENT"}]', 'body[1] is {"api_key":"REDACTED"}, not 1')
    end)
  end)

  it("wants all values of a name in order where it has an array", function()
    mock:on { query = { tag = { "a*", 2 } } }:reply(201):optional()
    mock:on { headers = { ["X-Tag"] = { "a", "b" } } }:reply(202):optional()
    mock:on { url = "/q?tag=x&tag=y" }:reply(203):optional()
    local function status(url, headers)
      local res = client:get(url, { headers = headers })
      return res and res.status
    end
    assert.equal(201, status "http://a.test/?tag=abc&tag=2")
    assert.is_nil(status "http://a.test/?tag=2&tag=abc")
    assert.is_nil(status "http://a.test/?tag=abc")
    assert.is_nil(status "http://a.test/?tag=abc&tag=2&tag=3")
    assert.equal(202, status("http://a.test/", { ["x-tag"] = { "a", "b" } }))
    assert.is_nil(status("http://a.test/", { ["x-tag"] = "a" }))
    assert.equal(203, status "http://a.test/q?tag=x&tag=y")
    assert.is_nil(status "http://a.test/q?tag=x&tag=z")
    assert.is_truthy(mock:problem():find("query tag is 'abc', not 'a*', '2'", 1, true))
    mock:reset()
  end)

  it("reads stars in a time that its length tells", function()
    mock:on({ url = "/" .. ("a*"):rep(40) .. "b" }):optional()
    mock:on({ url = "/*mid*end" }):reply(204):optional()
    assert.is_truthy(complaint("GET", "http://a.test/" .. ("a"):rep(4000)))
    mock:on({ url = "/*mid*end" }):reply(204)
    assert.equal(204, client:get("http://a.test/-mid-mid-end").status)
    mock:reset()
    mock:on({ url = "/*mid*end" }):optional()
    assert.is_truthy(complaint("GET", "http://a.test/miend"))
    mock:on({ url = "/ab*ba" }):optional()
    assert.is_truthy(complaint("GET", "http://a.test/aba"))
  end)

  it("names itself and the function of it that raises", function()
    local plain = setmetatable({}, { __index = { message = "unseen" } })
    for raised, text in pairs { [{ message = "no luck" }] = "no luck", [plain] = "a table without a message" } do
      mock:on { url = "/m", match = function() error(raised) end }
      local text_of = complaint("GET", "http://a.test/m")
      assert.matches("^spec/sim_mock_rules_spec%.lua:%d+: the mock of /m with match: its match raised: " .. text,
        text_of)
    end
    mock:on { url = "/b", body = function() error("odd", 0) end }
    assert.matches("the mock of /b with body: its body raised: odd",
      complaint("POST", "http://a.test/b", { body = "x" }))
    mock:on { url = "/q", query = { n = function() error("odd", 0) end } }
    assert.matches("the mock of /q with query: its query n raised: odd", complaint("GET", "http://a.test/q?n=1"))
    mock:on({ url = "/r" }):reply(function() error { message = "no answer" } end)
    assert.matches("the reply of /r raised: no answer", complaint("GET", "http://a.test/r"))
  end)

  it("is named although the url is long, and shows no control character", function()
    mock:on { url = "/a" }:optional()
    local _, err = client:get("http://a.test/" .. ("long"):rep(500))
    assert.matches("the nearest: spec/sim_mock_rules_spec%.lua:%d+ %(/a%): path is", err.message)
    mock:reset()
    differs({ headers = { ["X-A"] = "\27[31mred" } }, "", "header X-A is nothing, not '\\x1b[31mred'")
    differs({ body = "line\none" }, "line\ntwo", "body is 'line\\ntwo', not 'line\\none'")
  end)

  it("says at the line where it is written what it does not understand", function()
    local function refused(text, fn, ...)
      local ok, message = pcall(fn, ...)
      assert.is_false(ok, text)
      assert.is_truthy(message:find(text, 1, true), message)
      assert.matches("sim_mock_rules_spec%.lua:%d+: ", message)
    end
    for given, text in neap.sorted_pairs {
      ["https://me:pw@a.test/"] = "option 'url': user and password are sent as a header",
      ["https://?a=1"] = "there is no host",
      ["http://:80/"] = "there is no host", ["http://a.test:x/"] = "the port must be a number",
      ["/a#b"] = "has no fragment", ["/a b"] = "it has a space", [" "] = "it has a space" } do
      refused(text, mock.on, mock, { url = given })
    end
    refused("option 'method': must be one word: ''", mock.on, mock, { method = "" })
    refused("option 'method': must be one word: 'GET '", mock.on, mock, { method = "GET " })
    refused("option 'query': 'a' needs a text", mock.on, mock, { query = { a = {} } })
    refused("option 'query': 'a' needs a text", mock.on, mock, { query = { a = { {} } } })
    refused("option 'headers': '1' needs a text", mock.on, mock, { headers = { "X-A" } })
    refused("option 'body': must be a text", mock.on, mock, { body = io.stdout })
    local rule = mock:on():optional()
    refused("rule:reply: field 'boddy' of the answer is unknown", rule.reply, rule, { boddy = "x" })
    refused("rule:reply: the status must be a whole number from 200 to 599, got 700", rule.reply, rule,
      { status = 700 })
    refused("rule:reply: an answer has a body or json, not both", rule.reply, rule, { body = "x", json = {} })
    refused("rule:reply: the answer's body must be a string or a table", rule.reply, rule, 200, 7)
    refused("rule:reply: the answer cannot be JSON", rule.reply, rule, 200, { f = print })
    refused("rule:reply: header 'a' has a line break", rule.reply, rule, 200, "", { a = "1\r\nb: 2" })
    refused("rule:reply: header 'a b' is no name", rule.reply, rule, 200, "", { ["a b"] = "1" })
    refused("rule:reply: Content-Length is that of the body, 2 bytes, not 9", rule.reply, rule, 200, "ok",
      { ["content-length"] = 9 })
    refused("rule:reply: chunks: entry 2 needs 'after'", rule.reply, rule,
      { chunks = { { after = 1, data = "a" }, { after = 0.5, data = "b" } } })
    refused("rule:reply: chunks: entry 1 needs 'data'", rule.reply, rule, { chunks = { { after = 1 } } })
    refused("rule:reply: an answer with chunks has no 'body'", rule.reply, rule, { chunks = {}, body = "x" })
    for _, seconds in ipairs { -1, 0 / 0, math.huge } do
      refused("rule:delay: needs seconds", rule.delay, rule, seconds)
    end
    local plain = mock:on({ url = "http://a.test/" }):optional()
    refused("rule:fail: 'tls' is for https", plain.fail, plain, "tls")
  end)

  it("that fails by TLS complains of a request that has none", function()
    mock:on { url = "a.test" }:fail "tls"
    local _, err = client:get "https://a.test/"
    assert.equal("tls", err.kind)
    mock:reset()
    mock:on { url = "a.test" }:fail "tls"
    assert.matches("the mock of a%.test fails with 'tls', which a request to http cannot",
      complaint("GET", "http://a.test/"))
  end)

  it("whose answer breaks off before its Content-Length ends as with a real server", function()
    local function answer(length)
      return function(request)
        local writer = assert(request:respond { headers = { ["Content-Length"] = length } })
        writer:write "12345"
      end
    end
    mock:on { url = "/short" }:reply(answer(9))
    mock:on { url = "/long" }:reply(answer(3))
    mock:on { url = "/whole" }:reply(answer(5))
    local res, err = client:get "http://a.test/short"
    assert.same({ nil, "receive", "download" }, { res, err.kind, err.phase })
    assert.equal("123", client:get("http://a.test/long").body)
    assert.equal("12345", client:get("http://a.test/whole").body)
  end)

  it("sees the user and the password of a url as the header that they become", function()
    mock:on({ headers = { authorization = "Basic bWU6c2VjcmV0IHdvcmQ=" } }):reply(201)
    mock:on({ headers = { authorization = "Bearer own" } }):reply(202)
    assert.equal(201, client:get("https://me:secret%20word@a.test/").status)
    assert.equal(202, client:get("https://me:pw@a.test/", { headers = { Authorization = "Bearer own" } }).status)
    assert.equal("https://a.test/", mock.requests[1].url)
    assert.equal(2, core.http_stats().in_flight + 2)
  end)
end)
