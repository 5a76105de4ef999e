local rate_headers = require "neap.rate_headers"
local measure = require "spec.support.measure"

local near = measure.near

-- 2026-04-26T12:00:00Z
local NOW = 1777204800

describe("a Go duration", function()
  it("adds up its parts", function()
    near(360, rate_headers.duration "6m0s")
    near(90.5, rate_headers.duration "1m30.5s")
    near(0.012, rate_headers.duration "12ms")
    near(8 * 3600 + 60 + 2, rate_headers.duration "8h1m2s")
    near(2e-6, rate_headers.duration "2us")
    near(2e-6, rate_headers.duration "2µs")
    near(7e-9, rate_headers.duration "7ns")
    near(0.5, rate_headers.duration ".5s")
  end)

  it("is nil when it is anything else", function()
    for _, text in ipairs { "", "s", "1", "1x", "1s2", "-1s", "1 s", "1..5s", "1.2.3s", "1e3s", "abc", "1d", "0x1s" } do
      assert.is_nil(rate_headers.duration(text), text)
    end
  end)
end)

describe("an HTTP date", function()
  local expected = 784111777 -- the example of RFC 9110, 5.6.7

  it("is read in all three forms", function()
    assert.equal(expected, rate_headers.http_date "Sun, 06 Nov 1994 08:49:37 GMT")
    assert.equal(expected, rate_headers.http_date("Sunday, 06-Nov-94 08:49:37 GMT", NOW))
    assert.equal(expected, rate_headers.http_date "Sun Nov  6 08:49:37 1994")
  end)

  it("takes a two-digit year within 50 years of now", function()
    assert.equal(rate_headers.http_date "Sat, 01 Jan 2050 00:00:00 GMT",
      rate_headers.http_date("Saturday, 01-Jan-50 00:00:00 GMT", NOW))
  end)

  it("knows leap years", function()
    assert.equal(1709164800, rate_headers.http_date "Thu, 29 Feb 2024 00:00:00 GMT")
    assert.equal(951782400, rate_headers.http_date "Tue, 29 Feb 2000 00:00:00 GMT")
    assert.is_nil(rate_headers.http_date "Wed, 29 Feb 2023 00:00:00 GMT")
    assert.is_nil(rate_headers.http_date "Mon, 29 Feb 1900 00:00:00 GMT")
  end)

  it("is nil when there is no such instant", function()
    for _, text in ipairs {
      "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 31 Nov 1994 08:49:37 GMT", "Sun, 06 Foo 1994 08:49:37 GMT",
      "Sun, 06 Nov 1994 24:00:00 GMT", "Sun, 06 Nov 1994 08:60:00 GMT", "Sun, 06 Nov 1994 08:49:37 CET",
      "Sun, 06 Nov 1994", "tomorrow", "",
    } do
      assert.is_nil(rate_headers.http_date(text, NOW), text)
    end
  end)
end)

describe("an RFC 3339 timestamp", function()
  it("is read with zone and fraction", function()
    assert.equal(NOW + 60, rate_headers.rfc3339 "2026-04-26T12:01:00Z")
    near(NOW + 0.25, rate_headers.rfc3339 "2026-04-26T12:00:00.25Z")
    assert.equal(NOW, rate_headers.rfc3339 "2026-04-26T14:00:00+02:00")
    assert.equal(NOW, rate_headers.rfc3339 "2026-04-26t06:30:00-05:30")
  end)

  it("is nil when malformed", function()
    for _, text in ipairs {
      "2026-04-26T12:01:00", "2026-13-26T12:01:00Z", "2026-04-31T12:01:00Z", "2026-04-26T25:01:00Z",
      "2026-04-26", "2026-04-26T12:01:00+99:00", "2026-04-26T12:01:00.1.2Z", "x",
    } do
      assert.is_nil(rate_headers.rfc3339(text), text)
    end
  end)
end)

