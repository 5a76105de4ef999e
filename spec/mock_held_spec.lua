-- SPDX-License-Identifier: MIT
local errors = require "neap.error"
local held = require "neap.mock.held"
local neap = require "neap"

describe("requests that a mock holds", function()
  local function request_of(id, dropped)
    local over = neap.event()
    return { id = id, hang = function() over:wait() end, drop = function()
      dropped[#dropped + 1] = id
      over:set()
    end }
  end

  local function server_of(stop) return { shutdown = function() end, stop = stop } end

  it("are let go in the order of their arrival, and those whose client left are not", function()
    local holding, dropped, order = held.new(), {}, {}
    neap.scope(function(s)
      for i = 1, 40 do order[i] = (i * 17) % 41 end
      for _, id in ipairs(order) do s:spawn(holding.hold, holding, request_of(id, dropped)) end
      local early = request_of(99, {})
      s:spawn(holding.hold, holding, early)
      neap.sleep(1)
      early.drop()
      neap.sleep(1)
      assert.is_true(holding:stop(server_of(function() return true end)))
    end)
    local wanted = {}
    for i = 1, 40 do wanted[i] = i end
    assert.same(wanted, dropped)
  end)

  it("are stopped with the server's own error, or a timeout that is told", function()
    local late = errors.new { kind = "timeout", message = "late" }
    local ok, err = held.new():stop(server_of(function() return nil, late end), 1)
    assert.same({ nil, late }, { ok, err })
    assert.error(function()
      held.new():stop(server_of(function() return nil, errors.new { kind = "closed", message = "x" } end))
    end)
  end)
end)
