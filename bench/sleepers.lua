-- COUNT tasks that each sleep once, deadlines spread over 1 to 3 seconds.
-- usage: neap run sleepers.lua COUNT
local neap = require "neap"
local count = tonumber((...))
local sleep, random = neap.sleep, math.random
local done = 0

local function task(seconds)
  sleep(seconds)
  done = done + 1
end

neap.scope(function(s)
  for _ = 1, count do s:spawn(task, 1 + 2 * random()) end
end)
print(("%d done, %d failed"):format(done, count - done))
