--- neap.retry_budget: how many retries and hedges may be sent beside the calls.
---
--- Retries and hedges use it through three methods, the same for every form:
---
---   budget:started(now)                a call begins (its first attempt)
---   budget:allow(now, verdict, err)    before a retry or a hedge: false, or what
---                                      to show as `spent` when it has ended
---   budget:ended(now, verdict, spent)  an attempt, hedge's copy or retry that was
---                                      never sent has ended; once for each
---                                      `started` and each `allow` that granted
---
--- Verdicts are those of neap.policy.outcome; a hedge that no failure has called
--- for asks with "hedge". A retry asks after it has told how the attempt before
--- it ended. No method waits. What each form does: the files in retry_budget/.
local core = require "neap.core"
local options = require "neap.options"
local schema = require "neap.schema"
local telemetry = require "neap.telemetry"

local M = {}

local FORMS = {
  bucket = "neap.retry_budget.bucket",
  finagle = "neap.retry_budget.finagle",
  envoy = "neap.retry_budget.envoy",
  grpc = "neap.retry_budget.grpc",
  aws = "neap.retry_budget.aws",
}

---@alias neap.retry_budget.Spent boolean|number

---@class neap.retry_budget.Budget
---@field kind "retry_budget"
---@field name string the option `name`, else the kind
---@field options table checked
---@field allowed integer retries and hedges granted so far
---@field denied integer
---@field private rule table the form's state
---@field private exhausted boolean the last one was denied
local Budget = { kind = "retry_budget" }
Budget.__index = Budget

function Budget.__tostring(budget) return ("%s(%s)"):format(budget.name, budget.options.form) end

--- A call begins: forms that count calls earn now. Never waits.
---@param now number neap.now()
function Budget:started(now)
  self.rule:started(now)
end

local function turned(self, now, exhausted)
  self.exhausted = exhausted
  if telemetry.active then
    local tokens, _, needed = self.rule:level(now)
    telemetry.emit(self.name, self.kind, exhausted and "exhausted" or "available", { tokens = tokens,
      reason = ("%.4g of the %s that a retry needs"):format(tokens, needed) })
  end
end

--- Asks for one retry or hedge and pays for it. Never waits.
---@param now number neap.now()
---@param verdict neap.policy.Verdict|"hedge" on the attempt that calls for it
---@param err? any the attempt's error: "aws" charges more for timeouts
---@return neap.retry_budget.Spent granted false; else what `ended` wants to see
function Budget:allow(now, verdict, err)
  local spent = self.rule:allow(now, verdict, err)
  if spent then
    self.allowed = self.allowed + 1
    if self.exhausted then turned(self, now, false) end
  else
    self.denied = self.denied + 1
    if not self.exhausted then turned(self, now, true) end
  end
  return spent
end

--- An attempt has ended. One that was cancelled, or granted and never sent, ends
--- with "neutral". Never waits.
---@param now number neap.now()
---@param verdict neap.policy.Verdict
---@param spent? neap.retry_budget.Spent what `allow` returned; nil or false for a first attempt
function Budget:ended(now, verdict, spent)
  self.rule:ended(now, verdict, spent)
end

--- Plain data: state "available" or "exhausted" (the last one asked for was
--- denied), tokens (retries for "finagle" and "envoy"), limit where there is one,
--- allowed, denied, reason.
---@return table
function Budget:snapshot()
  local tokens, limit, needed = self.rule:level(core.now())
  return {
    kind = self.kind, name = self.name, form = self.options.form,
    state = self.exhausted and "exhausted" or "available",
    tokens = tokens, limit = limit, allowed = self.allowed, denied = self.denied,
    reason = ("%.4g there, a retry needs %s"):format(tokens, needed),
  }
end

--- One line: the form, and its options that are not the defaults.
---@return string
function Budget:describe()
  local parts = { "retry_budget", self.options.form }
  for _, declared in ipairs(schema.get("retry_budget").options) do
    local name, value = declared[1], self.options[declared[1]]
    if name ~= "form" and value ~= nil and value ~= declared.default then
      parts[#parts + 1] = name .. "=" .. tostring(value)
    end
  end
  return table.concat(parts, " ")
end

--- Raises for an option of a form that is not `form`.
local function check_form(where, given, form)
  for _, declared in ipairs(schema.get("retry_budget").options) do
    local name, forms = declared[1], declared.forms
    if forms and given[name] ~= nil then
      local fits = false
      for _, one in ipairs(forms) do fits = fits or one == form end
      if not fits then
        options.fail(("%s: option '%s' is for form = %s, got form = \"%s\""):format(where, name,
          '"' .. table.concat(forms, '" or "') .. '"', form))
      end
    end
  end
end

local function check_rule(where, opts)
  local problem = require(FORMS[opts.form]).problem(opts)
  if problem then options.fail(where .. ": " .. problem) end
end

--- Changes options while in use, checked like the constructor's; what was earned
--- stays, up to the new limits. Never waits.
---@param changes table
function Budget:update(changes)
  local where = "neap.retry_budget: update"
  local opts = schema.change("retry_budget", self.options, changes, 2)
  check_form(where, changes, opts.form)
  if opts.initial and opts.initial > opts.cap then opts.initial = opts.cap end
  check_rule(where, opts)
  self.options = opts
  self.rule:change(opts)
  if telemetry.active then
    telemetry.emit(self.name, self.kind, "update", { reason = "manual", changes = changes })
  end
end

--- Those with a name, and the options that they were made with.
---@type table<string, neap.retry_budget.Budget>
local named = {}

--- Raises when `opts` are not those of the budget that has the name already.
local function check_same(budget, opts)
  for _, declared in ipairs(schema.get("retry_budget").options) do
    local name = declared[1]
    local there, here = budget.declared[name], opts[name]
    if there ~= here then
      local text = "neap.retry_budget: '%s' is there already with %s = %s, got %s = %s; "
        .. "the same options, or the name alone"
      options.fail(text:format(opts.name, name, tostring(there), name, tostring(here)))
    end
  end
end

local function only_name(given)
  for key in pairs(given) do
    if key ~= "name" then return false end
  end
  return true
end

--- A budget, or the one that is there under `name`. Raises on bad options and on
--- options that differ from those of the one with that name. Never waits.
---@param given? table
---@return neap.retry_budget.Budget
function M.new(given)
  local opts = schema.check("retry_budget", given)
  given = given or {}
  local budget = opts.name and named[opts.name]
  if budget and only_name(given) then return budget end
  check_form("neap.retry_budget", given, opts.form)
  check_rule("neap.retry_budget", opts)
  if budget then
    check_same(budget, opts)
    return budget
  end
  budget = setmetatable({
    name = opts.name or "retry_budget", options = opts, declared = opts,
    rule = require(FORMS[opts.form]).new(opts), allowed = 0, denied = 0, exhausted = false,
  }, Budget)
  if opts.name then named[opts.name] = budget end
  return budget
end

--- Whether `value` is a budget.
---@param value any
---@return boolean
function M.is(value)
  return getmetatable(value) == Budget
end

return M
