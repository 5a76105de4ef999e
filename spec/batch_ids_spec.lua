local ids = require "neap.batch.ids"
local core = require "neap.core"

describe("neap.batch.ids", function()
  it("hashes a text to the same 64 bits on every machine and in every version", function()
    assert.equal("972d61a65c5f0e3f", ids.hex "")
    assert.equal("22b2a736ba6ff6b0", ids.hex "a")
    assert.equal("6f20057ae2d91ad7", ids.hex "req-0001")
  end)

  it("tells texts apart that differ in one bit, one zero byte or their order", function()
    local seen = {}
    local texts = { "", "\0", "\0\0", "\0\0\0\0", "\0\0\0\0\0", "ab", "ba", "abcdefgh", "efghabcd" }
    for bit = 0, 7 do
      for place = 1, 5 do
        local bytes = { 65, 65, 65, 65, 65 }
        bytes[place] = require "bit".bxor(65, 2 ^ bit)
        texts[#texts + 1] = string.char(unpack(bytes))
      end
    end
    for _, text in ipairs(texts) do
      local hex = ids.hex(text)
      assert.is_nil(seen[hex], "the same hash twice")
      seen[hex] = true
    end
  end)

  it("spreads similar texts evenly over each half", function()
    for half = 1, 2 do
      local counts = {}
      for i = 1, 64000 do
        local h = require "bit".band((select(half, ids.hash("item-" .. i))), 63)
        counts[h] = (counts[h] or 0) + 1
      end
      local chi = 0
      for h = 0, 63 do chi = chi + ((counts[h] or 0) - 1000) ^ 2 / 1000 end
      assert.is_true(chi < 113, "chi square of 63 degrees: " .. chi) -- 99.99 % lie below
    end
  end)

  describe("header_value", function()
    it("leaves printable ASCII as it is", function()
      assert.equal("req 1/a:b~%", ids.header_value "req 1/a:b~%")
    end)

    it("percent-encodes line ends, control characters and everything beyond ASCII", function()
      assert.equal("a%0D%0AX-Evil: 1", ids.header_value "a\r\nX-Evil: 1")
      assert.equal("%00%7F%C3%A9", ids.header_value "\0\127é")
    end)

    it("keeps outer blanks from being trimmed", function()
      assert.equal("%20a%20", ids.header_value " a ")
    end)

    it("cuts long ids to 512 characters and keeps them distinct", function()
      local long = ("x"):rep(600)
      local one, two = ids.header_value(long .. "1"), ids.header_value(long .. "2")
      assert.equal(512, #one)
      assert.not_equal(one, two)
      assert.equal(512, #ids.header_value(("y"):rep(512)))
      assert.equal(("y"):rep(512), ids.header_value(("y"):rep(512)))
    end)
  end)

  describe("set", function()
    it("knows what was added, through every growth", function()
      local set, n = ids.set(), 50000
      for i = 1, n do assert.is_true(set:add("id-" .. i)) end
      for i = 1, n do assert.is_false(set:add("id-" .. i)) end
      assert.equal(n, set.count)
      assert.is_true(set:add "another")
    end)

    it("agrees with a table on random texts", function()
      local set, table_set, rng = ids.set(), {}, core.rng(3, 3)
      for _ = 1, 20000 do
        local text = tostring(math.floor(rng:double() * 8000))
        assert.equal(not table_set[text], set:add(text))
        table_set[text] = true
      end
    end)

    it("keeps 24 bytes or less for each of many", function()
      local set = ids.set()
      for i = 1, 100000 do set:add("id-" .. i) end
      assert.is_true(set.capacity * 8 / set.count <= 24)
    end)
  end)
end)
