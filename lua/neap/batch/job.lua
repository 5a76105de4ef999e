--- Runs a batch: takes items from the reader, keeps a window of them in flight,
--- calls the server until it answers for good, hands each result to the writer.
--- One sliding window: as soon as one item is done the next is taken; at most
--- `concurrency` items are in memory.
local core = require "neap.core"
local errors = require "neap.error"
local flow = require "neap.flow"
local histogram = require "neap.histogram"
local ids = require "neap.batch.ids"
local pacing = require "neap.batch.pacing"
local result = require "neap.batch.result"
local retry = require "neap.retry"
local scope = require "neap.scope"

local M = {}

---@class neap.batch.Stats
---@field started number neap.now() at the start
---@field taken integer items read
---@field done integer results written
---@field ok integer answers with a status from 200 to 299
---@field failed integer all other results
---@field bad integer of these: lines that could not be run
---@field retries integer attempts after the first ones, libcurl's own included
---@field in_flight integer items taken and not done
---@field waiting integer of these: waiting for their turn, or before another attempt
---@field bytes integer of the input, done
---@field statuses table<integer, integer> final answers by status
---@field errors table<string, integer> results without an answer by error kind
---@field samples table<string, string> the first message of each of these kinds
---@field latency neap.Histogram seconds of every answer, one attempt each

---@class neap.batch.JobOptions
---@field base_url string
---@field concurrency integer
---@field max_attempts integer
---@field pace boolean wait as the server's rate-limit headers say
---@field on_bad_line? fun(problem: string)

---@class neap.batch.Job
---@field stats neap.batch.Stats
---@field stopping boolean takes nothing more
---@field aborted boolean
---@field read_error? neap.Error
---@field write_error? neap.Error
local Job = {}
Job.__index = Job

--- Waits between attempts: a batch has time, so the bound goes higher than
--- neap.retry's.
M.BACKOFF = { base = 0.5, factor = 2, max = 60, jitter = "full" }

local function new_stats()
  return {
    started = core.now(), taken = 0, done = 0, ok = 0, failed = 0, bad = 0, retries = 0,
    in_flight = 0, waiting = 0, bytes = 0, statuses = {}, errors = {}, samples = {}, latency = histogram.new(),
  }
end

--- The address of a line's path: a version segment that ends the base URL and
--- begins the path (".../v1" and "/v1/...") is there once.
---@param base_url string
---@param path string begins with "/"
---@return string
function M.join(base_url, path)
  local base = base_url:gsub("/+$", "")
  local version = base:match "^%a+://[^/]+.*/(v%d%w*)$"
  if version then
    local rest = path:match("^/" .. version .. "([/?].*)$") or (path == "/" .. version and "")
    if rest then return base .. rest end
  end
  return base .. path
end

--- A job over its parts.
---@param parts {client: neap.http.Client, reader: neap.batch.Reader, writer: neap.batch.Writer}
---@param opts neap.batch.JobOptions
---@return neap.batch.Job
function M.new(parts, opts)
  local self = setmetatable({
    client = parts.client, reader = parts.reader, writer = parts.writer, options = opts,
    stats = new_stats(), stopping = false, aborted = false,
    window = flow.semaphore(opts.concurrency),
    running = {}, -- task -> item
    -- Differs between runs: a server that remembers idempotency keys must not
    -- answer today's job with yesterday's results.
    run_id = ("%08x%08x"):format(core.random() * 2 ^ 32, core.random() * 2 ^ 32),
  }, Job)
  self.retry = retry.new {
    max_attempts = opts.max_attempts,
    backoff = M.BACKOFF,
    retry_on = function(res, err, attempt)
      if self.stopping or not retry.default_retry_on(res, err, attempt) then return false end
      return not (res and res.status == 429 and self.running[core.current()].too_large)
    end,
    on_retry = function(event)
      local item = self.running[core.current()]
      self.stats.retries = self.stats.retries + 1
      self:set_waiting(item, true)
      item.last = event
    end,
  }
  self.pacing = opts.pace and pacing.new(self.retry, opts.concurrency) or nil
  return self
end

--- Notes whether an item waits, rather than being at the server.
function Job:set_waiting(item, waits)
  if item.waits == waits then return end
  item.waits = waits
  self.stats.waiting = self.stats.waiting + (waits and 1 or -1)
end

