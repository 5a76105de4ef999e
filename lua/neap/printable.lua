--- Text that others wrote (a name, a url, a body), for one line of a terminal, a message
--- or a report. Pure.
local json = require "neap.json"

local M = {}

local NAMED = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function escape(char) return NAMED[char] or ("\\x%02x"):format(char:byte()) end

--- The text without control characters: line ends and tabs as "\n", "\r" and "\t", others
--- as "\x1b"; what is not UTF-8 as U+FFFD.
---@param text string
---@return string
function M.line(text)
  if text:find "[\128-\255]" then
    text = json.clean_utf8(text):gsub("\194([\128-\159])", escape) -- C1: some terminals obey them
  end
  return (text:gsub("%c", escape))
end

--- From byte `from` to byte `to`, and no part of a character of UTF-8 at either end.
local function part(text, from, to)
  while from > 1 and text:find("^[\128-\191]", from) do from = from - 1 end
  while to < #text and text:find("^[\128-\191]", to + 1) do to = to - 1 end
  return (from > 1 and "..." or "") .. M.line(text:sub(from, to)) .. (to < #text and "..." or "")
end

--- The text as one line of about `most` bytes: of a longer one its beginning.
---@param text string
---@param most integer bytes
---@return string
function M.short(text, most)
  return part(text, 1, #text > most and most - 3 or #text)
end

--- As many bytes as that, from a little before byte `at`.
---@param text string
---@param at integer
---@param most integer bytes
---@return string
function M.window(text, at, most)
  if #text <= most then return M.line(text) end
  local from = math.max(1, math.min(at - math.floor(most / 4), #text - most + 1))
  return part(text, from, math.min(#text, from + most - 1))
end

return M
