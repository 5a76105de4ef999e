--- What requests and tokens cost.
local options = require "neap.options"

local M = {}

---@class neap.lab.Price
---@field request? number by request that arrived
---@field input? number by million tokens of prompts that were answered
---@field output? number by million tokens of answers
---@field server_second? number by second of servers' work, wasted or not
---@field currency? string default "USD"

local specs = {
  request = { type = "number", min = 0, default = 0 },
  input = { type = "number", min = 0, default = 0 },
  output = { type = "number", min = 0, default = 0 },
  server_second = { type = "number", min = 0, default = 0 },
  currency = { type = "string", default = "USD" },
}

---@param given table
---@param where string
---@return neap.lab.Price
function M.check(given, where)
  return options.check(where, given, specs)
end

--- Reads a price table from a JSON file; nil and one line where it cannot be.
---@param path string
---@return neap.lab.Price?
---@return string? message
function M.read(path)
  local file, message = io.open(path, "rb")
  if not file then return nil, "cannot read " .. message end
  local text = file:read "*a"
  file:close()
  local value, err = require("neap.json").decode(text or "")
  if type(value) ~= "table" then
    return nil, ("%s: is no JSON object%s"):format(path, err and ": " .. tostring(err.message or err) or "")
  end
  local ok, checked = pcall(M.check, value, path)
  if not ok then return nil, (tostring(checked):gsub("^[^\n]-:%d+: ", "")) end
  return checked
end

--- What a run costs.
---@param price neap.lab.Price
---@param row {sends: integer, input: number, output: number, work: number}
---@return number
function M.of(price, row)
  return row.sends * price.request + (row.input * price.input + row.output * price.output) / 1e6
    + row.work * price.server_second
end

return M
