-- SPDX-License-Identifier: MIT
local base64 = require "neap.base64"
local core = require "neap.core"
local json = require "neap.json"
local key = require "neap.cassette.key"
local redact = require "neap.cassette.redact"

describe("a cassette's url", function()
  local function url(given, expected)
    it("of " .. given .. " is " .. expected, function() assert.equal(expected, key.url(given)) end)
  end

  url("https://API.Test", "https://api.test/")
  url("https://api.test:443/a?b=1#part", "https://api.test/a?b=1")
  url("http://api.test:8080?b=1", "http://api.test:8080/?b=1")
  url("https://user:hunter2@api.test/a", "https://api.test/a")
  url("https://api.test/?key=abc&page=2", "https://api.test/?key=REDACTED&page=2")
  url("https://api.test/?api_key=a&API-Key=b&my%5Fapikey=c", "https://api.test/?api_key=REDACTED&"
    .. "API-Key=REDACTED&my%5Fapikey=REDACTED")
  url("https://api.test/?access_token=a;x=1", "https://api.test/?access_token=REDACTED;x=1")
  url("https://s3.test/o?X-Amz-Signature=0f&X-Amz-Credential=AK&X-Amz-Date=1",
    "https://s3.test/o?X-Amz-Signature=REDACTED&X-Amz-Credential=REDACTED&X-Amz-Date=1")
  url("https://api.test/?page_token=p2&max_tokens=5&monkey=1", "https://api.test/?page_token=p2&max_tokens=5&monkey=1")
  url("https://api.test/?key=", "https://api.test/?key=")
  url("https://api.test/?next_token=p&cacheKey=c", "https://api.test/?next_token=p&cacheKey=c")
  url("https://api.test/x;jsessionid=abc;v=1/y", "https://api.test/x;jsessionid=REDACTED;v=1/y")
  url("https://api.test/?to=https%3A%2F%2Fb%2F%3Fa%3D1%26sig%3Dabc%26n%3D2", "https://api.test/?to=https%3A%2F%2Fb%2F"
    .. "%3Fa%3D1%26sig%3DREDACTED%26n%3D2")
  url("https://api.test/bot12:abcdefghij_klmnopqrst/send", "https://api.test/bot12:REDACTED/send")
  url("https://api.test/bot12:short/send", "https://api.test/bot12:short/send")
end)

describe("a parameter", function()
  it("is secret by its name", function()
    for _, name in ipairs { "api_token", "private_token", "subscription-key", "access_key", "session_token",
      "sas_token", "security_token", "oauth_token", "bearer_token", "code", "pass", "sign", "hmac", "AWSAccessKeyId",
      "app_key",
      "user_key", "license_key", "assertion", "credentials", "otp", "pin", "ticket", "my%5Fpassword" } do
      local secret = "https://api.test/?" .. name .. "=REDACTED"
      assert.equal(secret, redact.url("https://api.test/?" .. name .. "=abc"))
    end
  end)

  it("is none where it pages, sorts or counts", function()
    for _, name in ipairs { "page_token", "nextToken", "continuation-token", "cursor_token", "syncToken", "cache_key",
      "partition_key", "primaryKey", "max_tokens", "monkey", "design", "encode", "passenger", "password_policy" } do
      local url = "https://api.test/?" .. name .. "=abc"
      assert.equal(url, redact.url(url))
    end
  end)
end)

describe("a header", function()
  it("is secret by its name, in any case", function()
    for _, name in ipairs { "Authorization", "Proxy-Authorization", "COOKIE", "Set-Cookie", "X-Api-Key", "api-key",
      "x-goog-api-key", "X-Auth-Token", "x-amz-security-token", "X-Client-Secret", "api_key", "X-API_KEY",
      "Ocp-Apim-Subscription-Key", "X-Functions-Key", "X-Auth", "X-Auth-Key", "X-Access-Key", "DD-APPLICATION-KEY",
      "X-Algolia-Key", "X-Master-Key", "X-Passwd", "X-Session", "X-Session-Id", "X-JWT", "X-CSRF", "X-XSRF-Token" } do
      assert.message(name).is_true(redact.is_secret_header(name))
    end
  end)

  it("is secret when its client says so", function()
    assert.is_false(redact.is_secret_header "X-Tenant")
    assert.is_true(redact.is_secret_header("X-Tenant", { ["x-tenant"] = true }))
  end)

  it("is none when it speaks of limits, types or requests", function()
    for _, name in ipairs { "x-ratelimit-remaining-tokens", "anthropic-ratelimit-input-tokens-reset", "content-type",
      "retry-after", "x-request-id", "date", "Idempotency-Key", "Sec-WebSocket-Key", "Sec-WebSocket-Accept",
      "X-Cache-Key", "Surrogate-Key", "WWW-Authenticate", "X-Author", "x-total-tokens", "x-next-page-token" } do
      assert.message(name).is_false(redact.is_secret_header(name))
    end
  end)
end)

