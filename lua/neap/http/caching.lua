--- A client's cache: answers a hop from what is kept, asks the server whether that
--- is still right, and keeps what may be kept. The rules are in validators.lua.
---
--- Two entries a URL and method. The index, by URL: a token and the names that the
--- last response varied on. The response, by URL, token, who asks (a hash of the
--- secret headers), the codings asked for, and those names' values. Dropping the index drops them all.
local core = require "neap.core"
local headers = require "neap.http.headers"
local responses = require "neap.http.response"
local rules = require "neap.http.validators"
local sha256 = require "neap.cache.sha256"
local values = require "neap.cache.values"

local M = {}

--- Methods that change nothing at the server.
local SAFE = { GET = true, HEAD = true, OPTIONS = true, TRACE = true, QUERY = true }

--- Of these the answer is for the caller only: no cache in between.
local OWN_CONDITIONS = {
  ["if-match"] = true, ["if-none-match"] = true, ["if-modified-since"] = true, ["if-unmodified-since"] = true,
  ["if-range"] = true, range = true,
}

-- ---------------------------------------------------------------------------
-- Keys
-- ---------------------------------------------------------------------------

local function index_key(method, url)
  return ("http %s %s"):format(method, (url:gsub("#.*$", "")))
end

--- By a client's default headers: most requests have just those.
local identities = setmetatable({}, { __mode = "k" })

