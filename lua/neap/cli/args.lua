--- Command-line options from one declaration: parsing, defaults, ranges, and
--- one clear sentence for whatever is wrong. Pure: prints and exits nothing.
---
---   local spec = {
---     { name = "concurrency", short = "c", type = "integer", default = 64, min = 1, help = "requests in flight" },
---     { name = "header", short = "H", type = "list", metavar = "NAME:VALUE", help = "extra header (repeatable)" },
---     { name = "force", type = "boolean", help = "overwrite the output" },
---   }
---   local opts, rest = args.parse(spec, { "-c", "5", "in.jsonl" })
---   -- opts.concurrency == 5, opts.header == {}, opts.force == false, rest[1] == "in.jsonl"
---   -- or nil, "unknown option '--concurency'; did you mean '--concurrency'?"
---
--- `--name value`, `--name=value`, `-c 5`, `-c5`, `-vf` for booleans, `--no-name`
--- for booleans that are on by default; `--` ends the options. A dash in a name
--- is an underscore in the result: `--max-attempts` is `opts.max_attempts`.
--- `-h` and `--help` are always known: then `opts.help` is true, parsing ends and
--- nothing more is checked.
local options = require "neap.options"

local M = {}

---@class neap.cli.Option
---@field name string long name without the dashes
---@field short? string one letter
---@field type "integer"|"number"|"string"|"boolean"|"list" a list collects every occurrence
---@field default? any booleans default to false, lists to an empty table
---@field min? number least accepted number
---@field above? number exclusive lower bound
---@field max? number greatest accepted number
---@field required? boolean
---@field choices? string[] the accepted values
---@field parse? fun(text: string): any, string? turns the text into the value; nil, message refuses it
---@field metavar? string what the help calls the value
---@field help? string one line
---@field hidden? boolean not in the help

