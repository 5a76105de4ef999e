--- A mock: rules that answer a script's requests in virtual time. docs/sim/testing.md.
---
--- Each request makes its own connection, and its rule is chosen when it does: then a
--- refusal is one like any other, and the first rule that fits is the one that counts.
--- Only a body that is streamed comes later.
local core = require "neap.core"
local fixtures = require "neap.sim.fixtures"
local handlers = require "neap.sim.handlers"
local headers_module = require "neap.http.headers"
local json = require "neap.json"
local network = require "neap.sim.network"
local options = require "neap.options"
local printable = require "neap.printable"
local redact = require "neap.cassette.redact"
local requests_module = require "neap.service.request"
local rules = require "neap.sim.mock.rule"

local M = {}

local TOLD = 5 -- of a list in a message
local SHOWN, SHOWN_IN_ERROR = 400, 80 -- bytes of a url
local NEAREST = 3 -- rules that are told of a request without one

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
---@field package flat string[] headers, name and value in turn
local Seen = {}

--- What costs something is read when it is first asked for.
function Seen.__index(seen, key)
  if key ~= "headers" then return Seen[key] end
  local view = headers_module.view(seen.flat)
  rawset(seen, "headers", view)
  return view
end

--- Every value of one header, in order; nil: there is none. Never waits.
---@param name string in any case
---@return string[]?
function Seen:header_values(name)
  local values = headers_module.values(self.flat, name)
  return values[1] and values
end

--- The body decoded as JSON. Never waits.
---@return any value, neap.Error? err
function Seen:json() return json.decode(self.body) end

---@class neap.sim.Mock
---@field requests neap.sim.SeenRequest[] that came, in order; those that no rule was for, too
---@field path string for messages
---@field package rules neap.sim.Rule[]
---@field package complaints neap.sim.Complaint[] requests that no rule was for, functions that raised
---@field package told integer of these
---@field package upstreams table<string, table>
---@field package chosen table<integer, table> what becomes of a request, by its slot, until it arrives
---@field package network neap.sim.Network
---@field package is_verified boolean somebody will tell the complaints
local Mock = {}
Mock.__index = Mock

-- -- Requests -------------------------------------------------------------------

local function seen_of(upstream, slot, now, method, target)
  local path, query = target:match "^([^?]*)%??(.*)$"
  return setmetatable({ method = method, url = upstream.origin .. target, scheme = upstream.scheme,
    host = upstream.host, port = upstream.port, path = path, query = requests_module.parse_query(query),
    flat = core.sim_headers_of(slot), body = core.sim_body_of(slot), at = now }, Seen)
end

--- Whether a body may be still to come: one that is streamed begins as an empty one.
local function is_open(seen)
  return seen.body == "" and seen.headers["content-length"] ~= nil
end

--- The first rule that a request is for and that is not used up. Without its body:
--- whether that might be another one.
local function find(mock, seen, without_body)
  for _, rule in ipairs(mock.rules) do
    if rule:fits(seen, without_body) then
      return rule, without_body and rule.matcher.needs_body
    end
  end
end

