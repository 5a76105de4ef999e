--- Header lists. On the wire they are flat arrays {"Name", "value", ...}, which
--- the core takes and gives; options are tables name -> value. Pure.
local lower = string.lower

local M = {}

local Headers = {
  __index = function(headers, name)
    if type(name) ~= "string" then return nil end
    return rawget(headers, lower(name))
  end,
}

--- A table of a response's headers: lower-case names, looked up in any case;
--- repeated ones are joined by ", " in order of arrival.
---@param flat string[] {"name", "value", ...}
---@return table<string, string>
function M.view(flat)
  local headers = {}
  for i = 1, #flat, 2 do
    local name, value = lower(flat[i]), flat[i + 1]
    local old = headers[name]
    headers[name] = old and (old .. ", " .. value) or value
  end
  return setmetatable(headers, Headers)
end

--- All values of one header, in order.
---@param flat string[]
---@param name string in any case
---@return string[]
function M.values(flat, name)
  local wanted, values = lower(name), {}
  for i = 1, #flat, 2 do
    if lower(flat[i]) == wanted then values[#values + 1] = flat[i + 1] end
  end
  return values
end

local function add(flat, where, name, value)
  local kind = type(value)
  if kind == "number" then
    value = tostring(value)
  elseif kind ~= "string" then
    error(("%s: header '%s' must be string, number, false or an array of strings, got %s")
      :format(where, name, kind), 0)
  end
  flat[#flat + 1] = name
  flat[#flat + 1] = value
end

--- `flat` with the headers of `overrides` in place of those of the same name
--- (case does not matter). A value may be a string, a number, an array of them
--- (the header is then sent once for each) or false (the header is dropped).
--- Makes a new array; raises (level 0) on a value of another type.
---@param where string for messages
---@param flat string[]
---@param overrides table<string, string|number|false|string[]>
---@return string[]
function M.merge(where, flat, overrides)
  local names, replaced = {}, {}
  for name in pairs(overrides) do
    if type(name) ~= "string" then
      error(("%s: header names must be strings, got %s"):format(where, type(name)), 0)
    end
    names[#names + 1] = name
    replaced[lower(name)] = true
  end
  table.sort(names) -- equal requests are equal bytes
  local merged = {}
  for i = 1, #flat, 2 do
    if not replaced[lower(flat[i])] then
      merged[#merged + 1] = flat[i]
      merged[#merged + 1] = flat[i + 1]
    end
  end
  for _, name in ipairs(names) do
    local value = overrides[name]
    if type(value) == "table" then
      for _, item in ipairs(value) do add(merged, where, name, item) end
    elseif value ~= false then
      add(merged, where, name, value)
    end
  end
  return merged
end

--- `flat` without the headers whose lower-case names are keys of `dropped`;
--- `flat` itself when there are none.
---@param flat string[]
---@param dropped table<string, any>
---@return string[]
function M.without(flat, dropped)
  local kept = {}
  for i = 1, #flat, 2 do
    if not dropped[lower(flat[i])] then
      kept[#kept + 1] = flat[i]
      kept[#kept + 1] = flat[i + 1]
    end
  end
  return #kept == #flat and flat or kept
end

---@param flat string[]
---@param name string in any case
---@return boolean
function M.has(flat, name)
  local wanted = lower(name)
  for i = 1, #flat, 2 do
    if lower(flat[i]) == wanted then return true end
  end
  return false
end

--- `flat` with one more header.
---@param flat string[]
---@param name string
---@param value string
---@return string[]
function M.with(flat, name, value)
  local longer = {}
  for i = 1, #flat do longer[i] = flat[i] end
  longer[#longer + 1] = name
  longer[#longer + 1] = value
  return longer
end

return M
