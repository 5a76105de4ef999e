#!/usr/bin/env neap
-- Realtime requests overtake a running batch: one queue, eight workers, the lowest
-- priority number first. Waiting lowers an item's number (aging), so that the
-- batch is never starved.
--
--   $ neap scripts/priority_requests.lua URL     # any service, or `neap mock`
--   class      requests  failed  waited in line (median, worst)
--   realtime         20       0    0.01 s    0.04 s
--   batch           200       0    1.57 s    3.22 s
-- When a request fails it names the first failure and ends with 1.
local neap = require "neap"

local WORKERS, BATCH, REALTIME, PAUSE = 8, 200, 20, 0.1
local PRIORITY = { realtime = 0, batch = 100 }

local url = ...
if not url then
  io.stderr:write "usage: neap priority_requests.lua URL\n"
  neap.host.set_exit_code(2)
  return
end

local api = neap.policy.standard {
  client = assert(neap.http.client { base_url = url, max_connections = WORKERS, timeout = { connect = 5 } }),
  retry = { max_attempts = 4, backoff = { base = 0.1, max = 2 } }, -- in a budget: a dead service is given up soon
}
local queue = neap.queue { priority = true, aging = 1 } -- a minute in line is worth 60 priorities
local waited, failed = { realtime = {}, batch = {} }, { realtime = 0, batch = 0 }
local first_failure

local function send(item)
  local res, err = api:post("/v1/chat/completions", {
    json = { model = "demo", messages = { { role = "user", content = item.class .. " question " .. item.number } } },
    headers = { ["X-Client-Request-Id"] = item.class .. "-" .. item.number },
    idempotency_key = true,
  })
  if res and res.status ~= 200 then return nil, "HTTP " .. res.status end
  return res, err
end

local function work()
  for item in queue:iter() do
    table.insert(waited[item.class], neap.now() - item.since)
    local res, err = send(item)
    if not res then
      failed[item.class] = failed[item.class] + 1
      first_failure = first_failure or ("%s request %d: %s"):format(item.class, item.number, tostring(err))
    end
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
if first_failure then
  print("the first failure, " .. first_failure)
  neap.host.set_exit_code(1)
end
