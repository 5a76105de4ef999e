-- SPDX-License-Identifier: MIT
--- How long things take, and what counts as equal.
local core = require "neap.core"

local M = {}

--- How long `fn(...)` took, and its first two results.
function M.took(fn, ...)
  local began = core.now()
  local res, err = fn(...)
  return core.now() - began, res, err
end

local function within(expected, got, limit, about)
  if type(got) == "number" and math.abs(got - expected) <= limit then return end
  error(("expected %s%.9g, got %s"):format(about, expected, tostring(got)), 3)
end

--- Fails unless two figures are the same but for rounding.
---@param expected number
---@param got number
function M.near(expected, got) within(expected, got, 1e-8, "") end

--- Fails unless a figure is within this share of what is expected.
---@param expected number
---@param got number
---@param share number
function M.about(expected, got, share) within(expected, got, share * expected, "about ") end

return M
