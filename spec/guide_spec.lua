-- SPDX-License-Identifier: MIT
-- The programs of README.md, docs/guide.md, docs/world.md, docs/lab.md, docs/cassette.md,
-- docs/api and docs/sim run, and print what stands below. A fence says what a program
-- needs: "lua" virtual time, "lua real" real time, "lua mock" a `neap mock` on port 8080
-- (here on any port), "lua spec" `neap test`; "lua part" is a part of one and is not run.
local lfs = require "lfs"
local repository = require "spec.support.repository"

local root = repository.root

--- Programs of a page in order: code, line, whether they need real time, and the
--- text block that follows at once, if any.
local function programs_of(page)
  local list, block, number = {}, nil, 0
  for line in io.lines(root .. page) do
    number = number + 1
    if not block then
      local info = line:match "^```(.*)$"
      if info then block = { page = page, info = info, code = "", line = number } end
    elseif line ~= "```" then
      block.code = block.code .. line .. "\n"
    else
      local last = list[#list]
      if block.info:find "^lua" and block.info ~= "lua part" then
        block.last_line = number
        list[#list + 1] = block
      elseif block.info == "text" and last and block.line <= last.last_line + 2 then
        last.output = block.code
      end
      block = nil
    end
  end
  return list
end

--- Runs the program as a script would run; returns what it printed.
local function run(program)
  local chunk = assert(loadstring(("\n"):rep(program.line) .. program.code, "@" .. program.page))
  local printed = {}
  local env = setmetatable({
    print = function(...)
      local line = {}
      for i = 1, select("#", ...) do line[i] = tostring((select(i, ...))) end
      printed[#printed + 1] = table.concat(line, "\t") .. "\n"
    end,
  }, { __index = _G })
  require "neap".scope(setfenv(chunk, env))
  return table.concat(printed)
end

--- Runs the program beside a mock service.
local function with_mock(program)
  local child = require "spec.support.child"
  local mock = child.start { "mock", "--port", "0" }
  mock:wait_for "\n"
  program.code = program.code:gsub("127%.0%.0%.1:8080", assert(mock.out:match "http://(%S+)"))
  local ok, printed = pcall(run, program)
  mock:kill "sigterm"
  mock:wait()
  return assert(ok and printed, printed)
end

--- Runs the program as a spec file; returns the last line.
local function as_spec(program)
  local child = require "spec.support.child"
  local path, folder = child.file("docs_spec.lua", ("\n"):rep(program.line) .. program.code)
  local result = child.run { "test", path }
  child.remove(folder)
  assert.message(result.out .. result.err).equal(0, result.code)
  return result.out:match "([^\n]*\n)$"
end

--- Every page with programs: path, whether what it prints must stand below.
local pages = { { "docs/guide.md", true }, { "README.md", true }, { "docs/world.md", false },
  { "docs/lab.md", false }, { "docs/cassette.md", true } }
for _, folder in ipairs { "docs/api/", "docs/sim/" } do
  for name in lfs.dir(root .. folder) do
    if name:find "%.md$" then pages[#pages + 1] = { folder .. name, false } end
  end
end
table.sort(pages, function(a, b) return a[1] < b[1] end)

for _, entry in ipairs(pages) do
  local page, exact = unpack(entry)
  describe(page, function()
    local programs = programs_of(page)

    it("has programs", function() assert.is_true(#programs > 0) end)

    for _, program in ipairs(programs) do
      local real = program.info ~= "lua"
      it(("has a program that runs at line %d%s"):format(program.line, real and " #real" or ""), function()
        if program.info == "lua mock" then
          assert.truthy(with_mock(program):find "%S")
        elseif program.info == "lua spec" then
          assert.matches("^[1-9]%d* passed, 0 failed, 0 skipped\n$", as_spec(program))
        else
          local printed = run(program)
          if exact or program.output then assert.equal(program.output or "", printed) end
        end
      end)
    end
  end)
end
