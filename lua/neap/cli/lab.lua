--- `neap lab`: policies compared in virtual time, over the machine's cores.
local core = require "neap.core"

local M = {
  name = "lab",
  operands = "script.lua",
  summary = "compare policies in virtual time",
  usage = { "neap lab [options] script.lua [args]",
    "neap lab recommend --goal 'min completion_time' --subject-to 'success>0.99' script.lua",
    "neap lab fit cassette.jsonl > world.lua" },
  details = [[
The script returns an experiment, { policies =, world =, load = }, or calls
neap.lab.compare with one: see docs/lab.md. Every policy meets the same calls,
latencies and faults; each run is a process of its own, over all cores. The table
shows means, 95 % intervals and differences paired by seed, and says which policy
cannot be told from the best.

  neap lab scripts/labs/outage.lua --runs 50 --html outage.html
  neap lab scripts/labs/outage.lua --sweep backoff.base=0.1..2 --plot -

recommend searches the options (of --sweep, else those that the policies set), and
prints the Lua to paste. fit makes a world of what neap run --record recorded.]],
  options = {
    { name = "runs", short = "n", type = "integer", min = 1, max = 1e6, metavar = "N",
      help = "seeds of each policy (the script's, or 20)" },
    { name = "seed", short = "s", type = "integer", min = 0, max = 2 ^ 52, metavar = "N",
      help = "the first seed (the script's, or 1)" },
    { name = "sweep", type = "list", metavar = "OPTION=VALUES",
      help = "vary an option: backoff.base=0.1..2, jitter=full,none (repeatable)" },
    { name = "policy", type = "list", metavar = "NAME", help = "only this one (repeatable)" },
    { name = "world", short = "w", type = "string", metavar = "FILE", help = "instead of the script's world" },
    { name = "goal", type = "string", metavar = "GOAL", help = "who is best: 'max success, min p99'" },
    { name = "subject-to", type = "string", metavar = "LIST", help = "recommend: 'amplification<1.2, success>0.99'" },
    { name = "candidates", type = "integer", min = 2, max = 10000, metavar = "N",
      help = "recommend: how many are tried at first (27)" },
    { name = "price", type = "string", metavar = "FILE", help = "JSON: request, input, output, server_second, models" },
    { name = "jobs", short = "j", type = "integer", min = 1, max = 1024, metavar = "N",
      help = "processes at a time (the number of cores)" },
    { name = "html", type = "string", metavar = "FILE", help = "the report as one page" },
    { name = "plot", type = "list", metavar = "FILE", help = "charts: FILE.svg, FILE.png, or - for the terminal" },
    { name = "progress", type = "boolean", default = true, help = "no progress bar" },
  },
}

local EXIT_FAILED, EXIT_USAGE = 1, 2

--- An error that ends the command: raised as a table, told as one line.
local function stop(code, message, ...)
  error({ lab_code = code, message = message:format(...) }, 0)
end

local function write_file(path, text)
  local file, message = io.open(path, "wb")
  if not file then stop(EXIT_FAILED, "cannot write %s", message) end
  local ok, reason = file:write(text)
  local closed, at_close = file:close()
  if not (ok and closed) then stop(EXIT_FAILED, "cannot write %s: %s", path, reason or at_close or "unknown reason") end
end

local function check_plots(list)
  for _, path in ipairs(list) do
    if path ~= "-" and not path:find "%.svg$" and not path:find "%.png$" then
      stop(EXIT_USAGE, "option '--plot' needs a file that ends in .svg or .png, or -, got '%s'", path)
    end
    if not path:find "%.svg$" then
      local ok, message = require("neap.lab.report.gnuplot").check()
      if not ok then stop(EXIT_FAILED, "--plot %s: %s", path, message) end
    end
  end
end

