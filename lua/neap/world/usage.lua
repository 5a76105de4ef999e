--- Tokens of what a world's upstreams have answered, by model: what a provider's
--- bill goes by. Counts like the law does: an answer that nobody took is none.
local M = {}

---@class neap.world.Usage
---@field models table<string, {input: integer, output: integer}>
---@field other integer answers to what is no request to a model
---@field too_large string[] X-Client-Request-Id of requests that no limit will ever let in, in order of arrival
---@field package known table<string, true>
---@field package watched neap.world.Upstream[]
local Usage = {}
Usage.__index = Usage

local function note_once(self, list, name)
  if self.known[name] then return end
  self.known[name] = true
  list[#list + 1] = name
end

local function note(self, fate)
  local asked, work = fate.asked, fate.work
  if not asked or not work then
    self.other = self.other + 1
    return
  end
  local model = asked.body.model
  local tokens = self.models[model]
  if not tokens then
    tokens = { input = 0, output = 0 }
    self.models[model] = tokens
  end
  tokens.input = tokens.input + work.input
  tokens.output = tokens.output + (fate.output or 0) * work.choices
end

--- Counts from now on, until `stop`. Upstreams with a handler have no tokens.
---@param world neap.world.World
---@return neap.world.Usage
function M.watch(world)
  local self = setmetatable({ models = {}, other = 0, too_large = {}, known = {}, watched = {} }, Usage)
  for i, upstream in ipairs(world.upstreams) do
    local arrive, leave = upstream.arrive, upstream.leave
    -- Its own, in front of the class's.
    function upstream.arrive(which, at, request, since)
      local fate = arrive(which, at, request, since)
      if fate.kind == "limit" and fate.dimension ~= "quota" and not fate.retry_after then
        note_once(self, self.too_large, request.headers["x-client-request-id"] or "")
      end
      return fate
    end
    function upstream.leave(which, at, fate, gone)
      if fate.kind == "answer" and not gone then note(self, fate) end
      return leave(which, at, fate, gone)
    end
    self.watched[i] = upstream
  end
  return self
end

--- Ends the count; the numbers stay.
function Usage:stop()
  for _, upstream in ipairs(self.watched) do upstream.arrive, upstream.leave = nil, nil end
end

return M
