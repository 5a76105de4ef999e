--- The options of a world's law, for whoever takes one: simulated upstreams and
--- `neap.mock`. Pure.
local headers = require "neap.world.headers"
local latencies = require "neap.world.latency"
local options = require "neap.options"

local huge = math.huge

local M = {}

local probability = { type = "number", min = 0, max = 1 }
local positive = { type = "number", above = 0 }

--- For neap.options.
---@type table<string, neap.OptionSpec>
M.specs = {
  latency = { type = "table|number", min = 0, max = latencies.LONGEST },
  load = { type = "table", fields = { per_request = { type = "number", min = 0, max = latencies.LONGEST,
    required = true } } },
  tokens = { type = "table", fields = {
    output = { type = "table|number", above = 0 },
    per_second = positive,
  } },
  errors = { type = "table" },
  drop = probability,
  hang = probability,
  rate_limit = { type = "table", fields = {
    rpm = positive, tpm = positive, itpm = positive, otpm = positive, rpd = positive, tpd = positive,
    window = positive, headers = { type = "string", one_of = headers.names },
  } },
  quota = { type = "table", fields = { requests = positive, tokens = positive, per = positive } },
  capacity = { type = "table|integer", min = 0 },
  over = { type = "string", one_of = { "reject", "queue" } },
  over_status = { type = "integer", min = 400, max = 599 },
  max_waiting = { type = "integer", min = 0 },
  retry_after = { type = "number", min = 0 },
  brownout = { type = "table" },
  outage = { type = "table" },
  on_disconnect = { type = "string", one_of = { "stop", "continue" } },
  seed = { type = "integer", min = 0, max = 2 ^ 53, default = 1 },
}

local LAW = "law"

--- What is wrong with seconds that are a number or a law.
local function law_problem(name, value)
  if type(value) == "table" then
    local message = latencies.problem(value)
    return message and ("%s: %s"):format(name, message)
  end
  if type(value) ~= "number" or not (value >= 0 and value <= latencies.LONGEST) then
    return ("%s must be seconds or a law, got %s%s"):format(name, tostring(value),
      type(value) == "number" and value > 0 and ("; the most is %g"):format(latencies.LONGEST) or "")
  end
end

