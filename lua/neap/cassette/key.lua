--- What makes two requests the same to a cassette: method, url and a hash of the
--- body; and what makes them of one endpoint. Pure.
local core = require "neap.core"
local json = require "neap.json"
local redact = require "neap.cassette.redact"
local sha256 = require "neap.cache.sha256"

local M = {}

--- Bytes of a body that are looked at: longer ones are not put in order, and hashed by
--- their beginning and their length.
M.MAX_CANONICAL, M.MAX_HASHED = 16 * 2 ^ 20, 2 ^ 20

--- JSON in the order of its names (a program's tables have none); multipart without
--- the boundary, which is drawn.
local function canonical(body, content_type)
  local boundary = content_type and content_type:match '^multipart/[^;]*;.*boundary="?([^";]+)'
  if boundary then return (body:gsub((boundary:gsub("%p", "%%%0")), "boundary")) end
  if not body:find "^%s*[%[{]" then return body end
  local value = json.decode(body)
  return value ~= nil and json.encode(value, { sort_keys = true }) or body
end

--- The hash of a request's body, 64 hexadecimal digits; nil without a body.
---@param body string? the whole body, or the first `MAX_CANONICAL` bytes of it
---@param content_type string?
---@param length? integer bytes of the whole; default: of `body`
---@return string?
function M.body_hash(body, content_type, length)
  if body == nil or body == "" then return nil end
  length = length or #body
  if length <= M.MAX_CANONICAL then
    body = canonical(body, content_type)
    length = #body
  end
  if length > M.MAX_HASHED then body = body:sub(1, M.MAX_HASHED) .. "\n" .. ("%d"):format(length) end
  return sha256.hex(body)
end

local DEFAULT_PORTS = { ["http"] = "80", ["https"] = "443" }

--- A url in one spelling, without user information and fragment.
local function whole(url)
  url = url:gsub("#.*$", "")
  local origin = core.url_origin(url)
  if not origin then return url end
  local scheme, host, port = origin:match "^(%a+)://(.*):(%d+)$"
  if DEFAULT_PORTS[scheme] == port then origin = scheme .. "://" .. host end
  local rest = url:match "^%a[%w+.-]*://[^/?#]*(.*)$"
  return origin .. (rest:sub(1, 1) == "/" and "" or "/") .. rest
end

--- A url as a cassette has it: scheme and host in small letters, no port that goes
--- without saying, never an empty path; no secrets.
---@param url string
---@return string
function M.url(url)
  return redact.url(whole(url))
end

--- Tells apart urls that are one in a cassette, for what differs was taken for a
--- secret: the first 32 bits of the SHA-256 of the whole url. They fit one in four
--- billion secrets, so a long one cannot be found by them. Nil: nothing was removed.
---@param url string
---@param recorded string the url as the cassette has it
---@return string? mark 8 hexadecimal digits
function M.mark(url, recorded)
  local text = whole(url)
  if text ~= recorded then return sha256.hex(text):sub(1, 8) end
end

---@param method string
---@param url string as `M.url` returns it
---@param hash string?
---@return string
function M.of(method, url, hash)
  return ("%s %s %s"):format(method, url, hash or "-")
end

--- "https://host:port", in small letters and with the port; nil: not http.
---@param url string
---@return string?
function M.origin(url)
  return core.url_origin(url)
end

local UUID = "^%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$"

local function general(segment)
  if segment:find "^%d+$" then return "{n}" end
  if segment:find(UUID) or #segment >= 16 and segment:find "^%x+$" and segment:find "%d" then return "{id}" end
end

--- The path of a url without query, numbers and long hexadecimal numbers in it
--- generalised.
---@param url string
---@return string
function M.path(url)
  local path = url:match "^%a[%w+.-]*://[^/?#]*([^?#]*)" or ""
  if path == "" then return "/" end
  return (path:gsub("[^/]+", general))
end

--- What requests to the same thing have in common: "GET /items/{n}".
---@param method string
---@param url string
---@return string
function M.endpoint(method, url)
  return method .. " " .. M.path(url)
end

return M
