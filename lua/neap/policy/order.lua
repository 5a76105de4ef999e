--- Which orders of policies make sense. Pure.
local M = {}

local function nested_layers(one)
  local list = {}
  for _, inner in ipairs(one.nested and one:nested() or {}) do
    for _, found in ipairs(inner.layers or { inner }) do list[#list + 1] = found end
  end
  return list
end

-- What stands in an endpoint's policy stands where its router does.
local function note_positions(at, layers, index)
  for i, one in ipairs(layers) do
    if not at[one.kind] then at[one.kind] = index or i end
    note_positions(at, nested_layers(one), index or i)
  end
  return at
end

--- A layer, or a rate limiter, that is twice on a way through the pipeline, nested
--- policies included.
local function find_twice(layers, path)
  for _, one in ipairs(layers) do
    if path[one] then return ("the policy '%s' is there twice: it would wait for itself"):format(tostring(one)) end
    local limiter = one.kind == "pace" and one.limiter
    if limiter and path[limiter] then
      return ("the rate limiter of '%s' is there twice: it would charge each send twice"):format(tostring(one))
    end
    path[one], path[limiter or one] = true, true
    for _, inner in ipairs(one.nested and one:nested() or {}) do
      local copy = {}
      for seen in pairs(path) do copy[seen] = true end
      local twice = find_twice(inner.layers or { inner }, copy)
      if twice then return twice end
    end
  end
end

local function count(layers, kind)
  local n = 0
  for _, one in ipairs(layers) do
    if one.kind == kind then n = n + 1 end
  end
  return n
end

-- What must see each send, what comes of it otherwise, and what multiplies sends.
local PACED = {
  { "pace", "rate limiter", "passes it only once, however often it is sent", { "retry", "hedge", "router" } },
  { "throttle", "throttle", "is counted only once", { "retry", "hedge" } },
}

-- The outer one, the inner one, and what comes of it.
local INSIDE_OUT = {
  { "retry", "cache", "the cache stands inside the retry: every attempt looks it up again; put it outside" },
  { "retry", "deadline", "the deadline stands inside the retry: it cuts off one attempt, not the call" },
  { "retry", "fallback", "the fallback stands inside the retry: nothing fails there any more; put it outside" },
  { "hedge", "retry", "the hedge stands outside the retry: each copy runs a retry loop of its own; put it inside" },
  { "circuit_breaker", "retry", "the breaker stands outside the retry: it sees only what the last attempt came to; "
    .. "put it inside" },
  { "pace", "cache", "the rate limiter stands outside the cache: what the cache answers takes a turn; put it inside" },
}

--- Looks at a pipeline, outermost first.
---@param layers neap.policy.Layer[]
---@return string? problem what makes it useless
---@return string[] warnings
function M.check(layers)
  local twice = find_twice(layers, {})
  if twice then
    return twice .. "; make a second one, or leave it out", {}
  end
  if count(layers, "retry") > 1 then
    return "two retry loops multiply attempts; keep one", {}
  end
  local at, warnings = note_positions({}, layers), {}
  for _, rule in ipairs(PACED) do
    local kind, title, effect = rule[1], rule[2], rule[3]
    for _, source in ipairs(rule[4]) do
      if at[kind] and at[source] and at[kind] < at[source] then
        warnings[#warnings + 1] = ("the %s stands outside the %s: a call %s; put it inside")
          :format(title, source, effect)
      end
    end
  end
  for _, rule in ipairs(INSIDE_OUT) do
    local outer, inner, effect = rule[1], rule[2], rule[3]
    if at[outer] and at[inner] and at[outer] < at[inner] then warnings[#warnings + 1] = effect end
  end
  for _, holder in ipairs { "bulkhead", "adaptive" } do
    if at.cache and at[holder] and at[holder] < at.cache then
      warnings[#warnings + 1] = ("the cache stands inside the %s: what it answers, and what waits for another's "
        .. "answer, holds a permit; put it outside"):format(holder)
    end
  end
  return nil, warnings
end

return M
