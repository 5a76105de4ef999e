--- Grouping of items before they are sent: by number, by weight, by key; and runs
--- chunk by chunk. Grouping by time is neap.batcher's `max_delay`. All but
--- `map_chunks` is pure and never waits by itself; an iterator that is handed in
--- may.
local core = require "neap.core"
local options = require "neap.options"
local schema = require "neap.schema"

local M = {}

local function is_iterator(value)
  return type(value) == "function" or type(value) == "table" and (getmetatable(value) or {}).__call ~= nil
end

--- An iterator over an array's items, or the iterator itself.
local function items_of(where, list)
  if is_iterator(list) then return list end
  if type(list) ~= "table" then
    options.fail(("%s: expected a list or an iterator function, got %s"):format(where, type(list)))
  end
  local i = 0
  return function()
    i = i + 1
    return list[i]
  end
end

local function collect(iterator)
  local all = {}
  for item in iterator do all[#all + 1] = item end
  return all
end

local function check_function(where, what, value)
  if type(value) ~= "function" then
    options.fail(("%s: %s must be a function, got %s"):format(where, what, type(value)))
  end
end

--- `next_group` as it is for an iterator's items, all its groups for a list's.
local function as_given(list, next_group)
  return is_iterator(list) and next_group or collect(next_group)
end

-- ---------------------------------------------------------------------------
-- By number and by key
-- ---------------------------------------------------------------------------

--- The first `size` items an iterator yields; nil at its end.
local function read_chunk(iterator, size)
  local chunk = {}
  while #chunk < size do
    local item = iterator()
    if item == nil then break end
    chunk[#chunk + 1] = item
  end
  return #chunk > 0 and chunk or nil
end

--- Chunks of `size` items, the last one maybe shorter, in order. A list gives a
--- list of chunks, an iterator an iterator of chunks that reads no further than
--- it must.
---@param list any[]|fun(): any
---@param size integer 1 or more
---@return any[][]|fun(): any[]?
function M.chunks(list, size)
  if type(size) ~= "number" or size < 1 or size % 1 ~= 0 then
    options.fail("neap.group.chunks: size must be a whole number of at least 1, got " .. tostring(size))
  end
  local iterator, ended = items_of("neap.group.chunks", list), false
  return as_given(list, function()
    local chunk = not ended and read_chunk(iterator, size) or nil
    ended = chunk == nil or #chunk < size
    return chunk
  end)
end

---@class neap.group.Keyed any[] the items in their order
---@field key any

--- Groups of the items with equal keys, in the order in which the keys were first
--- seen; each has its `key`. An iterator is read to its end.
---@param list any[]|fun(): any
---@param key fun(item: any): any
---@return neap.group.Keyed[]
function M.by_key(list, key)
  check_function("neap.group.by_key", "the key function", key)
  local groups, known = {}, {}
  for item in items_of("neap.group.by_key", list) do
    local k = key(item)
    if k == nil or k ~= k then
      options.fail("neap.group.by_key: the key function must return a key, got " .. tostring(k))
    end
    local group = known[k]
    if not group then
      group = { key = k }
      known[k], groups[#groups + 1] = group, group
    end
    group[#group + 1] = item
  end
  return groups
end

-- ---------------------------------------------------------------------------
-- By weight
-- ---------------------------------------------------------------------------

local function checked_weight(weigh, item)
  local weight = weigh(item)
  if type(weight) ~= "number" or not (weight >= 0 and weight < math.huge) then
    error("neap.group.by_weight: weight must return a number of at least 0, got " .. tostring(weight), 0)
  end
  return weight
end

--- Items one after the other as long as they fit together.
local function in_order(iterator, max_weight, weigh)
  local held, held_weight
  return function()
    local group, total = {}, 0
    if held ~= nil then
      group[1], total, held = held, held_weight, nil
    end
    for item in iterator do
      local weight = checked_weight(weigh, item)
      if #group > 0 and total + weight > max_weight then
        held, held_weight = item, weight
        return group
      end
      group[#group + 1], total = item, total + weight
    end
    return #group > 0 and group or nil
  end
end

--- Restores the order of a heap of bins, the lightest on top, after the top has
--- gained weight. Equals: the lower number.
local function sift_down(heap)
  local bin, i, count = heap[1], 1, #heap
  while true do
    local child = 2 * i
    if child > count then break end
    local right = heap[child + 1]
    local left = heap[child]
    if right and (right.weight < left.weight or right.weight == left.weight and right.number < left.number) then
      child = child + 1
    end
    local lighter = heap[child]
    if bin.weight < lighter.weight or bin.weight == lighter.weight and bin.number < lighter.number then break end
    heap[i], i = lighter, child
  end
  heap[i] = bin
end

--- Longest processing time first (Graham 1969): each item, the heaviest first,
--- into the bin that is lightest so far. Returns the bins and their greatest
--- weight.
local function spread(heaviest_first, count)
  local bins, heap, most = {}, {}, 0
  for i = 1, count do
    bins[i] = { weight = 0, number = i }
    heap[i] = bins[i]
  end
  for _, entry in ipairs(heaviest_first) do
    local bin = heap[1]
    bin[#bin + 1] = entry
    bin.weight = bin.weight + entry.weight
    most = math.max(most, bin.weight)
    sift_down(heap)
  end
  return bins, most
end

--- The items by weight, those that are heavier than max_weight apart.
local function sorted_by_weight(list, max_weight, weigh)
  local entries, alone, rest, total = {}, {}, {}, 0
  for index, item in ipairs(list) do
    entries[index] = { item = item, weight = checked_weight(weigh, item), index = index }
  end
  table.sort(entries, function(a, b)
    if a.weight ~= b.weight then return a.weight > b.weight end
    return a.index < b.index
  end)
  for _, entry in ipairs(entries) do
    local heavy = entry.weight > max_weight
    if heavy then alone[#alone + 1] = { entry } else rest[#rest + 1] = entry end
    if not heavy then total = total + entry.weight end
  end
  return alone, rest, total
end

--- The fewest bins found in which everything fits, and evenly filled. Groups and
--- the items in them are in the order of the list.
local function balanced(list, max_weight, weigh)
  local bins, rest, total = sorted_by_weight(list, max_weight, weigh)
  local count = math.max(1, math.ceil(total / max_weight))
  local packed, most = spread(rest, count)
  while most > max_weight do
    count = count + math.max(1, math.floor(count / 20))
    packed, most = spread(rest, count)
  end
  for _, bin in ipairs(packed) do
    if #bin > 0 then bins[#bins + 1] = bin end
  end
  for _, bin in ipairs(bins) do
    table.sort(bin, function(a, b) return a.index < b.index end)
  end
  table.sort(bins, function(a, b) return a[1].index < b[1].index end)
  for _, bin in ipairs(bins) do
    for i, entry in ipairs(bin) do bin[i] = entry.item end
    bin.weight, bin.number = nil, nil
  end
  return bins
end

local weight_options = { balance = { type = "boolean", default = false } }

--- Groups whose items together weigh at most `max_weight`; an item that is
--- heavier than that is a group of its own. In order: a group ends where the next
--- item does not fit; a list gives a list of groups, an iterator an iterator of
--- groups. With `balance` the groups weigh about the same, whatever the order
--- (longest processing time first), and are about as few as can be; that reads
--- everything before it begins.
---@param list any[]|fun(): any
---@param max_weight number above 0
---@param weight fun(item: any): number at least 0
---@param opts? {balance: boolean}
---@return any[][]|fun(): any[]?
function M.by_weight(list, max_weight, weight, opts)
  local where = "neap.group.by_weight"
  if type(max_weight) ~= "number" or max_weight <= 0 or max_weight ~= max_weight then
    options.fail(where .. ": max_weight must be a number above 0, got " .. tostring(max_weight))
  end
  check_function(where, "weight", weight)
  opts = options.check(where, opts, weight_options)
  local iterator = items_of(where, list)
  if not opts.balance then return as_given(list, in_order(iterator, max_weight, weight)) end
  local groups = balanced(collect(iterator), max_weight, weight)
  return is_iterator(list) and items_of(where, groups) or groups
end

-- ---------------------------------------------------------------------------
-- Chunk by chunk
-- ---------------------------------------------------------------------------

---@class neap.group.Chunk what `on_chunk` gets
---@field index integer of the chunk, from 1
---@field first integer index of its first item
---@field last integer index of its last item
---@field items any[]
---@field results table by the item's place in the chunk
---@field errors? table by the item's place in the chunk; nil when there were none
---@field seconds number that it took

--- Puts what came of a chunk where the whole list has it.
local function keep(all, offset, part)
  for i, value in pairs(part) do all[offset + i] = value end
end

--- Calls `fn(item, index)` for each item, chunk by chunk: a chunk's items at the
--- same time, the next chunk when all of them have ended. That bounds memory and
--- lets an upstream rest, and costs time: in each chunk everybody waits for the
--- slowest; `neap.map` with `concurrency` is faster. Waits.
---@param list any[]|fun(): any a list, or an iterator that is read chunk by chunk
---@param fn fun(item: any, index: integer): any, any? a value, or nil and an error
---@param opts? neap.map_chunks.Options
---@return table|integer results by the item's index; with keep=false the number of items
---@return table? errors by the item's index; nil when there were none
function M.map_chunks(list, fn, opts)
  opts = schema.check("chunks", opts)
  local iterator = items_of("neap.map_chunks", list)
  check_function("neap.map_chunks", "the second argument", fn)
  if not opts.keep and not opts.on_chunk then
    options.fail("neap.map_chunks: option 'keep' = false needs 'on_chunk', a function: results would be lost")
  end
  local map = require("neap.collect").map
  local map_options = { concurrency = opts.concurrency, on_error = opts.on_error }
  local results, failures, count, index = {}, {}, 0, 0
  for chunk in M.chunks(iterator, opts.size) do
    if index > 0 and opts.pause > 0 then core.sleep(opts.pause) end
    local offset, began = count, core.now()
    local part, errors = map(chunk, function(item, i) return fn(item, offset + i) end, map_options)
    index, count = index + 1, count + #chunk
    if opts.keep then
      keep(results, offset, part)
      keep(failures, offset, errors or {})
    end
    if opts.on_chunk then
      opts.on_chunk { index = index, first = offset + 1, last = count, items = chunk, results = part,
        errors = errors, seconds = core.now() - began }
    end
  end
  if not opts.keep then return count end
  return results, next(failures) ~= nil and failures or nil
end

return M
