--- Lets a wait inside a script's own coroutine (a generator that fetches pages,
--- say) reach the scheduler: the resume that drives it passes the wait outward
--- and the wake inward. Replaces coroutine.resume and coroutine.wrap.
local core = require "neap.core"

local WAITS = core.WAITS
local create, resume, yield = coroutine.create, coroutine.resume, coroutine.yield

local function relay(co, ok, first, ...)
  if ok and first == WAITS then return relay(co, resume(co, yield(WAITS))) end
  return ok, first, ...
end

function coroutine.resume(co, ...)
  return relay(co, resume(co, ...))
end

local function unwrap(ok, ...)
  if ok then return ... end
  error((...), 0)
end

function coroutine.wrap(fn)
  local co = create(fn)
  return function(...)
    return unwrap(relay(co, resume(co, ...)))
  end
end
