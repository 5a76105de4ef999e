--- What makes two calls of neap.llm the same to a cache. Pure.
local requests = require "neap.llm.request"
local sha256 = require "neap.cache.sha256"
local sorted_json = require "neap.cache.json"

local M = {}

-- As a hash: they may hold keys.
local function hash_of_headers(...)
  local merged = {}
  for i = 1, select("#", ...) do
    for name, value in pairs((select(i, ...)) or {}) do merged[name:lower()] = value end
  end
  if next(merged) == nil then return "-" end
  local text = sorted_json.encode(merged)
  return text and sha256.hex(text)
end

--- The key of a call: the kind, the address, the headers, and the body as it is
--- sent. Nil for what is streamed, and for what cannot be sent.
---@param job neap.llm.Job
---@param endpoint? table a router's choice, where that stands outside the cache
---@return string?
function M.of(job, endpoint)
  if job.mode then return nil end
  local opts, request = job.llm.options, job.request
  endpoint = endpoint or {}
  local body = sorted_json.encode(requests.body(request, endpoint.model or job.model, false))
  local own = endpoint.base_url and {} or opts.headers
  local hash = hash_of_headers({ ["openai-organization"] = opts.organization }, own, endpoint.headers, request.headers)
  if not body or not hash then return nil end
  return table.concat({ job.kind, endpoint.base_url or opts.base_url, hash, body }, "\n")
end

return M
