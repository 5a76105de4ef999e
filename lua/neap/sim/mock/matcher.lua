--- Which requests a mock's rule is for: reads what `mock:on` was given, and says what of
--- a request differs from it. Pure.
local json = require "neap.json"
local names = require "neap.cassette.redact.names"
local redact = require "neap.cassette.redact"
local options = require "neap.options"
local requests = require "neap.service.request"
local sorted = require "neap.sorted"

local M = {}

---@class neap.sim.RuleOptions what is left out fits everything
---@field method? string in any case
---@field url? string with "*"; scheme, host, path or query may be left out
---@field path? string with "*", as sent; where the url has none
---@field query? table<string, string|number|boolean|function> of each name: a text with "*", any, none, a test
---@field headers? table<string, string|number|boolean|function>
---@field body? string|table|fun(body: string, request: neap.sim.SeenRequest): boolean? a table: the same JSON
---@field match? fun(request: neap.sim.SeenRequest): boolean?

local SPECS = {
  method = { type = "string" },
  url = { type = "string" },
  path = { type = "string" },
  query = { type = "table" },
  headers = { type = "table" },
  body = { type = "string|table|function" },
  match = { type = "function" },
}

local DEFAULT_PORTS = { http = "80", https = "443" }

--- "*" stands for anything, everything else for itself.
local function pattern_of(text)
  return "^" .. text:gsub("[%^%$%(%)%%%.%[%]%+%-%?]", "%%%0"):gsub("%*", ".*") .. "$"
end

