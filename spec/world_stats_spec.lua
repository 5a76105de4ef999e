-- SPDX-License-Identifier: MIT
local json = require "neap.json"
local statistics = require "neap.world.stats"

describe("an upstream's statistics", function()
  it("count arrivals by id and by body, and outcomes once they are known", function()
    local stats = statistics.new(100)
    local first = stats:arrive("a", "/x", "body", 101)
    stats:arrive("b", "/x", "body", 102)
    local third = stats:arrive("a", "/y", "", 103)
    stats:finish(third, "drop", 0.25)
    stats:finish(first, 200, 1.5)
    assert.same({ requests = 3, in_flight = 1, max_in_flight = 0, uptime = 10, statuses = { drop = 1, ["200"] = 1 },
      by_id = { a = 2, b = 1 }, by_body = { body = 2 } }, stats:summary(110))
    assert.same({
      { id = "a", path = "/x", arrived = 1, duration = 1.5, status = 200 },
      { id = "b", path = "/x", arrived = 2, duration = json.null, status = json.null },
      { id = "a", path = "/y", arrived = 3, duration = 0.25, status = "drop" },
    }, json.decode("[" .. stats:rows(1, 3, json.encode) .. "]"))
    assert.equal("3 requests: 1 x 200, 1 x drop, 1 unanswered", stats:line())
  end)

  it("say so when nothing came", function()
    local stats = statistics.new(0)
    assert.equal("0 requests", stats:line())
    assert.equal("", stats:rows(1, 10, json.encode))
  end)

  it("know how many requests were there at a time, at most", function()
    local stats = statistics.new(0)
    for i = 1, 3 do
      stats:arrive(nil, "/", nil, i)
      stats:note_peak(stats.open)
    end
    stats:finish(1, 200, 1)
    stats:finish(2, "disconnect", 1)
    stats:arrive(nil, "/", nil, 4)
    stats:note_peak(stats.open)
    assert.same({ 2, 3, 1 }, { stats.open, stats.max_open, stats.left })
  end)

  it("keep counts only when told so", function()
    local stats = statistics.new(0, false)
    stats:finish(stats:arrive("a", "/", nil, 1), 200, 1)
    assert.equal("", stats:rows(1, 1, json.encode))
    assert.same({ 1, 1, { ["200"] = 1 } }, { stats.count, stats.by_id.a, stats.statuses })
    assert.same({}, stats.ids)
  end)
end)
