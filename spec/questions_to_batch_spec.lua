-- SPDX-License-Identifier: MIT
-- scripts/questions_to_batch.lua: what it writes, what it refuses, and that a
-- failure leaves nothing behind.
local batch = require "spec.support.batch"
local child = require "spec.support.child"
local neap = require "neap"

describe("questions_to_batch.lua", function()
  after_each(batch.finish)

  local dir
  before_each(function() dir = batch.dir() end)

  local function run(...)
    return child.run { "run", "scripts/questions_to_batch.lua", ... }
  end

  local function input(text)
    assert(neap.fs.write(dir .. "/in.jsonl", text))
    return dir .. "/in.jsonl", dir .. "/out.jsonl"
  end

  local function rows_of(path)
    local rows = {}
    for line in assert(neap.fs.read(path)):gmatch "[^\n]+" do rows[#rows + 1] = assert(neap.json.decode(line)) end
    return rows
  end

  --- It ended with `code`, said `text`, and there is nothing but the input.
  local function assert_refused(result, code, text)
    assert.equal(code, result.code, result.err)
    assert.is_truthy(result.err:find(text, 1, true), result.err)
    assert.equal("", result.out)
    assert.same({ "in.jsonl" }, neap.fs.list(dir))
  end

  it("writes a request for each question, named after its line #real", function()
    local question = 'He said "5 \\ 2".\nGrüße, 東京'
    local from, to = input(neap.json.encode { question = "2 + 2?", answer = "4" } .. "\n\n  \n"
      .. neap.json.encode { question = question }) -- no line end at the end
    local result = run(from, to)
    assert.equal(0, result.code, result.err)
    assert.equal(("2 questions in %s\n"):format(to), result.out)
    local rows = rows_of(to)
    assert.equal(2, #rows)
    assert.same({ "q-00001", "q-00004" }, { rows[1].custom_id, rows[2].custom_id })
    assert.same({ role = "user", content = question }, rows[2].body.messages[2])
    for _, row in ipairs(rows) do
      assert.same({ "POST", "/v1/chat/completions", "demo" }, { row.method, row.url, row.body.model })
      assert.equal("system", row.body.messages[1].role)
      assert.matches("step by step", row.body.messages[1].content)
    end
    assert.same({ "in.jsonl", "out.jsonl" }, neap.fs.list(dir))
  end)

  it("takes the model and the system prompt from its arguments, quotes and all #real", function()
    local from, to = input '{"question":"2 + 2?"}'
    assert.equal(0, run(from, to, 'my "model"', "Be brief.\n100 %").code)
    local body = rows_of(to)[1].body
    assert.same({ 'my "model"', "Be brief.\n100 %" }, { body.model, body.messages[1].content })
  end)

  it("an empty file has no questions #real", function()
    local from, to = input ""
    local result = run(from, to)
    assert.equal(0, result.code, result.err)
    assert.matches("^0 questions in ", result.out)
    assert.equal("", neap.fs.read(to))
  end)

  it("`neap batch` answers what it wrote #real", function()
    local mock = batch.mock("--latency", "fixed:0.001")
    local lines = {}
    for i = 1, 30 do lines[i] = neap.json.encode { question = "question " .. i } end
    local from, to = input(table.concat(lines, "\n"))
    assert.equal(0, run(from, to).code)
    local result = child.run { "batch", "-i", to, "-o", dir .. "/answers.jsonl", "--base-url", mock.url }
    assert.equal(0, result.code, result.err)
    local seen = {}
    for _, row in ipairs(rows_of(dir .. "/answers.jsonl")) do seen[row.custom_id] = row.response.status_code end
    for i = 1, 30 do assert.equal(200, seen[("q-%05d"):format(i)]) end
  end)

  it("names the line that has no question, and leaves no output #real", function()
    for _, line in ipairs { "no JSON", "7", '{"answer":"4"}', '{"question":7}', '{"question":null}' } do
      local from, to = input('{"question":"2 + 2?"}\n' .. line .. "\n")
      assert_refused(run(from, to), 1, from .. ':2: not a JSON object with a "question"')
    end
  end)

  it("says that there is no input #real", function()
    local _, to = input ""
    assert_refused(run(dir .. "/none.jsonl", to), 1, "cannot open '" .. dir .. "/none.jsonl'")
  end)

  it("writes over nothing that is there #real", function()
    local from, to = input '{"question":"2 + 2?"}'
    for _, path in ipairs { to, to .. ".part" } do
      assert(neap.fs.write(path, "precious"))
      local result = run(from, to)
      assert.equal(2, result.code)
      assert.is_truthy(result.err:find(path .. " exists already", 1, true), result.err)
      assert.equal("precious", neap.fs.read(path))
      assert(neap.fs.remove(path))
      assert.same({ "in.jsonl" }, neap.fs.list(dir))
    end
  end)

  it("says how to call it #real", function()
    input ""
    assert_refused(run(), 2, "usage: questions_to_batch.lua IN.jsonl OUT.jsonl")
    assert_refused(run(dir .. "/in.jsonl"), 2, "usage: questions_to_batch.lua IN.jsonl OUT.jsonl")
  end)
end)
