--- neap.throttle: adaptive throttling on the client's side (Google, "Site
--- Reliability Engineering", Handling Overload). docs/api/throttle.md.
local core = require "neap.core"
local errors = require "neap.error"
local layer = require "neap.policy.layer"
local outcome = require "neap.policy.outcome"
local windows = require "neap.throttle.window"

local M = {}

local now, random = core.now, core.random
local verdict = outcome.verdict

---@class neap.Throttle: neap.policy.Layer
---@field private window neap.throttle.Window
---@field private throttling boolean the probability was above 0 when last looked at
local Throttle = layer.class "throttle"

function Throttle:init()
  self.window = windows.new(self.options.window)
  self.throttling = false
end

function Throttle:changed(old)
  -- Counts of another width do not fit: it starts to learn again.
  if old.window ~= self.options.window then self:init() end
end

--- The probability with which the next call is rejected. Never waits.
---@return number 0 to 1
function Throttle:probability()
  local opts, window = self.options, self.window
  window:advance(now())
  if window.requests < opts.min_requests then return 0 end
  return math.min(opts.max_rejection, window:probability(opts.k))
end

local function counts(self)
  local window = self.window
  return ("%d of %d calls accepted in the last %g s"):format(window.accepts, window.requests, self.options.window)
end

local function turned(self, probability)
  self.throttling = probability > 0
  self:emit(self.throttling and "throttling" or "clear", { probability = probability, reason = counts(self) })
end

local function rejection(self, slice)
  self.window:reject(slice)
  -- It stands for the answer of an overloaded server, and never was on its way.
  return nil, errors.new { kind = "limit", phase = "throttle", sent = "no", retryable = true,
    message = ("rejected by '%s' before it was sent: %s"):format(self.name, counts(self)) }
end

local function settle(self, window, slice, ...)
  local result, err = ...
  local accepted_by, found = self.options.accepted, verdict(result, err)
  window:advance(now())
  if found == "neutral" then
    window:forget(slice)
  elseif accepted_by then
    window:judge(slice, accepted_by(result, err) and true or false)
  else
    window:judge(slice, found == "ok")
  end
  return ...
end

--- Rejects the call with the present probability: `nil, err` of kind "limit",
--- retryable, without waiting. Otherwise runs the rest of the pipeline.
function Throttle:run(call, next, ...)
  local probability = self:probability()
  if (probability > 0) ~= self.throttling then turned(self, probability) end
  local window = self.window
  local slice = window.slice
  window:request(slice)
  if probability > 0 and random() < probability then return rejection(self, slice) end
  -- A call that raises or is cancelled stays unanswered until it leaves the window.
  return settle(self, window, slice, next(call, ...))
end

--- Plain data: state "clear" or "throttling", probability, requests, rejected,
--- accepts of the window, reason.
---@return table
function Throttle:snapshot()
  local probability, window = self:probability(), self.window
  return {
    state = probability > 0 and "throttling" or "clear", probability = probability,
    requests = window.requests, rejected = window.rejected, accepts = window.accepts,
    reason = counts(self),
  }
end

--- A policy: `neap.throttle{ k = 1.5 }:call(fn, ...)`, one for each upstream.
---@param opts? neap.throttle.Options
---@return neap.Throttle
function M.new(opts)
  return layer.new(Throttle, opts)
end

return M
