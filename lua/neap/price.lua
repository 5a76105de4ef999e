--- What requests and tokens cost: one price table for `neap lab --price` and for
--- `neap batch --dry-run --price`, from a JSON file or a script. Pure, but for `read`.
local options = require "neap.options"
local sorted = require "neap.sorted"
local whole = require "neap.fs.whole"

local M = {}

---@class neap.TokenPrice both or none
---@field input? number by million tokens of prompts that were answered
---@field output? number by million tokens of answers

---@class neap.Price: neap.TokenPrice
---@field request? number by request that arrived
---@field server_second? number by second of servers' work, wasted or not
---@field currency? string default "USD"
---@field models? table<string, neap.TokenPrice> by model; `input` and `output` hold for the others
---@field path? string the file that it was read from

local amount = { type = "number", min = 0 }
local of_model = { input = amount, output = amount }
local specs = {
  request = amount,
  input = amount,
  output = amount,
  server_second = amount,
  currency = { type = "string", default = "USD" },
  models = { type = "table" },
  path = { type = "string" },
}

--- Tokens of prompts have a price where those of answers have one, and the other way
--- round: what is free is 0, what is left out is a mistake.
local function check_both(label, one)
  for name, other in pairs { input = "output", output = "input" } do
    if one[name] and not one[other] then
      options.fail(("%s: option '%s' is missing: it goes with '%s'; write 0 for what costs nothing"):format(label,
        other, name))
    end
  end
end

--- Checks a table. Raises one line that begins with `where`.
---@param given table
---@param where string
---@return neap.Price
function M.check(given, where)
  local price = options.check(where, given, specs)
  check_both(where, price)
  if not price.models then
    if not (price.request or price.input or price.server_second) then
      options.fail(where .. ": has no price: write 'input' and 'output', 'models', 'request' or 'server_second'")
    end
    return price
  end
  local models = {}
  for name, one in sorted.pairs(price.models) do
    local label = ("%s: models: '%s'"):format(where, tostring(name))
    if type(name) ~= "string" then options.fail(label .. " is no model's name") end
    if type(one) ~= "table" then options.fail(("%s must be { input =, output = }, got %s"):format(label, type(one))) end
    models[name] = options.check(label, one, of_model)
    check_both(label, models[name])
    if not models[name].input then options.fail(label .. " needs 'input' and 'output'") end
  end
  price.models = models
  return price
end

--- Reads a price table from a JSON file; nil and one line where it cannot be.
---@param path string
---@return neap.Price?
---@return string? message
function M.read(path)
  local text, message = whole.read(path)
  if not text then return nil, message end
  local value, err = require("neap.json").decode(text)
  if type(value) ~= "table" then
    return nil, ("%s: is no JSON object%s"):format(path, err and ": " .. tostring(err.message or err) or "")
  end
  local ok, checked = pcall(M.check, value, path)
  if not ok then return nil, (tostring(checked):gsub("^[^\n]-:%d+: ", "")) end
  checked.path = path
  return checked
end

--- Whether the table prices tokens by model and by nothing else.
local function only_models(price)
  return price.models ~= nil and price.input == nil and price.output == nil
end

--- The first of the models that has no price, as one sentence; nil: all have one.
---@param price neap.Price
---@param models string[]
---@return string? message
function M.missing(price, models)
  if not only_models(price) then return nil end
  for _, model in ipairs(models) do
    if not price.models[model] then
      local hint = options.nearest(model, price.models)
      return ("%s: there is no price for the model '%s'%s"):format(price.path or "price", model,
        hint and ("; did you mean '%s'?"):format(hint) or " ('input' and 'output' would hold for every other model)")
    end
  end
end

local function of_tokens(price, input, output)
  return (input * (price.input or 0) + output * (price.output or 0)) / 1e6
end

---@class neap.price.Use
---@field sends integer requests
---@field input number tokens
---@field output number tokens
---@field work number server seconds
---@field models? table<string, {input: number, output: number}> tokens of these, by model

--- What a run costs; nil and one sentence when tokens of it have no price.
---@param price neap.Price
---@param use neap.price.Use
---@return number? cost
---@return string? message
function M.of(price, use)
  local sum = use.sends * (price.request or 0) + use.work * (price.server_second or 0)
  local input, output, others = use.input, use.output, {}
  for name, tokens in sorted.pairs(price.models and use.models or {}) do
    local own = price.models[name]
    if own then
      sum = sum + of_tokens(own, tokens.input, tokens.output)
      input, output = input - tokens.input, output - tokens.output
    else
      others[#others + 1] = name
    end
  end
  if only_models(price) and input + output > 0 then
    return nil, M.missing(price, others)
      or ("%s: 'models' is for requests that name a model; others need 'input' and 'output'"):format(
        price.path or "price")
  end
  return sum + of_tokens(price, input, output)
end

return M