local function compute_identity(client, flat)
  local parts = { client.cache_identity }
  for i = 1, #flat, 2 do
    local name = flat[i]:lower()
    if client.secrets[name] then parts[#parts + 1] = ("%s:%d:%s"):format(name, #flat[i + 1], flat[i + 1]) end
  end
  if #parts == 0 then return "-" end
  table.sort(parts)
  return sha256.hex(table.concat(parts, "\n"))
end

--- Who asks: what one user's key brought is not for another.
local function identity(client, flat)
  if flat ~= client.headers then return compute_identity(client, flat) end
  local known = identities[flat]
  if not known then
    known = compute_identity(client, flat)
    identities[flat] = known
  end
  return known
end

--- Which codings were asked for: it decides what is in the body.
local function coding(client, request)
  local spec = request.spec
  if spec and spec.compression ~= nil then return tostring(spec.compression) end
  return client.cache_coding
end

local function entry_key(client, request, view, at, token, names)
  local parts = { at, token, identity(client, request.headers), coding(client, request) }
  for _, name in ipairs(names) do
    local value = view[name]
    parts[#parts + 1] = value and ("%s:%d:%s"):format(name, #value, value) or name
  end
  return table.concat(parts, "\n")
end

local function parse_index(text)
  local token, list = text:match "^(%x+) (.*)$"
  local names = {}
  for name in list:gmatch "[^,]+" do names[#names + 1] = name end
  return token, names
end

-- ---------------------------------------------------------------------------
-- What is kept
-- ---------------------------------------------------------------------------

---@class neap.http.Found
---@field key string
---@field kept neap.cache.Response
---@field view table<string, string> its headers

local function find(client, request, view, at)
  local storage = client.cache.storage
  local index = storage:get(at)
  if not index then return nil end
  local key = entry_key(client, request, view, at, parse_index(index.value))
  local entry = storage:get(key)
  local kept = entry and values.response(entry.value)
  return kept and { key = key, kept = kept, view = headers.view(kept.flat) }
end

local function keep(client, key, res, flat_view, now)
  local timings = res.timings
  local meta = { at = now, delay = math.max(0, timings.total - timings.queue) }
  local kept, bytes = values.freeze(res, nil, meta)
  -- Without a validator it is of no use once it is stale.
  local ttl = math.huge
  if not rules.conditions(flat_view) then
    ttl = rules.lifetime(flat_view, now) - rules.age(flat_view, now, meta.delay, now)
    if ttl <= 0 then return nil end
  end
  client.cache.storage:put(key, kept, bytes, ttl, 0)
  return kept
end

local function store(client, request, view, at, res, now)
  local names = rules.vary(res.headers)
  if not names then return end
  for _, name in ipairs(names) do
    if name == "cookie" and client.cookies then return end -- libcurl sends them, we do not see them
  end
  local storage, list = client.cache.storage, table.concat(names, ",")
  local index = storage:get(at)
  local token, old_list = (index and index.value or ""):match "^(%x+) (.*)$"
  if old_list ~= list then token = ("%08x%08x"):format(core.random() * 2 ^ 32, core.random() * 2 ^ 32) end
  if not keep(client, entry_key(client, request, view, at, token, names), res, res.headers, now) then return end
  if old_list ~= list then
    local text = token .. " " .. list
    storage:put(at, text, #text, math.huge, 0)
  end
end

local function invalidate(client, request, res)
  local storage, url = client.cache.storage, request.url
  local origin, targets = core.url_origin(url), { url }
  for _, name in ipairs(res and { "location", "content-location" } or {}) do
    local target = res.headers[name] and core.url_resolve(url, res.headers[name])
    if target and core.url_origin(target) == origin then targets[#targets + 1] = target end
  end
  for _, target in ipairs(targets) do
    for _, method in ipairs { "GET", "HEAD" } do storage:delete(index_key(method, target)) end
  end
end

-- ---------------------------------------------------------------------------
-- Answers
-- ---------------------------------------------------------------------------

local function fresh_answer(found, age)
  local res = values.thaw(found.kept, "fresh")
  local flat = headers.without(res.flat, { age = true })
  res.flat = headers.with(flat, "age", ("%d"):format(age))
  return res
end

local function is_usable(found, wanted, now)
  local meta = found.kept.meta
  local age = rules.age(found.view, meta.at, meta.delay, now)
  return rules.is_usable(found.view, wanted, age, rules.lifetime(found.view, meta.at)), age
end

--- The kept body under the 304's headers, kept anew.
local function revalidated_answer(client, found, res)
  client.cache:count "revalidated"
  local answer = values.thaw(found.kept, "revalidated")
  answer.flat = rules.merge(found.kept.flat, responses.flat_headers(res))
  -- The time that it took is the 304's.
  answer.raw, answer.sends = res.raw, res.sends
  if rules.is_storable(answer.status, answer.headers, {}) then
    keep(client, found.key, answer, answer.headers, core.time())
  else
    client.cache.storage:delete(found.key)
  end
  return answer
end

local function ask(client, request, send, found)
  local plain = request.headers
  local conditions = rules.conditions(found.view)
  if not conditions then return send(client, request) end
  for i = 1, #conditions, 2 do
    request.headers = headers.with(request.headers, conditions[i], conditions[i + 1])
  end
  local res, err = send(client, request)
  request.headers = plain
  if not res or res.status ~= 304 then return res, err end
  if rules.is_about(found.view, res.headers) then return revalidated_answer(client, found, res) end
  -- It speaks of something that we do not have.
  client.cache.storage:delete(found.key)
  local again
  again, err = send(client, request)
  local outcome = again or err
  outcome.sends = (outcome.sends or 0) + res.sends
  return again, err
end

local function is_own_condition(view)
  for name in pairs(view) do
    if OWN_CONDITIONS[name] then return true end
  end
  return false
end

local function read(client, request, send)
  local view = headers.view(request.headers)
  local wanted = rules.request_directives(view)
  if request.stream or request.body or wanted["no-store"] or is_own_condition(view) then
    return send(client, request)
  end
  local cache, at = client.cache, index_key(request.method, request.url)
  local found = find(client, request, view, at)
  if found then
    local usable, age = is_usable(found, wanted, core.time())
    if usable then
      cache:count "hits"
      return fresh_answer(found, age)
    end
  end
  cache:count "misses"
  if wanted["only-if-cached"] then
    return responses.of { status = 504, body = "", version = "1.1", sends = 0, flat = {}, url = request.url }
  end
  local res, err
  if found then
    res, err = ask(client, request, send, found)
  else
    res, err = send(client, request)
  end
  if not res or res.from_cache then return res, err end
  if rules.is_storable(res.status, res.headers, wanted) then
    store(client, request, view, at, res, core.time())
  elseif found and res.status < 500 then
    cache.storage:delete(found.key) -- the server says something newer
  end
  return res
end

--- One hop through the client's cache; `send(client, request)` puts it on the wire.
--- Waits.
---@param client neap.http.Client
---@param request neap.http.Request
---@param send fun(client: neap.http.Client, request: neap.http.Request): neap.http.Response?, neap.Error?
---@return neap.http.Response? res, neap.Error? err
function M.hop(client, request, send)
  local method = request.method
  if method == "GET" or method == "HEAD" then return read(client, request, send) end
  local res, err = send(client, request)
  if not SAFE[method] then
    -- What was perhaps processed has perhaps changed something.
    if res and res.status < 400 or not res and err.sent ~= "no" then invalidate(client, request, res) end
  end
  return res, err
end

return M
