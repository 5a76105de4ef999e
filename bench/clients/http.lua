-- COUNT posts to URL, IN_FLIGHT at a time: encode JSON, POST, decode JSON,
-- inside a semaphore and a retry.
-- usage: neap run http.lua URL COUNT IN_FLIGHT TEXT
local neap = require "neap"
local url, count, in_flight, text = ...
count, in_flight = tonumber(count), tonumber(in_flight)

local client = neap.http.client { max_connections = in_flight }
local semaphore = neap.semaphore(in_flight)
local retry = neap.retry { max_attempts = 3 }
local done, failed = 0, 0

local function request(i)
  local res, err = client:post(url, {
    json = { model = "demo", i = i, max_tokens = 64, messages = { { role = "user", content = text } } },
  })
  if not res then return nil, err end
  return res
end

local function call(i)
  local res = retry:call(request, i)
  local answer = res and res.status == 200 and res:json()
  if answer and answer.usage.total_tokens == 28 then done = done + 1 else failed = failed + 1 end
end

local function worker(i)
  call(i)
  semaphore:release()
end

neap.scope(function(s)
  for i = 1, count do
    semaphore:acquire()
    s:spawn(worker, i)
  end
end)
print(("%d done, %d failed"):format(done, failed))
if failed > 0 or done ~= count then neap.host.set_exit_code(1) end
