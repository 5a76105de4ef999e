--- HTTP clients.
local core = require "neap.core"
local errors = require "neap.error"
local options = require "neap.options"
local Client = require "neap.http.client"
local headers = require "neap.http.headers"
local redirect = require "neap.http.redirect"
local settings = require "neap.http.settings"
local url_module = require "neap.http.url"

local M = {}

--- Stands between new clients and the core while a recording is on
--- (neap.cassette.recorder): gets the core's client and the names of secret headers.
---@type nil|fun(native: userdata, secrets: table<string, boolean>): table
M.on_client = nil

---@class neap.http.TlsOptions
---@field ca_file? string PEM file of the authorities to trust; default: the system's
---@field cert? string PEM file of the client certificate
---@field key? string PEM file of its key; default: in `cert`
---@field verify? boolean default true; false accepts any certificate

---@class neap.http.ClientOptions
---@field base_url? string relative urls are appended to its path
---@field headers? table<string, string|number|false|string[]> sent with every request; false drops a default
---@field max_connections? integer default 100
---@field max_connections_per_host? integer default: max_connections
---@field max_waiting? integer requests that may wait for a connection; default: no limit
---@field keepalive_timeout? number seconds that an idle connection is kept; default 118
---@field force_close? boolean close the connection after each request
---@field http_version? "1.1"|"2" default: HTTP/2 where TLS negotiates it, else HTTP/1.1
---@field dns_cache_ttl? number seconds; default 60
---@field compression? boolean|string default true: ask for all codings that are built in; a string names them
---@field proxy? string|false an address, or "env" for the environment's; default: none
---@field tls? neap.http.TlsOptions
---@field timeout? neap.http.Timeouts|number default: connect 10 s, total 300 s; a number is the total
---@field max_body? integer|false bytes of a decoded body; default 100 MB, which streams are not held to
---@field max_headers? integer bytes of a response's head; default 256 KB
---@field cookies? boolean keep and send cookies; default false
---@field redirects? integer|false hops; default: 10 for GET and HEAD, none for others
---@field cache? neap.Cache|true keeps what HTTP lets a private cache keep; true: one of its own
---@field secret_headers? string[] names of further headers that never go to another origin

---@type table<string, neap.OptionSpec>
local CLIENT_OPTIONS = {
  base_url = { type = "string" },
  headers = { type = "table", default = {} },
  max_connections = { type = "integer", default = 100, min = 1 },
  max_connections_per_host = { type = "integer", min = 1 },
  max_waiting = { type = "integer", min = 0 },
  keepalive_timeout = { type = "number", min = 0, unit = "s" },
  force_close = { type = "boolean", default = false },
  http_version = { type = "string", one_of = { "1.1", "2" } },
  dns_cache_ttl = { type = "number", min = 0, unit = "s" },
  compression = { type = "boolean|string", default = true },
  proxy = { type = "string|boolean", default = false },
  tls = {
    type = "table", default = {},
    fields = {
      ca_file = { type = "string" }, cert = { type = "string" }, key = { type = "string" },
      verify = { type = "boolean", default = true },
    },
  },
  timeout = { type = "number|table|boolean" },
  max_body = { type = "number|boolean" },
  max_headers = { type = "integer", default = 256 * 1024, min = 1 },
  cookies = { type = "boolean", default = false },
  redirects = { type = "number|boolean" },
  secret_headers = { type = "table", default = {} },
  cache = { type = "table|boolean" },
}

local DEFAULT_CONNECT_SECONDS, DEFAULT_TOTAL_SECONDS = 10, 300
local DEFAULT_MAX_BODY = 100 * 1024 * 1024

local function secret_names(where, names)
  local secrets = {}
  for name in pairs(redirect.SECRET_HEADERS) do secrets[name] = true end
  for _, name in ipairs(names) do
    if type(name) ~= "string" then
      error(("%s: option 'secret_headers' must be an array of strings"):format(where), 0)
    end
    secrets[name:lower()] = true
  end
  return secrets
