--- `neap batch --dry-run`: how long a batch will take and what it will cost. The
--- batch's own code runs over the input in virtual time, against a world, once for
--- each seed, and again with each of the world's assumptions varied. Each run is a
--- process of its own, over the cores. Nothing is sent, nothing is written, no key
--- is read.
local assumptions = require "neap.batch.dry_run.assumptions"
local core = require "neap.core"
local inputs = require "neap.batch.dry_run.input"
local pool = require "neap.lab.pool"
local prices = require "neap.price"
local redact = require "neap.cassette.redact"
local report = require "neap.batch.dry_run.report"
local sensitivity = require "neap.batch.dry_run.sensitivity"
local sorted = require "neap.sorted"
local uv = require "neap.uv"
local worlds = require "neap.world"

local M = {}

---@class neap.batch.DryRunOptions
---@field input string path of a file
---@field output? string path; only looked at
---@field world string a world's file, or a profile's name
---@field base_url? string default: the one host that the world names
---@field price? string path of a price table
---@field headers table<string, string> sent with every request
---@field concurrency integer
---@field max_attempts integer
---@field timeout number seconds for one attempt
---@field force boolean of a real run
---@field runs integer seeds
---@field seed integer the first one
---@field jobs? integer processes at a time; default: the number of processors
---@field progress boolean

--- Any name does where the world serves all hosts.
local ANY = "http://any.invalid"

-- ---------------------------------------------------------------------------
-- Who is asked
-- ---------------------------------------------------------------------------

