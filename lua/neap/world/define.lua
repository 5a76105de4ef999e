--- What a world is made of, checked: its upstreams' options with profiles and shared
--- outages filled in. World files, `neap.world.new` and scaled worlds all come
--- through here.
local connections = require "neap.world.connection"
local latencies = require "neap.world.latency"
local law_options = require "neap.world.options"
local options = require "neap.options"
local profiles = require "neap.world.profiles"
local sorted = require "neap.sorted"
local whole = require "neap.fs.whole"

local M = {}

---@class neap.world.HostOptions: neap.world.LawSpec
---@field host string a name, "name:port", or "*" for the rest
---@field region? string for shared outages
---@field profile? string of `neap.world.profiles`; its figures where nothing else is given
---@field source? string where the figures come from
---@field connect? number|neap.world.Latency|neap.world.ConnectSpec
---@field keepalive? number seconds that a connection is kept without requests; 0: none is
---@field api? "openai"|"json" default: OpenAI's answers on OpenAI's paths, else JSON
---@field body? string|table the answer to what is no endpoint
---@field handler? fun(request: table): any answers instead of the law
---@field log? boolean keep a row of each request

---@class neap.world.Shared a rule that several upstreams share
---@field hosts? string[]
---@field region? string

---@class neap.world.WorldOptions
---@field source? string where the figures come from
---@field outages? neap.world.Shared[] with the fields of an outage
---@field brownouts? neap.world.Shared[] with the fields of a brownout
---@field [integer] neap.world.HostOptions

---@class neap.world.Definition
---@field upstreams {checked: table, given: table, source: string?}[]
---@field shared {kind: "outage"|"brownout", rule: table, hosts: string[]?, region: string?, at: string}[]
---@field source string?
---@field dir string? that files are looked for in
---@field random? fun(seed: integer) starts the random numbers of handlers

local specs = {
  host = { type = "string", required = true },
  region = { type = "string" },
  profile = { type = "string" },
  source = { type = "string" },
  connect = { type = "table|number", min = 0 },
  keepalive = { type = "number", min = 0 },
  api = { type = "string", one_of = { "openai", "json" } },
  body = { type = "string|table" },
  handler = { type = "function" },
  log = { type = "boolean", default = false },
}
for name, spec in pairs(law_options.specs) do specs[name] = spec end
specs.seed = nil -- a run has one, and the world is keyed by it

--- What goes with a handler: the others are the law's.
local WITH_HANDLER = { host = true, region = true, source = true, connect = true, keepalive = true, handler = true,
  log = true }

---@param definition? {source?: string, dir?: string}
---@return neap.world.Definition
function M.new(definition)
  definition = definition or {}
  definition.upstreams, definition.shared = {}, {}
  return definition
end

