--- The secret values in what was sent and in what came back: those to look for in
--- answers. Each is given to a function; the same one may come twice. Pure.
local base64 = require "neap.base64"
local names = require "neap.cassette.redact.names"
local scan = require("neap.cassette.redact.text").scan

local find, gmatch, gsub, lower, match = string.find, string.gmatch, string.gsub, string.lower, string.match
local looks_drawn = names.looks_drawn

local M = {}

--- Bytes; a shorter value may be any word of an answer.
M.MIN = 8

local function char_of(hex) return string.char(tonumber(hex, 16)) end

local function percent_decoded(text)
  return (gsub(text, "%%(%x%x)", char_of))
end

--- A parameter's value: as it was sent and as it was meant.
local function add_encoded(add, value)
  add(value)
  if find(value, "[%%+]") then
    add(percent_decoded(value))
    add((percent_decoded(gsub(value, "+", " "))))
  end
end

-- -- Headers --------------------------------------------------------------------

--- Parameters of credentials and cookies that are no secrets.
local PLAIN = {}
for name in gmatch("signedheaders algorithm qop realm uri nc charset oauth_signature_method oauth_version scope region "
  .. "oauth_timestamp oauth_callback expires max-age path domain samesite version headers created method", "%S+") do
  PLAIN[name] = true
end

--- "user:password"; a user alone, as in Stripe's, is the secret.
local function add_pair(add, pair)
  local user, password = match(pair, "^([^:]*):?(.*)$")
  if password == "" then
    add(user)
    add(base64.encode(user .. ":"))
    return
  end
  add(pair)
  add(base64.encode(pair))
  add(password)
  if looks_drawn(user) then add(user) end
end

--- The parts of a value: x of `name="x"`, and of "x; y" what looks drawn.
local function add_parts(add, value)
  value = gsub(value, '([%w_.%-]+)%s*=("?[^",%s]*)', function(name) if PLAIN[lower(name)] then return " " end end)
  for name, part in gmatch(value, '([%w_.%-]+)%s*=%s*"?([^",;%s]+)') do
    if looks_drawn(part) or #part >= M.MIN and (names.class(name) or find(lower(name), "^.?.?id$")
      or find(lower(name), "sess", 1, true) or lower(name) == "response") then
      add_encoded(add, part)
    end
    if lower(name) == "credential" then add(match(part, "^[^/]*")) end
  end
  for part in gmatch(value, '[^;,=%s"]+') do
    if looks_drawn(part) then add_encoded(add, part) end
  end
end

--- "Bearer x": x; "Basic eDp5": the password in it too.
local function add_credentials(add, value)
  local scheme, rest = match(value, "^(%a[%w-]*)%s+(.+)$")
  if not scheme then
    add(value)
    return add_parts(add, value)
  end
  add(#rest >= M.MIN and rest or value)
  if lower(scheme) == "basic" then
    local pair = base64.decode(rest)
    if pair then add_pair(add, pair) end
  else
    add_parts(add, rest)
  end
end

--- Of "name=x; Path=/": x.
local function add_cookie(add, value)
  local name, own = match(value, '^%s*([^=;]*)=%s*"?([^;"]*)')
  if not name then return end
  add_parts(add, name .. "=" .. own)
  if looks_drawn(own) or names.class(name) then add_encoded(add, own) end
end

---@param add fun(value: string)
---@param flat string[] a request's headers
---@param more? table<string, boolean> lower-case names of secret headers besides
function M.of_headers(add, flat, more)
  for i = 1, #flat, 2 do
    if names.header(flat[i], more) then add_credentials(add, flat[i + 1]) end
  end
end

-- -- URLs and bodies ---------------------------------------------------------------

--- What of a url is a secret wherever else it stands.
---@param add fun(value: string)
---@param url string as it is sent
function M.of_url(add, url)
  local user = match(url, "^%a[%w+.-]*://([^/?#]*)@")
  if user and user ~= "" then
    add_pair(add, user)
    local plain = percent_decoded(user)
    if plain ~= user then add_pair(add, plain) end
  end
  for token, secret in gmatch(url, "/bot(%d+:([%w_-]+))") do
    if #secret >= 20 then
      add(token)
      add(secret)
    end
  end
  local query = match(url, "^[^?;]*[?;]([^#]*)")
  if not query then return end
  for name, value in gmatch(query, "([^&;=?/]+)=([^&;]*)") do
    if names.class(name) then add_encoded(add, value) end
  end
  if find(query, "%3", 1, true) then
    for _, value in ipairs(scan(query, "").values) do add_encoded(add, value) end
  end
end

local PLAIN_ESCAPES = { n = "\n", r = "\r", t = "\t", b = "\b", f = "\f" }

--- A string of JSON as it was meant.
local function unescaped(text)
  text = gsub(text, "\\u(%x%x%x%x)", function(hex)
    local code = tonumber(hex, 16)
    if code < 0x80 then return code == 92 and "\\\\" or string.char(code) end
    if code < 0x800 then return string.char(0xc0 + math.floor(code / 64), 0x80 + code % 64) end
    return string.char(0xe0 + math.floor(code / 4096), 0x80 + math.floor(code / 64) % 64, 0x80 + code % 64)
  end)
  return (gsub(text, "\\(.)", function(char) return PLAIN_ESCAPES[char] or char end))
end

--- What a scan found: values, and those in arrays and objects.
local function add_found(add, value)
  if find(value, "^[%[{]") then
    for text in gmatch(value, '"([^"]+)"') do
      if looks_drawn(text) then add(unescaped(text)) end
    end
    return
  end
  add_encoded(add, value)
  if find(value, "\\", 1, true) then add(unescaped(value)) end
end

local function of_multipart(add, body)
  local at = 1
  while true do
    local _, stop, name = find(body, '[; ]name="([^"\r\n]*)"', at)
    if not stop then return end
    local from = select(2, find(body, "\r\n\r\n", stop, true))
    if not from then return end
    local close = find(body, "\r\n", from + 1, true) or #body + 1
    if names.class(name) then add(body:sub(from + 1, close - 1)) end
    at = close
  end
end

--- Of JSON, of a form, of multipart: what stands under names that speak of secrets.
---@param add fun(value: string)
---@param body string a request's
---@param content_type string?
function M.of_body(add, body, content_type)
  if content_type and find(content_type, "^multipart/") then of_multipart(add, body) end
  for _, value in ipairs(scan(body, "", true).values) do add_found(add, value) end
end

--- What a server handed out: of its texts, what looks drawn.
---@param add fun(value: string)
---@param values string[] a scan's
function M.of_found(add, values)
  local function add_drawn(value)
    if looks_drawn(value) then add(value) end
  end
  for i = 1, #values do add_found(add_drawn, values[i]) end
end

--- What a header of an answer hands out that is a secret, or leads elsewhere.
---@param add fun(value: string)
---@param name string in small letters
---@param value string
function M.of_answer(add, name, value)
  if name == "set-cookie" then
    add_cookie(add, value)
  elseif name == "location" or name == "content-location" then
    M.of_url(add, value)
  else
    add_credentials(add, value)
  end
end

return M
