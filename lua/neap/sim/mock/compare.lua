--- What of a request's query, headers and body differs from what a mock's rule wants, in
--- words that show no secret. Pure, but for the functions of a rule.
local glob = require "neap.sim.mock.glob"
local json = require "neap.json"
local names = require "neap.cassette.redact.names"
local printable = require "neap.printable"
local redact = require "neap.cassette.redact"
local sorted = require "neap.sorted"

local M = {}

local SHOWN = 80 -- bytes of a value

--- In quotes; nil: "nothing".
---@param value any
---@return string
function M.quote(value)
  if value == nil then return "nothing" end
  return ("'%s'"):format(printable.short(tostring(value), SHOWN))
end

local quote = M.quote

--- Two texts around the first byte that differs, and where that is, in long ones.
local function contrast(got, wanted)
  if #got <= SHOWN and #wanted <= SHOWN then return printable.line(got), printable.line(wanted), "" end
  local at = 1
  while at <= #got and got:byte(at) == wanted:byte(at) do at = at + 1 end
  return printable.window(got, at, SHOWN), printable.window(wanted, at, SHOWN), (" (from byte %d on)"):format(at)
end

--- What a function of the rule says. Raises a sentence where it raises.
---@param label string
---@param fn function
---@return boolean
function M.ask(label, fn, ...)
  local ok, result = pcall(fn, ...)
  if not ok then error(("its %s raised: %s"):format(label, require("neap.error").text(result)), 0) end
  return result and true or false
end

-- -- Query and headers ----------------------------------------------------------

--- Whether values are as wanted: a text with "*", a number, true (any), false (none), a
--- function of one that is there, or an array, of all values in order.
local function fits(label, wanted, values)
  local kind, value = type(wanted), values and values[1]
  if kind == "table" then
    if #wanted ~= (values and #values or 0) then return false end
    for i, one in ipairs(wanted) do
      if not glob.new(tostring(one))(values[i]) then return false end
    end
    return true
  end
  if kind == "function" then return value ~= nil and M.ask(label, wanted, value) end
  if kind == "boolean" then return (value ~= nil) == wanted end
  return value ~= nil and glob.new(tostring(wanted))(value)
end

local function list_text(list)
  if #list == 1 then return quote(list[1]) end
  local texts = {}
  for i, one in ipairs(list) do texts[i] = quote(one) end
  return table.concat(texts, ", ")
end

local function wanted_text(wanted)
  if wanted == true then return "any" end
  if wanted == false then return "none" end
  if type(wanted) == "function" then return "what its function accepts" end
  return type(wanted) == "table" and list_text(wanted) or quote(wanted)
end

--- Adds a sentence for each name whose values are not as wanted.
---@param list string[]
---@param what "query"|"header"
---@param wanted table<string, any>
---@param values_of fun(name: string): string[]? in order
function M.names(list, what, wanted, values_of)
  local is_secret = what == "header" and names.header or names.class
  for name, one in sorted.pairs(wanted) do
    local values, label = values_of(name), ("%s %s"):format(what, printable.short(name, SHOWN))
    if not fits(label, one, values) then
      local secret = is_secret(name)
      local got = not values and "nothing" or secret and "something else"
        or type(one) == "table" and list_text(values) or quote(values[1])
      list[#list + 1] = ("%s is %s, not %s"):format(label, got, secret and "as wanted" or wanted_text(one))
    end
  end
end

-- -- JSON -------------------------------------------------------------------------

local function json_text(value)
  if value == nil then return "nothing" end
  return redact.sent((json.encode(value, { sort_keys = true })))
end

--- Whether a member may be a secret: one of the two values that are compared.
local function is_secret(name, ...)
  local class = type(name) == "string" and names.class(name)
  if not class or class == "any" then return class ~= false end
  for i = 1, 2 do
    local value = select(i, ...)
    if type(value) == "string" and (class == "text" or names.looks_drawn(value)) then return true end
  end
  return false
end

local function place(path, key)
  if type(key) == "number" then return ("%s[%d]"):format(path, key) end
  if key:find "^[%a_][%w_]*$" then return path .. "." .. key end
  return ('%s["%s"]'):format(path, printable.short(key, SHOWN))
end

--- Calls told(path, got, wanted, secret) where two values of JSON differ. In Lua an empty
--- array is an empty object.
local function walk(told, path, got, wanted, secret)
  if type(got) ~= "table" or type(wanted) ~= "table" then
    if got ~= wanted then told(path, got, wanted, secret) end
    return
  end
  local keys = {}
  for key in pairs(got) do keys[key] = true end
  for key in pairs(wanted) do keys[key] = true end
  for key in sorted.pairs(keys) do
    walk(told, place(path, key), got[key], wanted[key], secret or is_secret(key, got[key], wanted[key]))
  end
end

--- The first difference between two values of JSON, by its path, and how many more there
--- are.
local function json_difference(got, wanted)
  local text, count = nil, 0
  walk(function(path, one, other, secret)
    count = count + 1
    if text then return end
    local a, b, where = contrast(json_text(one), json_text(other))
    if secret then a, b, where = one == nil and "nothing" or "something else", "as wanted", "" end
    text = ("%s is %s, not %s%s"):format(path, a, b, where)
  end, "body", got, wanted, false)
  if count < 2 then return text end
  return ("%s (and %d more difference%s)"):format(text, count - 1, count > 2 and "s" or "")
end

-- -- Bodies -------------------------------------------------------------------------

local function text_difference(got, wanted)
  if got == wanted then return nil end
  got, wanted = redact.sent(got), redact.sent(wanted)
  if got == wanted then return "body is something else, not as wanted, in what may be a secret" end
  local a, b, where = contrast(got, wanted)
  return ("body is '%s', not '%s'%s"):format(a, b, where)
end

--- What reads bodies for a rule. Nil, error: it is not JSON.
---@param wanted any a text, a function, or JSON
---@return nil|fun(seen: neap.sim.SeenRequest): string? difference nil: as wanted
---@return neap.Error? err
function M.body(wanted)
  if type(wanted) == "function" then
    return function(seen)
      return not M.ask("body", wanted, seen.body, seen) and "body is not what its function accepts" or nil
    end
  end
  if type(wanted) == "string" then return function(seen) return text_difference(seen.body, wanted) end end
  local text, err = json.encode(wanted, { sort_keys = true })
  if not text then return nil, err end
  local value = json.decode(text)
  return function(seen)
    local got = json.decode(seen.body)
    if got == nil then return text_difference(seen.body, text) end
    return json_difference(got, value)
  end
end

return M