--- The fields of `rule` are among `known`, and each is a number in its range, one of
--- the texts, or a law.
local function rule_problem(rule, known)
  if type(rule) ~= "table" then return "each must be a table, got " .. type(rule) end
  local names = {}
  for name in pairs(rule) do names[#names + 1] = tostring(name) end
  table.sort(names)
  for _, name in ipairs(names) do
    local range, value = known[name], rule[name]
    if not range then
      local hint = options.nearest(name, known)
      return ("'%s' is unknown%s"):format(name, hint and ("; did you mean '%s'?"):format(hint) or "")
    end
    if range == LAW then
      local message = law_problem(name, value)
      if message then return message end
    elseif type(range[1]) == "string" then
      local found = false
      for _, accepted in ipairs(range) do found = found or value == accepted end
      if not found then
        return ("%s must be one of %s, got %s"):format(name, table.concat(range, ", "), tostring(value))
      end
    elseif type(value) ~= "number" or not (value >= range[1] and value <= range[2]) then
      return ("%s must be a number from %g to %g, got %s"):format(name, range[1], range[2], tostring(value))
    end
  end
end

local ERROR_FIELDS = { status = { 400, 599 }, probability = { 0, 1 }, retry_after = { 0, 1e9 }, latency = LAW }
local BROWNOUT_FIELDS = { knee = { 1e-9, 1e9 }, slope = { 0, 1e9 }, latency = { 0, 1e9 }, error = { 0, 1 },
  status = { 400, 599 }, from = { 0, 1e9 }, to = { 0, huge }, ramp = { 0, 1e9 }, ramp_down = { 0, 1e9 } }
local OUTAGE_FIELDS = { from = { 0, 1e9 }, to = { 0, huge }, how = { "refuse", "hang", "status" },
  status = { 400, 599 }, retry_after = { 0, 1e9 } }

local problems = {}

function problems.latency(spec)
  if type(spec) == "table" then return latencies.problem(spec) end
  if spec == huge then return "must be a finite number of seconds, or a law" end
end

function problems.tokens(spec)
  local output = spec.output
  local message = type(output) == "table" and latencies.problem(output)
  if message then return "output: " .. message end
end

function problems.errors(rules)
  local sum = 0
  for i = 1, #rules do
    local message = rule_problem(rules[i], ERROR_FIELDS)
    if message then return message end
    if not rules[i].status or not rules[i].probability then return "each needs a status and a probability" end
    sum = sum + rules[i].probability
  end
  if next(rules) ~= nil and #rules == 0 then
    return "needs an array of rules, such as {{status = 503, probability = 0.02}}"
  end
  if sum > 1 + 1e-9 then return ("the probabilities add up to %g, more than 1"):format(sum) end
end

function problems.rate_limit(limit)
  if not (limit.rpm or limit.tpm or limit.itpm or limit.otpm or limit.rpd or limit.tpd) then
    return "needs rpm, tpm or both, or itpm, otpm, rpd or tpd"
  end
end

function problems.quota(quota)
  if not quota.requests and not quota.tokens then return "needs requests, tokens or both" end
end

--- Of a schedule {{at = 0, slots = 50}, {at = 30, slots = 25}}.
function problems.capacity(steps)
  if type(steps) == "number" then return end
  if #steps == 0 then return "needs a number, or steps such as {{at = 0, slots = 50}, {at = 30, slots = 25}}" end
  local last = -1
  for i = 1, #steps do
    local message = rule_problem(steps[i], { at = { 0, 1e9 }, slots = { 0, 2 ^ 31 } })
    if message then return message end
    local at, slots = steps[i].at, steps[i].slots
    if not at or not slots or slots % 1 ~= 0 then return "each step needs at (seconds) and slots (a whole number)" end
    if i == 1 and at ~= 0 then return "the first step must be at 0" end
    if at <= last then return "the steps must be in order of time" end
    last = at
  end
end

--- Of a window of time.
local function window_problem(rule)
  if rule.to and rule.to <= (rule.from or 0) then return "to must be later than from" end
end

local function brownout_problem(rule)
  local message = rule_problem(rule, BROWNOUT_FIELDS)
  if message then return message end
  if rule.slope and not rule.knee then return "slope needs a knee" end
  if rule.status and not rule.error then return "status needs error, a probability" end
  if not (rule.knee or rule.latency or rule.error) then return "needs knee, latency or error" end
  if rule.ramp_down and not rule.to then return "ramp_down needs to, the end of the window" end
  local wrong = window_problem(rule)
  if wrong then return wrong end
  local window, ramps = (rule.to or huge) - (rule.from or 0), (rule.ramp or 0) + (rule.ramp_down or 0)
  if ramps > window then
    return ("ramp and ramp_down take %g s, and the window has %g"):format(ramps, window)
  end
end

local function outage_problem(rule)
  local message = rule_problem(rule, OUTAGE_FIELDS)
  if message then return message end
  if not rule.from then return "needs from, in seconds" end
  if rule.status and rule.how and rule.how ~= "status" then return ("status goes with how = \"status\"") end
  return window_problem(rule)
end

--- Calls `check` on a rule, or on each of several.
local function each_rule(rules, check)
  if #rules == 0 then return check(rules) end
  for i = 1, #rules do
    local message = check(rules[i])
    if message then return message end
  end
end

function problems.brownout(rules) return each_rule(rules, brownout_problem) end

function problems.outage(rules) return each_rule(rules, outage_problem) end

--- What is wrong with checked options beyond their types, or nil.
---@param opts table
---@return string? message "option 'capacity': ..."
function M.problem(opts)
  for _, name in ipairs { "latency", "tokens", "errors", "rate_limit", "quota", "capacity", "brownout", "outage" } do
    local message = opts[name] ~= nil and problems[name](opts[name])
    if message then return ("option '%s': %s"):format(name, message) end
  end
  if opts.over and not opts.capacity then return "option 'over' needs 'capacity'" end
  if opts.max_waiting and opts.over ~= "queue" then return "option 'max_waiting' needs over = \"queue\"" end
  if opts.retry_after and (not opts.capacity or opts.over == "queue" and not opts.max_waiting) then
    return "option 'retry_after' needs 'capacity' with over = \"reject\""
  end
end

return M
