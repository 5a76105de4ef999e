--- `neap batch`: the command line of lua/neap/batch.
local core = require "neap.core"

local M = {}

M.name = "batch"
M.summary = "run a file of requests (OpenAI batch format) against a server"
M.usage = { "neap batch -i requests.jsonl -o results.jsonl --base-url URL [options]",
  "neap batch --dry-run --world WORLD -i requests.jsonl [options]" }
M.details = [[
Each line of the input is one request: {"custom_id": "...", "method": "POST",
"url": "/v1/chat/completions", "body": {...}}. Each line of the output is its
result, in the order of completion. Ctrl-C finishes what is in flight, a second
one ends at once.

--dry-run tells how long it will take and what it will cost, in simulation, against
a world (docs/world.md): it needs no key, no -o and no network, and writes nothing.

Exit code: 0 all answered with success, 1 some failed, 2 usage, 130 interrupted
(143 by SIGTERM).]]

M.options = {
  { name = "input", short = "i", type = "string", required = true, metavar = "FILE",
    help = "requests, one a line; - is standard input" },
  { name = "output", short = "o", type = "string", metavar = "FILE",
    help = "results, one a line; - is standard output (required)" },
  { name = "base-url", type = "string", metavar = "URL",
    help = "the server, with or without /v1 (required)" },
  { name = "concurrency", short = "c", type = "integer", default = 64, min = 1, max = 100000, metavar = "N",
    help = "requests in flight" },
  { name = "max-attempts", type = "integer", default = 5, min = 1, max = 1000, metavar = "N",
    help = "calls for one request, the first included" },
  { name = "timeout", type = "number", default = 600, above = 0, metavar = "SECONDS",
    help = "for one attempt" },
  { name = "pace", type = "boolean", default = true,
    help = "do not wait as the server's rate-limit headers say" },
  { name = "api-key-env", type = "string", metavar = "NAME",
    help = "environment variable with the API key (OPENAI_API_KEY, if set)" },
  { name = "header", short = "H", type = "list", metavar = "'NAME: VALUE'",
    help = "a header for every request (repeatable)" },
  { name = "force", short = "f", type = "boolean", help = "overwrite the output if it exists" },
  { name = "progress", type = "boolean", default = true, help = "only the summary" },
  { name = "quiet", short = "q", type = "boolean", help = "neither progress nor summary" },
  { name = "dry-run", type = "boolean", help = "simulate: time, 429s, tokens and cost; nothing is sent or written" },
  { name = "world", short = "w", type = "string", metavar = "FILE",
    help = "of --dry-run: a world's file, or a profile such as openai-tier1" },
  { name = "price", type = "string", metavar = "FILE",
    help = "of --dry-run: JSON with what requests and tokens cost" },
  { name = "runs", short = "n", type = "integer", min = 1, max = 10000, metavar = "N",
    help = "of --dry-run: seeds (20)" },
  { name = "seed", short = "s", type = "integer", min = 0, max = 2 ^ 52, metavar = "N",
    help = "of --dry-run: the first seed (1)" },
  { name = "jobs", short = "j", type = "integer", min = 1, max = 1024, metavar = "N",
    help = "of --dry-run: processes at a time (the number of cores)" },
}

local DRY_ONLY = { "world", "price", "runs", "seed", "jobs" }

local EXIT_FAILED, EXIT_USAGE = 1, 2
local INTERRUPTED = { sigint = 130, sigterm = 143 }

local DEFAULT_KEY = "OPENAI_API_KEY"

-- The API key, nil when there is none to send; false, message.
local function api_key(name)
  local key = os.getenv(name or DEFAULT_KEY)
  if key == "" then key = nil end
  if not key then
    if name then return false, ("the environment variable '%s' (--api-key-env) is not set"):format(name) end
    return nil
  end
  if key:find "[%c]" then
    return false, ("the API key in '%s' has a line end or another control character"):format(name or DEFAULT_KEY)
  end
  return key
end

local SET_BY_US = { ["content-length"] = true, ["transfer-encoding"] = true }

--- The headers of every request; nil, message when one is malformed.
---@param list string[] "Name: value"
---@param key_name? string|false environment variable of the API key; false: none is read
---@return table<string, string>? headers
---@return string? message
function M.headers(list, key_name)
  local headers, given = { ["Content-Type"] = "application/json" }, {}
  for _, text in ipairs(list) do
    local name, value = text:match "^([%w!#$%%&'*+.^_`|~-]+):%s*(.-)%s*$"
    -- The text itself stays out of the message: it may be a secret.
    if not name then return nil, "option '--header' needs 'Name: value'" end
    if value:find "%c" then return nil, ("option '--header': '%s' has a control character"):format(name) end
    if SET_BY_US[name:lower()] then
      return nil, ("option '--header': neap sets '%s' itself, for each request's body"):format(name)
    end
    if name:lower() == "content-type" then headers["Content-Type"] = nil end
    given[name:lower()] = true
    headers[name] = value
  end
  if not given.authorization and key_name ~= false then
    local key, message = api_key(key_name)
    if key == false then return nil, message end
    if key then headers["Authorization"] = "Bearer " .. key end
  end
  return headers
