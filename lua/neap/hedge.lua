--- neap.hedge: a copy of a call that takes long; the first success wins.
--- docs/api/hedge.md says when a copy is sent and what it may cost.
---
--- The call's own task waits here while each copy, the first one too, runs in a
--- task of a scope: so the losers can be cancelled, and give back what they hold
--- before the call returns.
local core = require "neap.core"
local layer = require "neap.policy.layer"
local options = require "neap.options"
local outcome = require "neap.policy.outcome"
local rolling = require "neap.hedge.rolling"
local scope = require "neap.scope"

local M = {}

local now, new_event, protect = core.now, core.event, layer.protect
local verdict_of = outcome.verdict

-- The allowance is counted in millionths of a copy: sums stay exact.
local ONE = 1e6

---@class neap.Hedge: neap.policy.Layer
---@field private allowance number millionths of copies
---@field private latencies neap.hedge.Rolling of first copies
local Hedge = layer.class "hedge"

---@class neap.hedge.Race one call's copies: forks by number, the first one is 1
---@field sent integer
---@field running integer
---@field open boolean further copies may be sent
---@field urgent neap.policy.Verdict? a failure that asks for the next copy now
---@field winner neap.policy.Call? the copy that succeeded
---@field returned neap.policy.Call? whose results are `results`
---@field owner boolean no loop around this one tells the budget about the call

function Hedge:init()
  self.allowance = 0
  self.calls, self.hedges, self.won, self.denied = 0, 0, 0, 0
  self:changed()
end

function Hedge:changed(old)
  local opts = self.options
  if opts.delay and opts.percentile then
    options.fail("neap.hedge: options 'delay' and 'percentile' exclude each other; give one")
  end
  if opts.budget and not opts.budget.allow then
    opts.budget = require("neap.retry_budget").new(opts.budget, 4)
  end
  self.share = opts.percentile or math.max(0.5, 1 - opts.max_extra_load)
  self.earned = math.floor(opts.max_extra_load * ONE + 0.5)
  self.allowance = math.min(self.allowance, opts.burst * ONE)
  if not old or old.window ~= opts.window or old.warmup ~= opts.warmup then
    self.latencies = rolling.new(opts.window, opts.warmup)
  end
end

--- After how long a copy is sent at present: seconds, or nil while too few calls
--- have been measured. Never waits.
---@return number?
function Hedge:delay()
  local opts = self.options
  if opts.delay then return opts.delay end
  local live = self.latencies:percentile(now(), self.share)
  return live and math.max(opts.min_delay, live)
end

-- Seconds in which the call was not under way: what is slow then is our own line.
local function waited(call) return call.queue + call.pace + call.backoff end

local function record(self, found, err, latency)
  if self.options.delay then return end
  -- Other failures are quick, and would make the delay too short.
  if found == "ok" or (type(err) == "table" and err.kind == "timeout") then
    self.latencies:add(now(), math.max(0, latency))
  end
end

local function measure(self, call, began, ...)
  local result, err = ...
  record(self, verdict_of(result, err), err, now() - began - waited(call))
  return ...
end

-- ---------------------------------------------------------------------------
-- What the budget is told
-- ---------------------------------------------------------------------------

local function report(race, fork, verdict)
  if not race.budget or fork.reported or not (fork.granted or race.owner) then return end
  fork.reported = true
  race.budget:ended(now(), verdict, fork.granted)
end

-- A loop around the hedge tells the budget of the results it gets. If those are a
-- copy's, what is left to tell is how the first one ended.
local function report_end(race, fork, found)
  if found == "ok" and not race.owner and fork == race.winner then
    report(race, fork, race[1].verdict or "neutral")
  else
    report(race, fork, found)
  end
end

local function report_cancelled(race)
  for i = 1, race.sent do report(race, race[i], "neutral") end
end

--- The call was cut off or one of its copies raised.
function Hedge:give_back(call)
  report_cancelled(call.race)
end

-- ---------------------------------------------------------------------------
-- The copies
-- ---------------------------------------------------------------------------

local function repeatable(result, err, found)
  return found == "failed" and outcome.may_repeat(result, err)
end

--- A copy has come back: it wins, asks for the next one, or ends the sending.
local function ended(self, race, fork, ...)
  local result, err = ...
  local found = verdict_of(result, err)
  fork.verdict, race.running = found, race.running - 1
  if fork == race[1] then record(self, found, err, now() - fork.started - waited(fork)) end
  if race.winner then
    outcome.discard(result)
  else
    if race.results then outcome.discard(race.results[1]) end
    race.results, race.returned = { n = select("#", ...), ... }, fork
    if found == "ok" then
      race.winner = fork
    else
      local urgent = (self.options.hedge_on or repeatable)(result, err, found)
      race.urgent, race.err = urgent and found or nil, err
      race.open = race.open and urgent
    end
  end
  report_end(race, fork, found)
  race.changed:set()
end

local function run_copy(self, race, fork, next, ...)
  ended(self, race, fork, protect(fork, next, ...))
end

