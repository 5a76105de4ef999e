-- SPDX-License-Identifier: MIT
-- The pages hang together: links lead somewhere, every page can be reached.
local lfs = require "lfs"
local repository = require "spec.support.repository"

local read, root = repository.read, repository.root

--- Every .md file of the repository, without the build directory.
local function pages(dir, list)
  for name in lfs.dir(root .. dir) do
    local path = (dir == "." and "" or dir .. "/") .. name
    local mode = lfs.attributes(root .. path, "mode")
    if mode == "directory" and not name:find "^%." and path ~= "build" then
      pages(path, list)
    elseif name:find "%.md$" then
      list[#list + 1] = path
    end
  end
  return list
end

--- Resolves "docs" + "../README.md".
local function join(dir, target)
  local parts = {}
  for part in (dir .. "/" .. target):gmatch "[^/]+" do
    if part == ".." then parts[#parts] = nil elseif part ~= "." then parts[#parts + 1] = part end
  end
  return table.concat(parts, "/")
end

--- Calls visit(target path) for every relative link of a page.
local function each_link(page, visit)
  local dir = page:match "^(.*)/[^/]*$" or ""
  local prose = ("\n" .. read(page)):gsub("\n```.-\n```", "")
  for target in prose:gmatch "%]%(([^)%s]+)%)" do
    if not target:find "^%a+:" and not target:find "^#" then visit(join(dir, (target:gsub("#.*$", "")))) end
  end
end

describe("the documentation", function()
  it("has no link that leads nowhere", function()
    local broken = {}
    for _, page in ipairs(pages(".", {})) do
      each_link(page, function(target)
        if not lfs.attributes(root .. target) then broken[#broken + 1] = page .. " -> " .. target end
      end)
    end
    assert.message("\n" .. table.concat(broken, "\n")).are.equal(0, #broken)
  end)

  it("has no page that cannot be reached from README.md", function()
    local reached, queue = { ["README.md"] = true }, { "README.md" }
    while #queue > 0 do
      local page = table.remove(queue)
      each_link(page, function(target)
        if lfs.attributes(root .. target, "mode") == "directory" then target = target .. "/README.md" end
        if target:find "%.md$" and not reached[target] and lfs.attributes(root .. target) then
          reached[target] = true
          queue[#queue + 1] = target
        end
      end)
    end
    local lost = {}
    for _, page in ipairs(pages(".", {})) do
      if not reached[page] then lost[#lost + 1] = page end
    end
    assert.message("\n" .. table.concat(lost, "\n")).are.equal(0, #lost)
  end)
end)
