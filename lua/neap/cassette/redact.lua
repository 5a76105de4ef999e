--- What of a request must not be in a cassette, and its removal. Pure.
---
--- Three nets, each for what slips through the one before: values under names that
--- speak of secrets (headers, query, members of JSON); the very values that the
--- request carried, wherever the answer repeats them; and request headers and bodies
--- are never kept at all.
local base64 = require "neap.base64"
local redirect = require "neap.http.redirect"

local find, gsub, lower, sub = string.find, string.gsub, string.lower, string.sub

local M = {}

--- What stands in a secret's place.
M.MARK = "REDACTED"

local MIN_VALUE = 6 -- bytes; a shorter value may be any word of an answer

--- Parts of header names that are secrets' whatever the rest of the name says.
local HEADER_WORDS = { "authoriz", "cookie", "token", "secret", "password", "api%-?key", "credential", "session%-?id",
  "signature" }

--- Names of query parameters, in small letters without what is neither letter nor digit.
local QUERY_NAMES = {
  key = true, token = true, auth = true, authorization = true, authtoken = true, idtoken = true, refreshtoken = true,
  sig = true, secret = true, passwd = true, pwd = true, session = true, sessionid = true, sid = true, jwt = true,
  credential = true, xamzcredential = true, xamzsecuritytoken = true, xgoogcredential = true,
}
--- The same, at the end of a name. "token" is not: a page token is none.
local QUERY_ENDS = { "apikey", "accesstoken", "secret", "password", "signature", "secretkey", "privatekey" }

--- Members of JSON that hold what a server hands out or was sent. "token" is not: it
--- is a word of language models too.
local MEMBERS = { "access_token", "refresh_token", "id_token", "auth_token", "session_token", "client_secret",
  "api_key", "apiKey", "apikey", "accessToken", "refreshToken", "idToken", "clientSecret", "secret", "password",
  "private_key" }

--- Whether a header's value is a secret.
---@param name string in any case
---@param more? table<string, boolean> lower-case names besides
---@return boolean
function M.is_secret_header(name, more)
  name = lower(name)
  if redirect.SECRET_HEADERS[name] or more and more[name] then return true end
  if find(name, "ratelimit", 1, true) then return false end -- of tokens that are none of these
  for _, word in ipairs(HEADER_WORDS) do
    if find(name, word) then return true end
  end
  return false
end

local function is_secret_parameter(name)
  name = gsub(name, "%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
  name = gsub(lower(name), "[^%w]", "")
  if QUERY_NAMES[name] then return true end
  for _, ending in ipairs(QUERY_ENDS) do
    if sub(name, -#ending) == ending then return true end
  end
  return false
end

--- A url without user information, fragment and the values of secret parameters.
---@param url string
---@return string
function M.url(url)
  url = gsub(url, "#.*$", "")
  url = gsub(url, "^(%a[%w+.-]*://)[^/?]*@", "%1")
  local mark = find(url, "?", 1, true)
  if not mark then return url end
  local query = gsub(sub(url, mark + 1), "([^&;=]+)=([^&;]*)", function(name, value)
    if value ~= "" and is_secret_parameter(name) then return name .. "=" .. M.MARK end
  end)
  return sub(url, 1, mark) .. query
end

-- -- The values that a request carried ----------------------------------------

local function add(list, value)
  if value and #value >= MIN_VALUE then list[#list + 1] = value end
end

--- "Bearer x": x too; "Basic eDp5": the password in it too.
local function add_credentials(list, value)
  local scheme, rest = value:match "^(%a[%w-]*)%s+(.+)$"
  if rest then add(list, rest) end
  if scheme and lower(scheme) == "basic" then
    local pair = base64.decode(rest)
    add(list, pair)
    add(list, pair and pair:match "^[^:]*:(.+)$")
  end
  add(list, value)
end

local function add_of_url(list, url)
  local user = url:match "^%a[%w+.-]*://([^/?#]*)@"
  if user then
    add(list, user:match "^[^:]*:(.+)$")
    add(list, user)
  end
  for name, value in (url:match "%?([^#]*)" or ""):gmatch "([^&;=]+)=([^&;]*)" do
    if is_secret_parameter(name) then
      add(list, value)
      local plain = gsub(value, "%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
      if plain ~= value then add(list, plain) end
    end
  end
end

--- The secret values of a request, longest first.
---@param url string as it is sent
---@param flat string[] its headers
---@param more? table<string, boolean> lower-case names of secret headers besides
---@return string[]
function M.values(url, flat, more)
  local list = {}
  for i = 1, #flat, 2 do
    if M.is_secret_header(flat[i], more) then add_credentials(list, flat[i + 1]) end
  end
  add_of_url(list, url)
  table.sort(list, function(a, b)
    if #a ~= #b then return #a > #b end
    return a < b
  end)
  return list
end

--- A text without these values.
---@param text string
---@param values string[]
---@return string
function M.scrub(text, values)
  for i = 1, #values do
    local value = values[i]
    if find(text, value, 1, true) then text = gsub(text, gsub(value, "%p", "%%%0"), M.MARK) end
  end
  return text
end

-- -- Answers ------------------------------------------------------------------

--- An answer's headers, by lower-case name; repeated ones as an array.
---@param flat string[]
---@param values string[] secrets of the request
---@param more? table<string, boolean>
---@return table<string, string|string[]>
function M.headers(flat, values, more)
  local result = {}
  for i = 1, #flat, 2 do
    local name, value = lower(flat[i]), flat[i + 1]
    if M.is_secret_header(name, more) then
      value = M.MARK
    elseif name == "location" or name == "content-location" then
      value = M.scrub(M.url(value), values)
    else
      value = M.scrub(value, values)
    end
    local old = result[name]
    if type(old) == "table" then
      old[#old + 1] = value
    else
      result[name] = old and { old, value } or value
    end
  end
  return result
end

--- Where a JSON string ends that begins at `at`: its closing quote, or the text's end.
local function string_end(text, at)
  while true do
    local stop = find(text, '["\\]', at)
    if not stop then return #text + 1 end
    if sub(text, stop, stop) == '"' then return stop end
    at = stop + 2
  end
end

--- A text without the strings under a name.
local function without_member(text, name)
  local pattern, parts, from = '"' .. name .. '"%s*:%s*"', {}, 1
  while true do
    local _, quote = find(text, pattern, from)
    if not quote then break end
    parts[#parts + 1] = sub(text, from, quote) .. M.MARK
    from = string_end(text, quote + 1)
  end
  return table.concat(parts) .. sub(text, from)
end

--- An answer's body.
---@param body string
---@param values string[] secrets of the request
---@return string
function M.body(body, values)
  body = M.scrub(body, values)
  for _, name in ipairs(MEMBERS) do
    if find(body, name, 1, true) then body = without_member(body, name) end
  end
  return body
end

return M
