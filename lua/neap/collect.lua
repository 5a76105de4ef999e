--- Many at once: gather, race, map, imap. All are scopes: nothing that they
--- started outlives them.
local core = require "neap.core"
local errors = require "neap.error"
local flow = require "neap.flow"
local options = require "neap.options"
local scope = require "neap.scope"

local M = {}

local function check_functions(where, list)
  if type(list) ~= "table" then
    error(("%s: expected a list of functions, got %s"):format(where, type(list)), 3)
  end
  for i = 1, #list do
    if type(list[i]) ~= "function" then
      error(("%s: item %d must be a function, got %s"):format(where, i, type(list[i])), 3)
    end
  end
end

--- Stores what an item's function returned: a value, or `nil, err`.
local function store(results, failures, index, value, err)
  results[index] = value
  if value == nil and err ~= nil then failures[index] = err end
end

local function store_protected(results, failures, index, ok, ...)
  if ok then return store(results, failures, index, ...) end
  local err = ...
  if errors.is(err, "cancelled") then error(err, 0) end
  failures[index] = errors.wrap(err)
end

--- A task's body for one item. With "collect" a raised error counts like nil, err.
local function run_item(results, failures, collect, index, fn, ...)
  if not collect then return store(results, failures, index, fn(...)) end
  store_protected(results, failures, index, xpcall(fn, core.note_traceback, ...))
end

local gather_options = {
  on_error = { type = "string", default = "cancel", one_of = { "cancel", "collect" } },
}

--- Runs the functions at once and waits for all. Results by position, and the
--- errors of those that returned nil, err by position (nil when there were
--- none). A raised error cancels the rest and is raised here; with
--- on_error = "collect" it becomes that position's error.
---@param functions function[]
---@param opts? {on_error: "cancel"|"collect"}
---@return table results
---@return table? errors
function M.gather(functions, opts)
  check_functions("neap.gather", functions)
  local collect = options.check("neap.gather", opts, gather_options).on_error == "collect"
  local results, failures = {}, {}
  scope.scope(function(s)
    for i = 1, #functions do
      s:spawn(run_item, results, failures, collect, i, functions[i])
    end
  end)
  return results, next(failures) ~= nil and failures or nil
end

local function pack(...) return { n = select("#", ...), ... } end

--- Runs the functions at once; the first that returns wins, whatever it returned:
--- its results come back once the others, cancelled, have ended. A raised error
--- before that cancels the rest and is raised here.
---@param functions function[]
---@return any ... the winner's results
function M.race(functions)
  check_functions("neap.race", functions)
  if #functions == 0 then error("neap.race: needs at least one function", 2) end
  local winner
  scope.scope(function(s)
    local function finish(results)
      winner = winner or results
      s:cancel()
    end
    for i = 1, #functions do
      s:spawn(function() finish(pack(functions[i]())) end)
    end
  end)
  if not winner then error("neap.race: cancelled before any function returned", 0) end
  return unpack(winner, 1, winner.n)
end

local map_options = {
  concurrency = { type = "integer", min = 1 },
  on_error = { type = "string", default = "cancel", one_of = { "cancel", "collect" } },
}

--- Calls `fn(item, index)` for each item, at most `concurrency` at a time (none
--- given: all at once), and waits for all.
---@param list any[]
---@param fn fun(item: any, index: integer): any, any? a value, or nil and an error
---@param opts? {concurrency: integer, on_error: "cancel"|"collect"}
---@return table results by the item's index
---@return table? errors by the item's index; nil when there were none
function M.map(list, fn, opts)
  if type(list) ~= "table" then error("neap.map: expected a list, got " .. type(list), 2) end
  if type(fn) ~= "function" then error("neap.map: expected a function, got " .. type(fn), 2) end
  opts = options.check("neap.map", opts, map_options)
  local results, failures, collect = {}, {}, opts.on_error == "collect"
  local count, following = #list, 0
  local function work()
    while following < count do
      following = following + 1
      local i = following
      run_item(results, failures, collect, i, fn, list[i], i)
    end
  end
  scope.scope(function(s)
    for _ = 1, math.min(opts.concurrency or count, count) do s:spawn(work) end
  end)
  return results, next(failures) ~= nil and failures or nil
end

local imap_options = {
  concurrency = { type = "integer", min = 1, default = 10 },
  buffer = { type = "integer", min = 0, default = 0 },
  ordered = { type = "boolean", default = false },
  on_error = { type = "string", default = "cancel", one_of = { "cancel", "collect" } },
}

--- Finished items in the order of their index.
local function reorder(take)
  local held, expected = {}, 1
  return function()
    while not held[expected] do
      local done = take()
      if not done then return nil end
      held[done.index] = done
    end
    local done = held[expected]
    held[expected] = nil
    expected = expected + 1
    return done
  end
end

--- The workers' part of imap: reads items, at most `alive` unconsumed ones, and
--- puts what became of them into `finished`.
local function feed(state, iterator, fn, opts)
  local collect = opts.on_error == "collect"
  local index = 0
  local function read()
    if state.exhausted then return nil end
    local item = iterator()
    if item == nil then state.exhausted = true end
    return item
  end
  local function work()
    while true do
      state.alive:acquire()
      -- One reader at a time: an iterator may wait.
      state.reading:acquire()
      local ok, item = xpcall(read, core.note_traceback)
      state.reading:release()
      if not ok then error(item, 0) end
      if item == nil then
        state.alive:release()
        return
      end
      index = index + 1
      local done, results, failures = { index = index }, {}, {}
      run_item(results, failures, collect, 1, fn, item, index)
      done.result, done.err = results[1], failures[1]
      state.finished:put(done)
    end
  end
  scope.scope(function(s)
    for _ = 1, opts.concurrency do s:spawn(work) end
  end)
end

--- Ends the stream however feeding it ended.
local function run_feeder(state, ...)
  local ok, err = xpcall(feed, core.note_traceback, state, ...)
  -- Not raised here: it is the loop's error, and raised there.
  if not ok then state.err = errors.wrap(err) end
  state.finished:close()
end

--- Streams: an iterator of `index, result, err` over the items that `iterator`
--- yields (the first value of each call is the item), in the order in which they
--- finish, or in input order with `ordered`. At most concurrency + buffer items
--- are alive at any time, so the input may be endless; items that finished stay
--- alive until the loop takes them. The workers belong to the innermost scope:
--- after a loop that is left early they wait until that scope has nothing else to
--- do, and are then cancelled.
---@param iterator fun(): any
---@param fn fun(item: any, index: integer): any, any?
---@param opts? {concurrency: integer, buffer: integer, ordered: boolean, on_error: "cancel"|"collect"}
---@return fun(): integer?, any, any
function M.imap(iterator, fn, opts)
  if type(iterator) == "table" and not (getmetatable(iterator) or {}).__call then
    error("neap.imap: expected an iterator function, got a table (use neap.map for lists)", 2)
  end
  if type(fn) ~= "function" then error("neap.imap: expected a function, got " .. type(fn), 2) end
  opts = options.check("neap.imap", opts, imap_options)
  local state = {
    alive = flow.semaphore(opts.concurrency + opts.buffer),
    reading = flow.semaphore(1),
    finished = flow.queue {},
  }
  core.spawn_background(run_feeder, state, iterator, fn, opts)
  local function take() return (state.finished:get()) end
  if opts.ordered then take = reorder(take) end
  return function()
    local done = take()
    if not done then
      if state.err then error(state.err, 0) end
      return nil
    end
    state.alive:release()
    return done.index, done.result, done.err
  end
end

return M
