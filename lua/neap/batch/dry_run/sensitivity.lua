--- Which assumption a forecast hangs on: each is varied alone, 25 % either way, on
--- the same seeds, and the change is taken seed by seed. Pure.
local M = {}

--- How far an assumption is varied.
M.STEP = 0.25
--- Requests that all seeds of one variation may have together: large inputs get
--- fewer seeds, and their ranges are narrow anyway.
M.BUDGET, M.SEEDS, M.LEAST_SEEDS = 100000, 10, 3

local SMALLEST = 0.01 -- a change that is worth a word
local AGREE = 0.8 -- share of the seeds that must move the same way

---@class neap.batch.Effect
---@field assumption neap.batch.Assumption
---@field scale number 0.75 or 1.25
---@field seconds number relative change, median
---@field cost number? likewise; nil: there are no prices
---@field failed number items more
---@field lucky table<string, true> of these: seeds do not agree which way it goes

---@param runs integer
---@param items integer of the input
---@return integer
function M.seeds(runs, items)
  return math.min(runs, M.SEEDS, math.max(M.LEAST_SEEDS, math.floor(M.BUDGET / math.max(1, items))))
end

--- What is to be run: two variations of each assumption that there is something of.
---@param assumptions neap.batch.Assumption[]
---@return {assumption: neap.batch.Assumption, scale: number}[]
function M.variations(assumptions)
  local list = {}
  for _, assumption in ipairs(assumptions) do
    if assumption.varies then
      list[#list + 1] = { assumption = assumption, scale = 1 - M.STEP }
      list[#list + 1] = { assumption = assumption, scale = 1 + M.STEP }
    end
  end
  return list
end

--- The value below which a share `p` lies, between the two nearest ones.
---@param values number[] sorted here
---@param p number 0 to 1
---@return number
function M.quantile(values, p)
  table.sort(values)
  local at = 1 + p * (#values - 1)
  local low = math.floor(at)
  local high = math.min(low + 1, #values)
  return values[low] + (at - low) * (values[high] - values[low])
end

--- The median change, and whether it may be luck.
local function change(rows, base, key, relative)
  local list, up, down = {}, 0, 0
  for i, row in ipairs(rows) do
    if not row[key] then return nil end
    list[i] = row[key] - base[i][key]
    if relative then list[i] = base[i][key] > 0 and list[i] / base[i][key] or 0 end
    if list[i] > 0 then up = up + 1 elseif list[i] < 0 then down = down + 1 end
  end
  local median = M.quantile(list, 0.5)
  if #list < M.LEAST_SEEDS then return median, median ~= 0 end -- too few to agree
  return median, median ~= 0 and (median > 0 and up or down) < AGREE * #list
end

--- The effect of one variation.
---@param variation {assumption: neap.batch.Assumption, scale: number}
---@param rows neap.batch.DryRow[] of the variation
---@param base neap.batch.DryRow[] of the world as it is, the same seeds first
---@return neap.batch.Effect
function M.effect(variation, rows, base)
  local effect = { assumption = variation.assumption, scale = variation.scale, lucky = {} }
  for _, key in ipairs { "seconds", "cost", "failed" } do
    local median, lucky = change(rows, base, key, key ~= "failed")
    effect[key], effect.lucky[key] = median, lucky or nil
  end
  return effect
end

--- The effect that moves a measure most, and not by luck; nil: none does by 1 % (an
--- item, of "failed").
---@param effects neap.batch.Effect[]
---@param key "seconds"|"cost"|"failed"
---@return neap.batch.Effect?
function M.most(effects, key)
  local best, size = nil, key == "failed" and 1 or SMALLEST
  for _, effect in ipairs(effects) do
    local moved = effect.lucky[key] and 0 or math.abs(effect[key] or 0)
    -- Of equal ones the first, whose order is the report's.
    if moved >= size and (not best or moved > size) then best, size = effect, moved end
  end
  return best
end

return M