describe("a wait asked for", function()
  local function wait(headers) return rate_headers.retry_after(headers, NOW) end

  it("comes from Retry-After in seconds, whole or not, in any case of the name", function()
    assert.equal(7, wait { ["retry-after"] = "7" })
    assert.equal(1.5, wait { ["Retry-After"] = " 1.5 " })
    assert.equal(3, wait { ["RETRY-AFTER"] = { "3", "9" } })
  end)

  it("comes from Retry-After as a date, counted from the server's Date", function()
    assert.equal(30, wait { ["retry-after"] = "Sun, 26 Apr 2026 12:00:30 GMT" })
    assert.equal(20, wait {
      ["retry-after"] = "Sun, 26 Apr 2026 12:00:30 GMT", date = "Sun, 26 Apr 2026 12:00:10 GMT",
    })
  end)

  it("prefers retry-after-ms, which may be shorter than a second", function()
    assert.equal(0.25, wait { ["retry-after-ms"] = "250", ["retry-after"] = "7" })
  end)

  it("falls through from a hint that is zero, negative or garbage", function()
    assert.equal(7, wait { ["retry-after-ms"] = "0", ["retry-after"] = "7" })
    assert.equal(7, wait { ["retry-after-ms"] = "-1", ["retry-after"] = "7" })
    assert.equal(2, wait {
      ["retry-after"] = "soon", ["x-ratelimit-remaining-tokens"] = "0", ["x-ratelimit-reset-tokens"] = "2s",
    })
    for _, text in ipairs { "0", "-1", "", "nan", "inf", "1e9", "0x10", "Sun, 26 Apr 2026 11:59:00 GMT", "soon" } do
      assert.is_nil(wait { ["retry-after"] = text }, text)
    end
  end)

  it("is the latest reset among the exhausted dimensions, and of no other", function()
    assert.equal(6, wait {
      ["x-ratelimit-remaining-requests"] = "0", ["x-ratelimit-reset-requests"] = "1s",
      ["x-ratelimit-remaining-tokens"] = "0", ["x-ratelimit-reset-tokens"] = "6s",
    })
    assert.equal(1, wait {
      ["x-ratelimit-remaining-requests"] = "0", ["x-ratelimit-reset-requests"] = "1s",
      ["x-ratelimit-remaining-tokens"] = "5", ["x-ratelimit-reset-tokens"] = "6m0s",
    })
    assert.is_nil(wait { ["x-ratelimit-remaining-requests"] = "3", ["x-ratelimit-reset-requests"] = "1s" })
  end)

  it("is nil without any header", function()
    assert.is_nil(wait {})
  end)
end)

