--- Values as text for people: what the REPL prints. Tables are shown nested
--- with sorted keys, on one line while they fit; depth, items and string length
--- are bounded, so that a huge result stays readable. Pure.
local M = {}

---@class neap.cli.InspectOptions
---@field depth? integer tables deeper than this are `{...}`; default 6
---@field items? integer entries shown per table; default 100
---@field string_length? integer bytes shown of a string inside a table; default 400
---@field width? integer columns that a table may take on one line; default 80

local DEFAULTS = { depth = 6, items = 100, string_length = 400, width = 80 }

local RESERVED = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then
  true until while]]):gmatch "%a+" do
  RESERVED[word] = true
end

local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\", ['"'] = '\\"' }

local function quote(text, limit)
  local cut = #text > limit
  if cut then
    -- Not in the middle of a UTF-8 character.
    local last = limit
    while last > limit - 3 and text:byte(last + 1) and text:byte(last + 1) >= 0x80 and text:byte(last + 1) < 0xC0 do
      last = last - 1
    end
    limit = last
  end
  local shown = text:sub(1, limit):gsub('[%c\\"]', function(char)
    return ESCAPES[char] or ("\\x%02x"):format(char:byte())
  end)
  if cut then return ('"%s"... (%d bytes)'):format(shown, #text) end
  return '"' .. shown .. '"'
end

local function number_text(value)
  if value % 1 == 0 and math.abs(value) < 2 ^ 53 then return ("%.0f"):format(value) end
  local short = ("%.14g"):format(value)
  return tonumber(short) == value and short or ("%.17g"):format(value)
end

local function function_text(fn)
  local info = debug.getinfo(fn, "S")
  if info.what == "C" then return tostring(fn) end
  return ("function <%s:%d>"):format(info.short_src, info.linedefined)
end

local TYPE_RANK = { number = 1, string = 2, boolean = 3 }

local function key_before(a, b)
  local rank_a, rank_b = TYPE_RANK[type(a)] or 4, TYPE_RANK[type(b)] or 4
  if rank_a ~= rank_b then return rank_a < rank_b end
  if rank_a <= 2 then return a < b end
  return tostring(a) < tostring(b)
end

local Writer = {}
Writer.__index = Writer

function Writer:key(key)
  if type(key) == "string" and key:match "^[%a_][%w_]*$" and not RESERVED[key] then return key end
  return "[" .. self:value(key, self.options.depth) .. "]"
end

--- The entries of a table as text, in order: the array part, then the other
--- keys sorted.
function Writer:entries(object, depth)
  local entries, length = {}, 0
  local limit = self.options.items
  while rawget(object, length + 1) ~= nil do length = length + 1 end
  for i = 1, math.min(length, limit) do entries[i] = self:value(rawget(object, i), depth + 1) end
  local hidden = length - #entries
  local keys = {}
  for key in next, object do
    local in_array = type(key) == "number" and key >= 1 and key <= length and key % 1 == 0
    if not in_array then keys[#keys + 1] = key end
  end
  table.sort(keys, key_before)
  for i, key in ipairs(keys) do
    if #entries >= limit then
      hidden = hidden + #keys - i + 1
      break
    end
    entries[#entries + 1] = self:key(key) .. " = " .. self:value(rawget(object, key), depth + 1)
  end
  if hidden > 0 then entries[#entries + 1] = ("... (%d more)"):format(hidden) end
  return entries
end

function Writer:table(object, depth)
  if self.open[object] then return "<cycle>" end
  if next(object) == nil then return "{}" end
  if depth >= self.options.depth then return "{...}" end
  self.open[object] = true
  local entries = self:entries(object, depth)
  self.open[object] = nil
  local flat = "{ " .. table.concat(entries, ", ") .. " }"
  if #flat + 2 * depth <= self.options.width and not flat:find("\n", 1, true) then return flat end
  local indent = ("  "):rep(depth + 1)
  return "{\n" .. indent .. table.concat(entries, ",\n" .. indent) .. "\n" .. ("  "):rep(depth) .. "}"
end

function Writer:value(value, depth)
  local kind = type(value)
  if kind == "string" then return quote(value, self.options.string_length) end
  if kind == "number" then return number_text(value) end
  if kind == "function" then return function_text(value) end
  if kind == "table" then
    local meta = debug.getmetatable(value)
    if type(meta) == "table" and rawget(meta, "__tostring") then
      local ok, text = pcall(tostring, value)
      return ok and text or ("<error in __tostring: %s>"):format(tostring(text))
    end
    return self:table(value, depth)
  end
  return tostring(value)
end

--- One value as text.
---@param value any
---@param options? neap.cli.InspectOptions
---@return string
function M.inspect(value, options)
  local writer = setmetatable({ open = {}, options = setmetatable(options or {}, { __index = DEFAULTS }) }, Writer)
  return writer:value(value, 0)
end

--- Several values as the REPL shows them, separated by commas.
---@param count integer how many of the values count: nils at the end too
---@param ... any
---@return string
function M.values(count, ...)
  local texts = {}
  for i = 1, count do
    local value = select(i, ...)
    -- A string that is itself the result is shown in full.
    texts[i] = M.inspect(value, type(value) == "string" and { string_length = #value } or nil)
  end
  return table.concat(texts, ", ")
end

return M
