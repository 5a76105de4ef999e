--- Makes a request out of a call's options.
local body = require "neap.http.body"
local error_module = require "neap.error"
local headers = require "neap.http.headers"
local json = require "neap.json"
local multipart = require "neap.http.multipart"
local options = require "neap.options"
local settings = require "neap.http.settings"
local url_module = require "neap.http.url"

local M = {}

--- Hops that GET and HEAD follow when nothing else is said.
local DEFAULT_REDIRECTS = 10

--- Methods that may be repeated without harm (RFC 9110, 9.2.2; QUERY: RFC 10008).
---@type table<string, boolean>
M.IDEMPOTENT = {
  GET = true, HEAD = true, OPTIONS = true, TRACE = true, PUT = true, DELETE = true, QUERY = true,
}
--- Written in capitals whatever the case they are given in, as fetch does.
local KNOWN_METHODS = { PATCH = true, POST = true }
for method in pairs(M.IDEMPOTENT) do KNOWN_METHODS[method] = true end

---@type table<string, neap.OptionSpec>
local REQUEST_OPTIONS = {
  method = { type = "string" }, url = { type = "string" },
  query = { type = "table|string" }, headers = { type = "table" },
  json = { type = "any" }, body = { type = "string|function|table" },
  form = { type = "table|string" }, multipart = { type = "table" },
  timeout = { type = "number|table|boolean" },
  max_body = { type = "number|boolean" }, redirects = { type = "number|boolean" },
  http_version = { type = "string", one_of = { "1.1", "2" } },
  compression = { type = "boolean|string" }, stream = { type = "boolean" },
  idempotent = { type = "boolean" }, idempotency_key = { type = "string|boolean" },
}

--- The same as sets: option -> type name -> true.
local TYPES = {}
for name, spec in pairs(REQUEST_OPTIONS) do
  TYPES[name] = {}
  for accepted in spec.type:gmatch "%a+" do TYPES[name][accepted] = true end
end
TYPES.json = setmetatable({}, { __index = function() return true end })

---@class neap.http.RequestOptions
---@field query? table<string, any>|string added to the url
---@field headers? table<string, string|number|false|string[]> over the client's; false drops one
---@field json? any encoded as the body, with its content type unless a header gives one
---@field body? string|function|neap.http.SourceOptions raw bytes; a function gives chunks, then nil
---@field form? table|string application/x-www-form-urlencoded
---@field multipart? table parts, see neap.http.Part
---@field timeout? neap.http.Timeouts|number|false over the client's; a number is the total
---@field max_body? integer|false bytes; false: no limit
---@field redirects? integer|false hops to follow, whatever the method
---@field http_version? "1.1"|"2"
---@field compression? boolean|string
---@field stream? boolean return at the head; read the body from the response
---@field idempotent? boolean whether it may be sent again when that is in doubt
---@field idempotency_key? string|boolean sent as Idempotency-Key, as it is; true makes one, the same for every
---  attempt of the policy's call that it is sent in; makes the request replay-safe

---@class neap.http.Request a request on its way, changed from hop to hop
---@field method string
---@field url string
---@field headers string[]
---@field body string|neap.http.Source|nil
---@field spec table? the core's per-request settings
---@field stream boolean
---@field redirects integer
---@field replay_safe boolean

local function check(where, opts)
  for key, value in pairs(opts) do
    local accepted = TYPES[key]
    if not accepted or not accepted[type(value)] then
      options.check(where, opts, REQUEST_OPTIONS) -- raises, with a hint
    end
  end
  local version = opts.http_version
  if version and version ~= "1.1" and version ~= "2" then options.check(where, opts, REQUEST_OPTIONS) end
  settings.check(where, opts)
end

