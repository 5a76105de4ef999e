--- A mock: rules that answer a script's requests in virtual time. docs/sim/testing.md.
local core = require "neap.core"
local errors = require "neap.error"
local fixtures = require "neap.sim.fixtures"
local handlers = require "neap.sim.handlers"
local headers_module = require "neap.http.headers"
local json = require "neap.json"
local matchers = require "neap.sim.mock.matcher"
local network = require "neap.sim.network"
local options = require "neap.options"
local requests_module = require "neap.service.request"

local M = {}

local TOLD = 5 -- of a list in a message

---@class neap.sim.SeenRequest
---@field method string
---@field url string as it was sent
---@field scheme string
---@field host string
---@field port integer
---@field path string as it was sent, without the query
---@field query table<string, string> decoded; of a repeated name the first value
---@field headers table<string, string> looked up in any case
---@field body string
---@field at number seconds of `neap.now()`
---@field rule neap.sim.Rule? that answered it
local Seen = {}
Seen.__index = Seen

--- The body decoded as JSON. Never waits.
---@return any value, neap.Error? err
function Seen:json() return json.decode(self.body) end

-- -- Rules --------------------------------------------------------------------

---@class neap.sim.Rule
---@field uses integer requests that it was for
---@field where string "spec/x_spec.lua:12"
---@field package matcher neap.sim.Matcher
---@field package acts table[] in turn; the last one stays
---@field package wanted integer? exactly so many
---@field package seconds number
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
--- neap.serve does, and may wait. Several are answered in turn; the last one stays.
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

local CONNECTING = { connect = true, dns = true, tls = true }
local FAILURES = { connect = true, dns = true, tls = true, reset = true, hang = true }

