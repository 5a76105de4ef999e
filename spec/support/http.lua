--- Clients and servers that a spec opens and that are gone after it.
local assert = require "luassert"
local badserver = require "spec.support.badserver"
local leaks = require "spec.support.leaks"
local neap = require "neap"

local M = {}

local opened = {}

--- Closes it when the spec is over.
---@generic T
---@param thing T
---@return T
function M.keep(thing)
  opened[#opened + 1] = thing
  return thing
end

--- A bad server, see spec.support.badserver.
function M.serve(handlers)
  return M.keep(badserver.start(handlers))
end

--- A server that answers every request with its body.
function M.echo()
  return M.serve(function(connection, request)
    connection:respond(200, request.body, { "Content-Type: text/plain" })
  end)
end

--- A client of the server (or of the address).
function M.client(server, opts)
  opts = opts or {}
  if server then opts.base_url = type(server) == "table" and server.url or server end
  return M.keep(assert(neap.http.client(opts)))
end

--- For after_each: closes what was opened, then nothing may be in flight.
function M.finish()
  local things = opened
  opened = {}
  leaks.check_http()
  for i = #things, 1, -1 do things[i]:close() end
  leaks.check_http()
end

--- Asserts that `res` is nil and `err` of this kind; returns err.
function M.fails(kind, res, err)
  assert.is_nil(res)
  assert.is_table(err)
  assert.equal(kind, err.kind, tostring(err))
  assert.equal("string", type(err.message))
  return err
end

--- Waits until `condition()` holds, at most 5 seconds.
function M.eventually(condition, what)
  for _ = 1, 1000 do
    if condition() then return end
    neap.sleep(0.005)
  end
  error((what or "the condition") .. " did not come true", 2)
end

return M
