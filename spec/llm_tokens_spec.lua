-- SPDX-License-Identifier: MIT
local neap = require "neap"
local tokens = require "neap.llm.tokens"

describe("neap.llm.estimate", function()
  it("takes four ASCII characters for a token", function()
    assert.equal(0, neap.llm.estimate "")
    assert.equal(1, neap.llm.estimate "abc")
    assert.equal(3, neap.llm.estimate "twelve chars")
    assert.equal(25000, neap.llm.estimate(("x"):rep(100000)))
  end)

  it("takes every other character for one, whatever its bytes", function()
    assert.equal(2, neap.llm.estimate "éß")
    assert.equal(4, neap.llm.estimate "潮の満干")
    assert.equal(1, neap.llm.estimate "\240\159\140\138")
    assert.equal(3, neap.llm.estimate "tide 潮")
  end)

  it("adds up texts, each rounded up, and counts tokens that are given as such", function()
    assert.equal(3, neap.llm.estimate { "abcde", "f" })
    assert.equal(5, neap.llm.estimate { 1, 2, 3, 4, 5 })
  end)

  it("adds what surrounds messages: 3 and the role each, 1 for a name, 3 for the answer", function()
    assert.equal(3 + 3 + 1 + 2, neap.llm.estimate { { role = "user", content = "8 chars." } })
    assert.equal(3 + 2 * (3 + 1) + 1 + 1, neap.llm.estimate {
      { role = "user", content = "" }, { role = "user", name = "moon", content = "" } })
  end)

  it("counts the texts and pictures of a message with parts", function()
    local function with(detail)
      return neap.llm.estimate { { role = "user", content = {
        { type = "text", text = "8 chars." },
        { type = "image_url", image_url = { url = "data:" .. ("x"):rep(10000), detail = detail } },
      } } }
    end
    assert.equal(9 + 85, with "low")
    assert.equal(9 + 765, with "high")
  end)

  it("counts tools and tool calls by their JSON", function()
    local plain = { messages = { { role = "user", content = "x" } } }
    local tooled = { messages = plain.messages, tools = { { name = ("x"):rep(400) } } }
    assert.near(100, tokens.input(tooled) - tokens.input(plain), 5)
  end)

  it("refuses what is neither text nor messages", function()
    assert.has_error(function() neap.llm.estimate(5) end, "neap.llm.estimate needs a text or messages, got number")
  end)
end)

describe("neap.llm's average", function()
  it("is the start's until a value came, then the mean, then that of about the last ones", function()
    local average = tokens.average(256, 4)
    assert.equal(256, average.value)
    average:add(10)
    assert.equal(10, average.value)
    average:add(20)
    assert.equal(15, average.value)
    for _ = 1, 60 do average:add(100) end
    assert.near(100, average.value, 0.01)
  end)
end)
