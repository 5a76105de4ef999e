-- SPDX-License-Identifier: MIT
-- `neap lab`: runs in processes of their own.
local child = require "spec.support.child"
local neap = require "neap"

local EXPERIMENT = [[
local neap = require "neap"
local attempts = tonumber((...)) or 3
return {
  title = "A flaky service",
  policies = {
    { "retry", { retry = { max_attempts = attempts, backoff = { base = 0 } }, budget = false, adaptive = false } },
    { "made", function() return neap.retry { max_attempts = 2, backoff = { base = 0.1 } } end },
    { "none", false },
  },
  world = { latency = { law = "exponential", mean = 0.1 }, errors = { { status = 503, probability = 0.4 } } },
  load = { kind = "open", rate = 20, operations = 60 },
  runs = 6,
}
]]

describe("neap lab #real", function()
  local folders = {}

  after_each(function()
    for _, folder in ipairs(folders) do child.remove(folder) end
    folders = {}
  end)

  local function script(text, name)
    local path, folder = child.file(name or "lab.lua", text or EXPERIMENT)
    folders[#folders + 1] = folder
    return path, folder
  end

  local function lab(...)
    return child.run { "lab", ... }
  end

  local function refused(wanted, ...)
    local result = lab(...)
    assert.equal(2, result.code)
    assert.equal("", result.out)
    assert.matches("^neap: lab: [^\n]+\n$", result.err)
    assert.matches(wanted, result.err)
  end

  --- The report without the command, which differs.
  local function body(out)
    return (out:gsub("command [^\n]*\n", ""))
  end

  it("compares the policies of a script", function()
    local path = script()
    local result = lab(path)
    assert.same({ 0, "" }, { result.code, result.err })
    assert.matches("^# A flaky service\nload     open %(Poisson, 20/s; 60 operations%)\n", result.out)
    assert.matches("\nseeds    1 to 6: 6 runs of each policy", result.out)
    assert.matches("\ncommand  neap lab " .. path:gsub("%p", "%%%0") .. "\n", result.out)
    assert.matches("\n%* retry", result.out)
    assert.matches("\n  none +worse: success", result.out)
  end)

  it("says the same whatever the number of processes, and the same as in one process", function()
    local path = script()
    local one, two = lab("-j", "1", path), lab("-j", "2", path)
    assert.equal(body(one.out), body(two.out))
    local inside = script(EXPERIMENT:gsub("return {", "local given = {", 1)
      .. "print(require('neap.lab').compare(given))", "inside.lua")
    local run = child.run { "sim", inside }
    assert.equal(0, run.code)
    local function numbers(out) return out:match "\n\n.*$":gsub("%s+$", "") end
    assert.equal(numbers(one.out), numbers(run.out))
    -- A script that calls compare is an experiment too.
    assert.equal(numbers(one.out), numbers(lab(inside).out))
  end)

  it("reaches a world file's hosts over the simulated network, and takes a load that calls by itself", function()
    local path, folder = script [[
      local neap = require "neap"
      return {
        policies = { { "client", function() return neap.retry { max_attempts = 2 } end } },
        world = (...),
        send = function()
          local client = assert(neap.http.client { base_url = "https://api.example.com" })
          return function(item) return client:get("/" .. item) end
        end,
        load = function(call)
          neap.map({ "a", "b", "c" }, function(item) return call(item) end, { concurrency = 2 })
        end,
        runs = 6,
      }]]
    local world = folder .. "/world.lua"
    local file = assert(io.open(world, "w"))
    file:write "upstream { host = 'api.example.com', latency = 0.25, connect = 0.1 }"
    file:close()
    local result = lab(path, world)
    assert.same({ 0, "" }, { result.code, result.err })
    assert.matches("\nload     the script itself", result.out)
    assert.matches("\n%* client +100.00 %% +1.000 +0.350 +0.350 +0.600 ", result.out)
  end)

  it("passes arguments to the script", function()
    local result = lab("--runs", "6", "--policy", "retry", script(), "1")
    assert.matches("\n%* retry +%d%d%.%d%d %% +1%.000", result.out)
    assert.is_nil(result.out:find "made")
  end)

  it("sweeps, and writes page and charts", function()
    local path, folder = script()
    local result = lab(path, "--sweep", "max_attempts=1..4:2", "--policy", "retry", "--policy", "made",
      "--html", folder .. "/x.html", "--plot", folder .. "/x.svg")
    assert.same({ 0, "" }, { result.code, result.err })
    assert.matches("retry, max_attempts=4", result.out)
    assert.matches("made, max_attempts=1", result.out)
    local file = assert(io.open(folder .. "/x.html"))
    assert.matches("^<!DOCTYPE html>.*retry, max_attempts=4.*</html>\n$", file:read "*a")
    file:close()
    file = assert(io.open(folder .. "/x.svg"))
    assert.matches("^<svg .*</svg>\n$", file:read "*a")
    file:close()
  end)

  it("recommends a table to paste", function()
    local result = lab("recommend", script(), "--policy", "retry", "--sweep", "max_attempts=1,2,6", "--runs", "10",
      "--goal", "min amplification", "--subject-to", "success>0.97", "--candidates", "4")
    assert.same({ 0, "" }, { result.code, result.err })
    assert.matches("max_attempts = 6", result.out)
    assert.matches("\nneap.policy.standard {", result.out)
    assert.matches("On 10 fresh seeds:\n  success>0.97 ", result.out)
    assert.matches("Runner%-up: ", result.out)
    assert.matches("\n  latency    %+25 %%", result.out)
  end)

  it("exits with 1 where no policy is feasible", function()
    local result = lab("recommend", script(), "--policy", "none", "--runs", "3", "--goal", "min p99",
      "--subject-to", "success>0.9")
    assert.equal(1, result.code)
    assert.matches("no feasible policy", result.out)
    assert.matches("nearest miss is none, which misses success>0.9", result.out)
  end)

  it("takes another world and prices", function()
    local path, folder = script()
    local world = folder .. "/world.lua"
    local file = assert(io.open(world, "w"))
    file:write "upstream { host = 'api.example.com', latency = 0.25 }\nsource = 'a guess'\n"
    file:close()
    local prices = folder .. "/price.json"
    file = assert(io.open(prices, "w"))
    file:write '{"request": 0.5, "currency": "EUR"}'
    file:close()
    local result = lab(path, "--world", world, "--price", prices)
    assert.same({ 0, "" }, { result.code, result.err })
    assert.matches("world%.lua %(a guess%)\n", result.out)
    assert.matches("cost, EUR", result.out)
    assert.matches(" 30%.00\n", result.out)
  end)

  it("refuses what is wrong in one line", function()
    local path, folder = script()
    refused("cannot write /no/such/x.html: there is no folder '/no/such/'", script(), "--html", "/no/such/x.html")
    refused("cannot write /no/such/x.svg", script(), "--plot", "/no/such/x.svg")
    refused("cannot write /tmp: it is a folder", script(), "--html", "/tmp")
    refused("needs a script")
    refused("cannot open 'no%-such.lua'", "no-such.lua")
    refused("lab%.lua: %-%-sweep: [^\n]*'bakoff.base'[^\n]*did you mean 'backoff.base'", path, "--sweep",
      "bakoff.base=1..2")
    local sweeping = script(EXPERIMENT:gsub("runs = 6", "runs = 6, sweep = { 'max_atempts=1,2' }"), "sweeping.lua")
    refused("sweeping%.lua: option 'sweep': [^\n]*'max_atempts'[^\n]*did you mean 'max_attempts'", sweeping)
    refused("no policy of the script has hedge.max_extra_load", path, "--sweep", "max_extra_load=0.1..0.2")
    refused("there is no policy 'retri'; did you mean 'retry'", path, "--policy", "retri")
    refused("did you mean 'success'", path, "--goal", "max sucess")
    refused("goal 'min cost' needs prices", path, "--goal", "min cost")
    refused("constraint 'cost<3' needs prices", "recommend", path, "--subject-to", "cost<3")
    refused("success is a share, from 0 to 1", "recommend", path, "--subject-to", "success>99")
    refused("lab%.lua: %-%-sweep: 'retry, budget.ratio=0.1': [^\n]*option 'ratio'", (script((EXPERIMENT:gsub(
      "budget = false", "budget = { form = 'bucket' }", 1)))), "--sweep", "budget.ratio=0.1,0.2")
    refused("'made, retry.backoff.kind=linear': [^\n]*decorrelated", (script((EXPERIMENT:gsub("{ base = 0.1 }",
      "{ base = 0.1, jitter = 'decorrelated' }", 1)))), "--sweep", "retry.backoff.kind=linear")
    assert.equal("neap: option '--seed' must be at most 4503599627370496, got 9007199254740993 (try 'neap help lab')\n",
      lab(path, "--seed", "9007199254740993").err)
    refused("ends in .svg or .png", path, "--plot", "x.gif")
    refused("goes with 'neap lab recommend'", path, "--subject-to", "p99<1")
    refused("no%-such%-world", path, "--world", folder .. "/no-such-world.lua")
    refused("cannot read", path, "--price", folder .. "/none.json")
    refused("is no experiment", script "return 3")
    refused("unexpected symbol", (script "return {{ ="))
  end)

  it("names the line of the script where an option is wrong", function()
    refused("wrong%.lua:2: .*did you mean 'policies'",
      (script("local lab = require 'neap.lab'\nlab.compare { polices = {}, world = {}, load = {} }", "wrong.lua")))
  end)

  it("ends with 1 and a traceback where a policy fails", function()
    local path = script(EXPERIMENT:gsub('return neap.retry { max_attempts = 2, backoff = { base = 0.1 } }',
      'return neap.retry { retry_on = function() error "broken" end }'))
    local result = lab(path)
    assert.equal(1, result.code)
    assert.equal("", result.out)
    assert.matches("broken", result.err)
    assert.matches("stack traceback", result.err)
    assert.matches("neap: lab: policy 'made', seed %d: [^\n]*broken[^\n]*\n$", result.err)
  end)

  it("names policy, seed and host in one line where nobody serves what a policy asks for", function()
    local path = script [[
      local neap = require "neap"
      return { policies = { { "plain", false } }, world = { host = "a.test" }, runs = 1,
        send = function()
          local client = neap.http.client {}
          return function() return client:get "http://b.test/" end
        end,
        load = { kind = "closed", clients = 1, operations = 2 } }]]
    local result = lab(path, "-j", "1")
    assert.equal(1, result.code)
    assert.matches("neap: lab: policy 'plain', seed 1: [^\n]*no upstream serves http://b%.test:80\n$", result.err)
    assert.is_nil(result.err:find "traceback")
  end)

  it("leaves no run behind when it is killed", function()
    -- The script's folder, in a child's arguments, tells who belongs to it.
    local path, folder = script [[
      return { policies = { { "endless", false } }, world = { latency = 0 }, runs = 1,
        load = function() while true do end end }]]
    local function running()
      for _, pid in ipairs(assert(neap.fs.list "/proc")) do
        local file = pid:find "^%d+$" and io.open("/proc/" .. pid .. "/cmdline", "rb")
        local line = file and file:read "*a" or ""
        if file then file:close() end
        if line:find('"what":"run"', 1, true) and line:find(folder:match "[^/]+$", 1, true) then return true end
      end
      return false
    end
    local function wait_until(expected)
      while running() ~= expected do neap.sleep(0.01) end
    end
    local process = child.start { "lab", "-j", "1", path }
    neap.timeout(30, wait_until, true)
    assert.is_true(running())
    process:kill "sigkill"
    neap.timeout(30, wait_until, false)
    assert.is_false(running())
  end)

  it("lets scripts print, on standard error", function()
    local result = lab(script('print "hello from the script"\n' .. EXPERIMENT))
    assert.equal(0, result.code)
    assert.is_nil(result.out:find "hello")
    assert.matches("hello from the script", result.err)
  end)
end)
