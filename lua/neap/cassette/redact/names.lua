--- Which names speak of secrets: of headers, of parameters (`name=value`), of members
--- of JSON. A name is looked at in small letters, without what is neither letter nor
--- digit. Pure but for a memory of names seen.
local redirect = require "neap.http.redirect"

local find, gsub, lower, sub = string.find, string.gsub, string.lower, string.sub

local M = {}

local MAX_SEEN = 4096 -- names; where names are data there is no end of them

--- A function's answers, kept.
local function remembered(fn)
  local seen, count = {}, 0
  return function(name)
    local class = seen[name]
    if class == nil then
      if count >= MAX_SEEN then seen, count = {}, 0 end
      class = fn(name) or false
      seen[name], count = class, count + 1
    end
    return class
  end
end

local function ends(name, list)
  for i = 1, #list do
    if sub(name, -#list[i]) == list[i] then return true end
  end
  return false
end

local function holds(name, list)
  for i = 1, #list do
    if find(name, list[i], 1, true) then return true end
  end
  return false
end

local function set(list)
  local result = {}
  for _, name in ipairs(list) do result[name] = true end
  return result
end

-- -- What is no secret ---------------------------------------------------------

--- "page token" and the like: where a list goes on. And what models call tokens.
local PAGING = { "page", "pagin", "next", "prev", "continu", "cursor", "sync", "marker", "resume" }
local MODEL = set { "eos", "bos", "pad", "unk", "sep", "cls", "mask", "stop", "special", "prompt", "first", "last",
  "per", "max", "total", "input", "output", "timetofirst" }

--- What stands before "key" where it opens nothing, words that happen to end so included.
local PLAIN_KEYS = { "cache", "partition", "sort", "primary", "public", "foreign", "idempotency", "surrogate", "route",
  "routing", "object", "s3", "storage", "file", "lookup", "group", "hash", "range", "row", "index", "order", "dedup",
  "dedupe", "deduplication", "translation", "message", "event", "issue", "project", "map", "feature", "config",
  "unique",
  "composite", "node", "shard", "parent", "record", "secwebsocket", "mon", "tur", "don", "hot", "hoc", "joc", "whis",
  "lac", "mic", "dis" }

--- About a password or a secret, but not it.
local ABOUT = { "policy", "name", "id", "version", "arn", "required", "changed", "at", "expires", "expiry", "length",
  "count", "type", "less", "method" }

local function is_token(name)
  if sub(name, -5) ~= "token" then return false end
  local before = sub(name, 1, -6)
  return not (MODEL[before] or holds(before, PAGING))
end

local function is_key(name)
  return sub(name, -3) == "key" and not ends(sub(name, 1, -4), PLAIN_KEYS)
end

-- -- Parameters and members ----------------------------------------------------

--- Secrets as a query's parameter, any word elsewhere.
local WORDS = set { "key", "token", "code", "sid", "sign", "ticket" }
--- Of these, members of JSON that are never secrets by themselves.
local DATA = set { "key", "sid" }
local EXACT = set { "auth", "oauth", "authorization", "cookie", "setcookie", "sig", "sas", "jwt", "hmac", "session",
  "assertion", "pass", "bearer", "dpop" }
local EXACT_ANY = set { "otp", "pin", "pwd" }
local WITHIN = { "apikey", "accesskey", "privatekey", "accesstoken", "authtoken", "csrf", "xsrf" }
local ENDS = { "signature", "sessionid", "sessid", "assertion", "authorization", "hmac", "jwt", "authcode",
  "authorizationcode", "devicecode", "codeverifier" }
local WITHIN_ANY = { "passw", "passphrase", "passcode", "secret" }
local ENDS_ANY = { "credential", "credentials", "apikeys", "accesskeys", "privatekeys", "accesstokens", "refreshtokens",
  "authtokens" }

local function classify(name)
  if EXACT_ANY[name] or ends(name, ENDS_ANY) then return "any" end
  if holds(name, WITHIN_ANY) and not (ends(name, ABOUT) or find(name, "secretar", 1, true)) then return "any" end
  if WORDS[name] then return "word" end
  if EXACT[name] or holds(name, WITHIN) or ends(name, ENDS) or is_token(name) or is_key(name) then return "text" end
end

local function byte_of(hex) return string.char(tonumber(hex, 16)) end

--- What may stand under a name: "any" value is a secret (numbers, arrays and objects
--- too); a "text"; "word": a text, where the name is a parameter's. False: nothing.
---@type fun(name: string): "any"|"text"|"word"|false
M.class = remembered(function(name)
  if find(name, "%", 1, true) then name = gsub(name, "%%(%x%x)", byte_of) end
  return classify((gsub(lower(name), "[^%w]", "")))
end)

--- Whether a member of JSON, of those that `class` calls words, may be a secret when
--- it looks like one.
---@param name string
---@return boolean
function M.may_be_secret(name)
  return not DATA[lower(name)]
end

-- -- Headers -------------------------------------------------------------------

local HEADER_WITHIN = { "auth", "cookie", "secret", "passw", "apikey", "credential", "session", "signature", "jwt",
  "csrf", "xsrf", "assertion", "accesskey" }
local HEADER_ENDS = { "-pass", "-pwd", "-otp", "-sig", "-sign", "-hmac", "-bearer", "dpop" }
--- They ask for authorization, or name an author.
local HEADER_PLAIN = { "authenticate", "authority", "authors?$" }

local is_secret = remembered(function(name)
  name = gsub(name, "_", "-")
  if redirect.SECRET_HEADERS[name] then return true end
  if find(name, "ratelimit", 1, true) then return false end -- of tokens that are none of these
  for _, word in ipairs(HEADER_PLAIN) do name = gsub(name, word, "") end
  if ends(name, HEADER_ENDS) then return true end
  name = gsub(name, "[^%w]", "")
  if holds(name, HEADER_WITHIN) or is_key(name) then return true end
  return find(name, "token", 1, true) ~= nil and not find(name, "tokens", 1, true) and not holds(name, PAGING)
end)

--- Whether a header's value is a secret.
---@param name string in any case
---@param more? table<string, boolean> lower-case names besides
---@return boolean
function M.header(name, more)
  name = lower(name)
  return is_secret(name) or more ~= nil and more[name] == true
end

-- -- Values --------------------------------------------------------------------

--- Whether a value looks drawn rather than written: letters and digits, no space.
---@param value string
---@param least? integer bytes; default 8
---@return boolean
function M.looks_drawn(value, least)
  if #value < (least or 8) or find(value, "[%s%c]") or not find(value, "%a") then return false end
  return find(value, "%d") ~= nil or #value >= 32
end

return M
