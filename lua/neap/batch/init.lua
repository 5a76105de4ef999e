--- neap batch: a file of requests in the OpenAI batch format against a server,
--- results appended as they come. This puts the parts together: reader, job,
--- writer, progress. The command line is lua/neap/cli/batch.lua.
local files = require "neap.batch.files"
local http = require "neap.http"
local jobs = require "neap.batch.job"
local neap = require "neap"
local progress = require "neap.batch.progress"
local reader = require "neap.batch.reader"
local summary = require "neap.batch.summary"
local writer = require "neap.batch.writer"

local M = {}

---@class neap.batch.Options
---@field input string path, "-" for standard input
---@field output string path, "-" for standard output
---@field base_url string http or https
---@field headers table<string, string> sent with every request
---@field concurrency integer requests in flight
---@field max_attempts integer the first included
---@field timeout number seconds for one attempt
---@field pace boolean wait as the server's rate-limit headers say
---@field force boolean overwrite an output that exists
---@field progress boolean
---@field quiet boolean no progress, no summary
---@field screen neap.batch.Screen

---@class neap.batch.Batch
---@field job neap.batch.Job
---@field options neap.batch.Options
local Batch = {}
Batch.__index = Batch

--- More bad lines than this are counted, not named: the output names all.
local NAMED_BAD_LINES = 20

--- The client that a batch sends with: `base_url`, `headers`, `concurrency` and
--- `timeout` of its options. nil, err when the base URL will not do.
---@param opts neap.batch.Options
---@return neap.http.Client? client
---@return neap.Error? err
function M.client(opts)
  return http.client {
    -- Checked here, once; jobs.join makes the address of each line.
    base_url = opts.base_url,
    headers = opts.headers,
    max_connections = opts.concurrency,
    timeout = { total = opts.timeout },
  }
end

function Batch:bad_line(problem)
  self.bad_lines = self.bad_lines + 1
  if self.bad_lines <= NAMED_BAD_LINES then
    self.progress:message("neap: batch: " .. problem)
  elseif self.bad_lines == NAMED_BAD_LINES + 1 then
    self.progress:message("neap: batch: more bad lines follow; the output names them all")
  end
end

--- Opens everything a batch needs; nothing has been sent. nil, err (one clear
--- sentence) when the input, the output or the base URL will not do. Waits.
---@param opts neap.batch.Options
---@return neap.batch.Batch? batch
---@return neap.Error? err
function M.open(opts)
  local client, err = M.client(opts)
  if not client then return nil, err end
  local source, output
  source, err = files.open_input(opts.input)
  if source then output, err = files.open_output(opts.output, source.stat, opts.force) end
  if not output then
    if source then source:close() end
    client:close()
    return nil, err
  end
  local self = setmetatable({ options = opts, client = client, bad_lines = 0 }, Batch)
  self.reader, self.writer = reader.new(source), writer.new(output)
  self.job = jobs.new({ client = client, reader = self.reader, writer = self.writer }, {
    base_url = opts.base_url,
    concurrency = opts.concurrency,
    max_attempts = opts.max_attempts,
    pace = opts.pace,
    on_bad_line = function(problem) self:bad_line(problem) end,
  })
  self.progress = progress.new(self.job.stats, source.size, opts.screen, opts.progress and not opts.quiet)
  return self
end

function Batch:report()
  local job, stats = self.job, self.job.stats
  self.progress:clear()
  if job.read_error then self.progress:message("neap: batch: " .. job.read_error.message) end
  if job.write_error then self.progress:message("neap: batch: " .. job.write_error.message) end
  if self.options.quiet then return end
  local text = summary.text(stats, neap.now() - stats.started, self.options.output)
  if job.stopping and not job.write_error then
    text = (job.aborted and "aborted: " or "interrupted: ") .. text
  end
  self.progress:message(text)
end

--- Runs the batch to its end (or to job:stop(), job:abort()), closes everything
--- and reports. Returns whether every request was answered with success. Waits.
---@return boolean ok
function Batch:run()
  neap.scope(function(scope)
    local drawing = scope:spawn(self.progress.run, self.progress)
    self.job:run()
    drawing:cancel()
  end)
  self.reader:close()
  local closed, err = self.writer:close()
  if not closed then self.job.write_error = self.job.write_error or err end
  self.client:close()
  self:report()
  return self.job.stats.failed == 0 and not self.job.stopping
    and not self.job.read_error and not self.job.write_error
end

return M
