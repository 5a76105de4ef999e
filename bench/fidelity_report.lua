-- What a simulation is worth: bench/fidelity.lua for real, against `neap mock --world`
-- over sockets, and the same script in `neap sim` with the same world. A cell is a
-- world and a policy; its real runs come one after the other, each with a mock and a
-- seed of its own, its simulated ones on all cores. Prints a table, and whether each
-- cell keeps its bars.
-- usage: neap run bench/fidelity_report.lua [RUNS] [SEEDS] [WORLD/POLICY]...
-- (from the root of the repository; 8 real runs, 100 simulated ones, six cells).
-- CLIENT_CORE and SERVER_CORE in the environment pin the two real programs to cores.
local core = require "neap.core"
local fidelity = require "bench.support.fidelity"
local runs = require "bench.support.fidelity_runs"

local CALLS = { provider = 2000, brownout = 3000, small = 2000 } -- ten seconds or so
local CELLS = { "provider/none", "provider/retry", "provider/standard",
  "brownout/none", "brownout/retry", "brownout/standard" }
local CORE_BAR, REQUESTS_BAR = 0.5, 10000

local function whole(text, name)
  local number = tonumber(text)
  if not number or number < 1 or number % 1 ~= 0 then
    error(("%s must be a whole number of at least 1, got '%s'"):format(name, text), 0)
  end
  return number
end

local function cell_of(name)
  local world, policy = name:match "^(%w+)/(%w+)$"
  if not CALLS[world] then error(("there is no cell '%s'"):format(name), 0) end
  return { world = world, policy = policy, calls = CALLS[world] }
end

--- PASS, or what is not as it should be.
local function verdict(compared)
  if not compared.within then return "MISS" end
  if compared.requests < REQUESTS_BAR then return ("MISS (fewer than %d requests)"):format(REQUESTS_BAR) end
  if math.max(compared.client, compared.mock) > CORE_BAR then return "MISS (more than half a core)" end
  return "PASS"
end

local RUNS, SEEDS = whole((...) or 8, "RUNS"), whole((select(2, ...)) or 100, "SEEDS")
local names = select("#", ...) > 2 and { select(3, ...) } or CELLS

print(("%d real runs and %d simulated ones a cell; intervals: 95 %%, bootstrap over the runs\n"):format(RUNS, SEEDS))
print(fidelity.head)
local lines, missed = {}, 0
for i, name in ipairs(names) do
  local cell = cell_of(name)
  local compared = fidelity.compare(runs.repeated(runs.real, cell, RUNS, 1),
    runs.repeated(runs.simulated, cell, SEEDS), function(size) return core.rng(size, 1) end)
  for _, row in ipairs(compared.rows) do print(("| %s | %s |"):format(name, row)) end
  io.flush()
  local said = verdict(compared)
  if said ~= "PASS" then missed = missed + 1 end
  lines[i] = ("- %s: %s: %s; %d requests for real, client %.2f and mock %.2f of a core"):format(said, name,
    compared.text, compared.requests, compared.client, compared.mock)
end
print("\n" .. table.concat(lines, "\n"))
print(("- %s: %d of %d cells missed"):format(missed == 0 and "PASS" or "MISS", missed, #names))
