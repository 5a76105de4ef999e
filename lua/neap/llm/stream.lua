--- A streamed answer on its way: reads server-sent events, hands out the text and
--- collects the reply.
local collector = require "neap.llm.collector"
local core = require "neap.core"
local error_class = require "neap.error"
local json = require "neap.json"
local reply_module = require "neap.llm.reply"
local scope = require "neap.scope"
local sse = require "neap.http.sse"
local tokens = require "neap.llm.tokens"

local M = {}

local now = core.now

-- After its last event a stream ends at once; waiting for that keeps the
-- connection, and waiting longer is not worth it.
local END_SECONDS = 0.5

---@class neap.llm.Stream
---@field status integer
---@field headers table<string, string>
---@field attempts? integer
---@field spent? neap.policy.Spent
---@field endpoint? string
---@field package res neap.http.Response
---@field package began number
---@field package input integer
---@field package on_end? fun(reply: neap.llm.Reply)
local Stream = {}
Stream.__index = Stream

--- For neap.cache: a stream is for one, and nothing of it is kept.
function Stream.cache_copy() end

--- A stream of the response `res`, whose head has come with status 200.
---@param res neap.http.Response
---@param fields {began: number, input: integer, secrets: string[], endpoint: string?, on_end: function?}
---@return neap.llm.Stream
function M.new(res, fields)
  fields.res, fields.status, fields.headers, fields.sends = res, res.status, res.headers, res.sends
  fields.parser, fields.collector = sse.new(), collector.new()
  return setmetatable(fields, Stream)
end

--- Ends the transfer at once; later reads give kind "closed". Idempotent, never
--- waits.
function Stream:close()
  if not self.ended then
    self.ended = true
    self.err = error_class.new { kind = "closed", sent = "yes", message = "the stream was closed" }
  end
  self.res:close()
end

-- What has been handed out cannot be taken back: then nobody may try again.
local function fail(self, err)
  err.replay_safe = self.res.replay_safe
  if self.collector.chunks > 0 then err.retryable, err.replay_safe = false, nil end
  self.ended, self.err = true, err
  self.res:close()
  return nil, err
end

local function broken(self, message, fields)
  local err = { kind = "receive", phase = "download", sent = "yes", sends = self.res.sends, message = message }
  for name, value in pairs(fields or {}) do err[name] = value end
  return fail(self, error_class.new(err))
end

-- A cancel or a bug raises out of the wait: the connection is free before it
-- leaves.
local function guarded(self, fn, ...)
  local ok, value, err = pcall(fn, ...)
  if ok then return value, err end
  self:close()
  error(value, 0)
end

local function finish(self)
  guarded(self, scope.timeout, END_SECONDS, function()
    while self.res:read() do end
  end)
  self.ended = true
  self.res:close()
end

--- Reads until there is an event: it, or nil at the body's end, or nil and why it
--- broke off.
local function next_event(self)
  while true do
    local event = self.parser:next()
    if event then return event end
    local chunk, err = guarded(self, self.res.read, self.res)
    if err then return fail(self, err) end
    if not chunk then return nil end
    local ok, problem = pcall(self.parser.feed, self.parser, chunk)
    if not ok then return fail(self, problem) end
  end
end

local function complaint(self, chunk)
  local message, fields = reply_module.complaint(chunk, nil, self.secrets)
  local status = tonumber(fields.code)
  return broken(self, "the provider broke the stream off: " .. message,
    { type = fields.type, code = fields.code, status = status and status >= 400 and status <= 599 and status or nil })
end

local function decode(self, event)
  local chunk = json.decode(event.data)
  if type(chunk) ~= "table" then return broken(self, "the stream holds an event that is no JSON object") end
  if event.event == "error" or (chunk.error ~= nil and chunk.error ~= json.null) then return complaint(self, chunk) end
  return chunk
end

--- The next piece: its text ("" for one that adds something else, such as a tool
--- call) and the chunk that it came in; nil at the end; nil, nil, err when the
--- stream broke off. Waits.
---@return string? text, table? chunk, neap.Error? err
function Stream:read()
  while not self.ended do
    local event, err = next_event(self)
    if err then return nil, nil, err end
    if not event then
      if not self.collector:finished() then
        err = select(2, broken(self, "the stream ended before the answer did"))
        return nil, nil, err
      end
      self.ended = true
    elseif event.data == "[DONE]" then
      finish(self)
    else
      local chunk, problem = decode(self, event)
      if not chunk then return nil, nil, problem end
      local text = self.collector:feed(chunk, now())
      if text then return text, chunk end
    end
  end
  return nil, nil, self.err
end

--- Iterates over the pieces: `for text, chunk in stream:deltas() do`. Waits; raises
--- the error table when the stream breaks off. Leave early with `stream:close()`.
---@return fun(): string?, table?
function Stream:deltas()
  return function()
    local text, chunk, err = self:read()
    if err then error(err, 0) end
    return text, chunk
  end
end

--- The whole answer, once the rest has been read. Waits.
---@return neap.llm.Reply? reply, neap.Error? err why it broke off
function Stream:result()
  if self.reply then return self.reply end
  local text, err
  repeat
    text, err = select(1, self:read()), self.err
  until not text
  if err then return nil, err end
  local reply = self.collector:finish(reply_module.new {
    status = self.status, headers = self.headers, sends = self.sends, endpoint = self.endpoint,
    attempts = self.attempts or 1, spent = self.spent,
  }, self.began, tokens.estimate, self.input)
  self.reply = reply
  if self.on_end then self.on_end(reply) end
  return reply
end

return M
