-- Does a little of everything that has an order: requests through retry, limiter,
-- breaker, hedge, router, cache and adaptive limit, streams, timeouts, cancels, a
-- server of its own, files, loops over tables. Equal seeds give equal traces, bytes
-- and all: bench/identity.sh. With the argument "nojit" the compiler is off.
if (...) == "nojit" then jit.off() end
local neap = require "neap"

local client = neap.http.client { timeout = { total = 4 }, max_connections = 20 }
local told = {}
neap.telemetry.subscribe(function(event)
  local name = event.source .. "." .. event.event
  told[name] = (told[name] or 0) + 1
end)

local function say(...) print(("%.9f"):format(neap.now()), ...) end

local function outcome(res, err)
  return res and res.status or err.kind, err and err.phase or "-", (res or err).sends or 0
end

local careful = neap.policy {
  neap.retry { name = "careful", max_attempts = 5, backoff = { base = 0.05, max = 1 },
    budget = { form = "finagle", ratio = 0.3 } },
  neap.circuit_breaker { failure_rate = 0.4, open_duration = 0.5 },
  neap.hedge { delay = 0.15, max_extra_load = 0.5 },
  neap.rate_limiter { rate = 60, burst = 10 },
}
local adaptive = neap.policy { neap.retry { max_attempts = 3 }, neap.adaptive { start = 4, max = 16 } }
local router = neap.router { endpoints = { { name = "near", base_url = "http://api.test" },
  { name = "far", base_url = "http://spare.test" } } }

local function calls()
  local items = {}
  for i = 1, 600 do items["k" .. i * 7919 % 1009] = i end
  for name, i in pairs(items) do
    neap.spawn(function()
      neap.sleep(math.random() * 16)
      local policy = i % 3 == 0 and adaptive or careful
      say("call", name, outcome(policy:call(client.get, client, "https://api.test/" .. name, { timeout = 1.5 })))
    end)
  end
end

local function routed()
  local policy = neap.policy { neap.retry { max_attempts = 3 }, router }
  neap.map({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 }, function(i)
    neap.sleep(i / 2)
    say("routed", i, outcome(policy:call(function(endpoint)
      return client:get(endpoint.base_url .. "/" .. i, { timeout = 1 })
    end)))
  end, { concurrency = 4 })
end

--- Streams, of which some are left early and some are cut off by the outage.
local function streams()
  for i = 1, 16 do
    neap.spawn(function()
      neap.sleep(i * 0.4)
      local res, err = client:post("http://llm.test/v1/chat/completions", { stream = true, json = { model = "m",
        stream = true, max_tokens = 30, messages = { { role = "user", content = "tide " .. i } } } })
      if not res then return say("stream", i, err.kind) end
      local bytes, chunks = 0, 0
      local ok, broken = pcall(function()
        for chunk in res:chunks() do
          bytes, chunks = bytes + #chunk, chunks + 1
          if i % 5 == 0 and chunks == 3 then return end
        end
      end)
      say("stream", i, res.status, ok or broken.kind, bytes, chunks)
      res:close()
    end)
  end
end

--- A server of its own: each request costs a request to a handler of the world.
local function serve_inside()
  local server = assert(neap.serve { port = 8080, max_concurrency = 3, handler = function(request)
    local got = client:post("http://jobs.test/jobs", { body = request.body, idempotency_key = "job-" .. request.body })
    if request.body == "7" then error "this one fails" end
    return got and got.status or 502, { body = got and got.body, path = request.path }
  end })
  neap.map({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, function(i)
    local res, err = client:post("http://localhost:8080/x", { body = tostring(i) })
    say("served", i, outcome(res, err))
    return res and #res.body
  end, { concurrency = 5 })
  server:stop()
end

local function files_and_limits()
  local queue, slots = neap.queue { max = 3 }, neap.semaphore(2)
  local lengths = neap.map({ arg[0], arg[0], arg[0] }, function(path) return #assert(neap.fs.read(path)) end)
  say("files", unpack(lengths))
  neap.spawn(function()
    for i = 1, 12 do assert(queue:put { i = i }) end
    queue:close()
  end)
  for worker = 1, 3 do
    neap.spawn(function()
      for item in function() return (queue:get()) end do
        slots:with(function() neap.sleep(math.random() / 3) end)
        say("item", worker, item.i, tostring(item), neap.json.encode { z = item.i, a = { worker } })
      end
    end)
  end
  say("timeout", select("#", neap.timeout(0.5, client.get, client, "http://llm.test/slow")))
  local cancelled = neap.spawn(function() client:get "http://api.test/never-mind" end)
  neap.sleep(0.001)
  cancelled:cancel()
end

neap.spawn(calls)
neap.spawn(routed)
neap.spawn(streams)
neap.spawn(serve_inside)
neap.scope(files_and_limits)
neap.spawn(function()
  neap.sleep(18)
  for name, count in pairs(told) do say(name, count) end
  local groups = {}
  for key in next, { b = 1, a = 2, [3] = 3, [1.5] = 4 } do groups[#groups + 1] = tostring(key) end
  say(table.concat(groups, " "), os.time(), os.clock(), math.random(1000), tostring(print))
end)
