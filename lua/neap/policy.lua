--- neap.policy: policies stacked into a pipeline, the first one outermost.
--- docs/api/policy.md tells what belongs where.
local calls = require "neap.policy.call"
local core = require "neap.core"
local explain = require "neap.policy.explain"
local layer = require "neap.policy.layer"
local options = require "neap.options"
local order = require "neap.policy.order"
local schema = require "neap.schema"
local sorted = require "neap.sorted"

local M = {}

---@class neap.Policy
---@field name string
---@field layers neap.policy.Layer[] outermost first
---@field aliases table<string, neap.policy.Layer> of a standard one: by its options' names
local Policy = {}
Policy.__index = Policy

--- A part of a pipeline as a list of layers: a layer, a pipeline, a rate limiter.
local function layers_of(part, index)
  if layer.is(part) then return { part } end
  if getmetatable(part) == Policy then return part.layers end
  local pace = require "neap.pace"
  if pace.is_limiter(part) then return { pace.new { limiter = part } } end
  options.fail(("neap.policy: entry %d must be a policy (neap.retry{...}, neap.circuit_breaker{...}, ...) or a "
    .. "neap.rate_limiter, got %s"):format(index, type(part)))
end

--- Steps from the outermost layer to `innermost`.
local function compile(layers, innermost)
  local entry = innermost
  for i = #layers, 1, -1 do entry = layer.step(layers[i], entry) end
  return entry
end

local function new(parts, name)
  if type(parts) ~= "table" or #parts == 0 then
    options.fail("neap.policy needs a list of policies, outermost first")
  end
  local layers = {}
  for i = 1, #parts do
    for _, found in ipairs(layers_of(parts[i], i)) do layers[#layers + 1] = found end
  end
  local problem, warnings = order.check(layers)
  if problem then options.fail("neap.policy: " .. problem, 3) end
  for _, warning in ipairs(warnings) do core.log("warning", "neap.policy: " .. warning) end
  return setmetatable({
    name = name or parts.name or "policy", layers = layers, warnings = warnings,
    aliases = {}, entry = compile(layers, calls.invoke), before = setmetatable({}, { __mode = "k" }),
  }, Policy)
end

--- Calls `fn(...)` through all layers. Waits.
---@param fn function
---@param ... any for `fn` (a router puts the endpoint before them)
---@return any ... `fn`'s results, or `nil, err` of the layer that refused
function Policy:call(fn, ...)
  if getmetatable(self) ~= Policy then options.fail "a policy's call needs a colon: policy:call(fn, ...)" end
  return calls.run(self, self.entry, fn, ...)
end

for _, method in ipairs { "request", "get", "post", "put", "patch", "delete", "head" } do
  Policy[method] = function()
    options.fail(("policy:%s: this policy has no client; give neap.policy.standard the option 'client' (and assert "
      .. "neap.http.client{...}, which returns nil, err for a bad base_url)"):format(method))
  end
end

--- The layer called `name`, or of the kind `name`, or that neap.policy.standard
--- has made of its option `name`.
---@param name string
---@return neap.policy.Layer?
function Policy:layer(name)
  for _, found in ipairs(self.layers) do
    if found.name == name then return found end
  end
  for _, found in ipairs(self.layers) do
    if found.kind == name then return found end
  end
  return self.aliases[name]
end

function Policy:layer_or_raise(name)
  local found = self:layer(name)
  if found then return found end
  local known = {}
  for i, one in ipairs(self.layers) do known[i] = one.name end
  options.fail(("neap.policy: update: there is no layer '%s'; there are %s"):format(tostring(name),
    table.concat(known, ", ")))
end

--- Every option by itself, before anything changes; the names in order.
local function check_changes(self, changes)
  if type(changes) ~= "table" then
    options.fail("neap.policy: update: changes must be a table of policies' options by name, got " .. type(changes))
  end
  local names = {}
  for name, change in sorted.all(changes) do
    local found = self:layer_or_raise(name)
    schema.change(found.kind, found.options, change)
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

--- Puts the options of a layer back, and says so to who heard of the change.
local function undo(found, old)
  local current = found.options
  found.options = old
  if found.changed then found:changed(current) end
  found:emit("update", { reason = "undone" })
end

--- Changes options while in use: `policy:update{ retry = { max_attempts = 5 } }`,
--- by the layers' names or kinds. All of it or nothing: where options do not fit
--- together it raises, and those that were changed already are put back. Never
--- waits.
---@param changes table<string, table>
function Policy:update(changes)
  local names, before = check_changes(self, changes), {}
  for i, name in ipairs(names) do
    local found = self:layer(name)
    before[i] = found.options
    local ok, err = pcall(found.update, found, changes[name])
    if not ok then
      for j = i - 1, 1, -1 do undo(self:layer(names[j]), before[j]) end
      error(err, 0)
    end
  end
end

--- The pipeline as text, a line a layer, outermost first.
---@return string
function Policy:describe()
  local lines = { self.name .. ", outermost first:" }
  for i, one in ipairs(self.layers) do lines[#lines + 1] = ("%3d. %s"):format(i, one:describe()) end
  for _, warning in ipairs(self.warnings) do lines[#lines + 1] = "  warning: " .. warning end
  return table.concat(lines, "\n")
end

--- The state of every layer, outermost first: plain tables with kind, name,
--- state, and where they apply limit, waiting, reason, next_change (seconds).
---@return table[]
function Policy:snapshot()
  local list = {}
  for i, one in ipairs(self.layers) do
    list[i] = one:snapshot()
    list[i].kind, list[i].name = one.kind, one.name
  end
  return list
end

--- Runs the layers inside a call under way, then `next`, as a single layer does:
--- for a router's endpoints. Waits.
---@param call neap.policy.Call
---@param next fun(call: neap.policy.Call, ...): any
function Policy:run(call, next, ...)
  local entry = self.before[next]
  if not entry then
    entry = compile(self.layers, next)
    self.before[next] = entry
  end
  return entry(call, ...)
end

--- Whether `value` is a pipeline or a single policy.
---@param value any
---@return boolean
function M.is(value)
  return getmetatable(value) == Policy or layer.is(value)
end

--- The recommended pipeline; see neap.policy.standard.
---@param opts? table
---@return neap.Policy
function M.standard(opts)
  return require("neap.policy.standard").new(opts, new)
end

M.explain = explain.explain

return setmetatable(M, {
  --- A pipeline: `neap.policy{outermost, ..., innermost}`. Raises when a layer is
  --- there twice or two retry loops would multiply; warns where an order leaves
  --- retries unpaced.
  __call = function(_, parts) return new(parts) end,
})
