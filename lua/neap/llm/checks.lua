--- What would fail only on the way to the server, checked where it is given. No
--- message here shows a value: it may be a key. Pure.
local options = require "neap.options"
local settings = require "neap.http.settings"
local sorted = require "neap.sorted"

local M = {}

M.BROKEN = "holds a line break or a NUL byte"

--- Whether `value` is a text that no header can hold.
---@param value any
---@return boolean
function M.is_broken(value)
  return type(value) == "string" and value:find "[%z\r\n]" ~= nil
end

-- RFC 9110, 5.6.2. Only the beginning of a name that is none is shown: somebody
-- may have put a whole line there.
local TOKEN = "^[%w!#$%%&'*+.^_`|~-]+"
local CLIENTS_OWN = { ["content-length"] = true, ["transfer-encoding"] = true }

local function name_problem(name)
  if type(name) ~= "string" then return "header names must be strings, got " .. type(name) end
  local token = name:match(TOKEN) or ""
  if token == "" or #token < #name then
    return ("the name of a header holds a character that no name may have, after '%s'"):format(token), true
  end
  if CLIENTS_OWN[name:lower()] then return ("header '%s' is one that the client sets itself"):format(name), true end
end

local SINGLE = { string = true, number = true }

local function value_problem(name, value)
  for _, one in ipairs(type(value) == "table" and value or { value }) do
    if one ~= false and not SINGLE[type(one)] then
      return ("header '%s' must be string, number, false or an array of strings, got %s"):format(name, type(one))
    end
    if M.is_broken(one) then return ("header '%s' %s"):format(name, M.BROKEN), true end
  end
end

--- What is wrong with headers as an option takes them; nil: nothing.
---@param headers table?
---@return string? problem
---@return boolean? from_data the types are right
function M.headers(headers)
  for name, value in sorted.all(headers or {}) do
    local problem, from_data = name_problem(name)
    if not problem then problem, from_data = value_problem(name, value) end
    if problem then return problem, from_data end
  end
end

--- Raises on what is no timeout of the http client.
---@param where string
---@param timeout number|table
function M.timeout(where, timeout)
  local ok, problem = pcall(settings.check, where, { timeout = timeout })
  if ok then return end
  problem = tostring(problem)
  options.fail(problem:sub(problem:find(where, 1, true) or 1))
end

--- Raises on texts of neap.llm's options that cannot be sent.
---@param checked table the options
---@param key_from_environment boolean
function M.options(checked, key_from_environment)
  if M.is_broken(checked.api_key) then
    options.fail(key_from_environment
      and ("neap.llm: option 'api_key_env': the environment variable %s %s"):format(checked.api_key_env, M.BROKEN)
      or "neap.llm: option 'api_key' " .. M.BROKEN)
  end
  if M.is_broken(checked.organization) then options.fail("neap.llm: option 'organization' " .. M.BROKEN) end
  local problem = M.headers(checked.headers)
  if problem then options.fail("neap.llm: option 'headers': " .. problem) end
  M.timeout("neap.llm", checked.timeout)
end

--- Raises on an endpoint's key or headers that cannot be sent.
---@param endpoint table
function M.endpoint(endpoint)
  local problem
  if M.is_broken(endpoint.api_key) then
    problem = "'api_key' " .. M.BROKEN
  elseif endpoint.headers ~= nil and type(endpoint.headers) ~= "table" then
    problem = "'headers' must be table, got " .. type(endpoint.headers)
  else
    problem = M.headers(endpoint.headers)
  end
  if problem then
    error(("neap.llm: the router's endpoint '%s': %s"):format(tostring(endpoint.name or endpoint.model), problem), 0)
  end
end

return M