local function hosts_of(world)
  local named, any = {}, false
  for _, upstream in ipairs(world.upstreams) do
    if upstream.host == "*" then any = true else named[#named + 1] = upstream.host end
  end
  return named, any
end

local function index_of(world, wanted)
  for i, upstream in ipairs(world.upstreams) do
    if upstream == wanted then return i end
  end
end

--- A url without what may be a password.
local function without_user(text)
  return (text:gsub("(://)[^/@%s]*@", "%1" .. redact.MARK .. "@"))
end

--- The address that is asked, its upstream's index, and its name for the report; nil
--- and one sentence.
local function find_server(world, opts)
  local named, any = hosts_of(world)
  local base_url = opts.base_url
  if not base_url then
    if #named > 1 then
      return nil, ("--base-url is needed: %s serves %s"):format(opts.world, table.concat(named, ", "))
    end
    base_url = named[1] and "https://" .. named[1] or ANY
  end
  local scheme, rest = (core.url_origin(base_url) or ""):match "^(%a+)://(.*)$"
  if not scheme then return nil, ("--base-url is no valid address: '%s'"):format(base_url) end
  local host, port = rest:match "^(.*):(%d+)$"
  host = (host or rest):gsub("^%[(.*)%]$", "%1")
  local upstream = world:upstream(scheme, host, tonumber(port))
  if not upstream then
    return nil, ("%s: no upstream serves %s (it has %s)"):format(opts.world, base_url, table.concat(named, ", "))
  end
  local shown = base_url == ANY and any and "any: the world serves all hosts" or without_user(base_url)
  return base_url, index_of(world, upstream), shown
end

--- What a real run would do with the output; nil: nothing is there.
local function output_text(opts)
  if not opts.output or opts.output == "-" then return nil end
  local there, input = uv.fs_stat(opts.output), uv.fs_stat(opts.input)
  if not there or there.type ~= "file" then return nil end
  if require("neap.batch.files").same(there, input) then return "is the input: a real run refuses it" end
  return ("%s exists: %s begins anew, so every item is counted"):format(opts.output,
    opts.force and "--force" or "a real run refuses it; with --force it")
end

--- The command line without the values of headers that are secrets, or look like
--- credentials, however their options were written.
local function command(headers)
  local words, secrets = { "neap" }, {}
  for name, value in sorted.pairs(headers) do
    if redact.is_secret_header(name) or value:find "^%a+ +%S" then secrets[#secrets + 1] = value end
  end
  for _, word in ipairs(rawget(_G, "arg") or {}) do
    for _, value in ipairs(secrets) do
      local from, to = word:find(value, 1, true)
      if from then word = word:sub(1, from - 1) .. redact.MARK .. word:sub(to + 1) end
    end
    words[#words + 1] = without_user(word)
  end
  return require("neap.lab.report.header").command(words)
end

-- ---------------------------------------------------------------------------
-- The runs
-- ---------------------------------------------------------------------------

--- The jobs of all runs: the world as it is first, then the variations.
local function requests_of(opts, base_url, variations, varied)
  -- A child has another standard input.
  local list, input = {}, uv.fs_realpath(opts.input) or opts.input
  local function add(seed, scale)
    list[#list + 1] = { what = "batch", input = input, world = opts.world, base_url = base_url,
      headers = opts.headers, concurrency = opts.concurrency, max_attempts = opts.max_attempts,
      timeout = opts.timeout, pace = opts.pace, seed = seed, scale = scale }
  end
  for i = 1, opts.runs do add(opts.seed + i - 1) end
  for _, variation in ipairs(variations) do
    local scale = { [variation.assumption.name] = variation.scale }
    for i = 1, varied do add(opts.seed + i - 1, scale) end
  end
  return list
end

local function run_all(opts, requests)
  local rows = {}
  local progress = require("neap.lab.progress").new(opts.progress)
  progress:expect(#requests)
  local ok, message = pool.each(requests, opts.jobs or pool.processors(), function(index, row)
    rows[index] = row
    progress:step()
  end)
  progress:clear()
  if not ok then return nil, message end
  return rows
end

local function add_costs(rows, price)
  for _, row in ipairs(rows) do
    local cost, message = prices.of(price, row)
    if not cost then return nil, message end
    row.cost = cost
  end
  return true
end

local function effects_of(rows, variations, varied, runs)
  local effects = {}
  for i, variation in ipairs(variations) do
    local first = runs + (i - 1) * varied
    effects[i] = sensitivity.effect(variation, { unpack(rows, first + 1, first + varied) }, rows)
  end
  return effects
end

--- What is known before anything is run; nil and one sentence.
local function prepare(opts)
  local ok, world = pcall(worlds.load, opts.world)
  if not ok then return nil, (tostring(world):gsub("\n.*$", ""):gsub("^neap%.world[.%a]*: ", "")) end
  local base_url, index, shown = find_server(world, opts)
  if not base_url then return nil, index end
  local price, message
  if opts.price then
    price, message = prices.read(opts.price)
    if not price then return nil, message end
  end
  local facts, err = inputs.facts(opts.input)
  if not facts then return nil, err.message end
  message = price and prices.missing(price, facts.models)
  if message then return nil, message end
  return { options = opts, facts = facts, world = world, base_url = base_url, server = shown, price = price,
    currency = price and price.currency, output = output_text(opts), command = command(opts.headers),
    assumptions = assumptions.of(world, index), handled = world.upstreams[index].handler ~= nil,
    varied = sensitivity.seeds(opts.runs, facts.items) }
end

--- Runs it. Needs a real clock. Waits.
---@param opts neap.batch.DryRunOptions
---@return string? report
---@return string? message one line
function M.run(opts)
  local forecast, message = prepare(opts)
  if not forecast then return nil, message end
  local variations = sensitivity.variations(forecast.assumptions)
  local rows
  rows, message = run_all(opts, requests_of(opts, forecast.base_url, variations, forecast.varied))
  if not rows then return nil, message end
  if forecast.price then
    local ok
    ok, message = add_costs(rows, forecast.price)
    if not ok then return nil, message end
  end
  forecast.effects = effects_of(rows, variations, forecast.varied, opts.runs)
  forecast.rows = { unpack(rows, 1, opts.runs) }
  return report.of(forecast)
end

return M
