--- Which requests a mock's rule is for: reads what `mock:on` was given, and says what of
--- a request differs from it. Pure.
local compare = require "neap.sim.mock.compare"
local glob = require "neap.sim.mock.glob"
local json = require "neap.json"
local options = require "neap.options"
local printable = require "neap.printable"
local redact = require "neap.cassette.redact"
local requests = require "neap.service.request"
local sorted = require "neap.sorted"

local M = {}

---@class neap.sim.RuleOptions what is left out fits everything
---@field method? string in any case
---@field url? string with "*"; scheme, host, path or query may be left out
---@field path? string with "*", as sent; where the url has none
---@field query? table<string, neap.sim.Wanted> decoded
---@field headers? table<string, neap.sim.Wanted> names in any case
---@field body? string|table|fun(body: string, request: neap.sim.SeenRequest): boolean? a table or null: the same JSON
---@field match? fun(request: neap.sim.SeenRequest): boolean?

---@alias neap.sim.Wanted
---| string # with "*"
---| number
---| boolean # true: any value, false: none
---| fun(value: string): boolean?
---| (string|number)[] # all values of the name, in order

local SPECS = {
  method = { type = "string" },
  url = { type = "string" },
  path = { type = "string" },
  query = { type = "table" },
  headers = { type = "table" },
  body = { type = "string|table|function|userdata" },
  match = { type = "function" },
}

local SCHEMES = { http = true, https = true }
local TOKEN = "^[%w!#$%%&'*+.^_`|~-]+$" -- of RFC 9110
local SHOWN = 120 -- bytes of a rule's address

--- A host with its port, in words what is wrong with it.
local function check_host(host)
  if host:find("@", 1, true) then
    return "user and password are sent as a header: say headers = { Authorization = ... }"
  end
  local name, port = host:match "^(%[[^%[%]]*%])(.*)$"
  if not name then name, port = host:match "^([^:]*)(.*)$" end
  if name == "" then return "there is no host in it" end
  if port ~= "" and not port:find "^:[%d*]+$" then return "the port must be a number" end
end

--- A url's parts; those that it leaves out are nil.
local function split(url)
  if url:find "[%s%c]" then return nil, "it has a space or a control character" end
  if url:find("#", 1, true) then return nil, "a url that is sent has no fragment" end
  local scheme, behind = url:match "^(%a[%w+.-]*)://(.*)$"
  if scheme and not SCHEMES[scheme:lower()] then return nil, "the scheme must be http or https" end
  local host, path, query = (behind or url):match "^([^/?]*)([^?]*)(.*)$"
  if host ~= "" or scheme then
    local message = check_host(host)
    if message then return nil, message end
  elseif path == "" and query == "" then
    return nil, "it is empty; leave it out for any url"
  end
  return { scheme = scheme and scheme:lower(), host = host ~= "" and host:lower() or nil,
    path = path ~= "" and path or nil, query = query ~= "" and query:sub(2) or nil }
end

---@class neap.sim.Matcher
---@field given neap.sim.RuleOptions
---@field text string for messages: "POST https://api.test/items"
---@field needs_body boolean
---@field scheme string? "http" or "https"
---@field package body_difference nil|fun(seen: neap.sim.SeenRequest): string?
local Matcher = {}
Matcher.__index = Matcher

