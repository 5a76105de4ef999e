--- The client: a pool of connections and the requests on it.
local exchange = require "neap.http.exchange"
local json = require "neap.json"
local redirect = require "neap.http.redirect"
local request_module = require "neap.http.request"
local settings = require "neap.http.settings"
local url_module = require "neap.http.url"

local next, type, error = next, type, error
local encode_json = json.encode
local join = url_module.join
local IS_REDIRECT, IDEMPOTENT = redirect.STATUSES, request_module.IDEMPOTENT

---@class neap.http.Client
---@field package native userdata
---@field package headers string[] what every request sends
---@field package json_headers string[] the same with a content type
---@field package base neap.http.Base?
---@field package redirects integer|false|nil nil: the default
---@field package secrets table<string, boolean> lower-case header names
---@field package timeout_total number seconds
---@field package max_body integer|false|nil as given
---@field package collect_limit integer bytes that a response may collect
---@field package last_url string|false the url last joined to the base, and the result
---@field package last_target string|false
---@field package cache? neap.Cache
---@field package cache_hop function|false neap.http.caching's
---@field package cache_identity? string what besides headers says who asks
---@field package cache_coding string
---@field package cookies boolean
local Client = {}
Client.__index = Client

local function perform_full(self, where, method, url, opts)
  local request, err = settings.guarded(where, request_module.build, self, where, method, url, opts)
  if not request then return nil, err end
  return exchange.perform(self, request)
end

--- A redirect on the short way: now the request is worth a table.
local function follow_plain(self, method, target, list, content, res)
  local redirects = request_module.redirects(self, method, nil)
  if redirects == 0 then return res end
  return exchange.follow(self, {
    method = method, url = target, headers = list, body = content, stream = false,
    redirects = redirects, replay_safe = IDEMPOTENT[method] or false,
  }, res)
end

--- A request with at most a JSON body goes a short way that makes no table.
local function perform(self, where, method, url, opts)
  local list, content = self.headers, nil
  if type(url) ~= "string" then
    error(("%s: url must be a string, got %s"):format(where, type(url)), 2)
  end
  if opts ~= nil then
    if type(opts) ~= "table" then
      error(("%s: options must be a table, got %s"):format(where, type(opts)), 2)
    end
    local key, value = next(opts)
    if key == "json" and next(opts, key) == nil and not self.cache_hop then
      local err
      content, err = encode_json(value)
      if not content then return nil, err end
      list = self.json_headers
    elseif key ~= nil then
      if opts.method ~= nil or opts.url ~= nil then
        error(where .. ": 'method' and 'url' are options of client:request", 2)
      end
      return perform_full(self, where, method, url, opts)
    end
  end
  if self.cache_hop then return perform_full(self, where, method, url, {}) end
  local target = self.last_target
  if url ~= self.last_url then
    local err
    target, err = join(self.base, url)
    if not target then return nil, err end
    self.last_url, self.last_target = url, target
  end
  local res, err = self.native:send(method, target, list, content)
  if not res then
    if IDEMPOTENT[method] then err.replay_safe = true end
    return nil, err
  end
  res.url = target
  if IDEMPOTENT[method] then res.replay_safe = true end
  if IS_REDIRECT[res.status] then return follow_plain(self, method, target, list, content, res) end
  return res
end

--- Sends `opts.method` (default "GET") to `opts.url` and returns the response,
--- whatever its status. Waits.
---@param opts neap.http.RequestOptions|{method: string?, url: string}
---@return neap.http.Response? res, neap.Error? err
function Client:request(opts)
  if type(opts) ~= "table" then
    error("client:request: options must be a table, got " .. type(opts), 2)
  end
  for _, name in ipairs { "url", "method" } do
    local value = opts[name]
    if type(value) ~= "string" and (value ~= nil or name == "url") then
      error(("client:request: option '%s' must be a string, got %s"):format(name, type(value)), 2)
    end
  end
  return perform_full(self, "client:request", request_module.method(opts.method or "GET"), opts.url, opts)
end

--- Waits.
---@param url string
---@param opts? neap.http.RequestOptions
---@return neap.http.Response? res, neap.Error? err
function Client:get(url, opts) return perform(self, "client:get", "GET", url, opts) end

--- Waits.
---@param url string
---@param opts? neap.http.RequestOptions
---@return neap.http.Response? res, neap.Error? err
function Client:post(url, opts) return perform(self, "client:post", "POST", url, opts) end

--- Waits.
---@param url string
---@param opts? neap.http.RequestOptions
---@return neap.http.Response? res, neap.Error? err
function Client:put(url, opts) return perform(self, "client:put", "PUT", url, opts) end

--- Waits.
---@param url string
---@param opts? neap.http.RequestOptions
---@return neap.http.Response? res, neap.Error? err
function Client:patch(url, opts) return perform(self, "client:patch", "PATCH", url, opts) end

--- Waits.
---@param url string
---@param opts? neap.http.RequestOptions
---@return neap.http.Response? res, neap.Error? err
function Client:delete(url, opts) return perform(self, "client:delete", "DELETE", url, opts) end

--- Waits.
---@param url string
---@param opts? neap.http.RequestOptions
---@return neap.http.Response? res, neap.Error? err
function Client:head(url, opts) return perform(self, "client:head", "HEAD", url, opts) end

--- Ends what runs and what waits with kind "closed"; later requests get the same.
--- Never waits.
function Client:close()
  self.native:close()
end

---@class neap.http.ClientStats
---@field waiting integer requests that wait for a connection
---@field in_flight integer requests on the wire
---@field connections integer open connections, idle ones included
---@field sends integer requests put onto the wire so far

---@return neap.http.ClientStats
function Client:stats()
  return self.native:stats()
end

return Client