--- A memory of what a request carries.
local function knowing(url, flat, body, content_type)
  local secrets = redact.memory()
  secrets:learn(url, flat or {}, nil, body, content_type)
  return secrets
end

--- The body without what is under names of secrets.
local function bare(body) return redact.body(body, redact.memory()) end

describe("the secrets of a request", function()
  local function gone(secrets, ...)
    for _, value in ipairs { ... } do
      assert.equal("x REDACTED y", redact.scrub("x " .. value .. " y", secrets), value)
    end
  end

  local function kept(secrets, ...)
    for _, value in ipairs { ... } do
      local text = "x " .. value .. " y"
      assert.equal(text, redact.scrub(text, secrets))
    end
  end

  it("are looked for in its headers and its url, with what is in them", function()
    local secrets = knowing("https://me:pass-word@api.test/?api_key=query%2Dkey&page=secretless", {
      "Authorization", "Bearer sk-live-123", "X-Api-Key", "key-4567", "Accept", "application/json",
      "Proxy-Authorization", "Basic " .. base64.encode "joe:opensesame",
    })
    gone(secrets, "sk-live-123", "key-4567", "opensesame", "joe:opensesame", "pass-word", "me:pass-word", "query%2Dkey",
      "query-key")
    kept(secrets, "application/json", "secretless")
  end)

  it("in a url's user information are found as Basic has them, alone and decoded", function()
    gone(knowing "https://joe:se%2Fcret%40word@api.test/", "se/cret@word", "se%2Fcret%40word",
      base64.encode "joe:se/cret@word")
    gone(knowing "https://sk_live_51Abc@api.test/", "sk_live_51Abc", base64.encode "sk_live_51Abc:")
    gone(knowing("https://api.test/", { "Authorization", "Basic " .. base64.encode "sk_live_51Abc:" }), "sk_live_51Abc")
  end)

  it("are parts of values too, without the words around them", function()
    local aws = knowing("https://api.test/", { "Authorization", "AWS4-HMAC-SHA256 Credential=AKIA0123ABCD/20261123/"
      .. "eu-west-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256, Signature=0f1e2d3c4b5a6978" })
    gone(aws, "AKIA0123ABCD", "0f1e2d3c4b5a6978")
    kept(aws, "AWS4-HMAC-SHA256", "x-amz-content-sha256")
    local cookies = knowing("https://api.test/", { "Cookie", "theme=light-theme; id=sent-secret; s=a1b2c3d4e5" })
    gone(cookies, "sent-secret", "a1b2c3d4e5")
    kept(cookies, "light-theme")
    gone(knowing("https://api.test/", { "Authorization", 'Token token="abcdefghij"' }), "abcdefghij")
    local digest = knowing("https://api.test/", { "Authorization",
      'Digest username="joe", uri="/a/long/path1", response="6629fae4"' })
    gone(digest, "6629fae4")
    kept(digest, "/a/long/path1")
  end)

  it("are those of its body too", function()
    gone(knowing("https://api.test/", {},
      '{"user":"joe","login":{"password":"open\\u002fsesame","token":"abcd1234"}}'), "open/sesame", "abcd1234")
    gone(knowing("https://api.test/", {}, "a=1&password=open+sesame%21&code=ab12cd34"),
      "open sesame!", "open+sesame%21", "ab12cd34")
    gone(knowing("https://api.test/", {},
      '--x\r\nContent-Disposition: form-data; name="password"\r\n\r\nopensesame\r\n--x--',
      "multipart/form-data; boundary=x"), "opensesame")
    kept(knowing("https://api.test/", {}, '{"user":"josephine","max_tokens":100,"token":"moonlight"}'),
      "josephine", "moonlight")
  end)

  it("are removed from an answer that repeats them", function()
    local secrets = knowing("https://api.test/", { "Authorization", "Bearer sk-live.1+2" })
    assert.equal('{"sent":"Bearer REDACTED","twice":"REDACTED"}',
      redact.body('{"sent":"Bearer sk-live.1+2","twice":"sk-live.1+2"}', secrets))
    assert.same({ echo = "x REDACTED", ["set-cookie"] = { "REDACTED", "REDACTED" } },
      redact.headers({ "Echo", "x sk-live.1+2", "Set-Cookie", "a=1", "set-cookie", "b=2" }, secrets))
  end)

  it("are found however an answer writes them", function()
    local secrets = knowing("https://api.test/", { "X-Api-Key", 'a/b+c="d e"\\fghi-gé1' })
    for _, text in ipairs { [[a/b+c=\"d e\"\\f-gé1]], [[a\/b+c=\"d e\"\\f-g\u00e91]],
      [[a\/b\u002bc\u003D\"d e\"\\f-g\u00E91]],
      "a%2Fb%2Bc%3D%22d%20e%22%5Cf-g%C3%A91", "a%2fb%2bc%3d%22d+e%22%5cf-g%c3%a91",
      "a%252Fb%252Bc%253D%2522d%2520e%2522%255Cf-g%25C3%25A91",
      "a/b+c=&quot;d e&quot;\\f-gé1", [[a\\\/b+c=\\\"d e\\\"\\\\f-gé1]] } do
      gone(secrets, (text:gsub("f%-g", "fghi-g")))
    end
    local encoded = base64.encode "??>>-key-value~"
    assert.is_truthy(encoded:find "[/+]")
    gone(knowing("https://api.test/", { "X-Api-Key", "??>>-key-value~" }), (encoded:gsub("=+$", "")),
      (base64.encode_url "??>>-key-value~"), (encoded:gsub("/", "\\/")))
    gone(knowing("https://api.test/", { "X-Api-Key", 'a/b c"d\\e' }), 'a/b c"d\\e', [[a/b c\"d\\e]], [[a\/b c\"d\\e]],
      "a%2Fb%20c%22d%5Ce", "a%2fb%20c%22d%5ce", "a%2Fb+c%22d%5Ce")
  end)

  it("are not words so short that they may be anything, nor numbers", function()
    local secrets = knowing("https://api.test/?pin=1234567890", { "X-Api-Key", "cat", "X-Session-Id", "12345678" })
    assert.equal("concatenate 12345678 1234567890", redact.body("concatenate 12345678 1234567890", secrets))
  end)

  it("are not found within longer words and numbers, unless they can only be themselves", function()
    local secrets = knowing("https://api.test/", { "X-Api-Key", "abcd1234", "X-Auth", "0123456789abcdef0123" })
    assert.equal('{"a":"abcd12345","b":"xabcd1234","c":"REDACTED","d":"z0REDACTED"}',
      redact.body('{"a":"abcd12345","b":"xabcd1234","c":"abcd1234","d":"z00123456789abcdef0123"}', secrets))
    assert.equal([[{"a":"\nREDACTED\u0020REDACTED%20REDACTED"}]],
      redact.body([[{"a":"\nabcd1234\u0020abcd1234%20abcd1234"}]], secrets))
  end)

  it("that are words leave members' names alone", function()
    local secrets = knowing("https://api.test/", { "X-Api-Key", "username" })
    assert.equal('{"username":"REDACTED"}', redact.body('{"username":"username"}', secrets))
  end)

  it("never break an escape, and a text that would be no JSON any more is nothing but removed", function()
    local function body(text, value) return redact.body(text, knowing("https://a.test/", { "X-Api-Key", value })) end
    assert.equal([[{"a":"xREDACTED"}]], body([[{"a":"x\nabcdef01"}]], "nabcdef01"))
    assert.equal('"REDACTED"', body('{"a":"abcd1","b":"x"}', 'abcd1","b'))
  end)
end)

describe("the secrets of a recording", function()
  it("are those of all its requests, redirects to other hosts included", function()
    local secrets = knowing("https://a.test/", { "Authorization", "Bearer first-hop-1" })
    secrets:learn("https://b.test/", { "Accept", "*/*" })
    assert.equal("got REDACTED", redact.body("got first-hop-1", secrets))
    assert.equal("https://b.test/?from=REDACTED", redact.scrub("https://b.test/?from=first-hop-1", secrets))
  end)

  it("are what servers set and hand out too: cookies, tokens, where redirects lead", function()
    local secrets = redact.memory()
    redact.headers({ "Set-Cookie", "sid=s3cr3t-c00kie; Path=/",
      "Location", "https://joe:pass-w0rd@b.test/?sig=sig-nature1" }, secrets)
    redact.body('{"access_token":"minted-token-1","password":"see below"}', secrets)
    assert.equal("REDACTED REDACTED REDACTED REDACTED, see below",
      redact.scrub("s3cr3t-c00kie pass-w0rd sig-nature1 minted-token-1, see below", secrets))
  end)

  it("are the latest 500 at least, and those that are sent again", function()
    local secrets, mine = redact.memory(), { "X-Api-Key", "client-key-1" }
    for i = 1, 5000 do
      secrets:learn("https://a.test/?sig=signature-" .. i .. "z", mine)
      if i % 997 == 0 then assert.equal("REDACTED", redact.scrub("client-key-1", secrets)) end
    end
    for i = 4501, 5000 do assert.equal("REDACTED", redact.scrub("signature-" .. i .. "z", secrets)) end
    assert.equal("signature-1z", redact.scrub("signature-1z", secrets))
  end)
end)

describe("an answer's body", function()
  it("loses what stands under names of secrets, and language models keep their tokens", function()
    assert.equal('{"access_token": "REDACTED","token":"moon","password":"REDACTED"}',
      bare '{"access_token": "abc","token":"moon","password":"x"}')
    local kept = json.encode { usage = { total_tokens = 5, max_tokens = 9 }, key = "a1b2c3d4e5f6a7b8", tokens = { "a" },
      next_page_token = "abc", error = { code = "insufficient_quota" }, sort_key = "x", secretary = "x" }
    assert.equal(kept, bare(kept))
  end)

  it("loses them in any case, with any dashes", function()
    assert.equal('{"API-Key":"REDACTED","Client_Secret":"REDACTED","refreshToken":"REDACTED"}',
      bare '{"API-Key":"a","Client_Secret":"b","refreshToken":"c"}')
  end)

  it("loses a token that cannot be a word", function()
    assert.equal('{"token":"REDACTED"}', bare '{"token":"eyJhbGciOiJIUzI1NiJ9.e30.abc"}')
  end)

  it("loses numbers, arrays and objects under passwords", function()
    assert.equal('{"password":"REDACTED","secrets":"REDACTED","credentials":"REDACTED","api_key":5,"secret":null}',
      bare '{"password":12.5,"secrets":["a",{"b":"]"}],"credentials":{"id":"}\\"}"},"api_key":5,"secret":null}')
  end)

  it("loses texts up to their end, quotes within and all", function()
    assert.equal([[{"secret":"REDACTED","b":"c","password":"REDACTED]],
      bare [[{"secret":"a\"b\\","b":"c","password":"x\"y]])
  end)

  it("loses them in strings of JSON as well", function()
    local inner = json.encode { password = 'a"b\\', n = "x" }
    local outer = json.encode { inner = inner }
    for _ = 1, 2 do
      local value = json.decode(bare(outer))
      while value.inner do value = json.decode(value.inner) end
      assert.same({ password = "REDACTED", n = "x" }, value)
      outer = json.encode { inner = outer }
    end
  end)

  it("loses them in forms, presigned URLs, XML, lines and user information", function()
    assert.equal("access_token=REDACTED&expires_in=5&code=REDACTED", bare "access_token=ab%2Fc&expires_in=5&code=xyz")
    assert.equal("code=REDACTED&password=REDACTED", bare "code=ab&password=c")
    assert.equal([[{"u":"https:\/\/s3\/o?X-Amz-Signature=REDACTED\u0026sig=REDACTED&n=1"}]],
      bare [[{"u":"https:\/\/s3\/o?X-Amz-Signature=0f\u0026sig=a\/b%3D&n=1"}]])
    assert.equal([[{"u":"x?sig\u003dREDACTED\u0026n\u003d1"}]], bare [[{"u":"x?sig\u003dab\u0026n\u003d1"}]])
    assert.equal("<a><Password x='1'>REDACTED</Password><b>c</b></a>",
      bare "<a><Password x='1'>hu</Password><b>c</b></a>")
    assert.equal([[{"x":"<password>REDACTED<\/password>"}]], bare [[{"x":"<password>a<\/password>"}]])
    assert.equal("<password><![CDATA[REDACTED]]></password>", bare "<password><![CDATA[a>b]]></password>")
    assert.equal('password: REDACTED\nuser: joe\nsecret: "REDACTED"\n', bare 'password: x y\nuser: joe\nsecret: "z"\n')
    assert.equal("postgres://REDACTED@db/x me@mail.test", bare "postgres://joe:pw@db/x me@mail.test")
    assert.equal("{'password': 'REDACTED', 'n': 1}", bare "{'password': 'a', 'n': 1}")
  end)

  it("with a colon before a quote in a text stays JSON", function()
    for _, text in ipairs { '{"m":"enter password:","b":"c"}', '{"m":"password=","b":"c"}',
      '{"m":"password: ","b":"c"}', [[{"m":"'password': '","b":"c"}]], '[{"m":"x//a:"},"@"]' } do
      assert.equal(text, bare(text))
    end
  end)

  it("that is no text is searched for values only", function()
    local secrets = knowing("https://a.test/", { "X-Auth", "abcd-1234" })
    assert.equal("\0password=a REDACTED", redact.body("\0password=a abcd-1234", secrets))
  end)

  it("of thousands of random members stays JSON", function()
    local bits = { "a", "1", "/", "=", "\\", '"', "'", " ", "\n", "&", "%", "u", "n", ":", "é", "{", "}", "[", ",", "<",
      ">", "@" }
    local uniform = core.rng(1, 0)
    local function draw(from, to) return from + math.floor(uniform:double() * (to - from + 1)) end
    local function text(most)
      local list = {}
      for i = 1, draw(0, most) do list[i] = bits[draw(1, #bits)] end
      return table.concat(list)
    end
    for _ = 1, 2000 do
      local secrets = redact.memory()
      for _ = 1, 5 do secrets.add(text(16)) end
      local value = { password = text(20), a = text(20) .. "password=" .. text(9), b = text(9) .. "pin: " .. text(9),
        c = json.encode { secret = text(9), d = text(20) },
        e = "<password>" .. text(9) .. "</password>//" .. text(5) .. "@" }
      local body = json.encode(value)
      local result = redact.body(body, secrets)
      assert.is_truthy(json.decode(result), body)
    end
  end)
end)

describe("an answer's header", function()
  it("that says where to go loses the secrets in it", function()
    assert.same({ location = "https://b.test/?sig=REDACTED&a=1" },
      redact.headers({ "Location", "https://me:pw@b.test/?sig=abc&a=1#part" }, redact.memory()))
    assert.same({ link = '<https://b.test/?sig=REDACTED&a=1>; rel="next"',
      ["content-type"] = "text/plain; charset=utf-8" },
      redact.headers({ "Link", '<https://b.test/?sig=abc&a=1>; rel="next"',
        "Content-Type", "text/plain; charset=utf-8" }, redact.memory()))
  end)
end)

describe("a body's hash", function()
  it("does not depend on the order of JSON's names, nor on white space", function()
    assert.equal(key.body_hash '{"a":1,"b":[1,{"x":2,"y":3}]}', key.body_hash '{ "b": [1, {"y":3, "x":2}], "a": 1 }')
  end)

  it("differs where the values do", function()
    assert.not_equal(key.body_hash '{"a":1}', key.body_hash '{"a":2}')
    assert.not_equal(key.body_hash "[1,2]", key.body_hash "[2,1]")
    assert.not_equal(key.body_hash "a=1", key.body_hash "a=2")
  end)

  it("is SHA-256 of what is no JSON", function()
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", key.body_hash "abc")
    assert.equal(64, #key.body_hash "{broken")
  end)

  it("does not depend on the boundary of multipart", function()
    local function hash(boundary)
      return key.body_hash("--" .. boundary .. "\r\n\r\nfile\r\n--" .. boundary .. "--\r\n",
        "multipart/form-data; boundary=" .. boundary)
    end
    assert.equal(hash "abc-1", hash "xyz-2")
  end)

  it("of a long body is that of its beginning and its length", function()
    local long = ("x"):rep(key.MAX_HASHED)
    assert.equal(key.body_hash(long .. "a"), key.body_hash(long .. "b"))
    assert.not_equal(key.body_hash(long .. "a"), key.body_hash(long .. "ab"))
  end)

  it("is nothing without a body", function()
    assert.is_nil(key.body_hash(nil))
    assert.is_nil(key.body_hash "")
  end)
end)

describe("an endpoint", function()
  it("is method and path, with numbers and ids generalised, without the query", function()
    local function endpoint(path) return key.endpoint("GET", "https://api.test" .. path) end
    assert.equal("GET /items/{n}/parts", endpoint "/items/17/parts?x=1")
    assert.equal("GET /{id}", endpoint "/0b0c5a2e-7f3b-4c51-9a55-0123456789ab")
    assert.equal("GET /{id}", endpoint "/65f0c0ffee0123456789abcd")
    assert.equal("GET /v1/chat/deadbeef", endpoint "/v1/chat/deadbeef")
    assert.equal("GET /", endpoint "")
  end)
end)