--- The body, the content type that goes with it, and why there is none.
local function encode_body(where, opts)
  local given = (opts.json ~= nil and 1 or 0) + (opts.body ~= nil and 1 or 0)
    + (opts.form and 1 or 0) + (opts.multipart and 1 or 0)
  if given == 0 then return nil end
  if given > 1 then
    error(where .. ": only one of 'json', 'body', 'form' and 'multipart' can be the body", 0)
  end
  if opts.json ~= nil then
    local text, err = json.encode(opts.json)
    return text, "application/json", err
  elseif opts.form then
    local form = opts.form
    if type(form) ~= "string" then form = url_module.encode_pairs(where .. ": form", form, url_module.escape_form) end
    return form, "application/x-www-form-urlencoded"
  elseif opts.multipart then
    return multipart.encode(where .. ": multipart", opts.multipart)
  end
  local content, err = body.of_value(where, opts.body)
  return content, nil, err
end

--- The whole list: defaults, content type, the request's own headers, the key.
local function header_list(client, where, opts, content_type, key)
  local list = client.headers
  if content_type == "application/json" then
    list = client.json_headers
  elseif opts.multipart then
    list = headers.with(headers.without(list, { ["content-type"] = true }), "Content-Type", content_type)
  elseif content_type and not headers.has(list, "content-type") then
    list = headers.with(list, "Content-Type", content_type)
  end
  if opts.headers then list = headers.merge(where, list, opts.headers) end
  if key then
    list = headers.with(headers.without(list, { ["idempotency-key"] = true }), "Idempotency-Key", key)
  end
  return list
end

--- What differs from the client's settings, or nil.
local function core_spec(client, where, opts, is_source)
  local spec = {}
  if opts.timeout ~= nil then settings.add_timeouts(spec, opts.timeout) end
  spec.http_version = opts.http_version
  if opts.compression ~= nil then spec.compression = settings.encodings(where, opts.compression) end
  local max_body = opts.max_body
  -- The default limit guards memory, which a stream does not fill.
  if max_body == nil and opts.stream then max_body = client.max_body or false end
  if max_body ~= nil then spec.max_body = settings.max_body(max_body) end
  if is_source then
    spec.replay_safe = false -- the core cannot rewind what it was handed in chunks
  elseif opts.idempotent ~= nil or opts.idempotency_key then
    spec.replay_safe = opts.idempotent ~= false
  end
  if next(spec) ~= nil then return spec end
end

--- How many hops a request of this method follows.
---@param client neap.http.Client
---@param method string
---@param wanted integer|false|nil the request's own option
---@return integer
function M.redirects(client, method, wanted)
  if wanted == nil then wanted = client.redirects end
  if wanted == nil then
    return (method == "GET" or method == "HEAD") and DEFAULT_REDIRECTS or 0
  end
  return wanted or 0
end

---@param method string
---@return string
function M.method(method)
  local capitals = method:upper()
  return KNOWN_METHODS[capitals] and capitals or method
end

--- The key that goes along, or nil. `true` is one key for all that happens in a
--- policy's call.
local function key_of(value)
  if value ~= true then return value or nil end
  local calls = require "neap.policy.call"
  local call = calls.of()
  return call and call:idempotency_key() or calls.new_key()
end

--- The request that `opts` describe. Misuse raises (level 0). Waits when a file's
--- size must be looked up.
---@param client neap.http.Client
---@param where string for messages
---@param method string
---@param url string
---@param opts neap.http.RequestOptions
---@return neap.http.Request? request, neap.Error? err
function M.build(client, where, method, url, opts)
  check(where, opts)
  local target, err = url_module.join(client.base, url)
  if not target then return nil, err end
  local query = opts.query
  if query then
    if type(query) == "table" then
      query = url_module.encode_pairs(where .. ": query", query, url_module.escape)
    end
    target = url_module.add_query(target, query)
  end
  local key = key_of(opts.idempotency_key)
  if key == "" then
    return nil, error_module.new { kind = "invalid", sent = "no", message = "idempotency_key must not be empty" }
  end
  local content, content_type, body_err = encode_body(where, opts)
  if body_err then return nil, body_err end
  local replay_safe = opts.idempotent
  if replay_safe == nil then replay_safe = M.IDEMPOTENT[method] or key ~= nil end
  return {
    method = method, url = target, body = content,
    headers = header_list(client, where, opts, content_type, key),
    spec = core_spec(client, where, opts, type(content) == "table"),
    stream = opts.stream or false,
    redirects = M.redirects(client, method, opts.redirects),
    replay_safe = replay_safe,
  }
end

return M
