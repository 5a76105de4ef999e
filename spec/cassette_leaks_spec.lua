-- SPDX-License-Identifier: MIT
-- A marked value in every place where programs and servers put secrets, a server that
-- repeats all of it in every answer, and a look at the cassette's bytes.
local base64 = require "neap.base64"
local cassette = require "neap.cassette"
local json = require "neap.json"
local neap = require "neap"
local leaks = require "spec.support.leaks"
local tmp = require "spec.support.tmp"
local uv = require "neap.uv"

--- Values by place; each has a part that occurs nowhere else.
local marks

--- A secret of 20 letters and digits, between what is given.
local function mark(place, before, after)
  local digits = {}
  for i = 1, 16 do digits[i] = ("%x"):format(math.random(0, 15)) end
  local core = ("q7%s%02d"):format(table.concat(digits), #marks % 100)
  marks[#marks + 1] = { place = place, core = core }
  return (before or "") .. core .. (after or "")
end

local HEADERS = { "X-Api-Key", "api_key", "X-API_KEY", "Ocp-Apim-Subscription-Key", "X-Functions-Key", "X-Auth",
  "X-Auth-Key", "X-Auth-Token", "X-Access-Key", "DD-APPLICATION-KEY", "X-Algolia-Key", "X-Master-Key", "X-Passwd",
  "X-Session", "X-Session-Id", "X-JWT", "X-CSRF", "X-XSRF-Token", "X-Tenant", "Private-Token", "X-Vault-Token" }

local PARAMETERS = { "key", "token", "api_key", "api_token", "private_token", "subscription-key", "access_key",
  "session_token", "sas_token", "security_token", "oauth_token", "bearer_token", "code", "pass", "sign", "hmac",
  "AWSAccessKeyId", "app_key", "user_key", "license_key", "assertion", "credentials", "otp", "pin", "ticket", "sig",
  "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "client_secret", "my%5Fpassword", "accessKey", "jwt" }

local MEMBERS = { "password", "Password", "api_key", "apiKey", "API-KEY", "access_token", "refreshToken", "id_token",
  "client_secret", "private_key", "session_token", "passphrase", "userPassword", "AWSAccessKeyId", "SecretAccessKey",
  "csrf_token", "license_key", "assertion" }

local function pairs_of(names, joiner)
  local list = {}
  for i, name in ipairs(names) do list[i] = name .. "=" .. mark("parameter " .. name) end
  return table.concat(list, joiner)
end

local function members_of(names, where)
  local members = {}
  for _, name in ipairs(names) do members[name] = mark(where .. " " .. name, "", '/+"\\ z') end
  return members
end

--- What a server hands out by itself.
local function handed_out()
  local xml = {}
  for i, name in ipairs { "SecretAccessKey", "SessionToken", "password" } do
    xml[i] = ("<%s>%s</%s>"):format(name, mark("element " .. name), name)
  end
  local inner = json.encode(members_of(MEMBERS, "inner member"))
  return {
    members = members_of(MEMBERS, "member"), inner = inner, twice = json.encode { inner = inner },
    number = { password = 12345678901, pin = 987654321 }, secrets = { list = { mark "array" }, value = mark "object" },
    form = "access_token=" .. mark "form answer" .. "&token=" .. mark "form token" .. "&expires_in=3600",
    link = "https://s3.test/o?X-Amz-Credential=" .. mark("link credential", "", "%2F20261123") .. "&X-Amz-Signature="
      .. mark "link signature" .. "&sig=" .. mark("link sig", "", "%3D") .. "&n=1",
    within = "https://a.test/?to=https%3A%2F%2Fb.test%2F%3Fsig%3D" .. mark "link within" .. "%26n%3D1",
    user = "https://joe:" .. mark "link user" .. "@b.test/x", xml = table.concat(xml, "\n"),
    data = "<Token><![CDATA[" .. mark "cdata" .. "]]></Token>",
    yaml = "user: joe\npassword: " .. mark "line" .. "\nn: 1",
    headers = "GET / HTTP/1.1\r\nAuthorization: Bearer " .. mark "header line" .. "\r\nHost: x",
    python = "{'password': '" .. mark "single quotes" .. "'}", token = mark "a long token",
  }
end

local function percent(text, form)
  return (text:gsub("[^%w%-._~]", function(char) return ("%%" .. form):format(char:byte()) end))
end

--- All that came so far, in every way to write it.
local function echo(history, given)
  local seen = {}
  for i, request in ipairs(history) do
    local basic = request.headers.authorization and request.headers.authorization:match "^%a+ (.*)$"
    seen[i] = { target = request.target, headers = request.headers, body = request.body, bare = basic,
      upper = percent(request.target .. " " .. request.body .. " " .. (basic or ""), "%02X"),
      lower = percent(request.target .. " " .. request.body, "%02x"),
      text = table.concat(request.list, "\r\n"), text_base64 = {} }
    for j, value in ipairs(request.values) do seen[i].text_base64[j] = base64.encode(value) end
  end
  return json.encode { seen = seen, given = given }
end

--- Keeps what came, and answers with all of it.
local function server_of(state)
  return function(request)
    local entry = { target = request.target, headers = {}, body = request.body or "", list = {}, values = {} }
    for name, value in pairs(request.headers) do
      entry.headers[name] = value
      entry.list[#entry.list + 1] = name .. ": " .. value
      entry.values[#entry.values + 1] = value
    end
    state.history[#state.history + 1] = entry
    local headers = { ["content-type"] = "application/json", ["x-echo"] = request.headers.authorization,
      ["link"] = "<" .. state.given.link .. '>; rel="next"', ["x-auth-token"] = state.minted }
    if request.path == "/login" then headers["set-cookie"] = "sid=" .. state.cookie .. "; Path=/; HttpOnly" end
    if request.path == "/away" then
      headers.location = state.elsewhere
      return 302, echo(state.history, state.given), headers
    end
    local text = echo(state.history, state.given)
    if request.path == "/php" then text = text:gsub("\\?/", "\\/"):gsub("&", "\\u0026"):gsub("=", "\\u003d") end
    if request.path == "/text" then
      return 200, table.concat({ state.given.form, state.given.xml, state.given.yaml, text }, "\n"),
        { ["content-type"] = "text/plain" }
    end
    return 200, text, headers
  end
end

local function multipart(fields)
  local parts = {}
  for i, field in ipairs(fields) do
    parts[i] = ('--xyz\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'):format(field[1], field[2])
  end
  return table.concat(parts) .. "--xyz--\r\n"
end

local AWS4 = "AWS4-HMAC-SHA256 Credential=%s/20261123/eu-west-1/s3/aws4_request, "
  .. "SignedHeaders=content-type;host;x-amz-content-sha256, Signature=%s"

--- Requests with a secret in every place that is known.
local function send_all(client, origin, host)
  local headers = {}
  for _, name in ipairs(HEADERS) do headers[name] = mark("header " .. name) end
  headers.Cookie = "theme=dark; id=" .. mark("cookie", "", "%2F%3D") .. "; sess=" .. mark "second cookie"
  local function get(path, authorization, more)
    local opts = more or {}
    opts.headers = opts.headers or {}
    opts.headers.Authorization = authorization
    return assert(client:get(path:find "^http" and path or origin .. path, opts))
  end
  get("/a?page=2&" .. pairs_of(PARAMETERS, "&"), "Bearer " .. mark("bearer", "sk-", "/+=x"), { headers = headers })
  get("/", "Basic " .. base64.encode("joe:" .. mark "basic"))
  get("/", "Basic " .. base64.encode(mark "basic user" .. ":"))
  get("/", AWS4:format(mark "aws key", mark "aws signature"))
  get("/", 'Token token="' .. mark "token header" .. '", id="x"')
  get("/", 'Digest username="joe", realm="r", uri="/", response="' .. mark "digest" .. '"')
  get("http://joe:" .. mark("password", "", "%2F%40z") .. "@" .. host .. "/")
  get("http://" .. mark "user alone" .. "@" .. host .. "/")
  get("/bot123456:" .. mark("path", "AA-", "_zzzz") .. "/getMe")
  get("/x;jsessionid=" .. mark "path parameter" .. "?to=http%3A%2F%2Fb%2F%3Ftoken%3D" .. mark "url within")
  assert(client:post(origin .. "/", { json = { deep = { members_of(MEMBERS, "sent member") }, token = mark "sent token",
    list = { passwords = { mark "sent array" } } } }))
  assert(client:post(origin .. "/", { form = { password = mark("form", "", " /+&z"), code = mark "form code" } }))
  assert(client:post(origin .. "/", { headers = { ["Content-Type"] = "multipart/form-data; boundary=xyz" },
    body = multipart { { "file", "x" }, { "password", mark("multipart", "", "/z") }, { "api_key", mark "part" } } }))
  get "/login"
  get "/after"
  get("/away?sig=" .. mark "first hop", "Bearer " .. mark "first hop's header")
  get "/php"
  get "/text"
  local res = get("/", "Bearer " .. mark "stream", { stream = true })
  repeat until not res:read()
end

--- Bytes of a cassette with what is base64 in it decoded too.
local function bytes_of(path)
  local text = tmp.read(path)
  local parts = { text }
  for body in text:gmatch '"body_base64":"([^"]*)"' do parts[#parts + 1] = base64.decode((body:gsub("\\/", "/"))) end
  return table.concat(parts, "\n")
end

local function found(text)
  local places = {}
  for _, one in ipairs(marks) do
    local encoded = base64.encode(one.core)
    local aligned = encoded:sub(1, 20)
    if text:find(one.core, 1, true) or text:find(aligned, 1, true)
      or text:find(base64.encode("joe:" .. one.core):sub(1, 24), 1, true) then
      places[#places + 1] = one.place
    end
  end
  return places
end

describe("a recording of a program and a server that know no secrecy #real", function()
  local dir

  before_each(function()
    dir, marks = tmp.dir(), {}
  end)

  after_each(function()
    tmp.remove(dir)
    leaks.check_http()
  end)

  local function run(bodies)
    local state = { history = {}, given = handed_out(), cookie = mark "set cookie", minted = mark "minted header" }
    local server = assert(neap.serve { handler = server_of(state) })
    local other = assert(neap.serve { handler = server_of(state) })
    local host = "127.0.0.1:" .. server:port()
    state.elsewhere = ("http://joe:%s@127.0.0.1:%d/there?X-Amz-Signature=%s&n=1"):format(mark "location user",
      other:port(), mark "location signature")
    local path = dir .. "/cassette.jsonl"
    local recording = assert(cassette.record(path, { bodies = bodies }))
    local client = neap.http.client { cookies = true, secret_headers = { "X-Tenant" } }
    local based = neap.http.client { base_url = "http://joe:" .. mark "base_url" .. "@" .. host }
    local ok, err = pcall(function()
      send_all(client, "http://" .. host, host)
      assert(based:get "/based")
      assert(client:get("http://" .. host .. "/last"))
    end)
    assert(recording:stop())
    client:close()
    based:close()
    server:stop(0)
    other:stop(0)
    assert(ok, err)
    return path, state
  end

  it("leaks nothing", function()
    local path, state = run "all"
    assert.is_true(#state.history > 20)
    assert.is_true(#marks > 130)
    local sent = {}
    for i, entry in ipairs(state.history) do sent[i] = entry.target .. entry.body .. table.concat(entry.list) end
    assert.is_true(#found(table.concat(sent)) > 80) -- the marks do come to the server
    assert.same({}, found(bytes_of(path)))
  end)

  it("leaves answers that were JSON so, and as much of them as is no secret", function()
    local path = run "all"
    for _, entry in ipairs(cassette.read(path).entries) do
      if entry.headers["content-type"] == "application/json" then
        local body = assert(json.decode(entry.body), entry.url)
        assert.same({ "REDACTED", "REDACTED" }, { body.given.number.password, body.given.members.password })
        assert.equal("joe", body.given.yaml:match "user: (%w+)")
        assert.is_truthy(body.seen[1].target:find("/a?page=2", 1, true))
      end
    end
  end)

  it("leaks nothing without bodies either", function()
    local path = run "none"
    assert.same({}, found(bytes_of(path)))
  end)
end)

describe("a cassette's file #real", function()
  local dir, path

  before_each(function()
    dir = tmp.dir()
    path = dir .. "/cassette.jsonl"
  end)

  after_each(function() tmp.remove(dir) end)

  local function record() assert(assert(cassette.record(path)):stop()) end

  local function mode() return uv.fs_stat(path).mode % 512 end

  it("is for its owner only, also where there was one for all", function()
    record()
    assert.equal(tonumber("600", 8), mode())
    local reader = assert(io.open(path))
    assert(uv.fs_chmod(path, tonumber("666", 8)))
    record()
    assert.equal(tonumber("600", 8), mode())
    local before = reader:read "*a"
    reader:close()
    assert.is_truthy(before:find("neap_cassette", 1, true)) -- who has the old one open keeps that
  end)

  it("is what a link leads to, which is told", function()
    tmp.write(dir .. "/target", "old")
    assert(uv.fs_chmod(dir .. "/target", tonumber("644", 8)))
    assert(uv.fs_symlink(dir .. "/target", path))
    record()
    assert.is_truthy(tmp.read(dir .. "/target"):find("neap_cassette", 1, true))
    assert.equal("link", uv.fs_lstat(path).type)
    assert.equal(tonumber("644", 8), mode())
  end)

  it("cannot be a folder", function()
    local none, err = cassette.record(dir)
    assert.is_nil(none)
    assert.equal("invalid", err.kind)
  end)
end)
