local histogram = require "neap.histogram"
local neap = require "neap"
local progress = require "neap.batch.progress"
local summary = require "neap.batch.summary"

local function stats_of(fields)
  local stats = { started = neap.now(), taken = 0, done = 0, ok = 0, failed = 0, bad = 0, retries = 0, in_flight = 0,
    waiting = 0, bytes = 0, statuses = {}, errors = {}, samples = {}, latency = histogram.new() }
  for key, value in pairs(fields or {}) do stats[key] = value end
  return stats
end

local function view_of(fields, view)
  local v = { stats = stats_of(fields), elapsed = 10, rate = 100 }
  for key, value in pairs(view or {}) do v[key] = value end
  return v
end

describe("the batch's progress", function()
  it("writes numbers with thousands apart", function()
    for n, text in pairs { [0] = "0", [7] = "7", [999] = "999", [1000] = "1,000", [41200] = "41,200",
      [123456] = "123,456", [1234567] = "1,234,567" } do
      assert.equal(text, progress.thousands(n))
    end
  end)

  it("writes durations and rates as people do", function()
    assert.equal("0:07", progress.duration(7.2))
    assert.equal("12:30", progress.duration(750))
    assert.equal("1:00:00", progress.duration(3599.6))
    assert.equal("3:05:09", progress.duration(3 * 3600 + 309))
    assert.equal("1,238/s", progress.rate(1237.6))
    assert.equal("0.42/s", progress.rate(0.42))
    assert.equal("2.5/s", progress.rate(2.5))
    assert.equal("0/s", progress.rate(0))
  end)

  it("says in a line what is done, failed, in flight and waiting, how fast and how long still", function()
    local fields = { done = 1200, failed = 3, in_flight = 70, waiting = 6, bytes = 250 }
    assert.equal("1,200 done, 3 failed, 64 in flight, 6 waiting, 100/s, 25 %, 0:30 left",
      progress.line(view_of(fields, { size = 1000 })))
  end)

  it("says nothing of the end where the size is unknown", function()
    assert.equal("5 done, 2 in flight, 100/s", progress.line(view_of { done = 5, in_flight = 2 }))
  end)

  it("promises no time before a second has passed or something is done", function()
    local line = progress.line(view_of({ done = 0 }, { size = 1000 }))
    assert.is_nil(line:find "left")
    line = progress.line(view_of({ done = 5, bytes = 10 }, { size = 1000, elapsed = 0.5 }))
    assert.is_nil(line:find "left")
  end)

  it("draws a bar that is never wider than the terminal", function()
    local fields = { done = 123456, failed = 1234, in_flight = 5064, waiting = 64, bytes = 5e8 }
    for width = 1, 200 do
      assert.is_true(#progress.bar(view_of(fields, { size = 1e9 }), width) < width or width == 1)
      assert.is_true(#progress.bar(view_of(fields), width) < width or width == 1)
    end
    local bar = progress.bar(view_of(fields, { size = 1e9 }), 160)
    assert.equal("[###############...............]  50 %", bar:match "^%[.-%%")
  end)

  it("draws full and empty bars", function()
    assert.matches("^%[%.+%]   0 %%", progress.bar(view_of({}, { size = 100 }), 100))
    assert.matches("^%[#+%] 100 %%", progress.bar(view_of({ bytes = 100 }, { size = 100 }), 100))
    assert.is_truthy(progress.bar(view_of({}, { size = 0 }), 100))
  end)

  describe("on a screen", function()
    local written, width

    local function start(stats, enabled)
      written = {}
      local screen = { write = function(text) written[#written + 1] = text end, width = function() return width end }
      return progress.new(stats, 1000, screen, enabled ~= false)
    end

    it("redraws one line of a terminal and clears it for messages", function()
      width = 80
      local p = start(stats_of { bytes = 500, done = 5 })
      local task = neap.spawn(p.run, p)
      neap.sleep(0.35)
      task:cancel()
      assert.equal(3, #written)
      for _, text in ipairs(written) do assert.matches("^\r\27%[K%[[#.]+%]", text) end
      p:message "hello"
      assert.equal("\r\27[K", written[4])
      assert.equal("hello\n", written[5])
      p:message "again"
      assert.equal("again\n", written[6])
    end)

    it("writes a line every few seconds where there is no terminal", function()
      width = nil
      local stats = stats_of {}
      local p = start(stats)
      local task = neap.spawn(p.run, p)
      neap.sleep(4.9)
      assert.equal(0, #written)
      stats.done = 50
      neap.sleep(5.2)
      task:cancel()
      assert.equal(2, #written)
      assert.matches("^50 done, .* 10/s", written[1])
      assert.matches("\n$", written[2])
    end)

    it("tells the rate of the last ten seconds", function()
      width = nil
      local stats = stats_of {}
      local p = start(stats)
      local task = neap.spawn(p.run, p)
      stats.done = 1000
      neap.sleep(5.1)
      assert.matches("200/s", written[1])
      neap.sleep(15)
      task:cancel()
      assert.matches(" 0/s", written[4])
    end)

    it("shows messages only when it is switched off", function()
      width = 80
      local p = start(stats_of {}, false)
      p:run()
      p:message "hello"
      assert.same({ "hello\n" }, written)
    end)
  end)
end)

describe("the batch's summary", function()
  it("says count, time, rate, outcomes, retries, statuses and latency", function()
    local stats = stats_of { done = 1000, ok = 994, failed = 6, bad = 1, retries = 41,
      statuses = { [200] = 994, [503] = 2, [400] = 2 }, errors = { invalid = 1, timeout = 2 },
      samples = { invalid = "line 7 is\nno JSON", timeout = ("x"):rep(200) } }
    for i = 1, 100 do stats.latency:add(i / 100) end
    assert.equal(table.concat({
      "1,000 requests in 4.25 s, 235/s",
      "  ok        994",
      "  failed    6 (1 bad line)",
      "  retries   41",
      "  statuses  200: 994   400: 2   503: 2   timeout: 2   invalid: 1",
      "  timeout   " .. ("x"):rep(157) .. "...",
      "  invalid   line 7 is no JSON",
      "  latency   p50 502 ms   p90 896 ms   p99 993 ms   max 1.00 s",
      "  results   out.jsonl",
    }, "\n"), (summary.text(stats, 4.25, "out.jsonl"):gsub("p%d+ [%d.]+ ms", function(text)
      -- The percentiles are within 0.8 %: the ideal 500, 900 and 990 in their place.
      local percent, value = text:match "p(%d+) ([%d.]+)"
      assert.near(percent * 10, tonumber(value), percent * 10 * 0.008 + 0.5)
      return ({ ["50"] = "p50 502 ms", ["90"] = "p90 896 ms", ["99"] = "p99 993 ms" })[percent]
    end)))
  end)

  it("writes latencies with the digits that say something", function()
    for seconds, text in pairs { [0.00035] = "0.35 ms", [0.0043] = "4.3 ms", [0.043] = "43 ms", [0.4321] = "432 ms",
      [1.234] = "1.23 s", [12.34] = "12.3 s", [123.4] = "123 s" } do
      local stats = stats_of { done = 1 }
      stats.latency:add(seconds)
      assert.matches("max " .. text:gsub("%p", "%%%0") .. "\n", summary.text(stats, 1, "out"))
    end
  end)

  it("is short when nothing was done", function()
    assert.equal("0 requests in 0.00 s, 0/s\n  ok        0\n  failed    0\n  retries   0\n  results   out",
      summary.text(stats_of(), 0, "out"))
  end)

  it("says what was cut off", function()
    assert.matches("cut off   3 in flight, without a result",
      summary.text(stats_of { done = 1, ok = 1, in_flight = 3 }, 1, "out"))
    assert.matches("^1 request in 1:02 min", summary.text(stats_of { done = 1 }, 62, "out"))
  end)
end)
