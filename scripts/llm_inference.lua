#!/usr/bin/env neap
-- Case study 1: an inference service takes 1,000 requests, 100 at a time, each
-- retried for reasons that may pass. Three ways to send them, side by side:
--
--   $ neap scripts/llm_inference.lua            # starts a flaky service of its own
--   $ neap scripts/llm_inference.lua URL --full # against a service; measures all
--   $ neap sim scripts/llm_inference.lua        # the same law in virtual time
--
--   way                  requests  seconds  requests/s  failed
--   sequential               1000    149.6         6.7       0  (extrapolated from 50)
--   batches of 50            1000     14.1        71.0       0
--   sliding window 100       1000      2.3       425.8       0
local neap = require "neap"

local url, full
for _, word in ipairs { ... } do
  if word == "--full" then full = true else url = word end
end

local COUNT, CONCURRENCY, BATCH, SAMPLE = 1000, 100, 50, 50
local LAW = { latency = { law = "lognormal", median = 0.1, sigma = 0.8 }, errors = {}, seed = 7 }

--- What sends one request: a client of the service, or the law alone where time
--- is virtual.
local function connect()
  if neap.is_virtual() then
    local upstream = require("neap.world.upstream").new(LAW)
    return function(i) return upstream:request { id = "request-" .. i } end
  end
  local mock = not url and assert(require("neap.mock").start(LAW))
  local client = neap.http.client { base_url = url or mock.server:url(), max_connections = CONCURRENCY }
  return function(i)
    return client:post("/v1/chat/completions", {
      json = { model = "demo", max_tokens = 100, messages = { { role = "user", content = "Sample text " .. i } } },
      headers = { ["X-Client-Request-Id"] = "request-" .. i },
      idempotency_key = true, -- the same for every attempt: a retry is not billed twice
    })
  end, mock
end

local send, mock = connect()
local retry = neap.retry { max_attempts = 4, backoff = { base = 0.1, max = 10 } }

local function infer(i)
  local res, err = retry:call(send, i)
  if not res then return nil, err end
  if res.status ~= 200 then return nil, neap.error.new { kind = "status", status = res.status, message = "refused" } end
  return res
end

local items = {}
for i = 1, COUNT do items[i] = i end

local function measure(name, count, run)
  local began = neap.now()
  local _, errors = run({ unpack(items, 1, count) })
  local seconds, failed = neap.now() - began, 0
  for _ in pairs(errors or {}) do failed = failed + 1 end
  local note = ""
  if count < COUNT then
    seconds, note = seconds / count * COUNT, ("  (extrapolated from %d)"):format(count)
  end
  print(("%-20s %8d %8.1f %11.1f %7d%s"):format(name, COUNT, seconds, COUNT / seconds, failed, note))
end

print "way                  requests  seconds  requests/s  failed"
measure("sequential", full and COUNT or SAMPLE, function(list) return neap.map(list, infer, { concurrency = 1 }) end)
measure("batches of " .. BATCH, COUNT, function(list) return neap.map_chunks(list, infer, { size = BATCH }) end)
measure("sliding window " .. CONCURRENCY, COUNT, function(list)
  return neap.map(list, infer, { concurrency = CONCURRENCY })
end)
if mock then mock:stop() end