--- A url's parts; those that it leaves out are nil.
local function split(url)
  local rest, fragment = url:match "^([^#]*)(.*)$"
  if fragment ~= "" then return nil, "a url that is sent has no fragment" end
  local scheme, behind = rest:match "^(%a[%w+.-]*)://(.*)$"
  if scheme and not DEFAULT_PORTS[scheme:lower()] then return nil, "the scheme must be http or https" end
  rest = behind or rest
  local host = rest:match "^[^/?]+"
  rest = rest:sub(#(host or "") + 1)
  local path, query = rest:match "^([^?]*)%??(.*)$"
  if scheme and not host then return nil, "there is no host in it" end
  if not host and path == "" then return nil, "it is empty; leave it out for any url" end
  return { scheme = scheme and scheme:lower(), host = host and host:lower(), path = path ~= "" and path or nil,
    query = rest:find("?", 1, true) and query or nil }
end

---@class neap.sim.Matcher
---@field given neap.sim.RuleOptions
---@field text string for messages: "POST https://api.test/items"
---@field needs_body boolean
local Matcher = {}
Matcher.__index = Matcher

local function text_of(given)
  local url = given.url and given.url .. (given.path or "") or given.path or "any url"
  local text = (given.method and given.method:upper() .. " " or "") .. redact.url(url)
  local more = {}
  for _, name in ipairs { "query", "headers", "body", "match" } do
    if given[name] ~= nil then more[#more + 1] = name end
  end
  return #more > 0 and ("%s with %s"):format(text, table.concat(more, ", ")) or text
end

--- What a client sends has no brackets around an address.
local function read_url(self, url)
  local parts, message = split(url)
  if not parts then options.fail(("mock:on: option 'url': %s: '%s'"):format(message, url)) end
  self.scheme, self.query = parts.scheme, parts.query and requests.parse_query(parts.query)
  if parts.host then
    self.has_port = parts.host:find ":%d+$" ~= nil
    self.host_text = parts.host:gsub("^%[(.*)%]", "%1")
    self.host = pattern_of(self.host_text)
  end
  if parts.path then self.path_text, self.path = parts.path, pattern_of(parts.path) end
end

local function read_path(self, path)
  if self.path then options.fail "mock:on: option 'path': the url has a path" end
  if not path:find "^[/*]" or path:find "[?#]" then
    options.fail(("mock:on: option 'path': needs '/' in front, and no query: '%s'"):format(path))
  end
  self.path_text, self.path = path, pattern_of(path)
end

--- Reads what a rule is for. Raises at the line of the script.
---@param given? neap.sim.RuleOptions
---@return neap.sim.Matcher
function M.new(given)
  local checked = options.check("mock:on", given, SPECS)
  local self = { given = checked, text = text_of(checked), needs_body = checked.body ~= nil or checked.match ~= nil,
    method = checked.method and checked.method:upper() }
  if checked.url then read_url(self, checked.url) end
  if checked.path then read_path(self, checked.path) end
  if type(checked.body) == "table" then
    local text, err = json.encode(checked.body, { sort_keys = true })
    if not text then options.fail("mock:on: option 'body': " .. err.message) end
    self.json, self.value = text, json.decode(text)
  end
  return setmetatable(self, Matcher)
end

local function show(value)
  if value == nil then return "nothing" end
  local text = tostring(value)
  return ("'%s'"):format(#text > 80 and text:sub(1, 77) .. "..." or text)
end

--- Whether a value is as wanted: a text with "*", a number, true (any), false (none) or
--- a function of one that is there.
local function fits(wanted, value)
  if type(wanted) == "function" then return value ~= nil and wanted(value) and true or false end
  if type(wanted) == "boolean" then return (value ~= nil) == wanted end
  return value ~= nil and value:find(pattern_of(tostring(wanted))) ~= nil
end

local function wanted_text(wanted)
  if wanted == true then return "any" end
  if wanted == false then return "none" end
  if type(wanted) == "function" then return "what its function accepts" end
  return show(wanted)
end

local function compare_names(list, label, wanted, values)
  for name, one in sorted.pairs(wanted) do
    local is_header = label == "header"
    local value = values[is_header and name:lower() or name]
    if not fits(one, value) then
      local is_secret = is_header and names.header(name) or not is_header and names.class(name)
      local got = value == nil and "nothing" or is_secret and "something else" or show(value)
      list[#list + 1] = ("%s %s is %s, not %s"):format(label, name, got, is_secret and "as wanted" or wanted_text(one))
    end
  end
end

--- Whether two values of JSON are equal. In Lua an empty array is an empty object.
local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, value in pairs(a) do
    if not same(value, b[key]) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

local function compare_body(self, list, seen)
  local wanted = self.given.body
  if type(wanted) == "function" then
    if not wanted(seen.body, seen) then list[#list + 1] = "body is not what its function accepts" end
  elseif self.json then
    local value = json.decode(seen.body)
    if value == nil or not same(self.value, value) then
      local text = value ~= nil and json.encode(value, { sort_keys = true })
      list[#list + 1] = ("body is %s, not %s"):format(show(text or seen.body), show(self.json))
    end
  elseif wanted ~= nil and seen.body ~= wanted then
    list[#list + 1] = ("body is %s, not %s"):format(show(seen.body), show(wanted))
  end
end

--- What of a request is not as the rule wants it: one sentence each.
---@param seen neap.sim.SeenRequest
---@param without_body? boolean it has not come yet: neither `body` nor `match` is looked at
---@return string[] differences empty: it is for this rule
function Matcher:differences(seen, without_body)
  local list = {}
  local function differ(label, value, wanted)
    list[#list + 1] = ("%s is %s, not %s"):format(label, show(value), wanted)
  end
  if self.method and seen.method ~= self.method then differ("method", seen.method, self.method) end
  if self.scheme and seen.scheme ~= self.scheme then differ("scheme", seen.scheme, self.scheme) end
  local host = seen.host
  if self.has_port then host = host .. ":" .. seen.port end
  if self.host and not host:find(self.host) then differ("host", host, self.host_text) end
  if self.path and not seen.path:find(self.path) then differ("path", seen.path, self.path_text) end
  if self.query then compare_names(list, "query", self.query, seen.query) end
  if self.given.query then compare_names(list, "query", self.given.query, seen.query) end
  if self.given.headers then compare_names(list, "header", self.given.headers, seen.headers) end
  if without_body then return list end
  compare_body(self, list, seen)
  if self.given.match and not self.given.match(seen) then list[#list + 1] = "match does not accept it" end
  return list
end

return M
