--- A mock's rule: which requests it is for, what they get, and how often it was used.
local matchers = require "neap.sim.mock.matcher"
local options = require "neap.options"

local M = {}

---@class neap.sim.Rule
---@field uses integer requests that it was for
---@field where string "spec/x_spec.lua:12"
---@field matcher neap.sim.Matcher
---@field seconds number before it answers or fails
---@field package acts table[] in turn; the last one stays
---@field package wanted integer? exactly so many
---@field package is_optional boolean
local Rule = {}
Rule.__index = Rule

--- The line outside of neap's own modules that is being run.
local function place()
  local _, message = pcall(options.fail, "")
  return (message:gsub(": $", ""))
end

--- Answers: `reply(status, body, headers)`, `reply{status=, headers=, body=|json=|chunks=}`
--- or `reply(function(request) ... end)`, which gets and returns what a handler of
--- neap.serve does, and may wait. Several are answered in turn; the last one stays. Raises
--- on anything else. Never waits.
---@param status integer|table|function
---@param body? string|table a table is sent as JSON
---@param headers? table<string, string>
---@return neap.sim.Rule
function Rule:reply(status, body, headers)
  local kind = type(status)
  if kind ~= "number" and kind ~= "table" and kind ~= "function" then
    options.fail("rule:reply: needs a status, an answer's table or a function, got " .. kind)
  end
  if kind == "number" and not (status >= 200 and status <= 599 and status % 1 == 0) then
    options.fail("rule:reply: the status must be a whole number from 200 to 599, got " .. tostring(status))
  end
  self.acts[#self.acts + 1] = { answer = kind == "function" and status or function() return status, body, headers end }
  return self
end

--- What happens, by its name and by the kind of the error that a client gets.
local FAILURES = { connect = "connect", dns = "dns", tls = "tls", reset = "reset", receive = "reset", hang = "hang",
  timeout = "hang" }

--- Fails, in turn with the replies: "connect" (refused), "dns", "tls" (nothing is sent),
--- "reset" or "receive" (the connection is reset instead of an answer), "hang" or
--- "timeout" (no answer at all: the client's limit ends it). Raises on another kind.
--- Never waits.
---@param kind "connect"|"dns"|"tls"|"reset"|"receive"|"hang"|"timeout"
---@return neap.sim.Rule
function Rule:fail(kind)
  local fails = FAILURES[kind]
  if not fails then
    local hint = type(kind) == "string" and options.nearest(kind, FAILURES)
    options.fail(("rule:fail: needs connect, dns, tls, reset (receive) or hang (timeout), got %s%s"):format(
      tostring(kind), hint and ("; did you mean '%s'?"):format(hint) or ""))
  end
  self.acts[#self.acts + 1] = { fails = fails }
  return self
end

--- It is for exactly so many requests; the next ones go to the rules behind it. Never
--- waits.
---@param count integer from 1; default: any number, at least one
---@return neap.sim.Rule
function Rule:times(count)
  if type(count) ~= "number" or not (count >= 1 and count < math.huge) or count % 1 ~= 0 then
    options.fail("rule:times: needs a whole number from 1, got " .. tostring(count))
  end
  self.wanted = count
  return self
end

--- Seconds before the answer, the reset, or the refusal. Never waits.
---@param seconds number default: 0
---@return neap.sim.Rule
function Rule:delay(seconds)
  if type(seconds) ~= "number" or not (seconds >= 0 and seconds < math.huge) then
    options.fail("rule:delay: needs seconds, got " .. tostring(seconds))
  end
  self.seconds = seconds
  return self
end

--- Nobody complains when it is not used. Never waits.
---@return neap.sim.Rule
function Rule:optional()
  self.is_optional = true
  return self
end

--- Whether it has been used as often as it may be.
---@return boolean
function Rule:is_used_up() return self.wanted ~= nil and self.uses >= self.wanted end

local EMPTY = { answer = function() return 200, "" end }

--- What becomes of the next request that it is for.
---@return {answer: function?, fails: string?} act
function Rule:peek()
  local count = #self.acts
  return count > 0 and self.acts[math.min(self.uses + 1, count)] or EMPTY
end

--- Counts a request that it is for.
---@return {answer: function?, fails: string?} act what becomes of it
function Rule:use()
  local act = self:peek()
  self.uses = self.uses + 1
  return act
end

local function times_text(count) return count == 1 and "once" or ("%d times"):format(count) end

--- What of a request it is not for: one sentence each.
---@param seen neap.sim.SeenRequest
---@return string[]
function Rule:differences(seen)
  local ok, list = pcall(self.matcher.differences, self.matcher, seen)
  if not ok then return { "a function of it raised" } end
  if #list == 0 and self:is_used_up() then list[1] = "it was for " .. times_text(self.uses) .. " only" end
  return list
end

--- Why it is not as it should be; nil: it is.
---@return string?
function Rule:problem()
  local is_enough = self.uses > 0
  if self.wanted then is_enough = self.uses == self.wanted end
  if is_enough or self.is_optional and self.uses == 0 then return nil end
  local used = self.uses == 0 and "was not used" or "was used " .. times_text(self.uses)
  return ("%s: the mock of %s %s%s"):format(self.where, self.matcher.text, used,
    self.wanted and (", not %s"):format(times_text(self.wanted)) or "")
end

--- A rule. Raises where what it is given is not understood.
---@param given? table see `mock:on`
---@return neap.sim.Rule
function M.new(given)
  return setmetatable({ matcher = matchers.new(given), uses = 0, where = place(), acts = {}, seconds = 0,
    is_optional = false }, Rule)
end

return M
