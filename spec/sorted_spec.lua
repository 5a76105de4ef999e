-- SPDX-License-Identifier: MIT
-- Of several faults always the same one is told: the first by name.
local neap = require "neap"
local sorted = require "neap.sorted"

describe("neap.sorted", function()
  it("goes over all keys in order, and over those without an order somehow", function()
    local seen, object = {}, {}
    for key, value in sorted.all { b = 1, a = 2, [2] = 3 } do seen[#seen + 1] = key .. "=" .. value end
    assert.same({ "2=3", "a=2", "b=1" }, seen)
    local count = 0
    for _ in sorted.all { [object] = 1, a = 2 } do count = count + 1 end
    assert.equal(2, count)
  end)

  it("finds the first key that a test holds for", function()
    local t = { d = 4, b = 1, c = 3, a = 2 }
    assert.equal("c", sorted.first(t, function(_, value) return value > 2 end))
    assert.equal("b", sorted.first(t, function(key) return key > "a" end))
    assert.is_nil(sorted.first(t, function() return false end))
  end)
end)

describe("of two faults the first by name is told", function()
  local function message_of(fn, ...)
    local ok, err = pcall(fn, ...)
    assert.is_false(ok)
    return tostring(type(err) == "table" and err.message or err)
  end

  --- A table with the same keys, put in in another order each time.
  local function shuffled(i, fields)
    local names, t = sorted.keys(fields), {}
    for k = 1, #names do
      local name = names[(k * (2 * i + 1) + i) % #names + 1]
      t[name] = fields[name]
    end
    for _, name in ipairs(names) do t[name] = fields[name] end
    return t
  end

  local latencies = require "neap.world.latency"
  local client

  before_each(function() client = neap.http.client {} end)
  after_each(function() client:close() end)

  local bad = { zeta = -1, alpha = -1, mu = -1, beta = -1, nu = -1, omega = -1, kappa = -1, eta = -1 }

  for what, case in sorted.pairs {
    ["a time limit"] = { "connect", { connect = -1, total = -1, idle = -1, first_byte = -1 },
      function(t) return message_of(client.get, client, "http://x.test/", { timeout = t }) end },
    ["an unknown time limit"] = { "alpha", bad,
      function(t) return message_of(client.get, client, "http://x.test/", { timeout = t }) end },
    ["a law"] = { "alpha", bad, function(t)
      t.law, t.seconds = "fixed", 1
      return latencies.problem(t)
    end },
    ["a body"] = { "alpha", bad,
      function(t) return message_of(client.post, client, "http://x.test/", { body = t }) end },
    ["a part of a form"] = { "alpha", bad,
      function(t) return message_of(client.post, client, "http://x.test/", { multipart = { t } }) end },
    ["an endpoint's weight"] = { "alpha", bad, function(t)
      return message_of(function()
        neap.router { strategy = "weighted", endpoints = { { name = "e", base_url = "http://x.test" } } }:update {
          weights = t }
      end)
    end },
  } do
    it("of " .. what, function()
      local name, fields, tell = unpack(case)
      local first
      for i = 0, 11 do
        local message = tell(shuffled(i, fields))
        first = first or message
        assert.equal(first, message)
      end
      assert.matches("'" .. name:gsub("%p", "%%%0") .. "'", first)
    end)
  end
end)
