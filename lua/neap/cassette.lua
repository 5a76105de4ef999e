--- Cassettes: what a program sent and what came back, recorded, to fit a world to it
--- or to replay it in virtual time. See docs/cassette.md.
---
---   local recording = assert(neap.cassette.record "cassette.jsonl")
---   ... requests of clients that are made from now on ...
---   assert(recording:stop())
---   local fitted = neap.cassette.fit "cassette.jsonl"
local errors = require "neap.error"
local options = require "neap.options"

local M = {}

local record_options = { bodies = { type = "string", one_of = { "all", "none" }, default = "all" } }

--- Records what clients made from now on send, and what comes back, into a new file.
--- Secrets are left out. Waits.
---@param path string
---@param opts? {bodies: "all"|"none"} "none" leaves the bodies of answers out; default "all"
---@return neap.cassette.Recording? recording
---@return neap.Error? err
function M.record(path, opts)
  if type(path) ~= "string" then options.fail("neap.cassette.record: needs a path, got " .. type(path)) end
  opts = options.check("neap.cassette.record", opts, record_options)
  return require("neap.cassette.recorder").start(path, opts.bodies)
end

--- Reads a cassette. Never waits.
---@param path string
---@return neap.cassette.Tape? tape
---@return neap.Error? err kind "invalid", its message one line with file and line
function M.read(path)
  if type(path) ~= "string" then options.fail("neap.cassette.read: needs a path, got " .. type(path)) end
  local tape, message = require("neap.cassette.reader").read(path)
  if tape then return tape end
  return nil, errors.new { kind = "invalid", message = message }
end

--- The tape itself, or that of a file. Raises one line.
local function tape_of(where, value)
  if type(value) == "table" and value.entries then return value end
  if type(value) ~= "string" then
    options.fail(("%s: needs a cassette's path, or what neap.cassette.read returned, got %s"):format(where,
      type(value)))
  end
  local tape, message = require("neap.cassette.reader").read(value)
  if not tape then error(message, 0) end
  return tape
end

--- Fits the laws of a world to a cassette. Never waits; raises one line when there is
--- nothing to fit.
---@param cassette string|neap.cassette.Tape
---@return neap.cassette.Fitted fitted `fitted:world()` is a world file's text, `fitted:report()` the goodness of fit
function M.fit(cassette)
  return require("neap.cassette.fit").of(tape_of("neap.cassette.fit", cassette))
end

--- A world that answers as was recorded, for the simulated network. Never waits; raises
--- one line.
---@param cassette string|neap.cassette.Tape
---@param opts? neap.cassette.ReplayOptions
---@return neap.cassette.World
function M.world(cassette, opts)
  local tape = tape_of("neap.cassette.world", cassette)
  return require("neap.cassette.replay").new(tape, opts)
end

return M
