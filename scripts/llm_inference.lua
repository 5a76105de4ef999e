#!/usr/bin/env neap
-- Case study 1: an inference service takes 1,000 requests, 100 at a time, each
-- retried for reasons that may pass. Three ways to send them, side by side:
--
--   $ neap scripts/llm_inference.lua            # starts a flaky service of its own
--   $ neap scripts/llm_inference.lua URL --full # against a service; measures all
--   $ neap sim scripts/llm_inference.lua        # the same law in virtual time
--
--   way                  requests  seconds  requests/s  failed
--   sequential               1000    168.3         5.9       -  (extrapolated from 50; 0 failed)
--   batches of 50            1000     12.0        83.1       0
--   sliding window 100       1000      2.4       415.2       0
local neap = require "neap"

local url, full, wrong
for _, word in ipairs { ... } do
  if word == "--full" then full = true else wrong, url = wrong or url or word:match "^%-", word end
end
if wrong then
  io.stderr:write "usage: neap llm_inference.lua [URL] [--full]\n"
  return neap.host.set_exit_code(2)
end

local COUNT, CONCURRENCY, BATCH, SAMPLE = 1000, 100, 50, 50
local LAW = { latency = { law = "lognormal", median = 0.1, sigma = 0.8 }, drop = 0.01,
  errors = { { status = 503, probability = 0.02 } }, seed = 7 }

--- What sends one request: a client of the service, or the law alone in virtual time.
local function connect()
  if neap.is_virtual() then
    local upstream = require("neap.world.upstream").new(LAW)
    return function(i) return upstream:request { id = "request-" .. i } end
  end
  local mock = not url and assert(require("neap.mock").start(LAW))
  local client = assert(neap.http.client { base_url = url or mock.server:url(), max_connections = CONCURRENCY })
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
  if res and res.status ~= 200 then return nil, "HTTP " .. res.status end
  return res, err
end
if url then assert(infer(0)) end -- one request first: is there a service at all?
local items = {}
for i = 1, COUNT do items[i] = i end

local function measure(name, count, run)
  local began = neap.now()
  local _, errors = run { unpack(items, 1, count) }
  local seconds, failed, first = neap.now() - began, 0, nil
  for i = 1, count do
    if errors and errors[i] then failed, first = failed + 1, first or errors[i] end
  end
  local shown, note = failed, ""
  if count < COUNT then
    seconds, shown = seconds / count * COUNT, "-"
    note = ("  (extrapolated from %d; %d failed)"):format(count, failed)
  end
  print(("%-20s %8d %8.1f %11.1f %7s%s"):format(name, COUNT, seconds, COUNT / seconds, shown, note))
  if first then
    print("  the first failure: " .. tostring(first))
    neap.host.set_exit_code(1)
  end
end

print "way                  requests  seconds  requests/s  failed"
measure("sequential", full and COUNT or SAMPLE, function(list) return neap.map(list, infer, { concurrency = 1 }) end)
measure("batches of " .. BATCH, COUNT, function(list) return neap.map_chunks(list, infer, { size = BATCH }) end)
measure("sliding window 100", COUNT, function(list) return neap.map(list, infer, { concurrency = CONCURRENCY }) end)
if mock then mock:stop() end
