#!/usr/bin/env neap
-- Turns a JSONL file with a "question" in each line (GSM8K, for example) into
-- the OpenAI batch file format that `neap batch` reads.
--
--   $ neap scripts/questions_to_batch.lua gsm8k_test.jsonl questions.jsonl
--   1319 questions in questions.jsonl
--   $ neap batch -i questions.jsonl -o answers.jsonl --base-url http://127.0.0.1:8080
--
-- The custom_id is "q-" and the number of the line, so that an answer finds its
-- question. A third argument names the model, a fourth the system prompt.

local neap = require "neap"

local input, output, model, system = ...
if not output then
  io.stderr:write("usage: questions_to_batch.lua IN.jsonl OUT.jsonl [MODEL [SYSTEM]]\n")
  return neap.host.set_exit_code(2)
end
model = model or "demo"
system = system or "Solve the problem step by step. End with the answer after ####."

-- The members in this order, by hand: JSON objects of neap.json have none.
local function request(id, question)
  local function quoted(text) return assert(neap.json.encode(text)) end
  return ('{"custom_id":"q-%05d","method":"POST","url":"/v1/chat/completions","body":{"model":%s,"messages":['
    .. '{"role":"system","content":%s},{"role":"user","content":%s}]}}\n'):format(
    id, quoted(model), quoted(system), quoted(question))
end

local function fail(code, message)
  io.stderr:write("questions_to_batch: ", message, "\n")
  neap.host.set_exit_code(code)
end

-- Into a file beside the output, which gets its name only when it is whole.
local function convert(part)
  local out, err = neap.fs.open(part, "wx") -- never over a file that is there
  if not out then return nil, err.message end
  local number, written = 0, 0
  for line in neap.fs.lines(input) do
    number = number + 1
    if line:find "%S" then
      local row = neap.json.decode(line)
      if type(row) ~= "table" or type(row.question) ~= "string" then
        return nil, ('%s:%d: not a JSON object with a "question"'):format(input, number)
      end
      assert(out:write(request(number, row.question)))
      written = written + 1
    end
  end
  assert(out:close())
  return written
end

if neap.fs.exists(output) then return fail(2, output .. " exists already") end
local part = output .. ".part"
if neap.fs.exists(part) then return fail(2, part .. " exists already") end
local ok, written, message = pcall(convert, part)
if not ok then written, message = nil, tostring(written) end
if not written then
  neap.fs.remove(part)
  return fail(1, message)
end
assert(neap.fs.rename(part, output))
print(("%d questions in %s"):format(written, output))
