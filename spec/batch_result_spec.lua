local core = require "neap.core"
local json = require "neap.json"
local result = require "neap.batch.result"

local ITEM = { id = "batch_req_1", custom_id = '"a\\u0062"' }

local function answer(body, headers)
  return result.answer(ITEM, { status = 200, headers = headers or {}, body = body })
end

local function decoded(line)
  assert.is_nil(line:find "[\r\n]")
  assert.is_true(core.json_valid(line), line)
  return assert(json.decode(line))
end

describe("a line of the batch's output", function()
  it("has the members of the OpenAI batch format in their order", function()
    assert.equal('{"id":"batch_req_1","custom_id":"a\\u0062","response":{"status_code":200,"request_id":"r-1",'
      .. '"body":{"x":1}},"error":null}', answer('{"x":1}', { ["x-request-id"] = "r-1" }))
  end)

  it("carries a JSON body byte for byte", function()
    local body = '{"n":12345678901234567890, "f":1.10,"e":[ ],"s":"\\/\\u00e9 é","dup":1,"dup":2}'
    assert.is_truthy(answer(body):find('"body":' .. body .. "}", 1, true))
  end)

  it("puts a JSON body of several lines on one", function()
    local line = answer '{\r\n  "a": "x\\ny",\n  "b": [1,\n2]\n}\n'
    local row = decoded(line)
    assert.same({ a = "x\ny", b = { 1, 2 } }, row.response.body)
    assert.is_truthy(line:find('{    "a": "x\\ny",', 1, true))
  end)

  it("makes a JSON string of a body that is not JSON", function()
    assert.equal("<html>\n\"hi\" \\ \127\0</html>", decoded(answer "<html>\n\"hi\" \\ \127\0</html>").response.body)
    assert.equal("", decoded(answer "").response.body)
    assert.equal("", decoded(answer(nil)).response.body)
    assert.equal("NaN", decoded(answer "NaN").response.body)
    assert.equal('{"a":1', decoded(answer '{"a":1').response.body)
  end)

  it("replaces what is not UTF-8", function()
    assert.equal("caf\239\191\189 ok", decoded(answer "caf\233 ok").response.body)
    assert.equal('{"a":"\239\191\189"}', decoded(answer '{"a":"\255"}').response.body)
    assert.equal("r\239\191\189", decoded(answer("1", { ["x-request-id"] = "r\255" })).response.request_id)
  end)

  it("has an empty request_id where the server gave none", function()
    assert.equal("", decoded(answer "{}").response.request_id)
  end)

  it("carries any status as an answer", function()
    local row = decoded(result.answer(ITEM, { status = 503, headers = {}, body = '{"error":1}' }))
    assert.equal(503, row.response.status_code)
    assert.equal(json.null, row.error)
  end)

  it("says kind and message where there was no answer", function()
    local row = decoded(result.failure(ITEM, "connect", 'cannot reach "x"\n'))
    assert.equal(json.null, row.response)
    assert.same({ code = "connect", message = 'cannot reach "x"\n' }, row.error)
    assert.equal("ab", row.custom_id)
  end)

  it("has a null custom_id where the line had none", function()
    assert.equal(json.null, decoded(result.failure({ id = "i" }, "invalid", "line 3 is not JSON")).custom_id)
  end)

  it("quotes texts of megabytes", function()
    local text = ("x"):rep(5e6)
    assert.equal(#text + 2, #result.quote(text))
  end)
end)