end

local function native_config(where, opts)
  local config = {
    max_connections = opts.max_connections,
    max_connections_per_host = opts.max_connections_per_host or opts.max_connections,
    max_waiting = opts.max_waiting,
    keepalive_timeout = opts.keepalive_timeout,
    force_close = opts.force_close,
    http_version = opts.http_version,
    dns_cache_ttl = opts.dns_cache_ttl,
    compression = settings.encodings(where, opts.compression),
    proxy = opts.proxy,
    tls_ca_file = opts.tls.ca_file,
    tls_cert = opts.tls.cert,
    tls_key = opts.tls.key,
    tls_verify = opts.tls.verify,
    cookies = opts.cookies,
    max_headers = opts.max_headers,
    timeout_connect = DEFAULT_CONNECT_SECONDS,
    timeout_total = DEFAULT_TOTAL_SECONDS,
  }
  if opts.timeout ~= nil then settings.add_timeouts(config, opts.timeout) end
  local max_body = opts.max_body
  if max_body == nil then max_body = DEFAULT_MAX_BODY end
  config.max_body = settings.max_body(max_body)
  return config
end

local function default_headers(where, given)
  local base = { "Accept", "*/*", "User-Agent", "neap/" .. core.versions.neap }
  return headers.merge(where, base, given)
end

local function cache_of(where, value)
  if not value then return nil end
  local caches = require "neap.cache"
  if value == true then return caches.new() end
  if not caches.is(value) then error(where .. ": option 'cache' must be a neap.cache or true", 0) end
  return value
end

--- What besides its headers says who a client is: its certificate; and cookies,
--- which only libcurl knows.
local function cache_identity(checked)
  if checked.cookies then return ("cookies:%08x%08x"):format(core.random() * 2 ^ 32, core.random() * 2 ^ 32) end
  return checked.tls.cert and "cert:" .. checked.tls.cert
end

local function checked_options(where, opts)
  local checked = options.check(where, opts, CLIENT_OPTIONS)
  if checked.proxy == true then error(where .. ": option 'proxy' must be an address, \"env\" or false", 0) end
  settings.check(where, checked)
  checked.cache = cache_of(where, checked.cache)
  return checked, secret_names(where, checked.secret_headers), default_headers(where, checked.headers),
    native_config(where, checked)
end

--- A client: a pool of connections and the settings of its requests. Misuse
--- raises; a `base_url` that is no http address, a proxy that is none, or a file of
--- `tls` that cannot be read gives nil and kind "invalid".
--- Never waits.
---@param opts? neap.http.ClientOptions
---@return neap.http.Client? client, neap.Error? err
function M.client(opts)
  local where = "neap.http.client"
  local checked, secrets, list, config = settings.guarded(where, checked_options, where, opts)
  local message = settings.problem(checked)
  if message then return nil, errors.new { kind = "invalid", message = where .. ": " .. message } end
  local base, err
  if checked.base_url then
    base, err = url_module.base(checked.base_url)
    if not base then return nil, err end
  end
  local json_list = list
  if not headers.has(list, "content-type") then
    json_list = headers.with(list, "Content-Type", "application/json")
  end
  local native, native_err = core.http_client(config)
  if not native then return nil, native_err end
  if M.on_client then native = M.on_client(native, secrets) end
  return setmetatable({
    native = native, base = base, headers = list, json_headers = json_list,
    redirects = checked.redirects, secrets = secrets,
    timeout_total = config.timeout_total,
    max_body = checked.max_body, collect_limit = config.max_body,
    last_url = false, last_target = false, cookies = checked.cookies, cache = checked.cache,
    cache_hop = checked.cache and require("neap.http.caching").hop or false,
    cache_identity = checked.cache and cache_identity(checked), cache_coding = tostring(config.compression),
  }, Client)
end

return M
