--- Upstreams that are a Lua function: each request gets a task, which may wait. The
--- function gets what a handler of `neap.serve` gets and returns the same; besides,
--- `chunks` instead of a body: { { after = seconds since the first byte, data = } }.
local core = require "neap.core"
local errors = require "neap.error"
local exchanges = require "neap.sim.exchange"
local reply = require "neap.service.reply"
local requests = require "neap.service.request"
local sorted = require "neap.sorted"

local setmetatable, type, xpcall = setmetatable, type, xpcall

local M = {}

---@class neap.sim.Handler
---@field package upstream table
---@field package next_id integer
local Handler = {}
Handler.__index = Handler

local made = setmetatable({}, { __mode = "k" })

--- The tasks under way, by their numbers, so that they are cancelled in order.
local tasks, next_task = {}, 0

--- What answers for an upstream that has a handler.
---@param upstream table
---@return neap.sim.Handler
function M.of(upstream)
  local handler = made[upstream]
  if not handler then
    handler = setmetatable({ upstream = upstream, next_id = 0 }, Handler)
    made[upstream] = handler
  end
  return handler
end

--- Cancels what is under way.
function M.cancel()
  local numbers = {}
  for number in pairs(tasks) do numbers[#numbers + 1] = number end
  table.sort(numbers)
  for i = 1, #numbers do tasks[numbers[i]]:cancel() end
end

function Handler:connect(now)
  return self.upstream.connect and self.upstream:connect(now) or { seconds = 0 }
end

local WITH_CHUNKS = { status = true, headers = true, chunks = true }

local function is_unknown(key) return not WITH_CHUNKS[key] end

--- Raises a sentence where an answer in pieces could not be sent as it says.
---@param answer {status: integer?, headers: table?, chunks: {after: number, data: string}[]}
function M.check_chunks(answer)
  local chunks, before = answer.chunks, 0
  local unknown = sorted.first(answer, is_unknown)
  if unknown then error(("an answer with chunks has no '%s'"):format(tostring(unknown)), 0) end
  if type(chunks) ~= "table" then error("chunks must be a table, got " .. type(chunks), 0) end
  for i, chunk in ipairs(chunks) do
    local after = type(chunk) == "table" and chunk.after
    if type(after) ~= "number" or not (after >= before and after < math.huge) then
      error(("chunks: entry %d needs 'after', seconds since the first byte, not below the one before"):format(i), 0)
    end
    if type(chunk.data) ~= "string" then error(("chunks: entry %d needs 'data', a text"):format(i), 0) end
    before = after
  end
end

local function send_chunks(raw, answer)
  M.check_chunks(answer)
  local flat = reply.headers("neap.world", answer.headers)
  local began = core.now()
  raw:stream(answer.status or 200, flat)
  for _, chunk in ipairs(answer.chunks) do
    local left = began + chunk.after - core.now()
    if left > 0 then core.sleep(left) end
    if not raw:write(chunk.data) then return end
  end
  raw:finish()
end

local function send(raw, request, ...)
  local first = ...
  if request.responded then
    raw:finish()
  elseif type(first) == "table" and first.chunks then
    send_chunks(raw, first)
  else
    raw:reply(reply.read(...))
  end
end

--- The host's outage that is under way, or nil.
local function outage_of(upstream)
  local outage = upstream.law and upstream.law.outage
  return outage and outage:at(core.now())
end

--- What the outage makes of a request, or of its answer.
local function meet(window, raw, request)
  if window.how == "hang" then
    request:wait_disconnect()
  elseif window.how == "status" then
    local flat = { "Content-Type", "text/plain; charset=utf-8" }
    if window.retry_after then flat[3], flat[4] = "Retry-After", ("%d"):format(math.ceil(window.retry_after)) end
    raw:reply(window.status, flat, "")
  else
    raw:drop()
  end
end

local function finish(upstream, raw, request, ...)
  local window = not request.responded and outage_of(upstream)
  -- A status comes from something in front of the host, when a request arrives.
  if window and window.how ~= "status" then return meet(window, raw, request) end
  send(raw, request, ...)
end

local function run(upstream, raw, request)
  local window = outage_of(upstream)
  if window then return meet(window, raw, request) end
  finish(upstream, raw, request, upstream.handler(request))
end

local function with_traceback(err)
  if errors.is(err, "cancelled") then return err end
  return errors.wrap(err, debug.traceback("", 2):gsub("^\n", ""))
end

local function handle(upstream, raw, request, number)
  local ok, err = xpcall(run, with_traceback, upstream, raw, request)
  tasks[number] = nil
  if ok then return end
  if errors.is(err, "cancelled") then
    raw:abort()
    error(err, 0)
  end
  if not (upstream.failed and upstream.failed(err)) then
    core.log("error", ("the simulated world failed: %s %s: %s\n%s"):format(request.method, request.target,
      tostring(err), err.traceback or ""))
  end
  if not raw.answered then
    raw:reply(500, { "Content-Type", "text/plain; charset=utf-8" }, "internal server error\n")
  else
    raw:abort()
  end
end

--- For the network: a request has arrived. What it returns is told of `due` and
--- `gone`.
function Handler:takes(slot, now, method, target, on_end, operation, attempt)
  self.next_id = self.next_id + 1
  local stats = self.upstream.stats
  local index
  local raw = exchanges.new(slot, self.next_id, method, target, now, function(_, outcome, status)
    if stats then
      stats:finish(index, outcome == "sent" and status or outcome == "dropped" and "drop" or "disconnect",
        core.now() - now)
    end
    on_end(outcome, status)
  end)
  local request = requests.new(raw, nil)
  rawset(request, "operation", operation)
  rawset(request, "attempt", attempt)
  if stats then
    index = stats:arrive(request.headers["x-client-request-id"], request.path, nil, now)
    stats:note_peak(stats.open)
  end
  next_task = next_task + 1
  local task = core.spawn_detached(handle, self.upstream, raw, request, next_task)
  task:set_name("handler of " .. tostring(self.upstream.host or self.upstream.name or "an upstream"))
  tasks[next_task] = task
  return raw
end

return M
