--- When a response may be kept and given again: HTTP caching (RFC 9111) as a
--- private cache does it. Pure: times, Unix time in seconds, come in as arguments.
---
--- Stricter than it must be in three places: nothing is fresh by a guess (no
--- heuristic lifetime), nothing from 500 up is kept, so that a retry is a new
--- attempt, and a `no-cache="field"` counts as a bare `no-cache`.
local rate_headers = require "neap.rate_headers"

local M = {}

--- What a cache takes for "for ever" (RFC 9111, 1.2.2).
local MAX_SECONDS = 2 ^ 31

--- Statuses that may be kept without an explicit lifetime (RFC 9110, 15.1). Not
--- 206: parts are not put together here.
local BY_DEFAULT = {
  [200] = true, [203] = true, [204] = true, [300] = true, [301] = true, [308] = true, [404] = true, [405] = true,
  [410] = true, [414] = true,
}

--- Never kept: parts and answers to conditions; by RFC 6585: 428, 429, 431; 408.
local NEVER = { [206] = true, [304] = true, [408] = true, [428] = true, [429] = true, [431] = true }

-- ---------------------------------------------------------------------------
-- Cache-Control
-- ---------------------------------------------------------------------------

local SECONDS = { ["max-age"] = true, ["min-fresh"] = true, ["max-stale"] = true }

local function value_at(text, at)
  if text:sub(at, at) ~= "=" then return true, at end
  local quoted, after = text:match('^="([^"]*)"()', at)
  if quoted then return quoted, after end
  return text:match("^=([^%s,]*)()", at)
end

--- The directives of a Cache-Control header: name in lower case -> true, its text,
--- or seconds. Seconds that are none are 0; of several the fewest count.
---@param text string?
---@return table<string, true|string|number>
function M.directives(text)
  local found, at = {}, 1
  text = text or ""
  while true do
    local name, after = text:match("^[%s,=]*([^%s,=]+)()", at)
    if not name then return found end
    local value
    value, at = value_at(text, after)
    name = name:lower()
    if SECONDS[name] and (value ~= true or name ~= "max-stale") then
      value = type(value) == "string" and value:match "^%d+$" and math.min(tonumber(value), MAX_SECONDS) or 0
      if type(found[name]) == "number" then value = math.min(value, found[name]) end
    end
    found[name] = value
  end
end

--- A request's directives; `Pragma: no-cache` counts where there is no
--- Cache-Control.
---@param headers table<string, string> lower-case names
---@return table<string, true|string|number>
function M.request_directives(headers)
  if headers["cache-control"] then return M.directives(headers["cache-control"]) end
  local pragma = headers.pragma
  return { ["no-cache"] = pragma and M.directives(pragma)["no-cache"] }
end

-- ---------------------------------------------------------------------------
-- Ages
-- ---------------------------------------------------------------------------

local function date_of(headers, now)
  return headers.date and rate_headers.http_date(headers.date, now)
end

--- Seconds for which a response is fresh: max-age, else Expires; 0 where it does
--- not say.
---@param headers table<string, string>
---@param received number when it came
---@return number
function M.lifetime(headers, received)
  local max_age = M.directives(headers["cache-control"])["max-age"]
  if max_age then return max_age end
  local expires = headers.expires and rate_headers.http_date(headers.expires, received)
  if not expires then return 0 end
  return math.max(0, expires - (date_of(headers, received) or received))
end

--- How old a response is (RFC 9111, 4.2.3).
---@param headers table<string, string>
---@param received number when it came
---@param delay number seconds from its request to it
---@param now number
---@return number seconds
function M.age(headers, received, delay, now)
  local said = headers.age and headers.age:match "^%s*(%d+)"
  local apparent = math.max(0, received - (date_of(headers, received) or received))
  local initial = math.max(apparent, math.min(tonumber(said or 0), MAX_SECONDS) + delay)
  return initial + math.max(0, now - received)
end

