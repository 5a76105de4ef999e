--- What every policy is made of. A policy is a layer: an object whose
--- `run(call, next, ...)` calls `next(call, ...)` as often as it sees fit and
--- returns what is to come back. Layers are stacked by `neap.policy`; each also
--- works alone (`retry:call(fn, ...)`).
local calls = require "neap.policy.call"
local options = require "neap.options"
local schema = require "neap.schema"
local telemetry = require "neap.telemetry"

local M = {}

---@class neap.policy.Layer
---@field kind string the schema's name
---@field name string the option `name`, else the kind
---@field options table checked
---@field run fun(self: neap.policy.Layer, call: neap.policy.Call, next: function, ...): any
---@field give_back? fun(self: neap.policy.Layer, call: neap.policy.Call) for layers that hold permits
---@field take_back? fun(self: neap.policy.Layer, call: neap.policy.Call) waits
---@field changed? fun(self: neap.policy.Layer, old: table) after `update`
---@field nested? fun(self: neap.policy.Layer): (neap.policy.Layer|neap.Policy)[] policies inside this one
---@field wait_reason? fun(self: neap.policy.Layer, call: neap.policy.Call): string for neap.explain
---@field wait_until? fun(self: neap.policy.Layer, call: neap.policy.Call): number? neap.now() at which it is due
local Layer = {}
Layer.__index = Layer

---@type table<table, boolean> metatables of layers
local classes = {}

--- A class of layers; `kind` names its schema.
---@param kind string
---@return table
function M.class(kind)
  local class = setmetatable({ kind = kind }, Layer)
  class.__index = class
  class.__tostring = function(layer) return layer.name end
  classes[class] = true
  return class
end

--- Whether `value` is a layer.
---@param value any
---@return boolean
function M.is(value)
  local meta = getmetatable(value)
  return meta ~= nil and classes[meta] == true
end

--- A layer with its options checked and defaults filled in.
---@param class table
---@param opts? table
---@return neap.policy.Layer
function M.new(class, opts)
  local checked = schema.check(class.kind, opts)
  local layer = setmetatable({ options = checked, name = checked.name or class.kind }, class)
  if layer.init then layer:init() end
  return layer
end

--- A step that runs `layer` before `next`.
function M.step(layer, next)
  return function(call, ...) return layer:run(call, next, ...) end
end

--- Calls `fn(...)` behind this layer alone. Waits.
---@param fn function
---@param ... any for `fn`
---@return any ... what the layer makes of `fn`'s results
function Layer:call(fn, ...)
  if type(self) ~= "table" then options.fail "a policy's call needs a colon: policy:call(fn, ...)" end
  local entry = self.entry
  if not entry then
    entry = M.step(self, calls.invoke)
    self.entry = entry
  end
  return calls.run(self, entry, fn, ...)
end

--- Changes options while in use, checked like the constructor's. Never waits.
---@param changes table
function Layer:update(changes)
  local old = self.options
  self.options = schema.change(self.kind, old, changes)
  if self.changed then
    local ok, err = pcall(self.changed, self, old)
    if not ok then
      self.options = old
      error(err, 0)
    end
  end
  self:emit("update", { reason = "manual", changes = changes })
end

--- Tells neap.telemetry. Never waits.
---@param event string
---@param fields? table
function Layer:emit(event, fields)
  if telemetry.active then telemetry.emit(self.name, self.kind, event, fields) end
end

local function show(value)
  local meta = type(value) == "table" and getmetatable(value)
  if meta and meta.__tostring then return tostring(value) end
  if type(value) == "table" then
    local parts = {}
    for key, inner in pairs(value) do
      parts[#parts + 1] = (type(key) == "string" and key .. "=" or "") .. show(inner)
    end
    table.sort(parts)
    return "{" .. table.concat(parts, ", ") .. "}"
  end
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) == "function" or type(value) == "userdata" then return type(value) end
  return tostring(value)
end

--- "name=value" of what is not the default; nested tables as "backoff.base=1".
local function add_settings(parts, list, values, prefix)
  for _, declared in ipairs(list) do
    local name, value = declared[1], values[declared[1]]
    if declared.fields and type(value) == "table" then
      add_settings(parts, declared.fields, value, prefix .. name .. ".")
    elseif value ~= nil and value ~= declared.default and name ~= "name" then
      parts[#parts + 1] = prefix .. name .. "=" .. show(value)
    end
  end
end

--- One line: the kind, the name where it has one of its own, and the options that
--- are not the defaults.
---@return string
function Layer:describe()
  local parts = { self.kind }
  if self.name ~= self.kind then parts[1] = ("%s '%s'"):format(self.kind, self.name) end
  add_settings(parts, schema.get(self.kind).options, self.options, "")
  return table.concat(parts, " ")
end

--- Plain data about the present state; layers add their own.
---@return table
function Layer:snapshot()
  return { state = "ready", kind = self.kind, name = self.name }
end

--- The body of a copy's task: runs `next(fork, ...)` and gives back what it still
--- holds when it raises. Waits.
M.protect = calls.protect

--- Runs a policy's or a pipeline's layers inside a call under way, then `next`.
--- Waits.
---@param policy neap.Policy|neap.policy.Layer
---@param call neap.policy.Call
---@param next fun(call: neap.policy.Call, ...): any
function M.through(policy, call, next, ...)
  return policy:run(call, next, ...)
end

return M