local function send(self, race, s, granted)
  local fork = race.call:fork()
  fork.granted, fork.budget = granted, race.call.budget or race.budget
  race.sent, race.running = race.sent + 1, race.running + 1
  race[race.sent] = fork
  local args = race.args
  s:spawn(run_copy, self, race, fork, race.next, unpack(args, 1, args.n))
end

local function deny(self, race, reason)
  race.open, self.denied = false, self.denied + 1
  self:emit("denied", { reason = reason, copy = race.sent })
end

--- Sends another copy if the allowance and the budget have one to spare.
local function send_another(self, race, s, why, err)
  if not race.open then return end
  if self.allowance < ONE then return deny(self, race, "max_extra_load") end
  local granted = race.budget and race.budget:allow(now(), why, err)
  if race.budget and not granted then return deny(self, race, "budget") end
  self.allowance, self.hedges = self.allowance - ONE, self.hedges + 1
  send(self, race, s, granted)
  race.open = race.sent <= self.options.max_hedges
  self:emit("hedge", { reason = why == "hedge" and "delay" or type(err) == "table" and err.kind or why,
    copy = race.sent - 1, delay = race.delay })
end

--- When to look again whether the last copy takes too long. In a line of our own
--- it is not on its way, and another copy would only stand behind it; then the
--- looks grow apart as the wait goes on.
local function due_time(race)
  local last = race[race.sent]
  if last.waits_in and race.delay > 0 then
    return now() + math.max(race.delay, (now() - last.started) / 2)
  end
  return last.started + race.delay + waited(last)
end

local function compete(self, race, s)
  send(self, race, s)
  while not race.winner do
    local urgent = race.urgent
    race.urgent = nil
    if urgent then send_another(self, race, s, urgent, race.err) end
    if race.running == 0 then return end
    race.due = race.open and due_time(race) or nil
    local left = race.due and math.max(0, race.due - now())
    if race.changed:wait(left) then
      race.changed:clear()
    elseif not race[race.sent].waits_in and due_time(race) <= now() then
      send_another(self, race, s, "hedge")
    end
  end
  s:cancel()
end

-- ---------------------------------------------------------------------------
-- The layer
-- ---------------------------------------------------------------------------

local function new_race(self, call, next, delay, args)
  local budget = self.options.budget
  local race = {
    call = call, next = next, args = args, delay = delay, budget = budget, owner = call.budget ~= budget,
    sent = 0, running = 0, open = true, changed = new_event(),
  }
  if budget then
    if race.owner then budget:started(now()) end
    call:hold(self)
  end
  call.race = race
  call:waiting(self)
  return race
end

--- All copies have ended: whose results come back, and what was learnt.
local function finish(self, race)
  local call, first, returned = race.call, race[1], race.returned
  report_cancelled(race)
  if race.budget then call:release(self) end
  call:waiting(nil)
  call.race = nil
  call.endpoint, call.shared = returned.endpoint, call.shared or returned.shared
  if race.winner and race.winner ~= first then
    self.won = self.won + 1
    -- It took at least so long. The percentile is not moved by how much longer
    -- those above it would have taken.
    if not first.verdict and not first.waits_in then
      record(self, "ok", nil, now() - first.started - waited(first))
    end
    self:emit("won", { reason = "first success", copies = race.sent - 1, delay = race.delay })
  end
  return unpack(race.results, 1, race.results.n)
end

--- Runs the rest of the pipeline, and again beside it when it takes too long.
--- A raised error cancels the other copies and passes through. Waits.
function Hedge:run(call, next, ...)
  local opts = self.options
  self.calls = self.calls + 1
  self.allowance = math.min(opts.burst * ONE, self.allowance + self.earned)
  local delay = self:delay()
  if not delay or (opts.eligible and not opts.eligible(call, ...)) then
    return measure(self, call, now() - waited(call), next(call, ...))
  end
  local race = new_race(self, call, next, delay, { n = select("#", ...), ... })
  scope.scope(function(s) compete(self, race, s) end)
  return finish(self, race)
end

--- For neap.explain.
function Hedge:wait_reason(call)
  return ("%d of %d copies under way"):format(call.race.running, call.race.sent)
end

function Hedge:wait_until(call)
  return call.race.due
end

--- Plain data: state "measuring" (the percentile is not known yet) or "ready",
--- delay (seconds), calls, hedges, won, denied, extra_load (hedges per call),
--- allowance (copies that could be sent now), reason.
---@return table
function Hedge:snapshot()
  local delay, opts = self:delay(), self.options
  local reason = opts.delay and "fixed delay" or ("p%g of %d calls"):format(self.share * 100,
    self.latencies:count(now()))
  return {
    state = delay and "ready" or "measuring", delay = delay, limit = opts.max_hedges,
    calls = self.calls, hedges = self.hedges, won = self.won, denied = self.denied,
    extra_load = self.calls > 0 and self.hedges / self.calls or 0, allowance = self.allowance / ONE, reason = reason,
  }
end

--- A policy: `neap.hedge{ delay = 0.5 }:call(fn, ...)`, for calls that may be sent
--- twice.
---@param opts? neap.hedge.Options
---@return neap.Hedge
function M.new(opts)
  return layer.new(Hedge, opts)
end

return M
