--- neap.llm: the API that OpenAI made common, for any server that speaks it.
--- docs/api/llm.md has the fields of requests and replies.
local calls = require "neap.policy.call"
local checks = require "neap.llm.checks"
local core = require "neap.core"
local keys = require "neap.llm.key"
local layer = require "neap.policy.layer"
local options = require "neap.options"
local redirect = require "neap.http.redirect"
local replies = require "neap.llm.reply"
local requests = require "neap.llm.request"
local schema = require "neap.schema"
local streams = require "neap.llm.stream"
local tokens = require "neap.llm.tokens"
local url_module = require "neap.http.url"

local M = {}

local now = core.now

---@class neap.llm.Request fields of the API's body, and these
---@field model? string
---@field messages? table[] chat
---@field prompt? string|table completions; of a chat one message of the user
---@field input? string|string[] embeddings
---@field on_delta? fun(text: string, chunk: table) chat: streamed, and told of each piece; must not raise
---@field timeout? number|table seconds, of one attempt
---@field headers? table<string, string>
---@field idempotency_key? string|false default: a key of its own

---@class neap.Llm
---@field client table neap.http.Client, or what has its methods
---@field policy? neap.Policy|neap.policy.Layer
---@field package options table
---@field package base neap.http.Base
---@field package average neap.llm.Average
local Llm = {}
Llm.__index = Llm

---@class neap.llm.Job one call on its way: the only argument that policies see;
--- `kind`, `model`, `request` and `mode` are for scripts to read
---@field llm neap.Llm
---@field kind "chat"|"complete"|"embed"
---@field request neap.llm.Request
---@field model? string what a router goes by
---@field key? string the idempotency key of all attempts
---@field mode? "collect"|"stream" of `on_delta` and `chat_stream`
local Job = {}
Job.__index = Job

--- For neap.cache, whose default key is made of it.
Job.cache_key = keys.of

-- ---------------------------------------------------------------------------
-- Estimates
-- ---------------------------------------------------------------------------

M.estimate = tokens.estimate

--- What a request will take: input as estimated, output as its `max_tokens` allow
--- or as the last answers took on average. Never waits.
---@param request neap.llm.Request
---@return {requests: integer, tokens: integer, input_tokens: integer, output_tokens: integer}
function Llm:amounts(request)
  local input = tokens.input(request)
  local output = 0
  if request.input == nil then
    output = math.ceil((requests.max_output(request) or self.average.value) * requests.choices(request))
  end
  return { requests = 1, tokens = input + output, input_tokens = input, output_tokens = output }
end

--- What a reply, or a failure, took in truth; nil when nobody knows. Never waits.
---@param reply? neap.llm.Reply
---@param err? neap.Error
---@return {requests: integer, tokens: integer?, input_tokens: integer?, output_tokens: integer?}?
function M.actual(reply, err)
  if type(reply) == "table" and reply.from_cache then
    return { requests = 0, tokens = 0, input_tokens = 0, output_tokens = 0 }
  end
  local usage = type(reply) == "table" and reply.usage
  if usage then
    return { requests = reply.sends or 1, tokens = usage.total_tokens, input_tokens = usage.input_tokens,
      output_tokens = usage.output_tokens }
  end
  -- What the server would not do it does not charge for.
  local status = type(err) == "table" and err.kind == "status" and err.status
  if status and status < 500 and status ~= 408 then
    return { requests = err.sends or 1, tokens = 0, input_tokens = 0, output_tokens = 0 }
  end
end

Llm.actual = function(_, reply, err) return M.actual(reply, err) end

local function job_in(...)
  for i = select("#", ...), 1, -1 do
    local value = select(i, ...)
    if getmetatable(value) == Job then return value end
  end
end

--- For `neap.pace{ amounts = neap.llm.amounts }`: what the call that it is asked
--- about will take. Never waits.
---@param ... any the call's arguments
---@return table
function M.amounts(...)
  local job = job_in(...)
  if not job then options.fail("neap.llm.amounts belongs into the policy of a neap.llm") end
  return job.llm:amounts(job.request)
end

--- For `neap.cache{ key = neap.llm.cache_key }`, which a cache with a file needs:
--- the key of the call, or nil for what is streamed. Never waits.
---@param ... any the call's arguments
---@return string?
function M.cache_key(...)
  local job, first = job_in(...), (...)
  if not job then options.fail("neap.llm.cache_key belongs into the policy of a neap.llm") end
  return keys.of(job, first ~= job and first or nil)
end

-- ---------------------------------------------------------------------------
-- One attempt
-- ---------------------------------------------------------------------------

