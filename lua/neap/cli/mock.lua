--- `neap mock`: an OpenAI-compatible upstream that misbehaves on purpose.
local flow = require "neap.flow"
local mock = require "neap.mock"
local syntax = require "neap.mock.syntax"

local STOP_TIMEOUT = 5 -- seconds that running requests get after a signal
local EXIT_USAGE, EXIT_INTERRUPTED = 2, 130

local M = {
  name = "mock",
  summary = "an OpenAI-compatible server for demos and tests",
  usage = "neap mock [options]",
  details = [[
Answers /v1/chat/completions, /v1/completions, /v1/responses (also streamed),
/v1/embeddings and /v1/moderations in OpenAI's format, /v1/messages in Anthropic's,
and any other path with what it was sent. The first line on standard output is
"listening on http://HOST:PORT". GET /stats tells how often each request arrived,
GET /stats?full=1 also when, and how long each took.

  neap mock --latency lognormal:median=0.1,sigma=0.8 --error 503:0.02 --drop 0.01
  neap mock --rate-limit rpm=600,tpm=90000 --concurrency 8 --port 0
  neap mock --latency fixed:1 --capacity 50@t=30:25 --over reject,retry_after=1
  neap mock --brownout knee=50,slope=1 --brownout latency=3,error=0.2@t=30..60

With --world the upstreams of a world file answer instead, each for the requests
whose Host header names it; its law is the one of simulations (neap sim --world).

  neap mock --world worlds/brownout.lua --upstream api.example.com]],
  options = {
    { name = "port", short = "p", type = "integer", default = 8080, min = 0, max = 65535, metavar = "N",
      help = "port to listen on; 0 picks a free one" },
    { name = "host", type = "string", default = "127.0.0.1", metavar = "IP", help = "address to listen on" },
    { name = "world", short = "w", type = "string", metavar = "FILE",
      help = "serve the upstreams of a world file, by Host header; no other law" },
    { name = "upstream", type = "string", metavar = "HOST",
      help = "of --world: this one answers whatever the Host header says" },
    { name = "latency", short = "l", type = "string", metavar = "LAW", parse = syntax.latency,
      help = "fixed:S, uniform:min=S,max=S, exponential:mean=S, lognormal:median=S,sigma=X, pareto:min=S,alpha=X" },
    { name = "error", short = "e", type = "list", metavar = "STATUS:P", parse = syntax.error_rule,
      help = "answer STATUS with probability P (repeatable); STATUS:P,retry_after=S" },
    { name = "rate-limit", type = "string", metavar = "LIMITS", parse = syntax.rate_limit,
      help = "rpm=N,tpm=N[,window=S]: 429 beyond it, and x-ratelimit headers" },
    { name = "drop", type = "string", metavar = "P", parse = syntax.probability,
      help = "reset the connection with probability P" },
    { name = "hang", type = "string", metavar = "P", parse = syntax.probability,
      help = "never answer, with probability P" },
    { name = "capacity", type = "string", metavar = "N[@t=S:N2]", parse = syntax.capacity,
      help = "slots: work on N requests at a time; N2 from S seconds on" },
    { name = "over", type = "string", metavar = "WHAT", parse = syntax.over,
      help = "when no slot is free: reject (429), reject,retry_after=S or queue (default reject)" },
    { name = "concurrency", short = "c", type = "integer", min = 1, max = 2 ^ 31, metavar = "N",
      help = "the same as --capacity N --over queue" },
    { name = "brownout", type = "list", metavar = "RULE", parse = syntax.brownout,
      help = "knee=N,slope=X: slower with load; latency=X,error=P[@t=A..B] (repeatable)" },
    { name = "on-disconnect", type = "string", choices = { "stop", "continue" }, metavar = "WHAT",
      help = "what the work does when its client leaves: stop or continue (default stop)" },
    { name = "token-delay", type = "number", default = 0, min = 0, metavar = "S",
      help = "seconds between two chunks of a stream" },
    { name = "seed", short = "s", type = "integer", default = 1, min = 0, max = 2 ^ 53, metavar = "N",
      help = "seed of latencies and failures" },
  },
}

--- Waits for SIGINT or SIGTERM.
---@return string signal "sigint" or "sigterm"
local function wait_for_signal()
  local uv = require "neap.uv"
  local stopped, signal = flow.event(), nil
  local handles = {}
  for i, name in ipairs { "sigint", "sigterm" } do
    handles[i] = uv.new_signal()
    uv.signal_start(handles[i], name, function(which)
      signal = which
      stopped:set()
    end)
  end
  stopped:wait()
  for _, handle in ipairs(handles) do handle:close() end
  return signal
end

--- The options that a world has of its own.
local LAW = { "latency", "rate-limit", "drop", "hang", "capacity", "over", "concurrency", "on-disconnect" }

local function check_world(opts)
  for _, name in ipairs(LAW) do
    if opts[name:gsub("-", "_")] ~= nil then
      return ("--%s does not go with --world, whose file says it"):format(name)
    end
  end
  if #opts.error > 0 then return "--error does not go with --world, whose file says it" end
  if #opts.brownout > 0 then return "--brownout does not go with --world, whose file says it" end
end

local function check(opts, rest)
  if #rest > 0 then return ("mock takes no argument '%s'"):format(rest[1]) end
  if opts.world then return check_world(opts) end
  if opts.upstream then return "--upstream needs --world FILE" end
  local sum = 0
  for _, rule in ipairs(opts.error) do sum = sum + rule.probability end
  if sum > 1 then return ("the probabilities of --error add up to %g, more than 1"):format(sum) end
  if opts.concurrency and (opts.capacity or opts.over) then
    return "--concurrency N is --capacity N --over queue: give one or the other"
  end
  if opts.over and not opts.capacity then return "--over needs --capacity N" end
end

--- Serves until a signal comes.
---@return integer code
local function run(upstream, line)
  io.stdout:write("listening on ", upstream.server:url(), "\n")
  io.stdout:flush()
  local signal = wait_for_signal()
  upstream:stop(STOP_TIMEOUT)
  io.stdout:write("served ", line(upstream), "\n")
  io.stdout:flush()
  return signal == "sigint" and EXIT_INTERRUPTED or 0
end

local function serve_world(opts)
  local ok, world = pcall(require("neap.world").load, opts.world)
  if not ok then return EXIT_USAGE, tostring(world) end
  local upstream, err = require("neap.mock.world").start { world = world, upstream = opts.upstream, host = opts.host,
    port = opts.port, seed = opts.seed }
  if not upstream then return EXIT_USAGE, err.message end
  return run(upstream, upstream.line)
end

---@param opts table
---@param rest string[]
---@return integer code, string? message
function M.main(opts, rest)
  local message = check(opts, rest)
  if message then return EXIT_USAGE, message end
  if opts.world then return serve_world(opts) end
  local over = opts.over or {}
  local upstream, err = mock.start {
    host = opts.host, port = opts.port, latency = opts.latency, errors = opts.error,
    rate_limit = opts.rate_limit, drop = opts.drop, hang = opts.hang, concurrency = opts.concurrency,
    capacity = opts.capacity, over = over.over, retry_after = over.retry_after,
    brownout = #opts.brownout > 0 and opts.brownout or nil, on_disconnect = opts.on_disconnect,
    token_delay = opts.token_delay, seed = opts.seed,
  }
  if not upstream then return EXIT_USAGE, err.message end
  return run(upstream, function(mocked) return mocked.stats:line() end)
end

return M
