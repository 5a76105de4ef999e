--- What a handler returns, turned into status, flat headers and bytes. Pure.
local sorted = require "neap.sorted"

local concat, lower, type, tostring = table.concat, string.lower, type, tostring

local M = {}

local function bad(where, fmt, ...)
  error(where .. ": " .. fmt:format(...), 0)
end

local function add(flat, where, name, value)
  local kind = type(value)
  if kind == "number" then
    value = tostring(value)
  elseif kind ~= "string" then
    bad(where, "header '%s' must be string, number or an array of strings, got %s", name, kind)
  end
  flat[#flat + 1] = name
  flat[#flat + 1] = value
end

--- A header table (name -> value or array of values; false leaves it out) as a
--- flat array. The body's length stands beside it: Content-Length is returned,
--- not kept, and so is the fact that a Content-Type was given.
---@param where string for messages
---@param given table<string, string|number|false|string[]>?
---@return string[] flat
---@return integer? length of the Content-Length header
---@return boolean has_type
function M.headers(where, given)
  local flat, length, has_type = {}, nil, false
  if given == nil then return flat, nil, false end
  if type(given) ~= "table" then bad(where, "headers must be a table, got %s", type(given)) end
  for name in pairs(given) do
    if type(name) ~= "string" then bad(where, "header names must be strings, got %s", type(name)) end
  end
  for name, value in sorted.pairs(given) do
    local key = lower(name)
    if key == "content-type" then has_type = true end
    if key == "content-length" then
      length = tonumber(value)
    elseif type(value) == "table" then
      for i = 1, #value do add(flat, where, name, value[i]) end
    elseif value ~= false then
      add(flat, where, name, value)
    end
  end
  return flat, length, has_type
end

local function encode(value)
  local text, err = require("neap.json").encode(value)
  if text == nil then bad("neap.serve", "the handler's answer cannot be JSON: %s", tostring(err)) end
  return text
end

local answer_keys = { status = true, headers = true, body = true, json = true }

local function is_unknown(key) return not answer_keys[key] end

local function unpack_answer(answer)
  for key in pairs(answer) do
    if is_unknown(key) then
      bad("neap.serve", "field '%s' of the handler's answer is unknown", tostring(sorted.first(answer, is_unknown)))
    end
  end
  if answer.json == nil then return answer.status or 200, answer.body, answer.headers end
  if answer.body ~= nil then bad("neap.serve", "an answer has a body or json, not both") end
  return answer.status or 200, encode(answer.json), answer.headers, "application/json"
end

--- Reads `return status, body, headers` or `return {status=, headers=, body=|json=}`.
--- A body that is a table is sent as JSON. Raises a sentence on anything else.
---@return integer status
---@return string[] flat
---@return string body
function M.read(status, body, headers)
  local content_type = "text/plain; charset=utf-8"
  if type(status) == "table" then
    local as
    status, body, headers, as = unpack_answer(status)
    content_type = as or content_type
  end
  if type(status) ~= "number" or status % 1 ~= 0 or status < 200 or status > 999 then
    bad("neap.serve", "the handler must return a status from 200 to 999 or a table, got %s", tostring(status))
  end
  if type(body) == "table" then
    body, content_type = encode(body), "application/json"
  elseif body == nil then
    body = ""
  elseif type(body) ~= "string" then
    bad("neap.serve", "the answer's body must be a string or a table, got %s", type(body))
  end
  local flat, _, has_type = M.headers("neap.serve", headers)
  if not has_type and body ~= "" then
    flat[#flat + 1] = "Content-Type"
    flat[#flat + 1] = content_type
  end
  return status, flat, body
end

local function add_lines(out, field, text)
  for line in (text .. "\n"):gmatch "(.-)\n" do
    out[#out + 1] = field .. ": " .. line:gsub("\r$", "") .. "\n"
  end
end

--- A server-sent event's bytes.
---@param event string|{data: string, event?: string, id?: string, retry?: number}
---@return string
function M.event(event)
  if type(event) == "string" then event = { data = event } end
  local out = {}
  if event.event then out[#out + 1] = "event: " .. event.event .. "\n" end
  if event.id then out[#out + 1] = "id: " .. event.id .. "\n" end
  if event.retry then out[#out + 1] = ("retry: %d\n"):format(event.retry * 1000) end
  add_lines(out, "data", event.data)
  out[#out + 1] = "\n"
  return concat(out)
end

return M
