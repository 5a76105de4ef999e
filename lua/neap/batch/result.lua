--- One line of a batch's output, in the OpenAI batch file format. The answer's
--- body passes through as the bytes that came. Pure, but for the C helpers.
local core = require "neap.core"

local M = {}

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function escape(c)
  return ESCAPES[c] or ("\\u%04x"):format(c:byte())
end

--- `text` as a JSON string of any length; what is not UTF-8 becomes U+FFFD.
--- (neap.json refuses both invalid UTF-8 and very long strings.)
---@param text string
---@return string
function M.quote(text)
  if text:find "[\128-\255]" then text = core.utf8_clean(text) end
  return '"' .. text:gsub('[%z\1-\31"\\\127]', escape) .. '"'
end

--- A response body as JSON text on one line: JSON as it came (a line end can
--- only stand between its tokens, and becomes a blank), anything else as a JSON
--- string.
---@param body string
---@return string
function M.body(body)
  if not core.json_valid(body) then return M.quote(body) end
  if body:find "[\r\n]" then body = body:gsub("[\r\n]", " ") end
  return body
end

--- The line of an answer, whatever its status.
---@param item neap.batch.Item
---@param res {status: integer, headers: table<string, string>, body: string}
---@return string without a line end
function M.answer(item, res)
  return table.concat {
    '{"id":"', item.id, '","custom_id":', item.custom_id,
    ',"response":{"status_code":', ("%d"):format(res.status),
    ',"request_id":', M.quote(res.headers["x-request-id"] or ""),
    ',"body":', M.body(res.body or ""),
    '},"error":null}',
  }
end

--- The line of a request without an answer.
---@param item neap.batch.Item
---@param code string an error kind
---@param message string
---@return string without a line end
function M.failure(item, code, message)
  return table.concat {
    '{"id":"', item.id, '","custom_id":', item.custom_id or "null",
    ',"response":null,"error":{"code":', M.quote(code), ',"message":', M.quote(message), "}}",
  }
end

return M
