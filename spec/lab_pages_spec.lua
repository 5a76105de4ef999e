-- SPDX-License-Identifier: MIT
-- The tables of docs/lab are what `neap lab` prints: of a page one policy is run again,
-- with all seeds. (spec/reference_labs_spec.lua has the lessons of all pages.)
local child = require "spec.support.child"
local repository = require "spec.support.repository"

local root = repository.root

--- A page's commands, and what they print.
local function blocks(name)
  local file = assert(io.open(root .. "docs/lab/" .. name .. ".md"))
  local text, list = file:read "*a", {}
  file:close()
  for command, out in text:gmatch "```sh\n([^\n]*)\n```\n```text\n(.-)```\n" do
    list[#list + 1] = { command = command, out = out }
  end
  return list
end

local function words_of(line)
  return (line:gsub("^[*=] ", ""):gsub("%s+", " "):gsub("^ ", ""):gsub(" $", ""))
end

--- The lines of a policy up to the differences: means, intervals, those of windows, and
--- the timeline.
local function rows_of(report, policy)
  local list, last = {}, false
  report = report:gsub("\nDifferences from the best.*", "\n"):gsub("\nBest: .*", "\n")
  for line in report:gmatch "[^\n]+" do
    local words = words_of(line)
    if words:sub(1, #policy + 1) == policy .. " " then
      list[#list + 1], last = words, true
    elseif last and words:find "^%[" then
      list[#list + 1], last = words, false
    else
      last = false
    end
  end
  return list
end

local PAGES = {
  { "thundering_herd", "exponential, full jitter" }, { "collapse", "at once, with a budget" },
  { "rate_limited", "backoff and Retry-After" }, { "breaker", "opens after 2 in a row" },
  { "outage", "six tries, up to 20 s" },
}

describe("the page docs/lab #real", function()
  for _, case in ipairs(PAGES) do
    local name, policy = case[1], case[2]
    it(("%s.md shows what neap lab prints of '%s'"):format(name, policy), function()
      local block = assert(blocks(name)[1])
      assert.equal("neap lab scripts/labs/" .. name .. ".lua", block.command)
      assert.truthy(block.out:find("\ncommand  " .. block.command .. "\n", 1, true))
      local result = child.run { "lab", root .. "scripts/labs/" .. name .. ".lua", "--policy", policy }
      assert.same({ 0, "" }, { result.code, result.err })
      local wanted = rows_of(block.out, policy)
      assert.is_true(#wanted >= 2)
      for i, row in ipairs(rows_of(result.out, policy)) do
        -- A timeline is as long as that of the slowest policy.
        assert.equal(wanted[i]:sub(1, #row), row)
        wanted[i] = wanted[i]:sub(#row + 1):gsub(" 0%.0", "")
      end
      for _, rest in ipairs(wanted) do assert.equal("", rest) end
      local function opening(out) return out:match "^(.-\n)world" .. out:match "\nseeds[^\n]*\nversion[^\n]*\n" end
      assert.equal(opening(block.out), opening(result.out))
    end)
  end
end)