--- Minutes of computing should not end at a folder that is not there.
local function check_outputs(opts)
  local uv = require "neap.uv"
  local paths = { opts.html }
  for _, path in ipairs(opts.plot) do
    if path ~= "-" then paths[#paths + 1] = path end
  end
  if opts.html == "-" then stop(EXIT_USAGE, "option '--html' needs a file, got '-'") end
  for _, path in ipairs(paths) do
    local stat = uv.fs_stat(path)
    local folder = path:match "^(.*/)[^/]*$" or "."
    if stat and stat.type == "directory" then
      stop(EXIT_USAGE, "cannot write %s: it is a folder", path)
    elseif not stat and not uv.fs_access(folder, "W") then
      stop(EXIT_USAGE, "cannot write %s: there is no folder '%s' that could be written to", path, folder)
    end
  end
end

-- ---------------------------------------------------------------------------
-- The experiment
-- ---------------------------------------------------------------------------

---@class neap.cli.Lab one invocation
local Lab = {}
Lab.__index = Lab

--- Asks a child what the script declares.
local function open(opts, rest)
  local path = table.remove(rest, 1)
  if not path then stop(EXIT_USAGE, "needs a script (try 'neap help lab')") end
  local verb = not path:find "[/.]" and require("neap.options").nearest(path, { "recommend", "fit" })
  local file = verb and io.open(path, "rb")
  if file then
    file:close()
  elseif verb then
    stop(EXIT_USAGE, "there is no script '%s'; did you mean '%s'?", path, verb)
  end
  check_plots(opts.plot)
  check_outputs(opts)
  local lab = setmetatable({ opts = opts, pool = require "neap.lab.pool",
    base = { path = path, args = rest, world = opts.world } }, Lab)
  if opts.price then
    local price, message = require("neap.price").read(opts.price)
    if not price then stop(EXIT_USAGE, "%s", message) end
    lab.base.price = price
  end
  local about, message = lab.pool.ask(lab:request { what = "describe" })
  if not about then stop(EXIT_USAGE, "%s", message) end
  lab.about = about
  lab.runs, lab.seed = opts.runs or about.runs, opts.seed or about.seed
  lab.jobs = opts.jobs or lab.pool.processors()
  lab.progress = require("neap.lab.progress").new(opts.progress)
  return lab
end

--- A request to a child: of this script and world.
function Lab:request(fields)
  local request = {}
  for key, value in pairs(self.base) do request[key] = value end
  for key, value in pairs(fields) do request[key] = value end
  return request
end

--- The policies asked for, in the script's order.
function Lab:names()
  if #self.opts.policy == 0 then return self.about.names end
  local known, list = {}, {}
  for _, name in ipairs(self.about.names) do known[name] = true end
  for i, name in ipairs(self.opts.policy) do
    if not known[name] then
      local hint = require("neap.options").nearest(name, self.about.names)
      stop(EXIT_USAGE, "there is no policy '%s'%s", name, hint and ("; did you mean '%s'?"):format(hint)
        or "; there are " .. table.concat(self.about.names, ", "))
    end
    list[i] = name
  end
  return list
end

function Lab:parts(names)
  local parts = {}
  for _, name in ipairs(names) do parts[name] = self.about.parts[name] end
  return parts
end

--- A wrong sweep: of the command line or of the script.
function Lab:stop_sweep(message)
  stop(EXIT_USAGE, "%s: %s: %s", self.base.path, #self.opts.sweep > 0 and "--sweep" or "option 'sweep'", message)
end

function Lab:dimensions(parts)
  local texts = #self.opts.sweep > 0 and self.opts.sweep or self.about.sweep or {}
  local dimensions, message = require("neap.lab.sweep").parse_all(texts, parts)
  if not dimensions then self:stop_sweep(message) end
  return dimensions
end

--- Nothing costs anything where nobody says what.
function Lab:check_price(metric, what, text)
  if metric.key == "cost" and not self.about.currency then
    stop(EXIT_USAGE, "%s '%s' needs prices: --price FILE, or the script's 'price'", what, text)
  end
end

--- That all variants can be made: a child tries. An option that only another form of a
--- budget has is told before the first run.
function Lab:check(variants)
  local _, message = self.pool.ask(self:request { what = "check", variants = variants })
  if not message then return end
  local place = self.base.path .. ": " -- which it is told with anyway
  self:stop_sweep(message:sub(1, #place) == place and message:sub(#place + 1) or message)
end

function Lab:goals(text)
  local goals, message = require("neap.lab.goals").goals(text, self.about.measures.list)
  if not goals then stop(EXIT_USAGE, "%s", message) end
  for _, goal in ipairs(goals) do
    self:check_price(goal.metric, "goal", goal.way .. " cost")
  end
  return goals
end

--- Runs jobs over the cores; their rows in order.
function Lab:run(jobs, what)
  local requests, rows = {}, {}
  for i, job in ipairs(jobs) do
    local variant = job.variant
    requests[i] = self:request { what = "run", job = { policy = variant.policy, changes = variant.changes,
      seed = job.seed, scale = job.scale } }
  end
  self.progress:expect(#requests, what)
  local ok, message, failed, trace = self.pool.each(requests, self.jobs, function(index, row)
    rows[index] = row
    self.progress:step()
  end)
  if not ok then
    self.progress:clear()
    if trace then io.stderr:write(trace, "\n") end
    stop(EXIT_FAILED, "policy '%s', seed %d: %s", jobs[failed].variant.name, jobs[failed].seed, message)
  end
  return rows
end

function Lab:header()
  local header = require("neap.lab.report.header").of_description(self.about, self.runs, self.seed,
    rawget(_G, "arg") or {})
  header.currency = self.about.currency
  return header
end

-- ---------------------------------------------------------------------------
-- Reports
-- ---------------------------------------------------------------------------

function Lab:draw(comparison)
  if #self.opts.plot == 0 then return end
  local charts = require("neap.lab.report.charts").of(comparison)
  local gnuplot = require "neap.lab.report.gnuplot"
  local lines = require("neap.lab.report.header").texts(comparison.header)
  for _, path in ipairs(self.opts.plot) do
    if path:find "%.svg$" then
      write_file(path, require("neap.lab.report.svg").document(charts, lines))
    else
      local out, message
      if path == "-" then
        out, message = gnuplot.draw(charts)
      else
        out, message = gnuplot.run(gnuplot.script(charts, "png", path, lines))
      end
      if not out then stop(EXIT_FAILED, "--plot %s: %s", path, message) end
      if path == "-" then io.stdout:write(out) end
    end
  end
end

function Lab:page(comparison, more)
  if self.opts.html then write_file(self.opts.html, require("neap.lab.report.html").of(comparison, more)) end
end

-- ---------------------------------------------------------------------------
-- The verbs
-- ---------------------------------------------------------------------------

local verbs = {}

--- Lets others run: the bar, and who presses Ctrl-C.
local function breathe() core.sleep(0) end

--- Compares all variants with all seeds.
function verbs.compare(opts, rest)
  if opts.subject_to or opts.candidates then
    stop(EXIT_USAGE, "option '--%s' goes with 'neap lab recommend'", opts.subject_to and "subject-to" or "candidates")
  end
  local lab = open(opts, rest)
  local names = lab:names()
  local parts = lab:parts(names)
  local goals = lab:goals(opts.goal or lab.about.goal)
  local variants, message = require("neap.lab.sweep").variants(names, parts, lab:dimensions(parts))
  if not variants then lab:stop_sweep(message) end
  lab:check(variants)
  local jobs, rows = {}, {}
  for _, variant in ipairs(variants) do
    for k = 1, lab.runs do jobs[#jobs + 1] = { variant = variant, seed = lab.seed + k - 1 } end
  end
  local all = lab:run(jobs)
  lab.progress:clear()
  for i = 1, #variants do rows[i] = { unpack(all, (i - 1) * lab.runs + 1, i * lab.runs) } end
  local comparison = require("neap.lab.compare").of(variants, rows, goals, lab:header(), lab.about.measures, breathe)
  io.stdout:write(require("neap.lab.report.text").of(comparison))
  lab:page(comparison)
  lab:draw(comparison)
end

--- What a recommendation varies in a policy where no sweep says so: the numbers that
--- it sets, and the retry's own.
local function own_dimensions(lab, name)
  local sweep, list, seen = require "neap.lab.sweep", {}, {}
  local has = lab.about.parts[name]
  local function add(found, value)
    local option = found.option
    if seen[found.full] or not has[found.part] or type(value) ~= "number" then return end
    seen[found.full] = true
    list[#list + 1] = sweep.around(found.part, found.path, option, value)
  end
  for _, setting in ipairs(lab.about.settings[name] or {}) do
    local found = sweep.find(setting.path)
    if found then add(found, setting.value) end
  end
  for _, path in ipairs { "retry.max_attempts", "retry.backoff.base", "retry.backoff.max" } do
    local found = sweep.find(path)
    add(found, found.option.default)
  end
  return list
end

local function bases_of(lab, names, parts)
  local sweep = require "neap.lab.sweep"
  local dimensions, bases = lab:dimensions(parts), {}
  for _, name in ipairs(names) do
    if #dimensions == 0 then
      bases[#bases + 1] = { name = name, dimensions = own_dimensions(lab, name) }
    elseif sweep.applies(parts[name], dimensions) then
      bases[#bases + 1] = { name = name, dimensions = dimensions }
    end
  end
  if #bases == 0 then
    local wanted = {}
    for i, dimension in ipairs(dimensions) do wanted[i] = dimension.name end
    lab:stop_sweep("no policy of the script has " .. table.concat(wanted, " and "))
  end
  return bases
end

function verbs.recommend(opts, rest)
  local lab = open(opts, rest)
  local names = lab:names()
  local parts = lab:parts(names)
  local constraints, message = require("neap.lab.goals").constraints(opts.subject_to or lab.about.subject_to,
    lab.about.measures.list)
  if not constraints then stop(EXIT_USAGE, "%s", message) end
  for _, constraint in ipairs(constraints) do lab:check_price(constraint.metric, "constraint", constraint.text) end
  local recommend = require "neap.lab.recommend"
  local search = { bases = bases_of(lab, names, parts), goals = lab:goals(opts.goal or lab.about.goal),
    constraints = constraints, factors = lab.about.factors, seed = lab.seed, candidates = opts.candidates,
    fresh = opts.runs, perturbed = opts.runs and math.min(opts.runs, recommend.PERTURBED),
    measures = lab.about.measures, run = function(jobs, what) return lab:run(jobs, what) end }
  local variants = {}
  for i, candidate in ipairs(recommend.candidates(search)) do variants[i] = candidate.variant end
  lab:check(variants)
  local result = recommend.find(search)
  local shown = lab.pool.ask(lab:request { what = "show", variant = result.winner.variant })
  lab.progress:clear()
  local header = lab:header()
  header.title = header.title and "Recommendation: " .. header.title or "Recommendation"
  header.seeds = ("%d to %d in the search, then %d fresh ones, %d to %d"):format(lab.seed,
    lab.seed + result.search_runs - 1, result.runs, result.fresh_from, result.fresh_from + result.runs - 1)
  local text = require("neap.lab.report.recommendation").of(search, result, header, shown and shown.text or "")
  io.stdout:write(text)
  result.comparison.header = header
  lab:page(result.comparison, text)
  lab:draw(result.comparison)
  return result.feasible and 0 or EXIT_FAILED
end

function verbs.fit(opts, rest)
  local code, message = require("neap.cassette.fit_command").main(opts, rest)
  if message then stop(code, "%s", message) end
  return code
end

---@param opts table
---@param rest string[]
---@return integer? code
---@return string? message
function M.main(opts, rest)
  local verb = "compare"
  if verbs[rest[1]] then verb = table.remove(rest, 1) end
  local ok, result = pcall(verbs[verb], opts, rest)
  if ok then return result or 0 end
  if type(result) == "table" and result.lab_code then return result.lab_code, "lab: " .. result.message end
  error(result, 0)
end

return M
