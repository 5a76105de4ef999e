--- Cassettes made by hand, for specs.
local json = require "neap.json"
local reader = require "neap.cassette.reader"

local M = {}

local PHASES = { "queue", "dns", "connect", "tls", "send", "first_byte", "download", "total" }

--- The line of a request; what is not given: GET https://api.test/, answered 200 after
--- 0.1 s over a connection that was there.
---@param n integer
---@param row table fields of a line; `seconds` is the time to the head
---@return string
function M.line(n, row)
  local full = { n = n, start = row.start or n - 1, method = row.method or "GET", url = row.url or "https://api.test/",
    body_hash = row.body_hash, error = row.error, sends = row.sends, url_mark = row.url_mark }
  if not row.error or row.status then
    full.status, full.headers, full.body = row.status or 200, row.headers or {}, row.body or "{}"
    full.response_bytes, full.chunks, full.timings = #full.body, row.chunks, {}
    for _, phase in ipairs(PHASES) do full.timings[phase] = row[phase] or 0 end
    full.timings.first_byte = row.seconds or 0.1
  end
  return assert(json.encode(full, { sort_keys = true }))
end

--- A cassette's text.
---@param rows table[]
---@return string
function M.text(rows)
  local lines = { '{"neap_cassette":1,"neap":"0.1.0","date":"2026-11-23T06:00:00Z","unix":1795413600,"bodies":"all"}' }
  for i, row in ipairs(rows) do lines[i + 1] = M.line(i, row) end
  return table.concat(lines, "\n") .. "\n"
end

---@param rows table[]
---@return neap.cassette.Tape
function M.tape(rows)
  return assert(reader.parse("cassette.jsonl", M.text(rows)))
end

return M