-- One attempt.
function Job:send(item)
  local stats = self.stats
  self:set_waiting(item, false)
  item.last, item.sent = nil, true
  local began, url = core.now(), M.join(self.options.base_url, item.url)
  local res, err = self.client:request {
    method = item.method,
    url = url,
    headers = { ["X-Client-Request-Id"] = ids.header_value(item.name) },
    body = item.body,
    idempotency_key = ("neap-%s-%s"):format(self.run_id, item.id:match "%x+$"),
  }
  if res then
    stats.latency:add(core.now() - began)
    if self.pacing then self.pacing:heard(item, res) end
  end
  -- libcurl sends again by itself when a kept connection turns out to be dead,
  -- which a replay-safe request allows; redirects are no retries.
  local outcome = res or err
  if (outcome.sends or 1) > 1 and (outcome.url or url) == url then
    stats.retries = stats.retries + outcome.sends - 1
  end
  return res, err
end

local function count(counts, key)
  counts[key] = (counts[key] or 0) + 1
end

-- The line for an item that ran; its outcome is in the counts once written.
function Job:run_item(item)
  local task = core.current()
  self.running[task] = item
  item.waits = false
  self:set_waiting(item, true)
  local res, err = scope.scope(function(s)
    item.scope = s
    return (self.pacing or self.retry):call(self.send, self, item)
  end)
  self.running[task] = nil
  self:set_waiting(item, false)
  if item.last then
    -- Stopped while it waited to try again: what it has must do.
    self.stats.retries = self.stats.retries - 1
    res, err = item.last.result, item.last.err
  elseif not item.sent then
    err = errors.new { kind = "cancelled", sent = "no", message = "interrupted before it was sent" }
  end
  if res then return result.answer(item, res), res.status end
  return result.failure(item, err.kind, err.message), err.kind, err.message
end

-- `message` says why there is no answer, unless that has been said.
function Job:store(item, line, outcome, message)
  local stats = self.stats
  local ok, err = self.writer:append(line)
  stats.in_flight = stats.in_flight - 1
  self.window:release()
  if not ok then
    self.write_error = err
    return self:abort()
  end
  stats.done, stats.bytes = stats.done + 1, stats.bytes + item.bytes
  if type(outcome) == "number" then
    count(stats.statuses, outcome)
  else
    count(stats.errors, outcome)
    stats.samples[outcome] = stats.samples[outcome] or message
  end
  if type(outcome) == "number" and outcome >= 200 and outcome < 300 then
    stats.ok = stats.ok + 1
  else
    stats.failed = stats.failed + 1
  end
end

function Job:handle(item)
  self:store(item, self:run_item(item))
end

function Job:refuse(item)
  self.stats.bad = self.stats.bad + 1
  if self.options.on_bad_line then self.options.on_bad_line(item.problem) end
  self:store(item, result.failure(item, "invalid", item.problem), "invalid")
end

-- The only task that takes items.
function Job:take()
  local stats = self.stats
  while true do
    self.window:acquire()
    local item, err = self.reader:next()
    if not item then
      self.read_error = err
      return
    end
    stats.taken, stats.in_flight = stats.taken + 1, stats.in_flight + 1
    -- A task of its own for bad lines too: stop() cancels this one, and what has
    -- been taken is to get its line.
    self.scope:spawn(item.problem and self.refuse or self.handle, self, item)
  end
end

--- Runs to the end of the input, or until stopped or aborted. Waits.
function Job:run()
  scope.scope(function(s)
    self.scope = s
    if not self.stopping then self.taker = s:spawn(self.take, self) end
  end)
  self.scope = nil
end

--- Takes nothing more; attempts under way are finished, but none is repeated:
--- what waits to try again takes the answer or error that it has, and what waits for
--- its first turn is told as not sent. Safe to call at any time.
function Job:stop()
  self.stopping = true
  local parked = {}
  for _, item in pairs(self.running) do
    if item.waits and item.scope then parked[#parked + 1] = item end
  end
  table.sort(parked, function(a, b) return a.line < b.line end)
  for _, item in ipairs(parked) do item.scope:cancel() end
  if self.taker then self.taker:cancel() end
end

--- Ends at once: what is in flight is cancelled. A line that is being written
--- is written whole.
function Job:abort()
  self.stopping, self.aborted = true, true
  if self.scope then self.scope:cancel() end
end

return M
