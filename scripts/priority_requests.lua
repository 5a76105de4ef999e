#!/usr/bin/env neap
-- Realtime requests overtake a running batch: one queue, eight workers, the lowest
-- priority number first. Waiting lowers an item's number (aging), so that the
-- batch is never starved.
--
--   $ neap scripts/priority_requests.lua URL     # any service, or `neap mock`
--   class      requests  failed  waited in line (median, worst)
--   realtime         20       0    0.02 s    0.05 s
--   batch           200       0    2.03 s    4.13 s
local neap = require "neap"

local WORKERS, BATCH, REALTIME, PAUSE = 8, 200, 20, 0.1
local PRIORITY = { realtime = 0, batch = 100 }

local url = ...
if not url then
  io.stderr:write "usage: neap priority_requests.lua URL\n"
  neap.host.set_exit_code(2)
  return
end

local client = neap.http.client { base_url = url, max_connections = WORKERS }
local retry = neap.retry { max_attempts = 5, backoff = { base = 0.2, max = 5 } }
local queue = neap.queue { priority = true, aging = 1 } -- a minute in line is worth 60 priorities
local waited, failed = { realtime = {}, batch = {} }, { realtime = 0, batch = 0 }

local function send(item)
  return client:post("/v1/chat/completions", {
    json = { model = "demo", messages = { { role = "user", content = item.class .. " question " .. item.number } } },
    headers = { ["X-Client-Request-Id"] = item.class .. "-" .. item.number },
    idempotency_key = true,
  })
end

local function work()
  for item in queue:iter() do
    table.insert(waited[item.class], neap.now() - item.since)
    local res = retry:call(send, item)
    if not res or res.status ~= 200 then failed[item.class] = failed[item.class] + 1 end
    queue:task_done()
  end
end

local function submit(class, number)
  queue:put({ class = class, number = number, since = neap.now() }, { priority = PRIORITY[class] })
end

local function report(class)
  local list = waited[class]
  table.sort(list)
  print(("%-10s %8d %7d %7.2f s %7.2f s"):format(class, #list, failed[class], list[math.ceil(#list / 2)], list[#list]))
end

neap.scope(function(scope)
  for _ = 1, WORKERS do scope:spawn(work) end
  for i = 1, BATCH do submit("batch", i) end
  for i = 1, REALTIME do -- while the batch runs, somebody asks every now and then
    neap.sleep(PAUSE)
    submit("realtime", i)
  end
  queue:join()
  queue:close()
end)

print "class      requests  failed  waited in line (median, worst)"
report "realtime"
report "batch"