--- Fails, in turn with the replies: "connect" (refused), "dns", "tls" (nothing is sent),
--- "reset" (the connection is reset instead of an answer), "hang" (no answer at all).
---@param kind "connect"|"dns"|"tls"|"reset"|"hang"
---@return neap.sim.Rule
function Rule:fail(kind)
  if not FAILURES[kind] then
    local hint = type(kind) == "string" and options.nearest(kind, FAILURES)
    options.fail(("rule:fail: needs connect, dns, tls, reset or hang, got %s%s"):format(tostring(kind),
      hint and ("; did you mean '%s'?"):format(hint) or ""))
  end
  if CONNECTING[kind] and self.matcher.needs_body then
    options.fail(("rule:fail: '%s' happens before a body is sent: the rule cannot look at it"):format(kind))
  end
  self.acts[#self.acts + 1] = { fails = kind }
  return self
end

--- It is for exactly so many requests; the next ones go to the rules behind it.
---@param count integer
---@return neap.sim.Rule
function Rule:times(count)
  if type(count) ~= "number" or count < 1 or count % 1 ~= 0 then
    options.fail("rule:times: needs a whole number from 1, got " .. tostring(count))
  end
  self.wanted = count
  return self
end

--- Seconds before the answer, the reset, or the refusal.
---@param seconds number
---@return neap.sim.Rule
function Rule:delay(seconds)
  if type(seconds) ~= "number" or not (seconds >= 0 and seconds < math.huge) then
    options.fail("rule:delay: needs seconds, got " .. tostring(seconds))
  end
  self.seconds = seconds
  return self
end

--- Nobody complains when it is not used.
---@return neap.sim.Rule
function Rule:optional()
  self.is_optional = true
  return self
end

function Rule:is_used_up() return self.wanted ~= nil and self.uses >= self.wanted end

local EMPTY = { answer = function() return 200, "" end }

function Rule:next_act()
  local count = #self.acts
  return count > 0 and self.acts[math.min(self.uses + 1, count)] or EMPTY
end

local function times_text(count) return count == 1 and "once" or ("%d times"):format(count) end

--- Why it is not as it should be; nil: it is.
function Rule:problem()
  if self.is_optional and not self.wanted or self.uses > 0 and not self.wanted then return nil end
  if self.wanted and (self.uses == self.wanted or self.is_optional and self.uses == 0) then return nil end
  local used = self.uses == 0 and "was not used" or "was used " .. times_text(self.uses)
  return ("%s: the mock of %s %s%s"):format(self.where, self.matcher.text, used,
    self.wanted and (", not %s"):format(times_text(self.wanted)) or "")
end

-- -- Requests -------------------------------------------------------------------

---@class neap.sim.Mock
---@field requests neap.sim.SeenRequest[] that came, in order; those that no rule was for, too
---@field path string for messages
---@field package rules neap.sim.Rule[]
---@field package complaints string[]
---@field package upstreams table<string, table>
---@field package network neap.sim.Network
local Mock = {}
Mock.__index = Mock

local function seen_of(upstream, slot, now, method, target, body)
  local path, query = target:match "^([^?]*)%??(.*)$"
  return setmetatable({ method = method, url = upstream.origin .. target, scheme = upstream.scheme,
    host = upstream.host, port = upstream.port, path = path, query = requests_module.parse_query(query),
    headers = headers_module.view(core.sim_headers_of(slot)), body = body, at = now }, Seen)
end

--- The first rule that a request is for and that is not used up.
local function find(mock, seen, connecting)
  for _, rule in ipairs(mock.rules) do
    if not rule:is_used_up() and (not connecting or not rule.matcher.needs_body)
      and #rule.matcher:differences(seen, connecting) == 0 then return rule end
  end
end

--- The rule that came nearest to a request, and what was wrong.
local function nearest(mock, seen)
  local best, fewest
  for _, rule in ipairs(mock.rules) do
    local list = rule.matcher:differences(seen)
    if #list == 0 then list = { "it is used up after " .. times_text(rule.uses) } end
    if not fewest or #list < #fewest then best, fewest = rule, list end
  end
  if not best then return "there is no rule" end
  return ("the nearest rule, %s (%s): %s"):format(best.where, best.matcher.text, table.concat(fewest, "; "))
end

--- The reply of a rule; one that raises fails the test, whatever the client makes of it.
local function reply_of(mock, rule, act, request)
  local function note(ok, ...)
    if ok then return ... end
    local err = ...
    if not errors.is(err, "cancelled") then
      table.insert(mock.complaints, ("%s: the reply of %s raised: %s"):format(rule.where, rule.matcher.text,
        tostring(err)))
    end
    error(err, 0)
  end
  return note(pcall(act.answer, request))
end

local function handler_of(mock, rule, act)
  return function(request)
    if act.fails == "hang" then
      request:wait_disconnect()
      return request:drop()
    end
    if rule.seconds > 0 then core.sleep(rule.seconds) end
    if act.fails then return request:drop() end
    return reply_of(mock, rule, act, request)
  end
end

local Upstream = {}
Upstream.__index = Upstream

--- For the network: what becomes of a new connection. None is kept, so that each
--- request asks.
function Upstream:plans(slot, now, method, target)
  local seen = seen_of(self, slot, now, method, target, "")
  local rule = find(self.mock, seen, true)
  local fails = rule and rule:next_act().fails
  if not CONNECTING[fails] then return { seconds = 0, keepalive = 0 } end
  rule.uses, seen.rule = rule.uses + 1, rule
  table.insert(self.mock.requests, seen)
  return { seconds = rule.seconds, refused = fails == "connect", fails = fails ~= "connect" and fails or nil }
end

--- For the network: a request has arrived.
function Upstream:takes(slot, now, method, target, ...)
  local mock, seen = self.mock, seen_of(self, slot, now, method, target, core.sim_body_of(slot))
  local rule = find(mock, seen)
  table.insert(mock.requests, seen)
  if not rule then
    local text = ("no rule of the mock is for %s %s"):format(method, seen.url)
    table.insert(mock.complaints, ("%s; %s"):format(text, nearest(mock, seen)))
    core.sim_fail(slot, "invalid", text)
    return nil
  end
  local act = rule:next_act()
  rule.uses, seen.rule = rule.uses + 1, rule
  return handlers.of({ host = self.host, handler = handler_of(mock, rule, act) }):takes(slot, now, method, target, ...)
end

-- -- The mock -------------------------------------------------------------------

--- A rule for requests: `method`, `url` ("*" stands for anything; scheme, host, path or
--- query may be left out), `query`, `headers`, `body` (a text, a table as JSON, or a
--- function of the body), `match` (a function of the request); nothing: for all. Of
--- several rules the first that fits and is not used up answers, with 200 if it has no
--- reply. Raises where something is not understood. Never waits.
---@param given? {method: string?, url: string?, query: table?, headers: table?, body: any, match: function?}
---@return neap.sim.Rule
function Mock:on(given)
  local rule = setmetatable({ matcher = matchers.new(given), uses = 0, where = place(), acts = {}, seconds = 0,
    is_optional = false }, Rule)
  self.rules[#self.rules + 1] = rule
  return rule
end

--- For the network: who answers for a host.
function Mock:upstream(scheme, host, port)
  local shown = host:find(":", 1, true) and "[" .. host .. "]" or host
  local usual = scheme == "https" and 443 or 80
  local origin = ("%s://%s%s"):format(scheme, shown, port and port ~= usual and ":" .. port or "")
  local upstream = self.upstreams[origin]
  if not upstream then
    upstream = setmetatable({ mock = self, scheme = scheme, host = host, port = port or usual, origin = origin },
      Upstream)
    self.upstreams[origin] = upstream
  end
  return upstream
end

function Mock:start() end

--- What there is to complain of: requests that no rule was for, replies that raised, and
--- rules that were used less often than they should be.
---@param has_failed? boolean the test has: rules that it did not get to are not told
---@return string? nil: nothing
function Mock:problem(has_failed)
  local list = {}
  for i, text in ipairs(self.complaints) do
    if i <= TOLD then list[i] = text end
  end
  if #self.complaints > TOLD then list[#list + 1] = ("and %d more of that kind"):format(#self.complaints - TOLD) end
  if not has_failed then
    for _, rule in ipairs(self.rules) do list[#list + 1] = rule:problem() end
  end
  if #list > 0 then return table.concat(list, "\n") end
end

--- Raises what there is to complain of; `neap test` does at the end of the test. Never
--- waits.
function Mock:verify()
  local problem = self:problem()
  if problem then options.fail(problem) end
end

--- Forgets rules, requests and complaints. Never waits.
function Mock:reset()
  self.rules, self.requests, self.complaints = {}, {}, {}
end

--- Takes its network down, if it is still up. Never waits.
function Mock:close()
  if network.current() == self.network then network.down() end
end

--- A mock in the place of the network. Needs virtual time. Never waits.
---@return neap.sim.Mock
function M.new()
  local mock = setmetatable({ rules = {}, requests = {}, complaints = {}, upstreams = {}, path = "a mock" }, Mock)
  mock.network = network.up(mock)
  fixtures.add(mock.network, mock)
  return mock
end

return M