local function note(mock, seen, rule)
  seen.rule = rule
  mock.requests[#mock.requests + 1] = seen
  return rule and { rule = rule, act = rule:use() }
end

--- The rules that came nearest to a request, and what was wrong.
local function nearest(mock, seen)
  local list = {}
  for i, rule in ipairs(mock.rules) do
    local differences = rule:differences(seen)
    list[i] = { order = #differences * 2 ^ 20 + i,
      text = ("%s (%s): %s"):format(rule.where, rule.matcher.text, table.concat(differences, "; ")) }
  end
  table.sort(list, function(a, b) return a.order < b.order end)
  local texts = {}
  for i = 1, math.min(#list, NEAREST) do texts[i] = list[i].text end
  return #texts > 0 and texts or { "it has no rule" }
end

---@class neap.sim.Complaint
---@field text string its first line
---@field more string its other lines, each after a line end
---@field times integer

--- Notes what went wrong; once for what goes wrong again, by a retry above all.
local function complain(mock, text, more)
  more = more or ""
  for i = mock.told + 1, #mock.complaints do
    local one = mock.complaints[i]
    if one.text == text and one.more == more then
      one.times = one.times + 1
      return
    end
  end
  table.insert(mock.complaints, { text = text, more = more, times = 1 })
end

--- There is no rule for it.
local function refuse(mock, slot, seen)
  local text, url = "no rule of the mock is for %s %s", redact.url(seen.url)
  local near = nearest(mock, seen)
  complain(mock, text:format(seen.method, printable.short(url, SHOWN)), "\n  " .. table.concat(near, "\n  "))
  -- The core keeps 255 bytes.
  text = text:format(seen.method, printable.short(url, SHOWN_IN_ERROR))
  core.sim_fail(slot, "invalid", ("%s; the nearest: %s"):format(text, near[1]))
end

-- -- For the network --------------------------------------------------------------

local CONNECTING = { connect = "cannot connect to %s:%d: connection refused", dns = "no address found for %s:%d",
  tls = "TLS to %s:%d failed" }

--- A connection that fails although its request has arrived: only its body told that.
local Refusal = {}
Refusal.__index = Refusal

function Refusal:due(slot)
  self.on_end "dropped"
  core.sim_fail(slot, self.kind, CONNECTING[self.kind]:format(self.upstream.host, self.upstream.port))
end

function Refusal:gone() self.on_end "disconnected" end

local function is_plain_tls(upstream, act) return act.fails == "tls" and upstream.scheme == "http" end

local Upstream = {}
Upstream.__index = Upstream

--- What becomes of a new connection. None is kept, so that each request asks.
function Upstream:plans(slot, now, method, target)
  local mock, seen = self.mock, seen_of(self, slot, now, method, target)
  local plan = { seconds = 0, keepalive = 0 }
  mock.chosen[slot] = nil
  -- What raises, and what no rule is for, is told when the request arrives.
  local ok, rule, may_differ = pcall(find, mock, seen, is_open(seen))
  if not ok or not rule or may_differ then return plan end
  local next_act = rule:peek()
  if is_open(seen) and not CONNECTING[next_act.fails] or is_plain_tls(self, next_act) then return plan end
  local choice = note(mock, seen, rule)
  local fails = choice.act.fails
  if not CONNECTING[fails] then
    mock.chosen[slot] = choice
    return plan
  end
  plan.seconds, plan.refused, plan.fails = rule.seconds, fails == "connect", fails ~= "connect" and fails or nil
  return plan
end

--- What a request gets that was for no rule before it arrived. Nil: an error, it has it.
local function choose_late(upstream, slot, now, method, target)
  local mock, seen = upstream.mock, seen_of(upstream, slot, now, method, target)
  local ok, rule = pcall(find, mock, seen)
  local choice = note(mock, seen, ok and rule or nil)
  if ok and not rule then return refuse(mock, slot, seen) end
  local message = not ok and rule
  if choice and is_plain_tls(upstream, choice.act) then
    message = ("%s: the mock of %s fails with 'tls', which a request to http cannot"):format(rule.where,
      rule.matcher.text)
  end
  if not message then return choice end
  complain(mock, message)
  core.sim_fail(slot, "internal", message)
end

local function handler_of(choice)
  local rule, act = choice.rule, choice.act
  return function(request)
    if act.fails == "hang" then
      request:wait_disconnect()
      return request:drop()
    end
    if rule.seconds > 0 then core.sleep(rule.seconds) end
    if act.fails then return request:drop() end
    return act.answer(request)
  end
end

--- A request has arrived.
function Upstream:takes(slot, now, method, target, on_end, ...)
  local mock = self.mock
  local choice = mock.chosen[slot] or choose_late(self, slot, now, method, target)
  mock.chosen[slot] = nil
  if not choice then return nil end
  if CONNECTING[choice.act.fails] then
    core.sim_wake(slot, now + choice.rule.seconds)
    return setmetatable({ kind = choice.act.fails, on_end = on_end, upstream = self }, Refusal)
  end
  local function failed(err)
    local rule = choice.rule
    complain(mock, ("%s: the reply of %s raised: %s"):format(choice.act.where or rule.where, rule.matcher.text,
      tostring(err)))
    return mock.is_verified
  end
  return handlers.of({ host = self.host, handler = handler_of(choice), failed = failed })
    :takes(slot, now, method, target, on_end, ...)
end

--- Who answers for a host.
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

-- -- The mock -------------------------------------------------------------------

--- A rule for requests: `method`, `url` ("*" stands for anything; scheme, host, path or
--- query may be left out), `path` (where the url has none), `query`, `headers`, `body` (a
--- text, a table as JSON, or a function of the body), `match` (a function of the
--- request); nothing: for all. Of several rules the first that fits and is not used up
--- answers, with 200 if it has no reply. Raises where something is not understood. Never
--- waits.
---@param given? neap.sim.RuleOptions
---@return neap.sim.Rule
function Mock:on(given)
  local rule = rules.new(given)
  self.rules[#self.rules + 1] = rule
  return rule
end

local function complaints_from(mock, first)
  local list = {}
  for i = first, math.min(#mock.complaints, first + TOLD - 1) do
    local one = mock.complaints[i]
    list[#list + 1] = one.text .. (one.times > 1 and (" (%d times)"):format(one.times) or "") .. one.more
  end
  local rest = #mock.complaints - first + 1 - #list
  if rest > 0 then list[#list + 1] = ("and %d more of that kind"):format(rest) end
  if #list > 0 then return table.concat(list, "\n") end
end

--- Requests that no rule was for, and functions of rules that raised (an assertion in a
--- reply, too), since it was last asked; nil: none.
---@package
---@return string?
function Mock:take_complaints()
  local text = complaints_from(self, self.told + 1)
  self.told = #self.complaints
  return text
end

--- Rules that were used less often than they should be; nil: none.
---@package
---@return string?
function Mock:unused()
  local list = {}
  for _, rule in ipairs(self.rules) do list[#list + 1] = rule:problem() end
  if #list > 0 then return table.concat(list, "\n") end
end

--- What there is to complain of: requests that no rule was for, functions of rules that
--- raised, and rules that were used less often than they should be. Never waits.
---@return string? nil: nothing
function Mock:problem()
  local complaints, unused = complaints_from(self, 1), self:unused()
  return complaints and unused and complaints .. "\n" .. unused or complaints or unused
end

--- Raises what there is to complain of; `neap test` does at the end of the test. Never
--- waits.
function Mock:verify()
  local problem = self:problem()
  if problem then options.fail(problem) end
end

--- Forgets rules, requests and complaints. Never waits.
function Mock:reset()
  self.rules, self.requests, self.complaints, self.told = {}, {}, {}, 0
end

--- Takes its network down, if it is still up. Never waits.
function Mock:close()
  fixtures.remove(self.network)
  if network.current() == self.network then network.down() end
end

--- A mock in the place of the network. Needs virtual time. Never waits.
---@return neap.sim.Mock
function M.new()
  local mock = setmetatable({ rules = {}, requests = {}, complaints = {}, told = 0, upstreams = {},
    chosen = {}, path = "a mock" }, Mock)
  mock.network = network.up(mock)
  mock.is_verified = fixtures.add(mock.network, mock)
  return mock
end

return M
