-- SPDX-License-Identifier: MIT
local charts = require "neap.lab.report.charts"
local gnuplot = require "neap.lab.report.gnuplot"
local headers = require "neap.lab.report.header"
local html = require "neap.lab.report.html"
local lab = require "neap.lab"
local neap = require "neap"
local progress = require "neap.lab.progress"
local svg = require "neap.lab.report.svg"

local function compare(changes)
  local given = {
    title = "Retries <&>", policies = { { "three", function()
      return neap.retry { max_attempts = 3, backoff = { base = 0 } }
    end }, { "none", false } },
    world = { latency = 0.1, errors = { { status = 503, probability = 0.3 } }, source = "made up on a Monday" },
    load = { kind = "closed", clients = 5, operations = 50 }, runs = 6, seed = 11,
  }
  for key, value in pairs(changes or {}) do given[key] = value end
  return lab.compare(given)
end

--- Whether every tag is closed in order.
local function check_tags(text)
  local open = {}
  for closing, name, rest in text:gmatch "<(/?)([%a][%w]*)([^<>]*)>" do
    if closing == "/" then
      assert.equal(table.remove(open), name)
    elseif rest:sub(-1) ~= "/" and name ~= "meta" and name ~= "br" then
      open[#open + 1] = name
    end
  end
  assert.same({}, open)
end

describe("a report", function()
  it("opens with load, world, seeds, version and command", function()
    local text = tostring(compare())
    local version = require("neap.core").versions.neap:gsub("%p", "%%%0")
    assert.matches("^# Retries <&>\nload     closed %(5 clients; 50 operations%)\nworld    in the script "
      .. "%(made up on a Monday%)\nseeds    11 to 16: 6 runs of each policy, paired by seed; intervals are 95 %%, "
      .. "bootstrap of 2000 resamples\nversion  neap " .. version .. "\ncommand  neap[^\n]*\n", text)
  end)

  it("says that there are no intervals where there are too few runs", function()
    local text = tostring(compare { runs = 5 })
    assert.matches("\nseeds    11 to 15: 5 runs of each policy, paired by seed; fewer than 6 have no intervals\n", text)
    assert.is_nil(text:find "bootstrap")
  end)

  it("shows means, intervals, differences and the verdict", function()
    local text = tostring(compare())
    assert.matches("\n%* three +9%d%.%d%d %% ", text)
    assert.matches("Differences from the best %(three%), seed by seed", text)
    assert.matches("\n  none +worse: success %-%d+%.%d+ points %[%-", text)
    assert.is_nil(text:find "nan")
    assert.is_nil(text:find "cost")
  end)

  it("has a column of costs where there are prices", function()
    local comparison = compare { price = { request = 1, currency = "EUR" } }
    comparison.header.currency = "EUR"
    assert.matches("cost, EUR", tostring(comparison))
    assert.equal(50, comparison.results[2].estimates.cost.mean)
  end)

  it("has no latencies where nothing succeeds", function()
    local text = tostring(compare { world = { errors = { { status = 500, probability = 1 } } } })
    assert.matches("0%.00 %%", text)
    assert.is_nil(text:find "p50")
  end)

  it("tells a window and the timeline in tables and charts of their own", function()
    local comparison = compare { windows = { late = { from = 0.5, to = 1.5 } }, timeline = 0.5,
      measures = { "success", "wait", "completion_time" } }
    local text, page = tostring(comparison), html.of(comparison)
    assert.matches("\nWindow 'late', 0%.5 to 1%.5 s: [^\n]*\n\n +success +wait, s\n", text)
    assert.matches("Operations that succeeded, a second, by when they ended:\n\nfrom, s +0 +0%.5 +1", text)
    assert.is_nil(text:find "amplification")
    check_tags((page:gsub("<!DOCTYPE html>", ""):gsub("<style>.-</style>", "")))
    assert.matches("<h2>Window &#39;late&#39;, 0.5 to 1.5 s", page)
    local titles = {}
    for i, chart in ipairs(charts.of(comparison)) do titles[i] = chart.title end
    assert.same({ "success, %", "wait, s", "completion, s", "success, %, in 'late'", "wait, s, in 'late'",
      "Operations that succeeded, a second" }, titles)
  end)

  it("merges slots of a long timeline, so that a line can be read", function()
    local text = tostring(compare { policies = { { "none", false } }, world = { latency = 1 },
      load = { kind = "closed", clients = 2, operations = 80 }, timeline = 1 })
    local columns = select(2, text:match "\nfrom, s([^\n]*)\n":gsub("%d+", ""))
    assert.equal(14, columns)
    assert.matches("\n  none +1%.3 +2%.0 +2%.0", text) -- the slot of the first second has none
  end)

  it("of charts alone opens with the same lines, folded", function()
    local header = compare().header
    header.command = "neap lab " .. ("very-long-name.lua "):rep(12)
    local lines = headers.texts(header)
    assert.equal("Retries <&>", lines[1])
    assert.equal("load: closed (5 clients; 50 operations)", lines[2])
    assert.is_true(#lines > 7)
    for _, line in ipairs(lines) do assert.is_true(#line <= 96) end
    local picture = svg.document(charts.of(compare()), lines)
    check_tags(picture)
    assert.matches(">Retries &lt;&amp;&gt;</text>", picture)
    assert.matches(">version: neap ", picture)
    assert.matches('multiplot layout 6,1 title "Retries <&>\\nload: closed',
      gnuplot.script(charts.of(compare()), "png", "x.png", lines))
  end)

  it("quotes the command so that it can be typed", function()
    local quoted = headers.command { "lab", "x.lua", "--goal", "min p99", "it's" }
    assert.equal("lab x.lua --goal 'min p99' 'it'\\''s'", quoted)
  end)
end)

describe("a page", function()
  it("is one well-formed file that needs no other", function()
    local page = html.of(compare(), "1 < 2")
    check_tags((page:gsub("<!DOCTYPE html>", ""):gsub("<style>.-</style>", "")))
    for _, outside in ipairs { "<script", "<link", "src=", "@import", "url%(" } do assert.is_nil(page:find(outside)) end
    assert.is_nil((page:gsub('xmlns="http://www.w3.org/2000/svg"', "")):find "https?://")
    assert.matches("<title>Retries &lt;&amp;&gt;</title>", page)
    assert.matches("<pre>1 &lt; 2</pre>", page)
    assert.matches("<dt>load</dt><dd>closed %(5 clients; 50 operations%)</dd>", page)
    assert.matches("<svg ", page)
  end)
end)

describe("charts", function()
  it("have a row for each policy", function()
    local list = charts.of(compare())
    assert.equal("success, %", list[1].title)
    assert.same({ "three", "none" }, list[1].names)
    assert.equal(2, #list[1].series[1].points)
    check_tags(svg.document(list))
  end)

  it("of a sweep over a number are lines over it", function()
    local list = charts.of(compare { sweep = { "max_attempts=1,2,10" } })
    assert.equal("max_attempts", list[1].over)
    assert.is_true(list[1].log)
    assert.equal(1, #list[1].series)
    local xs = {}
    for i, point in ipairs(list[1].series[1].points) do xs[i] = point.x end
    assert.same({ 1, 2, 10 }, xs)
    check_tags(svg.document(list))
  end)

  it("have something to show where there are no values", function()
    local list = charts.of(compare { world = { errors = { { status = 500, probability = 1 } } } })
    check_tags(svg.document(list))
    assert.is_nil(svg.document(list):find "nan")
    assert.is_nil(svg.document(list):find "inf")
  end)

  it("have round numbers on their axes", function()
    assert.same({ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, svg.ticks(0, 10))
    assert.same({ 0, 5, 10, 15, 20, 25, 30, 35 }, svg.ticks(0, 39))
    local ticks = svg.ticks(0.97, 1.03)
    assert.is_true(#ticks >= 4 and #ticks <= 11)
    assert.same({ 5 }, svg.ticks(5, 5))
  end)

  it("are a script for gnuplot", function()
    local script = gnuplot.script(charts.of(compare()), "dumb")
    assert.matches("^set terminal dumb", script)
    assert.matches("'three' 1, 'none' 2", script)
    assert.matches("\nplot %$s1 using 2:1:3:4 with xerrorbars", script)
    script = gnuplot.script(charts.of(compare { sweep = { "max_attempts=1,2" } }), "png", "it's.png")
    assert.matches("\nset output 'it''s.png'\n", script)
    assert.matches("title 'three'", script)
  end)

  it("are drawn by gnuplot, or it is said that there is none #real", function()
    local out, message = gnuplot.run("set terminal dumb size 40,10\nplot x\n")
    if out then
      assert.matches("%*", out)
      out, message = gnuplot.run "no such command\n"
      assert.is_nil(out)
      assert.matches("^gnuplot failed: ", message)
    else
      assert.matches("gnuplot is not installed", message)
    end
  end)
end)

describe("the progress bar", function()
  it("shows how much is done and left", function()
    assert.equal("[" .. ("#"):rep(15) .. ("."):rep(15) .. "] 5/10 runs  20 s left  fresh seeds",
      progress.bar(5, 10, 20, "fresh seeds"))
    assert.equal("[" .. ("."):rep(30) .. "] 0/10 runs", progress.bar(0, 10, 5))
    assert.equal("[" .. ("#"):rep(30) .. "] 10/10 runs", progress.bar(10, 10, 5))
  end)
end)
