--- neap.fallback: an answer in place of a call that failed, as a policy.
--- docs/api/fallback.md.
local layer = require "neap.policy.layer"
local options = require "neap.options"
local outcome = require "neap.policy.outcome"

local M = {}

---@class neap.Fallback: neap.policy.Layer
---@field private failed fun(result: any, err: any): boolean?
local Fallback = layer.class "fallback"

--- The default `on`: every error but a cancel, and statuses by which the upstream
--- does not work. Pure.
---@param result any
---@param err any
---@return boolean
function M.failed(result, err)
  if not result and err ~= nil then return type(err) ~= "table" or err.kind ~= "cancelled" end
  return outcome.verdict(result, err) ~= "ok"
end

function Fallback:init()
  self:changed()
end

function Fallback:changed()
  local opts = self.options
  if (opts.with == nil) == (opts.value == nil) then
    options.fail(("neap.fallback: needs one of the options 'with' (a function) and 'value' (the answer), got %s")
      :format(opts.with and "both" or "neither"))
  end
  self.failed = opts.on or M.failed
end

local function reason_of(result, err)
  if not result and err ~= nil then return type(err) == "table" and err.kind or "failed" end
  return type(result) == "table" and result.status and tostring(result.status) or "failed"
end

local function mark(instead_of, answer, ...)
  if answer ~= instead_of then
    if type(answer) == "table" then answer.from_fallback = true end
    outcome.discard(instead_of)
  end
  return answer, ...
end

-- `args` is nil where a value stands ready.
local function judge(self, call, args, ...)
  local result, err = ...
  if not self.failed(result, err) then return ... end
  self:emit("fallback", { reason = reason_of(result, err) })
  local with = self.options.with
  if with and args then
    call:resume()
    return mark(result, with(result, err, unpack(args, 1, args.n)))
  end
  outcome.discard(result)
  call.shared = true -- one value for all whose call failed: not to be written into
  return self.options.value
end

--- Runs the rest of the pipeline, and the fallback where that failed. Raised errors
--- and cancels pass through. Waits where they do.
function Fallback:run(call, next, ...)
  local args = self.options.with and { n = select("#", ...), ... } or nil
  return judge(self, call, args, next(call, ...))
end

--- A policy: `neap.fallback{ with = function(result, err, ...) ... end }` or
--- `neap.fallback{ value = ... }`.
---@param opts neap.fallback.Options
---@return neap.Fallback
function M.new(opts)
  return layer.new(Fallback, opts)
end

return M
