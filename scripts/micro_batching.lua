#!/usr/bin/env neap
-- Micro-batching: many small requests become few upstream calls, by size and by
-- time; each caller gets its own answer.
--
--   $ neap scripts/micro_batching.lua URL [REQUESTS]     # any service, or `neap mock`
--   500 requests in 0.7 s: 500 answered, 0 failed
--   23 upstream calls, 21.7 requests each on average, the largest 26
local neap = require "neap"

local MAX_SIZE, MAX_DELAY = 32, 0.02
local SPREAD = 0.5 -- seconds over which the requests come in

local url, count = ...
count = tonumber(count or 500)
if not url or not count or count < 1 or count % 1 ~= 0 then
  io.stderr:write "usage: neap micro_batching.lua URL [REQUESTS]\n"
  neap.host.set_exit_code(2)
  return
end

local client = assert(neap.http.client { base_url = url, max_connections = 20 })
local retry = neap.retry { max_attempts = 5, backoff = { base = 0.2, max = 5 } }
local calls, largest = 0, 0

--- One upstream call for a batch of texts; vectors in the order of the texts.
local function embed(texts)
  calls, largest = calls + 1, math.max(largest, #texts)
  local res, err = retry:call(client.post, client, "/v1/embeddings", {
    json = { model = "demo-embedding", input = texts },
    headers = { ["X-Client-Request-Id"] = "batch-" .. calls },
    idempotency_key = true,
  })
  if not res then return nil, err end
  if res.status ~= 200 then
    return nil, neap.error.new { kind = "status", status = res.status, message = "HTTP " .. res.status }
  end
  local answer, vectors = res:json(), {}
  if type(answer) ~= "table" or type(answer.data) ~= "table" then
    return nil, neap.error.new { kind = "decode", message = "the answer holds no embeddings" }
  end
  for i, entry in ipairs(answer.data) do
    if type(entry) ~= "table" or type(entry.embedding) ~= "table" then
      return nil, neap.error.new { kind = "decode", message = "an embedding is missing" }
    end
    vectors[(tonumber(entry.index) or i - 1) + 1] = entry.embedding
  end
  return vectors
end

local batcher = neap.batcher { run = embed, max_size = MAX_SIZE, max_delay = MAX_DELAY }

local numbers = {}
for i = 1, count do numbers[i] = i end

local began = neap.now()
local results, errors = neap.map(numbers, function(i)
  neap.sleep(SPREAD * i / count) -- callers come one after the other
  return batcher:submit("text number " .. i)
end)
local seconds = neap.now() - began

local answered = 0
for i = 1, count do
  if results[i] then answered = answered + 1 end
end
print(("%d requests in %.1f s: %d answered, %d failed"):format(count, seconds, answered, count - answered))
print(("%d upstream calls, %.1f requests each on average, the largest %d"):format(calls, count / calls, largest))
for i = 1, count do
  if errors and errors[i] then
    print(("the first failure, request %d: %s"):format(i, tostring(errors[i])))
    neap.host.set_exit_code(1)
    break
  end
end
