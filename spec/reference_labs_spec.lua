-- SPDX-License-Identifier: MIT
-- The scripts of scripts/labs: each page of docs/lab shows what its script prints, and
-- what the page says is so with other seeds too.
local lfs = require "lfs"

local here = debug.getinfo(1, "S").source:match "^@(.*)$"
local root = here:match "^(.*/)spec/[^/]*$" or "./"

local function read(path)
  local file = assert(io.open(root .. path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

--- Runs a script as `neap sim` would: what it returns, and what it printed.
local function run(name, seed)
  local path = "scripts/labs/" .. name .. ".lua"
  local chunk, printed = assert(loadstring(read(path), "@" .. path)), {}
  setfenv(chunk, setmetatable({ print = function(line) printed[#printed + 1] = line .. "\n" end }, { __index = _G }))
  local rows = require "neap".scope(function() return chunk(seed) end)
  local by_name = {}
  for _, row in ipairs(rows) do by_name[row.load and row.name .. " at " .. row.load or row.name] = row end
  return by_name, table.concat(printed)
end

--- The first text block of a page.
local function shown(name)
  return (read("docs/lab/" .. name .. ".md"):match "\n```text\n(.-)```\n")
end

local lessons = {}

function lessons.thundering_herd(rows)
  local together, apart = rows["exponential, no jitter"], rows["exponential, full jitter"]
  assert.is_true(apart.sends < 0.5 * together.sends)
  assert.is_true(apart.seconds < 0.1 * together.seconds)
  assert.equal(together.sends, rows["when told to (Retry-After)"].sends)
  assert.equal(280, rows["every 0.5 s"].peak)
  assert.is_true(apart.peak < 0.5 * 280)
  assert.equal(300, rows["full jitter and 20 at a time"].sends)
end

function lessons.collapse(rows)
  for _, name in ipairs { "backoff of 20, 40 s", "at once, with a budget" } do
    for window = 4, 8 do assert.is_true(rows[name][window] > 34) end
  end
  assert.is_true(rows["at once, with a budget"].amplification < 1.02)
end

function lessons.rate_limited(rows)
  assert.is_true(rows["retries at once"].answered < 20)
  assert.is_true(rows["backoff and Retry-After"].answered < 500)
  assert.is_true(rows["the same, 10 at a time"].answered < 600)
  local paced = rows["the same, paced at 99 %"]
  assert.equal(600, paced.answered)
  assert.is_true(paced.refused <= 1 and paced.seconds < 64)
end

function lessons.failover(rows)
  assert.is_true(rows["one region"].share < 0.02)
  local forgetful, router = rows["failover call by call"], rows["failover that remembers"]
  assert.is_true(forgetful.share > 0.99 and router.share > 0.99)
  assert.is_true(router.lost < 0.4 * forgetful.lost)
  assert.is_true(router.mean < 0.6 * forgetful.mean and router.mean < 0.6)
end

function lessons.hedging(rows)
  for _, load in ipairs { 0.4, 0.6 } do
    local none, some = rows["none at " .. load], rows["5 % more load at " .. load]
    assert.is_true(some.p99 < 0.75 * none.p99)
    assert.is_true(some.amplification <= 1.05)
  end
  assert.is_true(rows["every call twice at 0.4"].p99 < rows["5 % more load at 0.4"].p99)
  assert.is_true(rows["every call twice at 0.6"].p50 > 10 * rows["none at 0.6"].p50)
end

function lessons.breaker(rows)
  local default, nervous = rows["opens at 50 % of 20 calls"], rows["opens at 10 % of 20 calls"]
  assert.equal(0, default.refused)
  assert.is_true(nervous.refused > 0.5 * nervous.calls)
  assert.is_true(default.waited < 0.15 * rows["no breaker"].waited)
  assert.is_true(rows["opens at 50 % of 1000 calls"].waited > 0.8 * rows["no breaker"].waited)
  assert.is_true(rows["at 50 % of 20, for 60 s"].back > 25)
  assert.is_true(rows["at 50 % of 20, always 5 s"].back < 8)
end

-- Not those for `neap lab`, which have specs of their own.
local FOR_LAB = { outage = true }

local names = {}
for file in lfs.dir(root .. "scripts/labs") do
  local name = file:match "^(.+)%.lua$"
  if name and not FOR_LAB[name] then names[#names + 1] = name end
end
table.sort(names)

describe("the laboratory's script", function()
  for _, name in ipairs(names) do
    describe(name .. ".lua", function()
      it("prints what its page shows, and teaches the page's lesson", function()
        local rows, printed = run(name)
        assert.equal(shown(name), printed)
        lessons[name](rows)
      end)

      it("teaches it with another seed", function() lessons[name]((run(name, 2))) end)
    end)
  end

  it("breaker.lua shows that two failures in a row happen on good days", function()
    local most = 0
    for seed = 1, 3 do
      local row = run("breaker", seed)["opens after 2 in a row"]
      most = math.max(most, row.refused / row.calls)
    end
    assert.is_true(most > 0.05)
  end)

  it("collapse.lua stays down without a long backoff or a budget, in most seeds", function()
    local down = { 0, 0 }
    for seed = 1, 3 do
      local rows = run("collapse", seed)
      for i, retries in ipairs { "at once", "backoff of 0.5, 1 s" } do
        if rows[retries][8] < 8 then down[i] = down[i] + 1 end
      end
    end
    assert.is_true(down[1] >= 2 and down[2] >= 2)
  end)
end)
