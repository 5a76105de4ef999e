-- SPDX-License-Identifier: MIT
-- neap.price: the price table of `neap lab` and `neap batch --dry-run`.
local price = require "neap.price"
local tmp = require "spec.support.tmp"

local function use(fields)
  local all = { sends = 10, input = 2e6, output = 1e6, work = 5 }
  for key, value in pairs(fields or {}) do all[key] = value end
  return all
end

describe("neap.price", function()
  it("adds up requests, tokens by the million and server seconds", function()
    local flat = price.check({ request = 0.5, input = 2, output = 10, server_second = 0.1 }, "price")
    assert.equal(5 + 4 + 10 + 0.5, price.of(flat, use()))
    assert.equal("USD", flat.currency)
    assert.equal(0, price.of(price.check({ input = 0, output = 0 }, "price"), use()))
  end)

  it("takes each model's own price, and the flat one for the others", function()
    local table_of = price.check({ input = 1, output = 0,
      models = { small = { input = 0.5, output = 2 }, free = { input = 0, output = 0 } } }, "price")
    local models = { small = { input = 1e6, output = 1e6 }, free = { input = 4e5, output = 0 },
      other = { input = 6e5, output = 0 } }
    assert.near(0.5 + 2 + 0.6, price.of(table_of, use { models = models }), 1e-12)
    assert.is_nil(price.missing(table_of, { "other" }))
  end)

  it("names the model that has no price", function()
    local only = price.check({ models = { ["gpt-4o-mini"] = { input = 0.15, output = 0.6 } } }, "price")
    assert.is_nil(price.missing(only, { "gpt-4o-mini" }))
    assert.equal("price: there is no price for the model 'gpt-4o-mimi'; did you mean 'gpt-4o-mini'?",
      price.missing(only, { "gpt-4o-mini", "gpt-4o-mimi" }))
    local cost, message = price.of(only, use { models = { demo = { input = 2e6, output = 1e6 } } })
    assert.is_nil(cost)
    assert.matches("no price for the model 'demo'", message)
    cost, message = price.of(only, use())
    assert.is_nil(cost)
    assert.matches("others need 'input' and 'output'", message)
  end)

  describe("of a file", function()
    local dir

    before_each(function() dir = tmp.dir() end)
    after_each(function() tmp.remove(dir) end)

    it("is read from JSON", function()
      local path = tmp.write(dir .. "/p.json", '{"currency":"EUR","models":{"m":{"input":1,"output":2}}}')
      local read = assert(price.read(path))
      assert.same({ "EUR", 1, 2 }, { read.currency, read.models.m.input, read.models.m.output })
    end)

    it("says in one line what is wrong", function()
      local function refused(wanted, text)
        local path = dir .. "/p.json"
        if text then tmp.write(path, text) end
        local read, message = price.read(path)
        assert.is_nil(read)
        assert.matches(wanted, message)
        assert.is_nil(message:find "\n")
        assert.matches("p%.json", message)
      end
      refused "^cannot read "
      refused("is no JSON object", "3")
      refused("is no JSON object: ", "{")
      refused("option 'inputs' is unknown; did you mean 'input'", '{"inputs":1}')
      refused("option 'input' must be at least 0", '{"input":-1}')
      refused("models: 'm': option 'output' must be number", '{"models":{"m":{"output":"2"}}}')
      refused("models: 'm' must be { input =, output = }, got number", '{"models":{"m":2}}')
      refused("has no price: write 'input' and 'output'", "{}")
      refused("has no price", '{"currency":"EUR"}')
      refused("option 'output' is missing: it goes with 'input'; write 0", '{"input":1}')
      refused("option 'input' is missing", '{"output":1,"request":2}')
      refused("models: 'm' needs 'input' and 'output'", '{"models":{"m":{}}}')
      refused("models: 'm': option 'output' is missing", '{"models":{"m":{"input":1}}}')
      refused("models: '1' is no model's name", '{"models":[{"input":1}]}')
    end)
  end)

  describe("in the lab", function()
    local function compare(models)
      return require("neap.lab").compare {
        policies = { { "once", false } }, runs = 1, load = { kind = "closed", clients = 1, operations = 4 },
        world = { { host = "api.example.com", latency = 0.1, tokens = { output = 10 } } }, price = { models = models },
        send = function()
          local client = assert(require("neap").http.client { base_url = "https://api.example.com" })
          return function(item)
            return client:post("/v1/chat/completions", { json = { model = item % 2 == 0 and "even" or "odd",
              messages = { { role = "user", content = "how much?" } } } })
          end
        end,
      }
    end

    it("goes by the models that requests name", function()
      local comparison = compare { even = { input = 0, output = 1e5 }, odd = { input = 0, output = 3e5 } }
      assert.near(2 * 10 * 0.1 + 2 * 10 * 0.3, comparison.results[1].runs[1].cost, 1e-9)
    end)

    it("names the model that has no price", function()
      local ok, message = pcall(compare, { even = { input = 0, output = 1 } })
      assert.is_false(ok)
      assert.matches("there is no price for the model 'odd'", tostring(message))
    end)
  end)
end)