---@class neap.cli.ParseMode
---@field stop_at_positional? boolean the first argument that is no option ends the options (for scripts' own)

--- The option that every command has.
M.HELP = { name = "help", short = "h", type = "boolean", help = "show this help" }

--- The name in the result table: dashes become underscores.
---@param name string
---@return string
function M.key(name)
  return (name:gsub("-", "_"))
end

local function index_of(spec)
  local long, short = { help = M.HELP }, { h = M.HELP }
  for _, option in ipairs(spec) do
    long[option.name] = option
    if option.short then short[option.short] = option end
  end
  return long, short
end

local function number_of(text)
  -- Lua would also take hexadecimal, "inf" and "nan"; people mean none of them.
  if not text:match "^[+-]?%.?%d" then return nil end
  if not text:match "^[+-]?%d*%.?%d*[eE]?[+-]?%d*$" then return nil end
  return tonumber(text)
end

--- `text` is the value as it was written.
local function check_range(flag, value, option, text)
  local function wrong(relation, bound)
    return nil, ("option '%s' must be %s %.16g, got %s"):format(flag, relation, bound, text)
  end
  if option.min and value < option.min then return wrong("at least", option.min) end
  if option.above and value <= option.above then return wrong("above", option.above) end
  if option.max and value > option.max then return wrong("at most", option.max) end
  return value
end

local function convert_number(flag, text, option)
  local value = number_of(text)
  if option.type == "integer" then
    if not value or value % 1 ~= 0 or math.abs(value) > 2 ^ 53 then
      return nil, ("option '%s' needs a whole number, got '%s'"):format(flag, text)
    end
  elseif not value or math.abs(value) == math.huge then
    return nil, ("option '%s' needs a number, got '%s'"):format(flag, text)
  end
  return check_range(flag, value, option, text)
end

local function convert(flag, text, option)
  if option.type == "integer" or option.type == "number" then return convert_number(flag, text, option) end
  if option.choices then
    for _, choice in ipairs(option.choices) do
      if text == choice then return text end
    end
    local hint = options.nearest(text, option.choices)
    return nil, ("option '%s' must be one of %s, got '%s'%s"):format(flag, table.concat(option.choices, ", "), text,
      hint and ("; did you mean '%s'?"):format(hint) or "")
  end
  if option.parse then
    local value, message = option.parse(text)
    if value == nil then return nil, ("option '%s': %s"):format(flag, message or "is not valid") end
    return value
  end
  return text
end

local Parser = {}
Parser.__index = Parser

function Parser:set(option, flag, text)
  local key = M.key(option.name)
  if option.type == "boolean" then
    self.opts[key] = true
    return true
  end
  local value, message = convert(flag, text, option)
  if value == nil then return nil, message end
  if option.type == "list" then
    self.lists[key] = self.lists[key] or {}
    table.insert(self.lists[key], value)
    self.opts[key] = self.lists[key]
  else
    self.opts[key] = value
  end
  return true
end

--- Whether `text` is an option that we know: then it is not the value of the
--- option before it (`-i -o out` forgot a file name).
function Parser:is_option(text)
  if text == "--" then return true end
  local name = text:match "^%-%-([^=]+)"
  if name then return self.long[name] ~= nil end
  local letter = text:match "^%-(%a)"
  return letter ~= nil and self.short[letter] ~= nil
end

--- The value that follows an option, moving on past it.
function Parser:take_value(option, flag)
  local text = self.argv[self.at + 1]
  if text == nil or self:is_option(text) then
    return nil, ("option '%s' needs a value%s"):format(flag,
      option.metavar and (" (%s)"):format(option.metavar) or "")
  end
  self.at = self.at + 1
  return text
end

function Parser:unknown(flag)
  local names = {}
  for name, option in pairs(self.long) do
    names[#names + 1] = "--" .. name
    if option.type == "boolean" and option.default == true then names[#names + 1] = "--no-" .. name end
  end
  local hint = options.nearest(flag, names)
  return nil, ("unknown option '%s'%s"):format(flag, hint and ("; did you mean '%s'?"):format(hint) or "")
end

function Parser:parse_long(arg)
  local name, text = arg:match "^%-%-([^=]+)=(.*)$"
  name = name or arg:sub(3)
  local flag = "--" .. name
  local option = self.long[name]
  if not option then
    local negated = self.long[name:match "^no%-(.+)$" or ""]
    if not negated or negated.type ~= "boolean" or negated.default ~= true then return self:unknown(flag) end
    if text then return nil, ("option '%s' takes no value"):format(flag) end
    self.opts[M.key(negated.name)] = false
    return true
  end
  if option.type == "boolean" then
    if text then return nil, ("option '%s' takes no value"):format(flag) end
  elseif text == nil then
    local message
    text, message = self:take_value(option, flag)
    if text == nil then return nil, message end
  end
  return self:set(option, flag, text)
end

function Parser:parse_short(arg)
  for position = 2, #arg do
    local letter = arg:sub(position, position)
    local flag = "-" .. letter
    local option = self.short[letter]
    if not option then
      -- "-concurrency" is a long option with a dash missing.
      return self:unknown(#arg > 2 and self.long[arg:match "^%-([^=]+)"] and arg or flag)
    end
    if option.type ~= "boolean" then
      local text = arg:sub(position + 1)
      if text == "" then
        local value, message = self:take_value(option, flag)
        if value == nil then return nil, message end
        text = value
      end
      return self:set(option, flag, text)
    end
    self:set(option, flag)
  end
  return true
end

function Parser:walk(stop_at_positional)
  local rest = {}
  while self.at <= #self.argv do
    local arg = self.argv[self.at]
    local ok, message = true, nil
    if arg == "--" then
      for i = self.at + 1, #self.argv do rest[#rest + 1] = self.argv[i] end
      break
    elseif arg:sub(1, 2) == "--" then
      ok, message = self:parse_long(arg)
    elseif arg:sub(1, 1) == "-" and arg ~= "-" then
      ok, message = self:parse_short(arg)
    elseif stop_at_positional then
      for i = self.at, #self.argv do rest[#rest + 1] = self.argv[i] end
      break
    else
      rest[#rest + 1] = arg
    end
    if not ok then return nil, message end
    if self.opts.help then break end
    self.at = self.at + 1
  end
  return rest
end

local function fill_defaults(spec, opts)
  for _, option in ipairs(spec) do
    local key = M.key(option.name)
    if opts[key] == nil then
      local default = option.default
      if default == nil and option.type == "boolean" then default = false end
      if option.type == "list" then
        default = {}
        for i, item in ipairs(option.default or {}) do default[i] = item end
      end
      opts[key] = default
    end
  end
end

--- Parses `argv` (an array of strings).
---@param spec neap.cli.Option[]
---@param argv string[]
---@param mode? neap.cli.ParseMode
---@return table<string, any>? opts nil when something is wrong
---@return string[]|string rest the arguments that are no options; or the message, one line
function M.parse(spec, argv, mode)
  local long, short = index_of(spec)
  local parser = setmetatable({ argv = argv, at = 1, opts = {}, lists = {}, long = long, short = short }, Parser)
  local rest, message = parser:walk(mode and mode.stop_at_positional)
  if not rest then return nil, message --[[@as string]] end
  local opts = parser.opts
  if not opts.help then
    for _, option in ipairs(spec) do
      if option.required and opts[M.key(option.name)] == nil then
        return nil, ("option '--%s' is required"):format(option.name)
      end
    end
  end
  fill_defaults(spec, opts)
  return opts, rest
end

return M
