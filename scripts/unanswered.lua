#!/usr/bin/env neap
-- What of a batch has no good answer yet: prints the lines of REQUESTS whose
-- custom_id has no answer from 200 to 299 in any of RESULTS. So an interrupted
-- batch goes on, and what failed is tried again:
--
--   $ neap scripts/unanswered.lua requests.jsonl results.jsonl > rest.jsonl
--   180 of 200 requests have no good answer
--   $ neap batch -i rest.jsonl -o rest-results.jsonl --base-url http://127.0.0.1:8080

local neap = require "neap"

local requests, results = ..., { select(2, ...) }

local function fail(code, message)
  io.stderr:write("unanswered: ", message, "\n")
  neap.host.set_exit_code(code)
end

if #results == 0 then
  return fail(2, "usage: unanswered.lua REQUESTS.jsonl RESULTS.jsonl [RESULTS.jsonl ...] > REST.jsonl")
end

-- The custom_ids that are answered; a last line may be torn.
local function answered_in(path, answered)
  for line in neap.fs.lines(path) do
    local row = neap.json.decode(line)
    local response = type(row) == "table" and row.response
    local status = type(response) == "table" and response.status_code
    if type(status) == "number" and status >= 200 and status < 300 then answered[row.custom_id] = true end
  end
end

local function run()
  local answered, count, left = {}, 0, 0
  for _, path in ipairs(results) do answered_in(path, answered) end
  for line in neap.fs.lines(requests) do
    if line:find "%S" then
      count = count + 1
      local row = neap.json.decode(line)
      -- A line that could not be run stays: the batch says what is wrong with it.
      if type(row) ~= "table" or not answered[row.custom_id] then
        left = left + 1
        assert(io.write(line, "\n"))
      end
    end
  end
  assert(io.flush())
  io.stderr:write(("%d of %d requests have no good answer\n"):format(left, count))
end

local ok, message = pcall(run)
if not ok then fail(1, tostring(message)) end
