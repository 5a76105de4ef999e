--- A mock's rule: which requests it is for, what they get, and how often it was used.
local handlers = require "neap.sim.handlers"
local matchers = require "neap.sim.mock.matcher"
local options = require "neap.options"
local reply = require "neap.service.reply"

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

local function refuse_reply(message)
  options.fail("rule:reply: " .. message:gsub("^neap%.%w+: ", ""):gsub("handler's answer", "answer"))
end

--- What of an answer's headers the wire does not take.
local function check_flat(flat)
  for i = 1, #flat, 2 do
    if flat[i]:find "[^%w!#$%%&'*+.^_`|~-]" or flat[i] == "" then
      refuse_reply(("header '%s' is no name of a header"):format(flat[i]:gsub("%c", "?")))
    end
    if flat[i + 1]:find "[\r\n%z]" then refuse_reply(("header '%s' has a line break or a NUL"):format(flat[i])) end
  end
end

--- Raises at the line of the script what could not be sent.
local function check_answer(status, body, headers)
  local given = type(status) == "table" and status or { status = status, body = body, headers = headers }
  local code = given.status or 200
  if type(code) ~= "number" or not (code >= 200 and code <= 599 and code % 1 == 0) then
    return refuse_reply("the status must be a whole number from 200 to 599, got " .. tostring(code))
  end
  local flat, length, text, _
  local ok, message = pcall(function()
    flat, length = reply.headers("neap.serve", given.headers)
    if given.chunks ~= nil then return handlers.check_chunks(given) end
    _, _, text = reply.read(status, body, headers)
  end)
  if not ok then return refuse_reply(message) end
  check_flat(flat)
  if length and text and text ~= "" and length ~= #text then
    refuse_reply(("Content-Length is that of the body, %d bytes, not %d; an answer that breaks off is a function with "
      .. "request:respond"):format(#text, length))
  end
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
  if kind ~= "function" then check_answer(status, body, headers) end
  self.acts[#self.acts + 1] = { where = place(),
    answer = kind == "function" and status or function() return status, body, headers end }
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
  if fails == "tls" and self.matcher.scheme == "http" then options.fail "rule:fail: 'tls' is for https" end
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
---@return {answer: function?, fails: string?, where: string?} act
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

--- Whether a request is for it, and it is not used up. Raises a sentence where a function
--- of it raises.
---@param seen neap.sim.SeenRequest
---@param without_body? boolean it has not come yet
---@return boolean
function Rule:fits(seen, without_body)
  if self:is_used_up() then return false end
  local ok, list = pcall(self.matcher.differences, self.matcher, seen, without_body)
  if not ok then error(("%s: the mock of %s: %s"):format(self.where, self.matcher.text, list), 0) end
  return #list == 0
end

local function times_text(count) return count == 1 and "once" or ("%d times"):format(count) end

--- What of a request it is not for: one sentence each.
---@param seen neap.sim.SeenRequest
---@return string[]
function Rule:differences(seen)
  local ok, list = pcall(self.matcher.differences, self.matcher, seen)
  if not ok then return { list } end
  if #list == 0 and self:is_used_up() then
    list[1] = ("it was for %d request%s only"):format(self.uses, self.uses == 1 and "" or "s")
  end
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
