-- SPDX-License-Identifier: MIT
local child = require "spec.support.child"
local core = require "neap.core"

local ROOT = debug.getinfo(1, "S").source:match "^@(.*)spec/[^/]*$"
local RUNS = 10

describe("equal seeds give equal bytes #real", function()
  if ROOT == "" then ROOT = "./" end

  it("in processes with other addresses, environments and folders, with and without the compiler", function()
    local result = child.start_program("/bin/bash", { ROOT .. "bench/identity.sh", tostring(RUNS) },
      { env = { NEAP = core.host.exe_path() } }):wait()
    assert.equal(0, result.code, result.out .. result.err)
    local same, of, events = result.out:match
      "^(%d+) of (%d+) identical %((%d+) events; 5 with the compiler, 5 without%)\n$"
    assert.same({ RUNS, RUNS }, { tonumber(same), tonumber(of) }, result.out)
    assert.is_true(tonumber(events) > 10000, events .. " events")
  end)

  it("and say so in one line when they cannot be compared", function()
    local function refused(arguments, env)
      local result = child.start_program("/bin/bash", { ROOT .. "bench/identity.sh", unpack(arguments) },
        { env = env }):wait()
      assert.same({ 2, "" }, { result.code, result.out })
      return result.err
    end
    assert.matches("^usage: bench/identity%.sh", refused({ "1" }, { NEAP = core.host.exe_path() }))
    assert.matches("^usage: bench/identity%.sh", refused({ "many" }, { NEAP = core.host.exe_path() }))
    assert.matches("^identity: there is no [^\n]+none; build it first", refused({ "2" }, { NEAP = "/none" }))
  end)
end)