--- The numbers of a file: one a line; empty lines and those that begin with "#" do
--- not count.
local function read_samples(path)
  local content, message = whole.read(path)
  if not content then return nil, message end
  local samples, number = {}, 0
  for line in content:gmatch "([^\n]*)\n?" do
    number = number + 1
    local text = line:match "^%s*(.-)%s*$"
    if text ~= "" and text:sub(1, 1) ~= "#" then
      local value = tonumber(text)
      if not value then
        return nil, ("%s:%d: '%s' is no number"):format(path, number, text)
      end
      samples[#samples + 1] = value
    end
  end
  if #samples == 0 then return nil, path .. " has no numbers" end
  return samples
end

--- An empirical law with its file read; others as they are.
local function with_samples(law, dir)
  if type(law) ~= "table" or law.law ~= "empirical" or law.file == nil then return law end
  if type(law.file) ~= "string" or law.samples ~= nil then return nil, "empirical needs samples or a file, not both" end
  local path = law.file:sub(1, 1) == "/" and law.file or (dir or "") .. law.file
  local samples, message = read_samples(path)
  if not samples then return nil, message end
  return { law = "empirical", samples = samples, scale = law.scale }
end

local function copy(source)
  local result = {}
  for key, value in pairs(source) do result[key] = value end
  return result
end

--- The options with the profile's where there are none, and the profile's source.
local function with_profile(where, given)
  local opts = copy(given)
  if opts.profile == nil then return opts, opts.source end
  local profile, message = profiles.find(opts.profile)
  if not profile then options.fail(("%s: option 'profile': %s"):format(where, message)) end
  for name, value in pairs(profile.options) do
    if opts[name] == nil then opts[name] = value end
  end
  return opts, opts.source or ("profile %s (%s)"):format(opts.profile, profile.date)
end

local function fill_samples(where, opts, dir)
  local function fill(into, name, label)
    if type(into) ~= "table" then return into end
    local law, message = with_samples(into[name], dir)
    if message then options.fail(("%s: option '%s': %s"):format(where, label, message)) end
    if law == into[name] then return into end
    into = copy(into)
    into[name] = law
    return into
  end
  opts = fill(opts, "latency", "latency")
  opts.tokens = fill(opts.tokens, "output", "tokens")
  opts.connect = fill({ connect = opts.connect }, "connect", "connect").connect
  if type(opts.connect) == "table" and not opts.connect.law then
    opts.connect = fill(opts.connect, "latency", "connect")
  end
  return opts
end

local function check_connect(where, connect)
  if connect == nil then return nil end
  local spec = connections.normalise(connect)
  if type(connect) == "table" and not connect.law then
    spec = options.check(where .. ": connect", spec, connections.fields)
  end
  local message = type(spec.latency) == "table" and latencies.problem(spec.latency)
  if message then options.fail(("%s: option 'connect': %s"):format(where, message)) end
  return spec
end

local function check_handler(where, checked)
  for name in sorted.pairs(checked) do
    if not WITH_HANDLER[name] then
      options.fail(("%s: option '%s' does not go with a handler, which answers instead of the law"):format(where, name))
    end
  end
end

--- A name, an address (IPv6 with or without brackets), either with a port; or "*".
local function check_host(where, host)
  if host == "*" then return end
  local name, port = host:match "^%[([%x:.]+)%]:(%d+)$"
  if not name then name = host:match "^%[?([%x:.]*:[%x:.]*:[%x:.]*)%]?$" end
  if not name then
    name, port = host:match "^([^%s/?#@:%[%]*]+):?(%d*)$"
    if port == "" then port = nil end
  end
  local number = tonumber(port)
  if not name or port and not (number >= 1 and number <= 65535) or host:find ":$" then
    options.fail(where .. ": option 'host' must be a host's name, \"name:port\" or \"*\", without scheme and path")
  end
end

--- Adds an upstream. Raises at the line of the script, or of the world's file.
---@param definition neap.world.Definition
---@param given neap.world.HostOptions
function M.upstream(definition, given)
  if type(given) ~= "table" then options.fail("upstream: needs a table of options, got " .. type(given)) end
  local where = type(given.host) == "string" and ("upstream '%s'"):format(given.host) or "upstream"
  if given.seed ~= nil then
    options.fail(where .. ": option 'seed' is the run's (neap sim --seed), not an upstream's")
  end
  local opts, source = with_profile(where, given)
  local checked = options.check(where, fill_samples(where, opts, definition.dir), specs)
  local message = law_options.problem(checked)
  if message then options.fail(where .. ": " .. message) end
  check_host(where, checked.host)
  checked.connect = check_connect(where, checked.connect)
  checked.host = checked.host:lower()
  for _, other in ipairs(definition.upstreams) do
    if other.checked.host == checked.host then options.fail(where .. ": there is one of that host already") end
  end
  if checked.handler then check_handler(where, checked) end
  checked.name = checked.host
  checked.on_disconnect = checked.on_disconnect or "continue"
  definition.upstreams[#definition.upstreams + 1] = { checked = checked, given = given, source = source }
end

--- "file:line: " of the script's or world file's line that is being run.
local function place()
  local _, message = pcall(options.fail, "")
  return message
end

--- Adds an outage or a brownout that the upstreams of `hosts`, or of a `region`,
--- share; of neither: all.
---@param definition neap.world.Definition
---@param kind "outage"|"brownout"
---@param given neap.world.Shared
function M.share(definition, kind, given)
  if type(given) ~= "table" then options.fail(("%s: needs a table of options, got %s"):format(kind, type(given))) end
  local rule = copy(given)
  local hosts, region = rule.hosts, rule.region
  rule.hosts, rule.region = nil, nil
  if hosts ~= nil and type(hosts) ~= "table" then
    options.fail(("%s: option 'hosts' must be an array of names, got %s"):format(kind, type(hosts)))
  end
  if region ~= nil and type(region) ~= "string" then
    options.fail(("%s: option 'region' must be string, got %s"):format(kind, type(region)))
  end
  if hosts and region then options.fail(kind .. ": give 'hosts' or 'region', not both") end
  local message = law_options.problem { [kind] = rule }
  if message then options.fail(("%s: %s"):format(kind, (message:gsub("^option '%a+': ", "")))) end
  definition.shared[#definition.shared + 1] = { kind = kind, rule = rule, hosts = hosts, region = region, at = place() }
end

--- Reads the argument of `neap.world.new`.
---@param spec neap.world.WorldOptions
---@return neap.world.Definition
function M.read(spec)
  if type(spec) ~= "table" then options.fail("neap.world.new: needs a table of upstreams, got " .. type(spec)) end
  local known = { source = true, outages = true, brownouts = true }
  for key in sorted.pairs(spec) do
    if type(key) ~= "number" and not known[key] then
      local hint = options.nearest(tostring(key), known)
      options.fail(("neap.world.new: option '%s' is unknown%s"):format(tostring(key),
        hint and ("; did you mean '%s'?"):format(hint) or ""))
    end
  end
  local definition = M.new { source = spec.source }
  for _, given in ipairs(spec) do M.upstream(definition, given) end
  for _, rule in ipairs(spec.outages or {}) do M.share(definition, "outage", rule) end
  for _, rule in ipairs(spec.brownouts or {}) do M.share(definition, "brownout", rule) end
  return definition
end

local function matches(shared, spec)
  if shared.region then return spec.region == shared.region end
  if not shared.hosts then return true end
  for _, host in ipairs(shared.hosts) do
    if tostring(host):lower() == spec.host then return true end
  end
  return false
end

--- The rules of an option, as an array that may be added to.
local function rules_of(value)
  if value == nil then return {} end
  if #value == 0 then return { value } end
  return { unpack(value) }
end

local function check_hosts(shared, list)
  for _, host in ipairs(shared.hosts or {}) do
    local found = false
    for _, spec in ipairs(list) do found = found or spec.host == tostring(host):lower() end
    if not found then error(("%s%s: there is no upstream '%s'"):format(shared.at, shared.kind, tostring(host)), 0) end
  end
end

--- The upstreams' options, shared rules included.
---@param definition neap.world.Definition
---@return table[]
function M.finish(definition)
  local list = {}
  for i, item in ipairs(definition.upstreams) do list[i] = copy(item.checked) end
  if #list == 0 then error((definition.path or "neap.world") .. ": there is no upstream in it", 0) end
  for _, shared in ipairs(definition.shared) do
    check_hosts(shared, list)
    local count = 0
    for _, spec in ipairs(list) do
      if matches(shared, spec) then
        local rules = rules_of(spec[shared.kind])
        rules[#rules + 1] = shared.rule
        spec[shared.kind], count = rules, count + 1
      end
    end
    if count == 0 then
      error(("%s%s: there is no upstream in region '%s'"):format(shared.at, shared.kind, shared.region), 0)
    end
  end
  return list
end

return M
