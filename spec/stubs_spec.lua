-- SPDX-License-Identifier: MIT
-- Editors know C functions only by their stubs in lua/neap/_meta: none may be
-- missing, none may outlive its function.
local lfs = require "lfs"
local core = require "neap.core"
local repository = require "spec.support.repository"

local root = repository.root
local meta = root .. "lua/neap/_meta/"

--- file name -> text without long comments
local stubs = {}
for name in lfs.dir(meta) do
  if name:find "%.lua$" then
    local file = assert(io.open(meta .. name, "rb"))
    stubs[name] = file:read "*a"
    file:close()
  end
end

local function assert_none(list)
  table.sort(list)
  assert.message("\n" .. table.concat(list, "\n")).are.equal(0, #list)
end

local function each_stub(pattern, visit)
  for name, text in pairs(stubs) do
    for capture in text:gmatch(pattern) do visit(capture, name) end
  end
end

describe("a stub", function()
  it("opens with ---@meta", function()
    for name, text in pairs(stubs) do
      assert.message(name).truthy(text:find "^%-%-%-@meta" or text:find "^%-%-[^\n]*\n%-%-%-@meta")
    end
  end)

  it("is valid Lua that does nothing", function()
    for name, text in pairs(stubs) do assert.message(name).truthy(loadstring(text, name)) end
  end)

  it("exists for each function of neap.core", function()
    local known, missing = {}, {}
    each_stub("function core%.([%w_]+)%s*%(", function(name) known[name] = true end)
    for name, value in pairs(core) do
      if type(value) == "function" and not known[name] then missing[#missing + 1] = "core." .. name end
    end
    assert_none(missing)
  end)

  it("exists for each method of each class in C", function()
    local missing = {}
    for class, metatable in pairs(debug.getregistry()) do
      if type(class) == "string" and class:find "^neap%." and type(metatable) == "table"
        and type(metatable.__index) == "table" then
        local text = ""
        for _, stub in pairs(stubs) do
          if stub:find("@class " .. class:gsub("%p", "%%%0") .. "%f[^%w_.]") then text = text .. stub end
        end
        for method, value in pairs(metatable.__index) do
          if type(value) == "function" and not method:find "^__"
            and not text:find("function [%w_.]+[:.]" .. method .. "%s*%(") then
            missing[#missing + 1] = class .. ":" .. method
          end
        end
      end
    end
    assert_none(missing)
  end)

  it("does not outlive its function in neap.core", function()
    local stale = {}
    each_stub("function core%.([%w_]+)%s*%(", function(name, file)
      if type(core[name]) ~= "function" then stale[#stale + 1] = file .. ": core." .. name end
    end)
    assert_none(stale)
  end)
end)