local function text_of(given)
  local url = given.url and given.url .. (given.path or "") or given.path or "any url"
  local text = (given.method and given.method:upper() .. " " or "") .. printable.short(redact.url(url), SHOWN)
  local more = {}
  for _, name in ipairs { "query", "headers", "body", "match" } do
    if given[name] ~= nil then more[#more + 1] = name end
  end
  return #more > 0 and ("%s with %s"):format(text, table.concat(more, ", ")) or text
end

local function refuse(option, message, value)
  options.fail(("mock:on: option '%s': %s%s"):format(option, message, value and ": " .. compare.quote(value) or ""))
end

--- Of a name that the url has more than once all values count.
local function read_query(text)
  local query = {}
  for name, values in sorted.pairs(requests.parse_query_all(text)) do
    query[name] = #values > 1 and values or values[1]
  end
  return query
end

--- What a client sends has no brackets around an address.
local function read_url(self, url)
  local parts, message = split(url)
  if not parts then return refuse("url", message, url) end
  self.scheme, self.query = parts.scheme, parts.query and read_query(parts.query)
  if parts.host then
    self.has_port = parts.host:find ":[%d*]+$" ~= nil
    self.host_text = parts.host:gsub("^%[(.*)%]", "%1")
    self.host = glob.new(self.host_text)
  end
  if parts.path then self.path_text, self.path = parts.path, glob.new(parts.path) end
end

local function read_path(self, path)
  if self.path then refuse("path", "the url has a path") end
  if not path:find "^[/*]" or path:find "[?#]" then
    refuse("path", "needs '/' in front, and no query", path)
  end
  self.path_text, self.path = path, glob.new(path)
end

local WANTED = { string = true, number = true, boolean = true, ["function"] = true }

local function check_names(option, wanted)
  if not wanted then return end
  for name, one in sorted.pairs(wanted) do
    local is_array = type(one) == "table" and one[1] ~= nil
    for i = 1, is_array and #one or 0 do
      if type(one[i]) ~= "string" and type(one[i]) ~= "number" then is_array = false end
    end
    if type(name) ~= "string" or not (WANTED[type(one)] or is_array) then
      refuse(option, ("'%s' needs a text, a number, true (any), false (none), a function or an array of texts, got %s")
        :format(printable.short(tostring(name), SHOWN), type(one)))
    end
  end
end

local function check_method(method)
  if method and not method:find(TOKEN) then refuse("method", "must be one word", method) end
end

--- Reads what a rule is for. Raises at the line of the script.
---@param given? neap.sim.RuleOptions
---@return neap.sim.Matcher
function M.new(given)
  local checked = options.check("mock:on", given, SPECS)
  check_method(checked.method)
  check_names("query", checked.query)
  check_names("headers", checked.headers)
  local self = { given = checked, text = text_of(checked), needs_body = checked.body ~= nil or checked.match ~= nil,
    method = checked.method and checked.method:upper() }
  if checked.url then read_url(self, checked.url) end
  if checked.path then read_path(self, checked.path) end
  if checked.body ~= nil then
    local err
    if type(checked.body) == "userdata" and checked.body ~= json.null then
      refuse("body", "must be a text, a table, neap.json.null or a function")
    end
    self.body_difference, err = compare.body(checked.body)
    if err then refuse("body", err.message) end
  end
  return setmetatable(self, Matcher)
end

local function values_of_header(seen)
  return function(name) return seen:header_values(name) end
end

local function values_of_query(seen)
  local all = requests.parse_query_all(seen.url:match "%?(.*)$" or "")
  return function(name) return all[name] end
end

--- What of a request is not as the rule wants it: one sentence each. Raises a sentence
--- where a function of the rule raises.
---@param seen neap.sim.SeenRequest
---@param without_body? boolean it has not come yet: neither `body` nor `match` is looked at
---@return string[] differences empty: it is for this rule
function Matcher:differences(seen, without_body)
  local list, given = {}, self.given
  local function differ(label, value, wanted)
    list[#list + 1] = ("%s is %s, not %s"):format(label, compare.quote(value), printable.short(wanted, SHOWN))
  end
  if self.method and seen.method ~= self.method then differ("method", seen.method, self.method) end
  if self.scheme and seen.scheme ~= self.scheme then differ("scheme", seen.scheme, self.scheme) end
  local host = seen.host
  if self.has_port then host = host .. ":" .. seen.port end
  if self.host and not self.host(host) then differ("host", host, self.host_text) end
  if self.path and not self.path(seen.path) then differ("path", seen.path, self.path_text) end
  if self.query or given.query then
    local values = values_of_query(seen)
    if self.query then compare.names(list, "query", self.query, values) end
    if given.query then compare.names(list, "query", given.query, values) end
  end
  if given.headers then compare.names(list, "header", given.headers, values_of_header(seen)) end
  if without_body then return list end
  list[#list + 1] = self.body_difference and self.body_difference(seen)
  if given.match and not compare.ask("match", given.match, seen) then list[#list + 1] = "match does not accept it" end
  return list
end

return M
