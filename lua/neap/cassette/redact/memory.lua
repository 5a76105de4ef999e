--- The secrets that a recording knows: what was sent, and what servers handed out, for
--- the answers and URLs to come. Bounded: the values met last, 500 at least.
local finder = require "neap.cassette.redact.finder"
local values = require "neap.cassette.redact.values"

local find = string.find

local M = {}

local GENERATION = 500 -- values

---@class neap.cassette.Secrets
---@field package young neap.cassette.Finder
---@field package old neap.cassette.Finder
---@field package generation integer
---@field package add fun(value: string)
---@field package list string[]? headers learned last, of the current generation
---@field package more table?
---@field package body string? the body learned last
local Secrets = {}
Secrets.__index = Secrets

local function remember(self, value)
  if #value < values.MIN or not find(value, "%D") or find(value, "REDACTED", 1, true) then return end
  if self.young.values[value] then return end
  if self.young.count >= GENERATION then
    self.old, self.young = self.young, finder.new()
    self.generation, self.list, self.body = self.generation + 1, nil, nil
  end
  self.young:add(value, self.old.values[value])
end

---@return neap.cassette.Secrets
function M.new()
  local self = setmetatable({ young = finder.new(), old = finder.new(), generation = 1 }, Secrets)
  function self.add(value) remember(self, value) end
  return self
end

--- Learns what a request sends. Most requests have their client's list of headers.
---@param url string as it is sent
---@param list string[] its headers
---@param more? table<string, boolean> lower-case names of secret headers besides
---@param body? string
---@param content_type? string
function Secrets:learn(url, list, more, body, content_type)
  if list ~= self.list or more ~= self.more then
    values.of_headers(self.add, list, more)
    self.list, self.more = list, more
  end
  if find(url, "[?@;]") or find(url, "/bot", 1, true) then values.of_url(self.add, url) end
  if body and body ~= self.body then
    values.of_body(self.add, body, content_type)
    self.body = body
  end
end

--- Learns what a header of an answer hands out that is a secret, or leads elsewhere.
---@param name string in small letters
---@param value string
function Secrets:learn_header(name, value)
  values.of_answer(self.add, name, value)
end

--- Learns from values under names that speak of secrets.
---@param found string[] a scan's values
function Secrets:learn_found(found)
  values.of_found(self.add, found)
end

--- The places of all known values in a text.
---@param text string
---@return {[1]: integer, [2]: integer}[] first and last bytes
function Secrets:find(text)
  local spans = {}
  if #text < values.MIN then return spans end
  if self.young.count > 0 then self.young:find(text, spans) end
  if self.old.count > 0 then self.old:find(text, spans) end
  return spans
end

return M
