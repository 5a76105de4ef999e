-- SPDX-License-Identifier: MIT
local base64 = require "neap.base64"
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
end)

describe("a header", function()
  it("is secret by its name, in any case", function()
    for _, name in ipairs { "Authorization", "Proxy-Authorization", "COOKIE", "Set-Cookie", "X-Api-Key", "api-key",
      "x-goog-api-key", "X-Auth-Token", "x-amz-security-token", "X-Client-Secret" } do
      assert.message(name).is_true(redact.is_secret_header(name))
    end
  end)

  it("is secret when its client says so", function()
    assert.is_false(redact.is_secret_header "X-Tenant")
    assert.is_true(redact.is_secret_header("X-Tenant", { ["x-tenant"] = true }))
  end)

  it("is none when it speaks of limits, types or requests", function()
    for _, name in ipairs { "x-ratelimit-remaining-tokens", "anthropic-ratelimit-input-tokens-reset", "content-type",
      "retry-after", "x-request-id", "date" } do
      assert.message(name).is_false(redact.is_secret_header(name))
    end
  end)
end)

describe("the secrets of a request", function()
  it("are looked for in its headers and its url, with what is in them", function()
    local values = redact.values("https://me:pass-word@api.test/?api_key=query%2Dkey&page=secretless", {
      "Authorization", "Bearer sk-live-123", "X-Api-Key", "key-456", "Accept", "application/json",
      "Proxy-Authorization", "Basic " .. base64.encode "joe:opensesame",
    })
    local set = {}
    for _, value in ipairs(values) do set[value] = true end
    for _, value in ipairs { "sk-live-123", "Bearer sk-live-123", "key-456", "opensesame", "joe:opensesame",
      "pass-word", "query%2Dkey", "query-key" } do
      assert.message(value).is_true(set[value])
    end
    assert.is_nil(set["application/json"])
    assert.is_nil(set.secretless)
  end)

  it("are removed from an answer that repeats them", function()
    local values = redact.values("https://api.test/", { "Authorization", "Bearer sk-live.1+2" })
    assert.equal('{"sent":"REDACTED","twice":"REDACTED"}',
      redact.body('{"sent":"Bearer sk-live.1+2","twice":"sk-live.1+2"}', values))
    assert.same({ echo = "x REDACTED", ["set-cookie"] = { "REDACTED", "REDACTED" } },
      redact.headers({ "Echo", "x sk-live.1+2", "Set-Cookie", "a=1", "set-cookie", "b=2" }, values))
  end)

  it("are not words so short that they may be anything", function()
    local values = redact.values("https://api.test/", { "X-Api-Key", "cat" })
    assert.equal("concatenate", redact.body("concatenate", values))
  end)

  it("that a server hands out are removed from JSON, and language models keep their tokens", function()
    assert.equal('{"access_token": "REDACTED","token":"moon","password":"REDACTED"}',
      redact.body('{"access_token": "abc","token":"moon","password":"x"}', {}))
  end)

  it("are removed from JSON up to the end of their text, quotes within and all", function()
    assert.equal([[{"secret":"REDACTED","b":"c","password":"REDACTED]],
      redact.body([[{"secret":"a\"b\\","b":"c","password":"x\"y]], {}))
  end)

  it("are removed from where a redirect leads", function()
    assert.same({ location = "https://b.test/?sig=REDACTED&a=1" },
      redact.headers({ "Location", "https://b.test/?sig=abc&a=1" }, {}))
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
