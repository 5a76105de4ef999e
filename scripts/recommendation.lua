#!/usr/bin/env neap
-- Case study 3: recommendations for 200 users: at most 50 requests a second, 100
-- at a time, and the results by user.
--
--   $ neap scripts/recommendation.lua URL [USERS]      # any service, or `neap mock`
--   user_0    ok     1 attempt    0.14 s
--   ...
--   user_11   ok     2 attempts   0.30 s
--   ...
--   200 users in 3.4 s: 200 answered, 0 failed; 50 requests/s at most, burst 50
local neap = require "neap"

local RATE, CONCURRENCY = 50, 100

local url, count = ...
count = tonumber(count or 200)
if not url or not count or count < 1 or count % 1 ~= 0 then
  io.stderr:write "usage: neap recommendation.lua URL [USERS]\n"
  neap.host.set_exit_code(2)
  return
end

local limiter = neap.rate_limiter { rate = RATE, burst = RATE }
local api = neap.policy.standard {
  client = assert(neap.http.client { base_url = url, max_connections = CONCURRENCY, timeout = { total = 10 } }),
  retry = { max_attempts = 4, backoff = { base = 0.2, max = 10 } },
  bulkhead = CONCURRENCY,
  limiter = limiter, -- innermost: retries take their turns too
}

local function user_of(i)
  local user = { id = "user_" .. i, browse = {}, purchases = {}, category = "category_" .. i % 5 }
  for j = i * 10, i * 10 + 4 do user.browse[#user.browse + 1] = "product_" .. j end
  for j = i * 20, i * 20 + 1 do user.purchases[#user.purchases + 1] = "product_" .. j end
  return user
end

--- The service's answer for one user.
local function recommend(user)
  local res, err = api:post("/recommend", {
    json = { user_id = user.id, user_data = user, num_recommendations = 10 },
    headers = { ["X-Client-Request-Id"] = user.id },
    idempotency_key = true,
  })
  if not res then return nil, err end
  if res.status ~= 200 then
    return nil, neap.error.new { kind = "status", status = res.status, message = "HTTP " .. res.status }
  end
  local answer, malformed = res:json()
  if answer == nil then return nil, malformed end
  return { answer = answer, attempts = res.attempts, seconds = res.spent.wire }
end

local users = {}
for i = 0, count - 1 do users[#users + 1] = user_of(i) end

local began = neap.now()
local results, errors = neap.map(users, recommend)
local by_user, answered = {}, 0
for i, user in ipairs(users) do
  by_user[user.id] = results[i] or { error = errors[i] }
  if results[i] then answered = answered + 1 end
end

for _, user in ipairs(users) do
  local result = by_user[user.id]
  if result.error then
    print(("%-9s %s"):format(user.id, result.error))
  else
    print(("%-9s ok %5d attempt%s %6.2f s"):format(user.id, result.attempts, result.attempts == 1 and " " or "s",
      result.seconds))
  end
end
print(("%d users in %.1f s: %d answered, %d failed; %d requests/s at most, burst %d"):format(
  #users, neap.now() - began, answered, #users - answered, RATE, RATE))
if answered < #users then neap.host.set_exit_code(1) end
