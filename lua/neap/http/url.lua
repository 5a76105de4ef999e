--- Addresses: percent-encoding, query strings, and a relative url on a base. Pure.
local error_module = require "neap.error"

local byte, find, format, gsub, sub = string.byte, string.find, string.format, string.gsub, string.sub

local M = {}

local function escape_byte(c) return format("%%%02X", byte(c)) end

--- Percent-encodes everything but RFC 3986's unreserved characters.
---@param text string
---@return string
function M.escape(text)
  return (gsub(text, "[^%w%-%._~]", escape_byte))
end

--- application/x-www-form-urlencoded, as the WHATWG URL standard writes it.
---@param text string
---@return string
function M.escape_form(text)
  return (gsub(gsub(text, "[^%w%-%._* ]", escape_byte), " ", "+"))
end

local function add_pair(list, where, escape, name, value)
  local kind = type(value)
  if kind == "table" then
    for _, item in ipairs(value) do add_pair(list, where, escape, name, item) end
  elseif kind == "string" or kind == "number" or kind == "boolean" then
    list[#list + 1] = escape(tostring(name)) .. "=" .. escape(tostring(value))
  else
    error(("%s: value of '%s' must be string, number, boolean or an array of them, got %s")
      :format(where, tostring(name), kind), 0)
  end
end

--- Encodes fields as `a=1&b=2`. `fields` is a map (written in the order of its
--- names, so that equal requests are equal bytes) or an array of {name, value}
--- pairs, written in order; a value may be an array: the name is then repeated.
---@param where string for messages
---@param fields table
---@param escape fun(text: string): string
---@return string
function M.encode_pairs(where, fields, escape)
  local list = {}
  if fields[1] ~= nil then
    for i, pair in ipairs(fields) do
      if type(pair) ~= "table" or pair[1] == nil or pair[2] == nil then
        error(("%s: item %d must be a {name, value} pair"):format(where, i), 0)
      end
      add_pair(list, where, escape, pair[1], pair[2])
    end
    return table.concat(list, "&")
  end
  local names = {}
  for name in pairs(fields) do
    if type(name) ~= "string" then error(where .. ": names must be strings", 0) end
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do add_pair(list, where, escape, name, fields[name]) end
  return table.concat(list, "&")
end

--- `url` with `query` (an encoded string) added, before its fragment.
---@param url string
---@param query string
---@return string
function M.add_query(url, query)
  if query == "" then return url end
  local fragment = ""
  local hash = find(url, "#", 1, true)
  if hash then url, fragment = sub(url, 1, hash - 1), sub(url, hash) end
  local mark = find(url, "?", 1, true)
  local joiner = not mark and "?" or (find(url, "[?&]$") and "" or "&")
  return url .. joiner .. query .. fragment
end

---@param url string
---@return boolean
function M.is_absolute(url)
  return find(url, "^%a[%w+.-]*://") ~= nil
end

---@class neap.http.Base
---@field bare string without query and fragment, as given
---@field path string the same, ending in "/"
---@field query string "" or its query

--- Takes a base url apart, or returns nil and an error of kind "invalid".
---@param url string
---@return neap.http.Base? base, neap.Error? err
function M.base(url)
  if not find(url, "^[hH][tT][tT][pP][sS]?://[^/?#]") or find(url, "[%c ]") then
    return nil, error_module.new {
      kind = "invalid", sent = "no",
      message = "base_url must be an http or https address, got '" .. gsub(url, "//[^/?#]*@", "//") .. "'",
    }
  end
  local bare, query = gsub(url, "#.*", ""):match "^([^?]*)%??(.*)$"
  return { bare = bare, path = gsub(bare, "/+$", "") .. "/", query = query }
end

--- The absolute url of `url`: absolute ones pass, relative ones are appended to
--- the path of `base` (so "/chat" on "https://host/v1" is "https://host/v1/chat"),
--- and the base's query, if any, is kept. "" and "?x" stand for the base itself.
--- A relative url can never leave the base's host.
---@param base neap.http.Base?
---@param url string
---@return string? url, neap.Error? err
function M.join(base, url)
  if M.is_absolute(url) then return url end
  if not base then
    return nil, error_module.new {
      kind = "invalid", sent = "no",
      message = "the url has no scheme and host, and the client has no base_url",
    }
  end
  local first = byte(url, 1)
  local whole = first == nil or first == 63 or first == 35 -- "", "?", "#"
  local joined = whole and base.bare .. url or base.path .. gsub(url, "^/+", "")
  if base.query ~= "" then joined = M.add_query(joined, base.query) end
  return joined
end

return M
