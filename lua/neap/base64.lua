--- Base64 (RFC 4648) of strings. Never waits; a large file is better read and
--- encoded off the loop with `neap.fs.read_base64`.
local core = require "neap.core"
local errors = require "neap.error"

local M = {}

local function check(where, value)
  if type(value) ~= "string" then
    error(("neap.base64.%s: expected a string, got %s"):format(where, type(value)), 3)
  end
end

local function decode(text, url)
  local data, position = core.base64_decode(text, url)
  if data then return data end
  return nil, errors.new { kind = "decode", message = "not base64: wrong at byte " .. position, position = position }
end

--- In the standard alphabet, padded.
---@param data string
---@return string
function M.encode(data)
  check("encode", data)
  return core.base64_encode(data, false)
end

--- In the alphabet for URLs and file names ("-" and "_"), without padding.
---@param data string
---@return string
function M.encode_url(data)
  check("encode_url", data)
  return core.base64_encode(data, true)
end

--- Strict: padding is required; white space and other bytes are refused.
---@param text string
---@return string? data
---@return neap.Error? err kind "decode", with `position` (from 1)
function M.decode(text)
  check("decode", text)
  return decode(text, false)
end

--- The alphabet for URLs; padding may be there or not.
---@param text string
---@return string? data
---@return neap.Error? err kind "decode", with `position` (from 1)
function M.decode_url(text)
  check("decode_url", text)
  return decode(text, true)
end

return M
