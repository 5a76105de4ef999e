-- SPDX-License-Identifier: MIT
local child = require "spec.support.child"

describe("neap lab scripts/labs/outage.lua #real", function()
  it("prints what docs/lab/outage.md shows", function()
    local root = debug.getinfo(1, "S").source:match "^@(.*/)spec/[^/]*$" or "./"
    local file = assert(io.open(root .. "docs/lab/outage.md"))
    local shown = file:read("*a"):match "\n```text\n(.-)```\n"
    file:close()
    local result = child.run({ "lab", root .. "scripts/labs/outage.lua" })
    assert.same({ 0, "" }, { result.code, result.err })
    assert.equal(shown:match "\n\n.*$", result.out:match "\n\n.*$")
  end)
end)
