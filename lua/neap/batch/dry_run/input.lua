--- What an input holds, before anything is run: how many requests, for which
--- models, what is wrong with it.
local core = require "neap.core"
local errors = require "neap.error"
local files = require "neap.batch.files"
local json = require "neap.json"
local reader = require "neap.batch.reader"
local sorted = require "neap.sorted"

local M = {}

---@class neap.batch.InputFacts
---@field items integer lines that are no blanks
---@field bad integer of these: lines that cannot be run
---@field problem? string of the first of them
---@field models string[] sorted

--- The model that a body names. Bodies repeat few models: each is decoded once.
local function note_model(body, raws)
  local members = body and core.json_members(body)
  local raw = members and members.model
  if raw and raws[raw] == nil then raws[raw] = json.decode(raw) or false end
end

local function count(source)
  local facts, raws = { items = 0, bad = 0 }, {}
  local lines = reader.new(source)
  while true do
    local item, err = lines:next()
    if err then return nil, err end
    if not item then break end
    facts.items = facts.items + 1
    if item.problem then
      facts.bad = facts.bad + 1
      facts.problem = facts.problem or item.problem
    else
      note_model(item.body, raws)
    end
  end
  local names = {}
  for _, model in pairs(raws) do
    if type(model) == "string" then names[model] = true end
  end
  facts.models = sorted.keys(names)
  return facts
end

--- Reads it through. Waits.
---@param path string
---@return neap.batch.InputFacts? facts
---@return neap.Error? err kind "invalid"
function M.facts(path)
  local once = ("--dry-run reads the input once for every seed, which '%s' does not allow: give a file"):format(path)
  if path == "-" then return nil, errors.new { kind = "invalid", message = once } end
  local source, err = files.open_input(path)
  if not source then return nil, err end
  local facts
  if source.size then
    facts, err = count(source)
  else
    err = errors.new { kind = "invalid", message = once }
  end
  source:close()
  return facts, err
end

return M
