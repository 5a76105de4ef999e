--- neap.batcher: single items go in, batches go out, and each caller gets its own
--- answer.
---
--- A batch is a task of its own from its first item to its answers: it waits out
--- the delay, then for its turn, then runs. It serves callers of any scope, so it
--- belongs to none of them: it lives as long as somebody waits for it, and the
--- last caller to leave cancels it. An idle batcher has no task and no timer.
local answers = require "neap.batcher.answers"
local core = require "neap.core"
local errors = require "neap.error"
local options = require "neap.options"
local schema = require "neap.schema"
local scope = require "neap.scope"
local telemetry = require "neap.telemetry"

local M = {}

local now, note_traceback = core.now, core.note_traceback

-- To wait for it takes no time, but raises where a wait would: in a cancelled
-- task, and outside of tasks.
local checkpoint = core.event()
checkpoint:set()

-- The slot of all items where nothing groups them.
local UNGROUPED = {}

---@class neap.batcher.Entry one item and its caller
---@field item any
---@field weight number
---@field batch neap.batcher.Batch
---@field gone? boolean its caller has left
---@field result any
---@field err any

---@class neap.batcher.Batch
---@field state "open"|"full"|"running"|"ended" full: takes no more, waits for its turn; an open one may be due, too
---@field slot any where `open` has it
---@field key any what `run` gets
---@field number integer batches are counted
---@field entries neap.batcher.Entry[] in the order of submits; once taken, those of the items that `run` got
---@field live integer entries whose caller has not left
---@field weight number of the live entries
---@field began number neap.now() of the first item
---@field due? "size"|"weight"|"delay"|"flush"|"close"|"update" why it is to be sent
---@field taken? boolean `run` has its items
---@field settled? boolean its entries have their answers
---@field started neap.event it is its turn
---@field ended neap.event
---@field task neap.task
---@field before? neap.batcher.Batch in the line of due batches
---@field after? neap.batcher.Batch

---@class neap.Batcher
---@field name string
---@field options table checked
---@field private raised fun(err: any): neap.Error a message handler
---@field private open table<any, neap.batcher.Batch> by slot
---@field private waiting integer items not yet sent
---@field private running integer batches under way
---@field private alive integer batches that have not ended
---@field private opened integer batches so far
---@field private batches integer sent so far
---@field private items integer sent so far
---@field private dropped integer items whose callers left before they were sent
---@field private refused integer items that "queue_full" turned away
local Batcher = {}
Batcher.__index = Batcher
Batcher.__tostring = function(self) return self.name end

local function emit(self, event, fields)
  if telemetry.active then telemetry.emit(self.name, "batcher", event, fields) end
end

-- ---------------------------------------------------------------------------
-- The line of batches that are due: none of these functions waits
-- ---------------------------------------------------------------------------

local function enter_line(self, batch)
  batch.before, self.last = self.last, batch
  if batch.before then batch.before.after = batch else self.first = batch end
end

local function leave_line(self, batch)
  local before, after = batch.before, batch.after
  if before then before.after = after else self.first = after end
  if after then after.before = before else self.last = before end
  batch.before, batch.after = nil, nil
end

--- It takes no more items.
local function shut(self, batch)
  if self.open[batch.slot] == batch then self.open[batch.slot] = nil end
  if batch.state == "open" then batch.state = "full" end
end

local function start(self, batch)
  leave_line(self, batch)
  shut(self, batch)
  batch.state = "running"
  self.running = self.running + 1
  self.waiting = self.waiting - batch.live
  batch.started:set()
end

local function dispatch(self)
  local limit = self.options.concurrency or math.huge
  while self.first and self.running < limit do start(self, self.first) end
end

--- To be sent as soon as the concurrency allows it.
local function make_due(self, batch, reason)
  if batch.due then return end
  batch.due = reason
  enter_line(self, batch)
  dispatch(self)
end

--- It ends without having been sent.
local function withdraw(self, batch)
  if batch.due then leave_line(self, batch) end
  shut(self, batch)
  batch.state = "ended"
  self.waiting = self.waiting - batch.live
end

