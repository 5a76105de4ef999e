-- SPDX-License-Identifier: MIT
-- The same script over sockets and in simulation. bench/run fidelity compares two
-- worlds and three policies over many runs; this is one small cell of it.
local core = require "neap.core"
local fidelity = require "bench.support.fidelity"
local runs = require "bench.support.fidelity_runs"

local function stream(size) return core.rng(size, 1) end

--- Runs whose latencies are those of the list, and which differ in nothing else.
local function made(...)
  local list = {}
  for seed, latencies in ipairs { ... } do
    list[seed] = { seed = seed, calls = 4, requests = 8, amplification = 2, completion = 10, cpu = 1, mock_cpu = 2,
      latencies = latencies }
  end
  return list
end

describe("a simulated run beside a real one", function()
  it("takes as long, sends as much and has the same tail #real", function()
    local cell = { world = "small", policy = "retry", calls = 800 }
    local compared = fidelity.compare(runs.repeated(runs.real, cell, 3, 3), runs.repeated(runs.simulated, cell, 15),
      stream)
    assert.is_true(compared.requests > 2400)
    assert.is_true(compared.within, compared.text)
  end)

  it("is told apart where it differs by more than the bars", function()
    local real = made({ 1, 1, 1, 1 }, { 1, 1, 1, 1 })
    assert.is_true(fidelity.compare(real, made({ 1, 1, 1, 1.1 }, { 1, 1, 1, 1 }), stream).within)
    assert.is_false(fidelity.compare(real, made({ 1, 1, 1, 1.3 }, { 1, 1, 1, 1 }), stream).within)
    for _, name in ipairs { "amplification", "completion" } do
      local other = made({ 1, 1, 1, 1 }, { 1, 1, 1, 1 })
      other[1][name] = other[1][name] * 1.3
      local compared = fidelity.compare(real, other, stream)
      assert.is_false(compared.within)
      assert.is_true(math.abs(compared.apart[name] - (1 / 1.15 - 1)) < 1e-9)
    end
  end)

  it("says what its programs cost, and how sure the figures are", function()
    local compared = fidelity.compare(made({ 1, 2, 3, 4 }, { 5, 6, 7, 8 }), made({ 1, 2, 3, 4 }), stream)
    assert.same({ 16, 0.1, 0.2 }, { compared.requests, compared.client, compared.mock })
    assert.equal("p50, s | 4.000 (2.000-6.000) | 2.000 (2.000-2.000) | +100.0 % | ", compared.rows[3])
    assert.equal("p99, s | 8.000 (4.000-8.000) | 4.000 (4.000-4.000) | +100.0 % | 15 %", compared.rows[4])
    assert.equal("succeeded | 100.00 % | 100.00 % | |", compared.rows[5])
  end)
end)
