--- A cell of bench/fidelity_report.lua: bench/fidelity.lua in one world under one
--- policy, for real against `neap mock --world`, and in `neap sim`. Paths are from the
--- root of the repository. Needs a real clock.
local neap = require "neap"
local processes = require "bench.support.processes"

local M = {}

local HOST = "api.example.com"
local LONGEST = 60 -- seconds: a run that takes longer is stuck

---@class bench.fidelity.Cell
---@field world string a file of bench/worlds, and a load of bench/fidelity.lua
---@field policy string of bench/fidelity.lua
---@field calls integer a run

---@class bench.fidelity.Run
---@field seed integer
---@field calls integer
---@field requests integer that went out, and arrived
---@field amplification number
---@field completion number seconds from the first call to the last one's end
---@field latencies number[] seconds, of the calls that succeeded
---@field cpu number seconds of CPU; means nothing in a simulation
---@field mock_cpu number? the mock's, of a real run

local function script(cell, seed, url)
  return "bench/fidelity.lua", cell.world, cell.policy, tostring(seed), tostring(cell.calls), url
end

local function world_file(cell) return "bench/worlds/" .. cell.world .. ".lua" end

local function result_of(process, seed)
  process:wait(LONGEST)
  if process.code ~= 0 then
    error(("a run broke (%s):\n%s%s"):format(tostring(process.code), process.out, process.err), 0)
  end
  local run = assert(neap.json.decode(process.out))
  run.seed, run.amplification = seed, run.requests / run.calls
  return run
end

--- What the script has counted must be what has arrived.
local function checked(run, arrived)
  if arrived ~= run.requests then
    error(("the script sent %d requests, of which %s arrived"):format(run.requests, tostring(arrived)), 0)
  end
  return run
end

--- One run over sockets, with a mock of its own. Waits.
---@param cell bench.fidelity.Cell
---@param seed integer
---@return bench.fidelity.Run
function M.real(cell, seed)
  local mock = processes.start(os.getenv "SERVER_CORE", { "mock", "--world", world_file(cell), "--upstream", HOST,
    "--port", "0", "--seed", tostring(seed) })
  local ok, result = pcall(function()
    local url = mock:wait_for "listening on (http://[^\n]+)\n"
    local run = result_of(processes.start(os.getenv "CLIENT_CORE", { "run", script(cell, seed, url) }), seed)
    run.mock_cpu = mock:cpu_time()
    local client = neap.http.client { base_url = url }
    local stats = assert(client:get "/stats"):json()
    client:close()
    return checked(run, stats.hosts[HOST].requests)
  end)
  mock:stop()
  if not ok then error(result, 0) end
  return result
end

--- One run in virtual time. Waits.
---@param cell bench.fidelity.Cell
---@param seed integer
---@return bench.fidelity.Run
function M.simulated(cell, seed)
  local process = processes.start(nil, { "sim", "--world", world_file(cell), "--seed", tostring(seed),
    script(cell, seed, "http://" .. HOST) })
  local run = result_of(process, seed)
  return checked(run, tonumber(process.err:match "sim: (%d+) requests"))
end

--- Runs with the seeds 1 to `count`, so many at a time. Waits.
---@param one fun(cell: bench.fidelity.Cell, seed: integer): bench.fidelity.Run `real` or `simulated`
---@param cell bench.fidelity.Cell
---@param count integer
---@param together? integer default: one a core
---@return bench.fidelity.Run[]
function M.repeated(one, cell, count, together)
  local seeds = {}
  for seed = 1, count do seeds[seed] = seed end
  return (neap.map(seeds, function(seed) return one(cell, seed) end, { concurrency = together or processes.cores() }))
end

return M