end

--- The base URL without what it cannot have; nil, message when it is no http(s)
--- address.
---@param url string
---@return string? url
---@return string? message
function M.base_url(url)
  local scheme, rest = url:match "^(%a[%w+.-]*)://(.*)$"
  scheme = scheme and scheme:lower()
  if scheme ~= "http" and scheme ~= "https" then
    return nil, ("--base-url must begin with http:// or https://, got '%s'"):format(url)
  end
  if not rest:find "^[^/?#]" or rest:find "[%s%c]" then return nil, "--base-url names no server" end
  if rest:find "[?#]" then return nil, "--base-url must have no query and no fragment" end
  if not core.url_origin(url) then return nil, "--base-url is no valid address (a port is 1 to 65535)" end
  return (url:gsub("/+$", ""))
end

-- Standard error, and how wide it is.
local function screen()
  local uv = require "neap.uv"
  local tty = uv.guess_handle(2) == "tty" and uv.new_tty(2, false) or nil
  if tty then tty:unref() end
  return {
    write = function(text) io.stderr:write(text) end,
    width = function()
      local width = tty and tty:get_winsize()
      return width and width > 0 and width or tty and 80 or nil
    end,
    close = function()
      if tty then tty:close() end
    end,
  }
end

-- Ctrl-C: the first stops, the second aborts; a third one, should a write hang,
-- finds the default action. Returns a function that ends the watch and tells the
-- exit code of the first that came, if any.
local function watch_signals(batch)
  local uv = require "neap.uv"
  local handles, interrupted = {}, nil
  local function close()
    for _, handle in ipairs(handles) do handle:close() end
    handles = {}
  end
  local function on_signal(name)
    local job = batch.job
    if interrupted then
      close()
      return job:abort()
    end
    interrupted = INTERRUPTED[name]
    local under_way = job.stats.in_flight - job.stats.waiting -- what waits is not sent any more
    job:stop()
    batch.progress:message(("neap: batch: interrupted; finishing %d in flight (once more to abort)")
      :format(under_way))
  end
  for i, name in ipairs { "sigint", "sigterm" } do
    local handle = uv.new_signal()
    handle:unref()
    handle:start(name, on_signal)
    handles[i] = handle
  end
  return function()
    close()
    return interrupted
  end
end

-- What cannot be; nil: all is well.
local function misuse(opts, rest)
  if rest[1] then return ("unexpected argument '%s'"):format(rest[1]) end
  if opts.dry_run then
    if not opts.world then return "--dry-run needs --world: a world's file, or a profile such as openai-tier1" end
    return nil
  end
  for _, name in ipairs(DRY_ONLY) do
    if opts[name] ~= nil then return ("option '--%s' goes with --dry-run"):format(name) end
  end
  if not opts.output then return "option '--output' is required" end
  if not opts.base_url then return "option '--base-url' is required" end
end

local function dry_run(opts, base_url, headers)
  local report, message = require("neap.batch.dry_run").run {
    input = opts.input, output = opts.output, world = opts.world, base_url = base_url, price = opts.price,
    headers = headers, concurrency = opts.concurrency, max_attempts = opts.max_attempts, timeout = opts.timeout,
    pace = opts.pace, force = opts.force, runs = opts.runs or 20, seed = opts.seed or 1, jobs = opts.jobs,
    progress = opts.progress and not opts.quiet,
  }
  if not report then return EXIT_USAGE, "batch: " .. message end
  io.stdout:write(report)
  return 0
end

--- Runs the command.
---@param opts table
---@param rest string[]
---@return integer exit_code
---@return string? message
function M.main(opts, rest)
  local base_url, headers, batch, err
  local message = misuse(opts, rest)
  if message then return EXIT_USAGE, "batch: " .. message end
  if opts.base_url then
    base_url, message = M.base_url(opts.base_url)
    if not base_url then return EXIT_USAGE, "batch: " .. message end
  end
  headers, message = M.headers(opts.header, not opts.dry_run and opts.api_key_env)
  if not headers then return EXIT_USAGE, "batch: " .. message end
  if opts.dry_run then return dry_run(opts, base_url, headers) end
  local stderr = screen()
  batch, err = require("neap.batch").open {
    input = opts.input, output = opts.output, base_url = base_url, headers = headers,
    concurrency = opts.concurrency, max_attempts = opts.max_attempts, timeout = opts.timeout,
    pace = opts.pace, force = opts.force, progress = opts.progress, quiet = opts.quiet, screen = stderr,
  }
  if not batch then
    stderr.close()
    return EXIT_USAGE, "batch: " .. err.message
  end
  local finish_signals = watch_signals(batch)
  local ok = batch:run()
  stderr.close()
  return finish_signals() or ok and 0 or EXIT_FAILED
end

return M