local function compact(entries)
  local kept = {}
  for _, entry in ipairs(entries) do
    if not entry.gone then kept[#kept + 1] = entry end
  end
  return kept
end

--- An entry's caller has left without an answer.
local function leave(self, entry)
  local batch = entry.batch
  entry.gone = true
  batch.live, batch.weight = batch.live - 1, batch.weight - entry.weight
  if not batch.taken then self.dropped = self.dropped + 1 end
  if batch.state ~= "running" then
    self.waiting = self.waiting - 1
    if batch.live == 0 then
      withdraw(self, batch)
    elseif #batch.entries > 2 * batch.live + 16 then
      -- A batch that waits long must not keep everybody who has ever left.
      batch.entries = compact(batch.entries)
    end
  end
  if batch.live == 0 then batch.task:cancel() end
end

-- ---------------------------------------------------------------------------
-- The life of a batch
-- ---------------------------------------------------------------------------

--- The items of the callers that are still there.
local function take(self, batch)
  batch.entries = compact(batch.entries)
  local items = {}
  for i, entry in ipairs(batch.entries) do items[i] = entry.item end
  if #items > 0 then
    batch.taken = true
    self.batches, self.items = self.batches + 1, self.items + #items
    emit(self, "send", { reason = batch.due, size = #items, weight = batch.weight, key = batch.key,
      waited = now() - batch.began })
  end
  return items
end

--- The traceback is taken here: the scope around it raises the error again.
local function call_run(self, items, key)
  local ok, results, failures = xpcall(self.options.run, self.raised, items, key)
  if not ok then error(results, 0) end
  return results, failures
end

--- Waits for the batch's turn and runs it.
local function run(self, batch)
  if not batch.started:wait(self.options.max_delay) then
    make_due(self, batch, "delay")
    batch.started:wait()
  end
  -- A caller that was cancelled or timed out no longer waits, but has not run yet.
  while batch.ended:waiting() < batch.live do core.sleep(0) end
  local items = take(self, batch)
  if #items == 0 then return items end
  -- What `run` spawns ends with it.
  return scope.scope(function() return call_run(self, items, batch.key) end)
end

local function finish(self, batch, ok, results, failures)
  local err = answers.give(self.name, batch.entries, ok, results, failures)
  batch.settled = true
  if batch.state == "running" then
    self.running = self.running - 1
  elseif batch.state ~= "ended" then
    withdraw(self, batch)
  end
  batch.state = "ended"
  if batch.taken then
    emit(self, "done", { size = #batch.entries, key = batch.key, seconds = now() - batch.began, ok = err == nil,
      error = type(err) == "table" and err.kind or nil })
  end
  batch.ended:set()
  dispatch(self)
  self.alive = self.alive - 1
  if self.alive == 0 then self.idle:set() end
end

--- A batch's task. No error leaves it: the callers get them.
local function live(self, batch)
  finish(self, batch, xpcall(run, self.raised, self, batch))
end

local function open_batch(self, slot, key)
  self.opened, self.alive = self.opened + 1, self.alive + 1
  self.idle:clear()
  local batch = {
    state = "open", slot = slot, key = key, number = self.opened, entries = {}, live = 0, weight = 0, began = now(),
    started = core.event(), ended = core.event(),
  }
  self.open[slot] = batch
  batch.task = core.spawn_detached(live, self, batch):set_name(self.name)
  return batch
end

-- ---------------------------------------------------------------------------
-- The callers
-- ---------------------------------------------------------------------------

local submit_options = { timeout = { type = "number", min = 0 } }

--- Where an item goes, and what it weighs.
local function place(self, item)
  local opts = self.options
  local slot, key, weight = UNGROUPED, nil, 0
  if opts.group_by then
    key = opts.group_by(item)
    if key == nil or key ~= key then options.fail("neap.batcher: group_by must return a key, got " .. tostring(key)) end
    slot = key
  end
  if opts.weight then
    weight = opts.weight(item)
    if type(weight) ~= "number" or not (weight >= 0 and weight < math.huge) then
      options.fail("neap.batcher: weight must return a number of at least 0, got " .. tostring(weight))
    end
  end
  return slot, key, weight
end

--- Puts an item into the open batch of its slot, or into a new one.
local function add(self, item, slot, key, weight)
  local opts, batch = self.options, self.open[slot]
  local heaviest = opts.max_weight or math.huge
  if batch and batch.weight + weight > heaviest then
    shut(self, batch)
    make_due(self, batch, "weight")
    batch = nil
  end
  batch = batch or open_batch(self, slot, key)
  local entry = { item = item, weight = weight, batch = batch }
  batch.entries[#batch.entries + 1] = entry
  batch.live, batch.weight = batch.live + 1, batch.weight + weight
  self.waiting = self.waiting + 1
  if batch.live >= opts.max_size or batch.weight >= heaviest then
    shut(self, batch)
    make_due(self, batch, batch.live >= opts.max_size and "size" or "weight")
  end
  return entry
end

--- Waits for an entry's answer.
local function await(self, entry, timeout)
  local batch = entry.batch
  local ok, err = xpcall(batch.ended.wait, note_traceback, batch.ended, timeout)
  if ok and batch.settled then return entry.result, entry.err end
  if not batch.settled then leave(self, entry) end
  if not ok then error(err, 0) end
  return nil, errors.new { kind = "timeout", phase = "batcher", sent = batch.taken and "maybe" or "no",
    message = ("no answer from %s within %g s"):format(self.name, timeout) }
end

--- Puts `item` into a batch and waits for its answer: what `run` returned for it.
--- A caller that is cancelled or times out leaves the batch to the others: its
--- item is not sent, if it was not yet. Waits.
---@param item any but nil
---@param opts? {timeout: number} seconds
---@return any? result
---@return any err kind "timeout" (`sent`: "no" or "maybe"), "queue_full", "closed"; "protocol" when `run` gave the
--- wrong number of answers, "internal" when it raised; else what `run` gave as error
function Batcher:submit(item, opts)
  if item == nil then options.fail("batcher:submit needs an item, got nil") end
  local timeout = opts and options.check("batcher:submit", opts, submit_options).timeout
  checkpoint:wait()
  local slot, key, weight = place(self, item)
  if self.closed then
    return nil, errors.new { kind = "closed", sent = "no", message = self.name .. " is closed" }
  end
  local most = self.options.max_waiting
  if most and self.waiting >= most then
    self.refused = self.refused + 1
    emit(self, "queue_full", { reason = "max_waiting", waiting = self.waiting })
    return nil, errors.new { kind = "queue_full", phase = "batcher", sent = "no",
      message = ("%d items wait in %s already"):format(self.waiting, self.name) }
  end
  return await(self, add(self, item, slot, key, weight), timeout)
end

--- The batches that still take items, the oldest first.
local function open_batches(self)
  local list = {}
  for _, batch in pairs(self.open) do list[#list + 1] = batch end
  table.sort(list, function(a, b) return a.number < b.number end)
  return list
end

--- Sends what waits, without waiting for size or delay; concurrency holds. Never
--- waits.
function Batcher:flush()
  for _, batch in ipairs(open_batches(self)) do make_due(self, batch, "flush") end
end

--- Refuses further items, sends what waits, and returns once all batches have
--- ended. Waits. May be called again.
---@param timeout? number seconds
---@return true? drained
---@return neap.Error? err kind "timeout": the rest goes on
function Batcher:close(timeout)
  if not self.closed then
    self.closed = true
    for _, batch in ipairs(open_batches(self)) do make_due(self, batch, "close") end
    emit(self, "close", { reason = "manual", waiting = self.waiting, running = self.running })
  end
  return self.idle:wait(timeout)
end

local function check_rules(where, opts)
  if opts.max_weight and not opts.weight then
    options.fail(where .. ": option 'max_weight' needs 'weight', a function")
  end
  if opts.weight and not opts.max_weight then
    options.fail(where .. ": option 'weight' needs 'max_weight', a number above 0")
  end
  if opts.max_waiting and opts.max_waiting < opts.max_size then
    options.fail(("%s: option 'max_waiting' must be at least 'max_size' (%d), got %d"):format(where, opts.max_size,
      opts.max_waiting))
  end
end

--- Changes options while in use. A batch that has begun keeps its delay; one that
--- is now too large is sent. Never waits.
---@param changes table
function Batcher:update(changes)
  local changed = schema.change("batcher", self.options, changes)
  check_rules("neap.batcher: update", changed)
  self.options = changed
  for _, batch in ipairs(open_batches(self)) do
    if batch.live >= changed.max_size or batch.weight >= (changed.max_weight or math.huge) then
      shut(self, batch)
      make_due(self, batch, "update")
    end
  end
  dispatch(self)
  emit(self, "update", { reason = "manual", changes = changes })
end

---@class neap.batcher.Snapshot
---@field state "idle"|"gathering"|"running"|"closed"
---@field reason? string why the batch at the head of the line is not sent: "concurrency"
---@field limit? integer batches under way at the same time
---@field waiting integer items that are not sent
---@field running integer batches under way
---@field open integer batches that take items
---@field due integer batches that wait for their turn
---@field next_change? number seconds until the next batch is sent for its age
---@field batches integer sent so far
---@field items integer sent so far
---@field dropped integer items whose callers left before they were sent
---@field refused integer items that found `max_waiting` reached

--- Plain data about the present state. Never waits.
---@return neap.batcher.Snapshot
function Batcher:snapshot()
  local open, due, next_change = 0, 0, nil
  for _, batch in pairs(self.open) do
    open = open + 1
    local at = not batch.due and batch.began + self.options.max_delay
    if at and at < math.huge and (not next_change or at < next_change) then next_change = at end
  end
  local batch = self.first
  while batch do
    due, batch = due + 1, batch.after
  end
  local state = self.running > 0 and "running" or self.waiting > 0 and "gathering" or "idle"
  return {
    kind = "batcher", name = self.name, state = self.closed and "closed" or state,
    reason = self.first and "concurrency" or nil, limit = self.options.concurrency, waiting = self.waiting,
    running = self.running, open = open, due = due, next_change = next_change and math.max(0, next_change - core.now()),
    batches = self.batches,
    items = self.items, dropped = self.dropped, refused = self.refused,
  }
end

--- A batcher. Never waits.
---@param opts neap.batcher.Options
---@return neap.Batcher
function M.new(opts)
  local checked = schema.check("batcher", opts)
  check_rules("neap.batcher", checked)
  local idle = core.event()
  idle:set()
  local name = checked.name or "batcher"
  return setmetatable({
    options = checked, name = name, raised = function(err) return answers.raised(name, err) end,
    open = {}, idle = idle, closed = false,
    waiting = 0, running = 0, alive = 0, opened = 0, batches = 0, items = 0, dropped = 0, refused = 0,
  }, Batcher)
end

return M