local function secrets_of(headers)
  local list = {}
  for name, value in pairs(headers) do
    if redirect.SECRET_HEADERS[name:lower()] and type(value) == "string" and value ~= "" then
      list[#list + 1] = value:match "^Bearer (.+)$" or value
    end
  end
  return list
end

--- Headers of a request: ours, the endpoint's, the call's. Our key goes to our own
--- base_url only.
local function headers_of(self, request, endpoint)
  local opts = self.options
  local headers, key = {}, opts.api_key
  if endpoint and (endpoint.api_key or endpoint.base_url) then key = endpoint.api_key end
  if key then headers.Authorization = "Bearer " .. key end
  if opts.organization then headers["OpenAI-Organization"] = opts.organization end
  local own = endpoint and endpoint.base_url and {} or opts.headers
  for _, list in ipairs { own, endpoint and endpoint.headers or {}, request.headers or {} } do
    for name, value in pairs(list) do headers[name] = value end
  end
  return headers
end

local function target_of(self, kind, endpoint)
  local base = self.base
  if endpoint and endpoint.base_url then
    local err
    base, err = url_module.base(endpoint.base_url)
    if not base then return nil, err end
  end
  return url_module.join(base, requests.paths[kind])
end

local function read_stream(stream, on_delta)
  while true do
    local text, chunk, err = stream:read()
    if err then return nil, err end
    if not text then return stream:result() end
    local ok, problem = pcall(on_delta, text, chunk)
    if not ok then
      stream:close()
      error(problem, 0)
    end
  end
end

--- The error of a streamed response of status 300 and above.
local function refused(res, secrets)
  local ok, text, err = pcall(res.read_all, res)
  res:close()
  if not ok then error(text, 0) end
  return nil, err or replies.status_error(res, secrets)
end

local function streamed(self, job, res, began, secrets, endpoint)
  if res.status >= 300 then return refused(res, secrets) end
  local timings = res.timings
  local stream = streams.new(res, {
    began = began + (timings and timings.queue or 0), input = tokens.input(job.request), secrets = secrets,
    endpoint = endpoint and (endpoint.name or endpoint.model),
    on_end = function(reply) self:learn(job.request, reply) end,
  })
  if job.mode == "stream" then return stream end
  return read_stream(stream, job.request.on_delta)
end

--- Takes a reply's output into the average.
function Llm:learn(request, reply)
  local usage = reply.usage
  if usage and usage.output_tokens and not usage.estimated and not reply.vectors then
    self.average:add(usage.output_tokens / requests.choices(request))
  end
end

local function send(job, endpoint)
  local self, request = job.llm, job.request
  local model = endpoint and endpoint.model or job.model
  if not model then
    error("neap.llm: option 'model' is required: in the request, in neap.llm{...} or in the router's endpoint", 0)
  end
  if endpoint then checks.endpoint(endpoint) end
  local url, err = target_of(self, job.kind, endpoint)
  if not url then return nil, err end
  local headers = headers_of(self, request, endpoint)
  local secrets, began = secrets_of(headers), now()
  local res, send_err = (endpoint and endpoint.client or self.client):post(url, {
    json = requests.body(request, model, job.mode ~= nil), headers = headers,
    timeout = request.timeout or self.options.timeout, idempotency_key = job.key, stream = job.mode ~= nil or nil,
  })
  if not res then return nil, send_err end
  if job.mode then return streamed(self, job, res, began, secrets, endpoint) end
  local reply, read_err = replies.read(job.kind, res, secrets, requests.inputs(request))
  if not reply then return nil, read_err end
  reply.endpoint = endpoint and (endpoint.name or endpoint.model)
  self:learn(request, reply)
  return reply
end

--- What policies call: with the job, and before it the endpoints of routers, the
--- innermost one first.
local function attempt(...)
  local first = ...
  return send(job_in(...), getmetatable(first) ~= Job and first or nil)
end

-- ---------------------------------------------------------------------------
-- Calls
-- ---------------------------------------------------------------------------

--- The idempotency key of a call. Inside somebody else's policy the n-th call of
--- each attempt has the same one: that policy's key and n.
local function key_of(self, request)
  local given = request.idempotency_key
  if given == false or given == nil and not self.options.idempotency then return nil end
  if type(given) == "string" then return given end
  local around = calls.of()
  if not around then return calls.new_key() end
  if around.llm_attempt ~= around.attempts then around.llm_attempt, around.llm_calls = around.attempts, 0 end
  around.llm_calls = around.llm_calls + 1
  local key = around:idempotency_key()
  return around.llm_calls == 1 and key or ("%s-%d"):format(key, around.llm_calls)
end

-- Most often it is a dot in place of the colon.
local function check_self(self, where)
  if getmetatable(self) ~= Llm then options.fail(("%s: call it with a colon, %s(...)"):format(where, where)) end
end

local function perform(self, where, kind, given, mode)
  check_self(self, where)
  local request, err = requests.check(where, kind, given)
  if not request then return nil, err end
  local job = setmetatable({
    llm = self, kind = kind, request = request, model = request.model or self.options.model, mode = mode,
    key = key_of(self, request),
  }, Job)
  local policy = self.policy
  if policy then return policy:call(attempt, job) end
  return send(job)
end

--- A chat completion. With `on_delta` the answer is streamed and collected. Waits.
---@param request neap.llm.Request
---@return neap.llm.Reply? reply, neap.Error? err a status of 300 and above is kind "status"
function Llm:chat(request)
  local mode = type(request) == "table" and request.on_delta and "collect" or nil
  return perform(self, "llm:chat", "chat", request, mode)
end

--- A completion of `request.prompt`. Waits.
---@param request neap.llm.Request
---@return neap.llm.Reply? reply, neap.Error? err
function Llm:complete(request)
  return perform(self, "llm:complete", "complete", request)
end

--- Embeddings of `request.input`: `reply.vectors`, in the input's order. Waits.
---@param request neap.llm.Request
---@return neap.llm.Reply? reply, neap.Error? err
function Llm:embed(request)
  return perform(self, "llm:embed", "embed", request)
end

--- A chat completion as a stream. The policy covers it until its head is there;
--- `chat` with `on_delta` covers it to its end. Waits.
---@param request neap.llm.Request
---@return neap.llm.Stream? stream, neap.Error? err
function Llm:chat_stream(request)
  if type(request) == "table" and request.on_delta then
    options.fail("llm:chat_stream: 'on_delta' is an option of chat")
  end
  return perform(self, "llm:chat_stream", "chat", request, "stream")
end

--- Closes the http client, if neap.llm made it. Never waits.
function Llm:close()
  check_self(self, "llm:close")
  if self.owns_client then self.client:close() end
end

function Llm:__tostring() return ("llm at %s"):format(self.origin) end

-- ---------------------------------------------------------------------------
-- Construction
-- ---------------------------------------------------------------------------

local function client_of(given)
  if given and type(given.post) == "function" then return given, false end
  local client, err = require("neap.http").client(given)
  if not client then options.fail("neap.llm: option 'client': " .. tostring(err.message)) end
  return client, true
end

--- A policy as it is; options of neap.policy.standard with our estimates for its
--- limiter.
local function policy_of(given)
  local policy = require "neap.policy"
  if given == nil or policy.is(given) then return given end
  if getmetatable(given) ~= nil then
    options.fail("neap.llm: option 'policy' must be a neap.policy, a single policy or options of neap.policy.standard")
  end
  local opts = {}
  for name, value in pairs(given) do opts[name] = value end
  if opts.client then options.fail("neap.llm: option 'client' stands beside 'policy', not in it") end
  if opts.limiter and not layer.is(opts.limiter) then
    opts.amounts, opts.actual = opts.amounts or M.amounts, opts.actual or M.actual
  end
  local cache = opts.cache
  if type(cache) == "table" and getmetatable(cache) == nil and cache.store and not cache.key then
    opts.cache = { key = M.cache_key }
    for name, value in pairs(cache) do opts.cache[name] = value end
  end
  return policy.standard(opts)
end

--- A client of an OpenAI-compatible API. Misuse raises. Never waits.
---@param opts? neap.llm.Options
---@return neap.Llm
function M.new(opts)
  local checked = schema.check("llm", opts)
  local given_key = checked.api_key
  checked.api_key = given_key or os.getenv(checked.api_key_env)
  if checked.api_key == "" then checked.api_key = nil end
  checks.options(checked, given_key == nil)
  local base = url_module.base(checked.base_url)
  if not base then
    options.fail(("neap.llm: option 'base_url' must be an http or https address, got %q"):format(checked.base_url))
  end
  local self = setmetatable({
    options = checked, base = base, origin = core.url_origin(url_module.join(base, "/")),
    average = tokens.average(checked.expected_output, checked.output_window), policy = policy_of(checked.policy),
  }, Llm)
  self.client, self.owns_client = client_of(checked.client)
  return self
end

return setmetatable(M, { __call = function(_, opts) return M.new(opts) end })
