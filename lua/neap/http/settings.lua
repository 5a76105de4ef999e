--- What client and request options have in common: checks and the core's form.
local core = require "neap.core"
local options = require "neap.options"
local sorted = require "neap.sorted"

local M = {}

--- "No limit" for sizes: exact as a Lua number and as a 64-bit integer.
M.UNLIMITED_BYTES = 2 ^ 53

local LIMITS = { "queue", "connect", "first_byte", "idle", "total" }

---@class neap.http.Timeouts seconds; false: none. They count from admission, `queue` before it
---@field queue? number|false waiting for a connection of the pool
---@field connect? number|false name lookup, TCP and TLS
---@field first_byte? number|false from the request sent to the complete head
---@field idle? number|false between two bytes
---@field total? number|false all of it, redirects included

---@type table<string, neap.OptionSpec>
local TIMEOUT_OPTIONS = {}
for _, name in ipairs(LIMITS) do
  TIMEOUT_OPTIONS[name] = { type = "number|boolean", min = 0, unit = "s" }
end

local function is_amount(value)
  return type(value) == "number" and value >= 0 -- false for NaN
end

local function is_fault(name, seconds)
  return not TIMEOUT_OPTIONS[name] or (seconds ~= false and not is_amount(seconds))
end

local function check_timeout(where, timeout)
  if type(timeout) ~= "table" then
    if timeout ~= false and not is_amount(timeout) then
      error(where .. ": option 'timeout' must be seconds, false or a table of them", 0)
    end
    return
  end
  for name, seconds in pairs(timeout) do
    if is_fault(name, seconds) then
      options.check(where .. ": timeout", timeout, TIMEOUT_OPTIONS)
      error(("%s: option 'timeout.%s' must be seconds or false"):format(where, sorted.first(timeout, is_fault)), 0)
    end
  end
end

--- Raises on what types alone do not tell: ranges, true where only false is meant.
---@param where string
---@param opts table
function M.check(where, opts)
  local redirects, max_body, timeout = opts.redirects, opts.max_body, opts.timeout
  if type(redirects) == "number" and (redirects < 0 or redirects % 1 ~= 0) or redirects == true then
    error(where .. ": option 'redirects' must be a whole number of hops or false", 0)
  end
  if max_body and not is_amount(max_body) then
    error(where .. ": option 'max_body' must be a number of bytes or false", 0)
  end
  if timeout ~= nil then check_timeout(where, timeout) end
end

--- Adds the core's timeouts to `config`: a number is the total, false is none.
---@param config table
---@param timeout neap.http.Timeouts|number|false
function M.add_timeouts(config, timeout)
  if type(timeout) ~= "table" then timeout = { total = timeout } end
  for _, name in ipairs(LIMITS) do
    local seconds = timeout[name]
    if seconds ~= nil then config["timeout_" .. name] = seconds or math.huge end
  end
end

--- The core's form of `max_body`: false is no limit.
---@param max_body integer|false
---@return integer
function M.max_body(max_body)
  return max_body and math.min(math.floor(max_body), M.UNLIMITED_BYTES) or M.UNLIMITED_BYTES
end

--- The core's form of `compression`: true is all that is built in.
---@param where string
---@param compression boolean|string
---@return string|false
function M.encodings(where, compression)
  if compression == true then return "" end
  if compression == false or compression == "" then return false end
  for coding in compression:gmatch "[^,%s]+" do
    if not core.http_features[coding:lower()] then
      error(("%s: this build cannot decode compression '%s'"):format(where, coding), 0)
    end
  end
  return compression
end

local PROXY_SCHEMES = { http = true, https = true, socks4 = true, socks4a = true, socks5 = true, socks5h = true }

local function proxy_problem(address)
  local scheme, rest = address:match "^(%a[%w+.-]*)://(.*)$"
  local host = (rest or address):gsub("^.*@", "")
  if scheme and not PROXY_SCHEMES[scheme:lower()] or not host:find "^[%w.%[_-]" or host:find "[%s%c]" then
    -- Without what may be a password.
    return ("option 'proxy' must be an address (http, https, socks4, socks4a, socks5 or socks5h), got '%s%s'"):format(
      scheme and scheme .. "://" or "", host)
  end
end

local function file_problem(name, path)
  local file, message = io.open(path, "rb")
  if not file then return ("option 'tls.%s': cannot read %s"):format(name, message) end
  local readable = file:read(0) or file:seek "end" == 0
  file:close()
  if not readable then return ("option 'tls.%s': cannot read %s: it is no file"):format(name, path) end
end

--- What of a client's addresses and files cannot work, in one line, or nil.
---@param checked neap.http.ClientOptions
---@return string?
function M.problem(checked)
  local proxy = checked.proxy
  local message = type(proxy) == "string" and proxy ~= "env" and proxy ~= "" and proxy_problem(proxy)
  if message then return message end
  for _, name in ipairs { "ca_file", "cert", "key" } do
    local path = checked.tls[name]
    message = path and file_problem(name, path)
    if message then return message end
  end
end

local function finish(where, ok, ...)
  if ok then return ... end
  local err = ...
  local at = type(err) == "string" and err:find(where, 1, true)
  if not at then error(err, 0) end
  error(err:sub(at), 3)
end

--- Calls `fn(...)` and returns its results. Misuse that it raises (text with
--- `where` in it) is raised where the caller of this function's caller is: the
--- line that a script's author can change.
---@param where string
---@return any ...
function M.guarded(where, fn, ...)
  return finish(where, pcall(fn, ...))
end

return M
