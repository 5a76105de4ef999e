--- What of a request must not be in a cassette, and its removal.
---
--- Three nets, each for what slips through the one before: values under names that
--- speak of secrets (headers, parameters, members of JSON, elements); the very values
--- that were sent under such names or handed out, wherever an answer repeats them
--- (neap.cassette.redact.memory); and request headers and bodies are never kept at all.
local finder = require "neap.cassette.redact.finder"
local json = require "neap.json"
local memory = require "neap.cassette.redact.memory"
local names = require "neap.cassette.redact.names"
local text_module = require "neap.cassette.redact.text"

local find, gsub, lower, sub = string.find, string.gsub, string.lower, string.sub
local scan, replace = text_module.scan, finder.replace

local M = {}

--- What stands in a secret's place.
M.MARK = "REDACTED"

local MARK = M.MARK
local MAX_CHECKED = 2 ^ 20 -- bytes of JSON that is looked at again when a part of it is gone

--- Whether a header's value is a secret.
---@param name string in any case
---@param more? table<string, boolean> lower-case names besides
---@return boolean
function M.is_secret_header(name, more)
  return names.header(name, more)
end

--- What a recording, or a replay, knows of secrets: at first nothing.
---@return neap.cassette.Secrets
function M.memory()
  return memory.new()
end

local function hidden(name, value)
  if value ~= "" and names.class(name) then return name .. "=" .. MARK end
end

local function hidden_in_path(name, value)
  return value ~= "" and names.class(name) and ";" .. name .. "=" .. MARK or nil
end

local function hidden_bot(number, key)
  return #key >= 20 and "/bot" .. number .. ":" .. MARK or nil
end

--- A url without user information, fragment and the values of secret parameters.
---@param url string
---@return string
function M.url(url)
  if find(url, "/bot", 1, true) then url = gsub(url, "/bot(%d+):([%w_-]+)", hidden_bot) end
  if not find(url, "[?#@;]") then return url end
  url = gsub(url, "#.*$", "")
  url = gsub(url, "^(%a[%w+.-]*://)[^/?]*@", "%1")
  local mark = find(url, "?", 1, true)
  local path, query = sub(url, 1, mark or -1), mark and sub(url, mark + 1) or ""
  path = gsub(path, ";([%w_.-]+)=([^;/?]*)", hidden_in_path)
  query = gsub(query, "([^&;=]+)=([^&;]*)", hidden)
  if find(query, "%3", 1, true) then query = replace(query, scan(query, MARK).spans, MARK) end
  return path .. query
end

--- A text without the values that are known, however they are written in it.
---@param text string
---@param secrets neap.cassette.Secrets
---@return string
function M.scrub(text, secrets)
  return replace(text, secrets:find(text), MARK)
end

--- A text that was sent, without the values under names that speak of secrets.
---@param text string
---@return string
function M.sent(text)
  return replace(text, scan(text, MARK, true).spans, MARK)
end

-- -- Answers ------------------------------------------------------------------

local LEADS = { ["location"] = true, ["content-location"] = true }

--- A header's value that stands under no secret name.
local function header_value(name, value, secrets)
  if LEADS[name] then value = M.url(value) end
  value = replace(value, secrets:find(value), MARK)
  if find(value, "[?&@{]") then value = replace(value, scan(value, MARK).spans, MARK) end
  return value
end

--- An answer's headers, by lower-case name; repeated ones as an array. What they hand
--- out is known from then on.
---@param flat string[]
---@param secrets neap.cassette.Secrets
---@param more? table<string, boolean> lower-case names of secret headers besides
---@return table<string, string|string[]>
function M.headers(flat, secrets, more)
  local list, result, leads = {}, {}, false
  for i = 1, #flat, 2 do
    local name, value = lower(flat[i]), flat[i + 1]
    local secret = names.header(name, more)
    if secret or LEADS[name] then secrets:learn_header(name, value) end
    leads = leads or LEADS[name]
    list[i], list[i + 1] = name, secret and MARK or value
  end
  local all = table.concat(list, "\n")
  local clean = not leads and not find(all, "[?&@{]") and #secrets:find(all) == 0
  for i = 1, #list, 2 do
    local name, value = list[i], list[i + 1]
    if not clean and value ~= MARK then value = header_value(name, value, secrets) end
    local old = result[name]
    if type(old) == "table" then
      old[#old + 1] = value
    else
      result[name] = old and { old, value } or value
    end
  end
  return result
end

--- Whether a text was JSON and is none any more.
local function is_broken(before, after)
  if #before > MAX_CHECKED or not find(before, '^%s*[%[{"]') then return false end
  return json.decode(before) ~= nil and json.decode(after) == nil
end

--- An answer's body. What it hands out under names of secrets is known from then on.
---@param body string
---@param secrets neap.cassette.Secrets
---@return string
function M.body(body, secrets)
  local result = replace(body, secrets:find(body), MARK)
  local found = scan(result, MARK)
  if #found.spans > 0 then
    secrets:learn_found(found.values)
    result = replace(result, found.spans, MARK)
  end
  if result ~= body and is_broken(body, result) then return '"' .. MARK .. '"' end
  return result
end

return M
