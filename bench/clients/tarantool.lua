-- COUNT posts to URL, IN_FLIGHT at a time: encode JSON, POST, decode JSON, with
-- keep-alive switched on.
-- usage: tarantool tarantool.lua URL COUNT IN_FLIGHT TEXT
local fiber = require "fiber"
local json = require "json"
local url, count, in_flight, text = arg[1], tonumber(arg[2]), tonumber(arg[3]), arg[4]

local client = require("http.client").new {
  max_connections = in_flight, max_total_connections = in_flight,
}
local options = {
  headers = { ["content-type"] = "application/json" },
  keepalive_idle = 60, keepalive_interval = 60,
}
local following, done, failed = 0, 0, 0

local function call(i)
  local body = json.encode { model = "demo", i = i, max_tokens = 64, messages = { { role = "user", content = text } } }
  local res = client:post(url, body, options)
  local ok, answer = pcall(json.decode, res.body)
  return res.status == 200 and ok and answer.usage.total_tokens == 28
end

local workers = {}
for w = 1, in_flight do
  workers[w] = fiber.new(function()
    while following < count do
      following = following + 1
      if call(following) then done = done + 1 else failed = failed + 1 end
    end
  end)
  workers[w]:set_joinable(true)
end
for w = 1, in_flight do workers[w]:join() end
print(("%d done, %d failed"):format(done, failed))
os.exit((failed > 0 or done ~= count) and 1 or 0)
