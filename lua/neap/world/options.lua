--- The options of a world's law, for whoever takes one: simulated upstreams and
--- `neap.mock`. Pure.
local latencies = require "neap.world.latency"

local huge = math.huge

local M = {}

local probability = { type = "number", min = 0, max = 1 }

--- For neap.options.
---@type table<string, neap.OptionSpec>
M.specs = {
  latency = { type = "table|number", min = 0 },
  errors = { type = "table" },
  drop = probability,
  hang = probability,
  rate_limit = { type = "table", fields = {
    rpm = { type = "number", above = 0 },
    tpm = { type = "number", above = 0 },
    window = { type = "number", above = 0 },
  } },
  capacity = { type = "table|integer", min = 0 },
  over = { type = "string", one_of = { "reject", "queue" } },
  retry_after = { type = "number", min = 0 },
  brownout = { type = "table" },
  on_disconnect = { type = "string", one_of = { "stop", "continue" } },
  seed = { type = "integer", min = 0, max = 2 ^ 53, default = 1 },
}

local function is_number(value, low, high)
  return type(value) == "number" and value >= low and value <= high
end

--- The fields of `rule` are among `known`, and each is a number in its range.
local function rule_problem(rule, known)
  if type(rule) ~= "table" then return "each must be a table, got " .. type(rule) end
  for name, value in pairs(rule) do
    local range = known[name]
    if not range then return ("'%s' is unknown"):format(tostring(name)) end
    if not is_number(value, range[1], range[2]) then
      return ("%s must be a number from %g to %g, got %s"):format(name, range[1], range[2], tostring(value))
    end
  end
end

local ERROR_FIELDS = { status = { 400, 599 }, probability = { 0, 1 }, retry_after = { 0, 1e9 } }
local BROWNOUT_FIELDS = { knee = { 1e-9, 1e9 }, slope = { 0, 1e9 }, latency = { 0, 1e9 }, error = { 0, 1 },
  status = { 400, 599 }, from = { 0, 1e9 }, to = { 0, huge } }

local problems = {}

function problems.latency(spec)
  if type(spec) == "table" then return latencies.problem(spec) end
end

function problems.errors(rules)
  local sum = 0
  for i = 1, #rules do
    local message = rule_problem(rules[i], ERROR_FIELDS)
    if message then return message end
    if not rules[i].status or not rules[i].probability then return "each needs a status and a probability" end
    sum = sum + rules[i].probability
  end
  if sum > 1 + 1e-9 then return ("the probabilities add up to %g, more than 1"):format(sum) end
end

function problems.rate_limit(limit)
  if not limit.rpm and not limit.tpm then return "needs rpm, tpm or both" end
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

function problems.brownout(rules)
  if #rules == 0 then rules = { rules } end
  for i = 1, #rules do
    local rule = rules[i]
    local message = rule_problem(rule, BROWNOUT_FIELDS)
    if message then return message end
    if rule.slope and not rule.knee then return "slope needs a knee" end
    if rule.status and not rule.error then return "status needs error, a probability" end
    if not (rule.knee or rule.latency or rule.error) then return "needs knee, latency or error" end
    if rule.from and rule.to and rule.to <= rule.from then return "to must be later than from" end
  end
end

--- What is wrong with checked options beyond their types, or nil.
---@param opts table
---@return string? message "option 'capacity': ..."
function M.problem(opts)
  for _, name in ipairs { "latency", "errors", "rate_limit", "capacity", "brownout" } do
    local message = opts[name] ~= nil and problems[name](opts[name])
    if message then return ("option '%s': %s"):format(name, message) end
  end
  if opts.over and not opts.capacity then return "option 'over' needs 'capacity'" end
  if opts.retry_after and (not opts.capacity or opts.over == "queue") then
    return "option 'retry_after' needs 'capacity' with over = \"reject\""
  end
end

return M
