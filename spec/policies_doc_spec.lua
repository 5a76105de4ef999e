-- SPDX-License-Identifier: MIT
-- The option tables are whole, and the files made from them are up to date.
local lfs = require "lfs"
local schema = require "neap.schema"
local repository = require "spec.support.repository"

local root = repository.root
local generator = assert(loadfile(root .. "docs/generate.lua"))("neap.docs")

local function each_option(list, prefix, visit)
  for _, option in ipairs(list) do
    visit(prefix .. option[1], option)
    if option.fields then each_option(option.fields, prefix .. option[1] .. ".", visit) end
  end
end

local KEYS = {
  [1] = true, type = true, default = true, required = true, min = true, max = true, above = true, one_of = true,
  fields = true, unit = true, doc = true, source = true, live = true, infinite = true, forms = true,
}

describe("the policies' option tables", function()
  for _, name in ipairs(schema.names) do
    local definition = schema.get(name)

    it(name .. " say for every option what it means and where it is from", function()
      assert.is_string(definition.about)
      each_option(definition.options, "", function(option_name, option)
        assert.is_truthy(option.doc, option_name .. " has no doc")
        assert.is_truthy(option.source, option_name .. " has no source")
        for key in pairs(option) do assert.is_true(KEYS[key], option_name .. ": unknown key " .. tostring(key)) end
      end)
    end)

    it(name .. " have defaults that they accept", function()
      local required = {}
      each_option(definition.options, "", function(option_name, option)
        if option.required and not option_name:find "%." then required[option_name] = true end
      end)
      local ok, message = pcall(schema.check, name, {})
      if next(required) == nil then
        assert.is_true(ok, message)
      else
        assert.matches("is required", message)
      end
    end)
  end

  it("are all listed", function()
    local listed, missing = {}, {}
    for _, name in ipairs(schema.names) do listed[name .. ".lua"] = true end
    for name in lfs.dir(root .. "lua/neap/schema") do
      if name:find "%.lua$" and not listed[name] then missing[#missing + 1] = name end
    end
    assert.same({}, missing)
  end)

  for path, make in pairs(generator.files) do
    it("are what " .. path .. " was made from", function()
      local file = assert(io.open(root .. path, "rb"))
      local text = file:read "*a"
      file:close()
      assert.equal(make(), text, "run: build/neap docs/generate.lua")
    end)
  end
end)