--- Whether a response may be given without asking the server.
---@param headers table<string, string> the response's
---@param wanted table<string, true|string|number> the request's directives
---@param age number
---@param lifetime number
---@return boolean
function M.is_usable(headers, wanted, age, lifetime)
  local said = M.directives(headers["cache-control"])
  if said["no-cache"] or wanted["no-cache"] then return false end
  if wanted["max-age"] and age > wanted["max-age"] then return false end
  if wanted["min-fresh"] and lifetime - age < wanted["min-fresh"] then return false end
  if age < lifetime then return true end
  local stale = wanted["max-stale"]
  if not stale or said["must-revalidate"] then return false end
  return stale == true or age - lifetime <= stale
end

-- ---------------------------------------------------------------------------
-- Keeping
-- ---------------------------------------------------------------------------

--- The request headers that a response depends on, in lower case and in order;
--- nil when it depends on what nobody knows ("*").
---@param headers table<string, string>
---@return string[]?
function M.vary(headers)
  local names, seen = {}, {}
  for name in (headers.vary or ""):gmatch "[^%s,]+" do
    name = name:lower()
    if name == "*" then return nil end
    if not seen[name] then
      seen[name] = true
      names[#names + 1] = name
    end
  end
  table.sort(names)
  return names
end

--- Whether an answer to GET or HEAD may be kept.
---@param status integer
---@param headers table<string, string> the response's
---@param wanted table<string, true|string|number> the request's directives
---@return boolean
function M.is_storable(status, headers, wanted)
  local said = M.directives(headers["cache-control"])
  if said["no-store"] or wanted["no-store"] or NEVER[status] or status >= 500 or status < 200 then return false end
  if said["max-age"] or headers.expires then return true end
  return BY_DEFAULT[status] == true and (headers.etag ~= nil or headers["last-modified"] ~= nil)
end

--- The conditions of a request that asks whether a response is still right, as a
--- flat header list; nil where the response has nothing to ask with.
---@param headers table<string, string> the response's
---@return string[]?
function M.conditions(headers)
  local list = {}
  if headers.etag then list[1], list[2] = "If-None-Match", headers.etag end
  local modified = headers["last-modified"]
  if modified then list[#list + 1], list[#list + 2] = "If-Modified-Since", modified end
  return list[1] and list
end

local function opaque(tag)
  return (tag:gsub("^W/", ""))
end

--- Whether a 304 with `headers` speaks of the response with `stored`.
---@param stored table<string, string>
---@param headers table<string, string>
---@return boolean
function M.is_about(stored, headers)
  if headers.etag then return stored.etag ~= nil and opaque(headers.etag) == opaque(stored.etag) end
  local modified = headers["last-modified"]
  return not modified or stored["last-modified"] == nil or modified == stored["last-modified"]
end

--- What describes the bytes kept, or this one connection: a 304 does not change it
--- (RFC 9111, 3.2).
local KEPT = {
  ["content-length"] = true, ["content-encoding"] = true, ["content-type"] = true, ["content-range"] = true,
  ["transfer-encoding"] = true, connection = true, ["keep-alive"] = true, ["proxy-connection"] = true, te = true,
  trailer = true, upgrade = true, ["proxy-authenticate"] = true, ["proxy-authentication-info"] = true,
}

--- The headers of a kept response with those of a 304 in their place.
---@param stored string[] flat, names in lower case
---@param newer string[] flat, names in lower case
---@return string[]
function M.merge(stored, newer)
  local replaced, merged = {}, {}
  for i = 1, #newer, 2 do
    if not KEPT[newer[i]] then replaced[newer[i]] = true end
  end
  -- An age belongs to the answer that it came with.
  replaced.age = true
  for i = 1, #stored, 2 do
    if not replaced[stored[i]] then
      merged[#merged + 1] = stored[i]
      merged[#merged + 1] = stored[i + 1]
    end
  end
  for i = 1, #newer, 2 do
    if not KEPT[newer[i]] then
      merged[#merged + 1] = newer[i]
      merged[#merged + 1] = newer[i + 1]
    end
  end
  return merged
end

return M