describe("limits observed", function()
  local function observe(headers) return (rate_headers.observe(headers, NOW)) end

  it("read OpenAI's headers", function()
    assert.same({
      requests = { limit = 60, remaining = 59, reset = 1, per = 60, steady = true },
      tokens = { limit = 150000, remaining = 149984, reset = 360, steady = true },
    }, observe {
      ["x-ratelimit-limit-requests"] = "60", ["x-ratelimit-remaining-requests"] = "59",
      ["x-ratelimit-reset-requests"] = "1s", ["x-ratelimit-limit-tokens"] = "150000",
      ["x-ratelimit-remaining-tokens"] = "149984", ["x-ratelimit-reset-tokens"] = "6m0s",
    })
  end)

  it("tell OpenAI's limits a day from those a minute by how slowly they refill", function()
    local function per(limit, remaining, reset)
      return observe({
        ["x-ratelimit-limit-requests"] = limit, ["x-ratelimit-remaining-requests"] = remaining,
        ["x-ratelimit-reset-requests"] = reset,
      }).requests.per
    end
    assert.equal(86400, per("10000", "9999", "8.64s"))
    assert.equal(86400, per("10000", "9998", "8.64s"))
    assert.equal(86400, per("200", "0", "24h0m0s"))
    assert.equal(3600, per("100", "99", "36s"))
    assert.equal(60, per("500", "499", "120ms"))
    assert.equal(60, per("3", "1", "40s"))
    assert.equal(120, per("100", "0", "2m0s"))
    assert.equal(360, per("100", "50", "3m0s"))
    assert.equal(86400, per("1", "0", "99999999h"))
    assert.is_nil(per("500", "500", "0s"))
    assert.is_nil(per("500", "499", "12"))
  end)

  it("read Azure's plain seconds and take its -1 and 0 for unknown", function()
    assert.equal(12, observe({ ["x-ratelimit-reset-tokens"] = "12" }).tokens.reset)
    assert.is_nil(observe({ ["x-ratelimit-remaining-tokens"] = "1", ["x-ratelimit-reset-tokens"] = "0" }).tokens.reset)
    assert.same({}, observe { ["x-ratelimit-remaining-tokens"] = "-1", ["x-ratelimit-reset-tokens"] = "-1" })
  end)

  it("read Anthropic's absolute resets against the server's clock", function()
    local seen = observe {
      date = "Sun, 26 Apr 2026 12:00:50 GMT",
      ["anthropic-ratelimit-requests-limit"] = "1000", ["anthropic-ratelimit-requests-remaining"] = "999",
      ["anthropic-ratelimit-requests-reset"] = "2026-04-26T12:01:00Z",
      ["anthropic-ratelimit-input-tokens-remaining"] = "0",
      ["anthropic-ratelimit-input-tokens-reset"] = "2026-04-26T12:00:55Z",
      ["anthropic-ratelimit-output-tokens-remaining"] = "8000",
      ["anthropic-ratelimit-unified-status"] = "rejected",
      ["anthropic-ratelimit-unified-reset"] = tostring(NOW + 80),
    }
    assert.same({ limit = 1000, remaining = 999, reset = 10, steady = true }, seen.requests)
    assert.same({ remaining = 0, reset = 5, steady = true }, seen.input_tokens)
    assert.same({ remaining = 8000 }, seen.output_tokens)
    assert.same({ remaining = 0, reset = 30 }, seen.unified)
  end)

  it("drop a reset that has passed", function()
    local seen = observe {
      ["anthropic-ratelimit-tokens-remaining"] = "4", ["anthropic-ratelimit-tokens-reset"] = "2026-04-26T11:00:00Z",
    }
    assert.same({ remaining = 4 }, seen.tokens)
  end)

  it("read generic headers, a reset as seconds or as Unix time", function()
    assert.equal(90, observe({ ["x-ratelimit-remaining"] = "1", ["x-ratelimit-reset"] = "90" }).requests.reset)
    assert.equal(90, observe({ ["x-ratelimit-reset"] = tostring(NOW + 90) }).requests.reset)
    assert.equal(5, observe({ ["RateLimit-Remaining"] = "5" }).requests.remaining)
  end)

  it("read the IETF field and keep the tightest policy", function()
    assert.same({ remaining = 5, reset = 9 }, observe({ ratelimit = '"burst";r=50;t=30, "day";r=5;t=9' }).requests)
    assert.same({ remaining = 0 }, observe({ ratelimit = '"burst";r=0' }).requests)
    assert.same({}, observe { ratelimit = '"burst";r=x' })
    assert.same({}, observe { ratelimit = "nonsense" })
    assert.same({}, observe { ratelimit = "" })
    assert.same({}, observe { ratelimit = ',;r=;"' })
  end)

  it("read the IETF field with its policy: quota and window", function()
    assert.same({ limit = 100, remaining = 50, reset = 30, per = 60 }, observe({
      RateLimit = '"burst";r=50;t=30', ["RateLimit-Policy"] = '"burst";q=100;w=60',
    }).requests)
    assert.same({ limit = 1000, remaining = 9, reset = 7, per = 86400 }, observe({
      ratelimit = '"burst";r=50;t=30, "a, day";r=9;t=7',
      ["ratelimit-policy"] = '"burst";q=100;w=60, "a, day"; q=1000 ;w=86400;pk=:cGsx:',
    }).requests)
    assert.same({ remaining = 50, reset = 30 }, observe({
      ratelimit = '"burst";r=50;t=30', ["ratelimit-policy"] = '"other";q=100;w=60, "burst";q=many',
    }).requests)
  end)

  it("leave out an IETF policy that does not count requests", function()
    assert.same({ limit = 100, remaining = 50, per = 60 }, observe({
      ratelimit = '"bytes";r=3;t=9, "burst";r=50',
      ["ratelimit-policy"] = '"bytes";q=5000;w=60;qu="content-bytes", "burst";q=100;w=60;qu="requests"',
    }).requests)
  end)

  it("read the IETF's earlier forms", function()
    assert.same({ limit = 100, remaining = 50, reset = 30 },
      observe({ ratelimit = "limit=100, remaining=50, reset=30" }).requests)
    assert.same({ limit = 100, remaining = 50, reset = 30 }, observe({ ratelimit = '"a";l=100;r=50;t=30' }).requests)
    assert.same({ limit = 50, remaining = 3, reset = 20, per = 60 }, observe({
      ["ratelimit-limit"] = "50, 10;w=1, 50;w=60", ["ratelimit-remaining"] = "3", ["ratelimit-reset"] = "20",
    }).requests)
    assert.same({ limit = 50 }, observe({ ["ratelimit-limit"] = "50, 10;w=1" }).requests)
  end)

  it("ignore garbage in each field by itself", function()
    assert.same({ tokens = { remaining = 3 } }, observe {
      ["x-ratelimit-limit-tokens"] = "many", ["x-ratelimit-remaining-tokens"] = "3",
      ["x-ratelimit-reset-tokens"] = "later", ["x-ratelimit-remaining-requests"] = "nan",
    })
  end)

  it("come with the explicit wait", function()
    local _, wait = rate_headers.observe({ ["Retry-After"] = "4" }, NOW)
    assert.equal(4, wait)
  end)
end)
