--- The recommended pipeline: deadline, fallback, cache, retry with its budget,
--- hedge, throttle, router, breaker, adaptive limit or bulkhead, limiter.
---
--- Why this order: what the cache answers costs nothing further in; each attempt
--- and each hedge's copy passes throttle, breaker, limit and limiter by itself; a
--- permit is taken inside the retry, so no backoff holds one; the limiter is
--- innermost, so that what it paces is sent at once.
local options = require "neap.options"
local schema = require "neap.schema"
local layer = require "neap.policy.layer"

local M = {}

-- Option, module, and the option that a bare value stands for.
local PARTS = {
  { "deadline", "neap.deadline", "seconds" },
  { "fallback", "neap.fallback", "with" },
  { "cache", "neap.cache" },
  { "retry", "neap.retry" },
  { "hedge", "neap.hedge" },
  { "throttle", "neap.throttle" },
  { "router", "neap.router" },
  { "breaker", "neap.circuit_breaker" },
  { "adaptive", "neap.adaptive" },
  { "bulkhead", "neap.bulkhead", "limit" },
}

local function fail(text, ...)
  options.fail("neap.policy.standard: " .. text:format(...))
end

-- What a wrong object is called in an error.
local function title(value)
  if layer.is(value) then return "a neap." .. value.kind end
  return "another object"
end

local function copy(options_given)
  local opts = {}
  for key, value in pairs(options_given) do opts[key] = value end
  return opts
end

-- `true` means defaults, a table options, a layer itself; a bare value goes to
-- `short`.
local function build(name, module, short, value, budget)
  if type(value) == "table" and getmetatable(value) ~= nil then
    if layer.is(value) and "neap." .. value.kind == module then return value end
    fail("option '%s' must be a %s or its options, got %s", name, module, title(value))
  end
  local opts = type(value) == "table" and copy(value) or {}
  if type(value) ~= "table" and value ~= true then opts[short] = value end
  if budget and opts.budget == nil then opts.budget = budget end
  return require(module).new(opts)
end

local function budget_of(value)
  if value == false then return nil end
  if type(value) == "table" and value.allow then return value end
  -- Finagle's form has a reserve from the start: one burst of refusals over a few
  -- dozen calls must not end them all.
  return require("neap.retry_budget").new(value == true and { form = "finagle" } or value)
end

local function limiter_of(opts)
  local value = opts.limiter
  if value == true or layer.is(value) and value.kind ~= "pace" then
    fail("option 'limiter' must be a neap.rate_limiter, its options or a neap.pace, got %s",
      value == true and "true" or title(value))
  end
  if layer.is(value) then
    if opts.amounts or opts.actual then
      fail "options 'amounts' and 'actual' belong to the neap.pace given as 'limiter'"
    end
    return value
  end
  return require("neap.pace").new { limiter = value, amounts = opts.amounts, actual = opts.actual }
end

-- Whether this part is built here without a budget of its own.
local function takes_budget(value)
  if not value or layer.is(value) then return false end
  return type(value) ~= "table" or value.budget == nil
end

local function check_combination(opts, given)
  if opts.adaptive and opts.bulkhead then
    if given and given.adaptive then
      fail "'adaptive' and 'bulkhead' both limit concurrency; choose one"
    end
    opts.adaptive = false
  end
  if opts.client and opts.router then
    fail("'client' and 'router' do not go together: a router's endpoints have clients of their own; use "
      .. "policy:call(fn, ...), whose fn gets the endpoint first")
  end
  if (opts.amounts or opts.actual) and not opts.limiter then
    fail "options 'amounts' and 'actual' need 'limiter'"
  end
  -- `true` is the default, and nobody misses it.
  if type(opts.budget) == "table" and not (takes_budget(opts.retry) or takes_budget(opts.hedge)) then
    fail("nothing uses the option 'budget': no retry or hedge is built here; give it to the neap.retry or neap.hedge "
      .. "itself")
  end
end

local IDEMPOTENT = { GET = true, HEAD = true, PUT = true, DELETE = true, OPTIONS = true, TRACE = true }

--- For hedges in front of a client: whether the request may be sent twice, by the
--- client's own rule.
local function replay_safe_on(client)
  local methods = { [client.get] = "GET", [client.head] = "HEAD", [client.put] = "PUT", [client.delete] = "DELETE" }
  return function(call, _, url, opts)
    if call.fn == client.request then opts = url end
    if type(opts) == "table" and (opts.idempotent ~= nil or opts.idempotency_key) then
      return opts.idempotent ~= false
    end
    if call.fn == client.request then
      return type(opts) == "table" and IDEMPOTENT[tostring(opts.method or "GET"):upper()] or false
    end
    return methods[call.fn] ~= nil
  end
end

--- The client's methods behind the policy.
local function add_methods(policy, client)
  for _, method in ipairs { "request", "get", "post", "put", "patch", "delete", "head" } do
    local send = client[method]
    if type(send) ~= "function" then
      fail("option 'client' must be a neap.http.client, it has no method %s", method)
    end
    policy[method] = function(self, ...) return self:call(send, client, ...) end
  end
  policy.client = client
end

--- Builds it.
---@param given? table
---@param new fun(parts: neap.policy.Layer[], name: string): neap.Policy
---@return neap.Policy
function M.new(given, new)
  local opts = schema.check("policy", given)
  check_combination(opts, given)
  local budget = (opts.retry or opts.hedge) and budget_of(opts.budget) or nil
  -- By which option it came, where that is not its kind: for `update`.
  local parts, aliases = {}, {}
  for _, part in ipairs(PARTS) do
    local name, module, short = part[1], part[2], part[3]
    local value = opts[name]
    if value then
      local budgeted = (name == "retry" or name == "hedge") and budget
      if name == "hedge" and opts.client and (value == true or getmetatable(value) == nil) then
        value = value == true and {} or copy(value)
        if value.eligible == nil then value.eligible = replay_safe_on(opts.client) end
      end
      local built = build(name, module, short, value, budgeted)
      parts[#parts + 1], aliases[name] = built, built
    end
  end
  if opts.limiter then
    aliases.limiter = limiter_of(opts)
    parts[#parts + 1] = aliases.limiter
  end
  if #parts == 0 then fail "every part is off; leave one on, such as 'retry'" end
  local policy = new(parts, opts.name)
  policy.aliases = aliases
  if opts.account then policy.account = opts.account end
  if opts.client then add_methods(policy, opts.client) end
  return policy
end

return M
