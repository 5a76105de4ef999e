--- Sends a request and follows where it is redirected.
local body = require "neap.http.body"
local core = require "neap.core"
local error_module = require "neap.error"
local redirect = require "neap.http.redirect"
local response = require "neap.http.response"

local M = {}

--- Sends the source's chunks. Returns an error of the source only: one of the
--- transfer, or an answer before the end, is found by call:head().
local function upload(call, source)
  local next_chunk, close = body.open(source)
  if not next_chunk then return close end
  local ok, failure = pcall(function()
    while true do
      local chunk, err = next_chunk()
      if err then return err end
      if chunk == nil then break end
      if chunk ~= "" and not call:write(chunk) then return nil end
    end
    call:finish()
  end)
  close()
  if not ok then error(failure, 0) end
  return failure
end

local function await_head(call, request)
  if type(request.body) == "table" then
    local err = upload(call, request.body)
    if err then return nil, err end
  end
  return call:head()
end

--- One hop whose body is sent or received in pieces.
local function streamed(client, request)
  local content, announced = request.body, request.body
  if type(content) == "table" then announced = content.length or true end
  local call, err = client.native:open(request.method, request.url, request.headers, announced, request.spec)
  if not call then return nil, err end
  local ok, res, head_err = pcall(await_head, call, request)
  if not ok or not res then
    call:close() -- on a cancel too: the connection is free before the error leaves
    if not ok then error(res, 0) end
    return nil, head_err
  end
  res.call, res.max_body = call, client.collect_limit
  if request.stream then return res end
  local read_ok, text, read_err = pcall(res.read_all, res)
  call:close()
  if not read_ok then error(text, 0) end
  if not text then return nil, read_err end
  res.call = nil
  return res
end

local function transmit(client, request)
  if request.stream or type(request.body) == "table" then return streamed(client, request) end
  return client.native:send(request.method, request.url, request.headers, request.body, request.spec)
end

local function hop(client, request)
  local through_cache = client.cache_hop
  if through_cache then return through_cache(client, request, transmit) end
  return transmit(client, request)
end

--- Seconds of a hop that count against the total: the queue's do not.
local function busy_seconds(timings)
  return timings.dns + timings.connect + timings.tls + timings.send + timings.first_byte + timings.download
end

local function too_many(request, sends)
  return error_module.new {
    kind = "redirect", phase = "first_byte", sent = "yes", sends = sends,
    message = ("more than %d redirects, the last one to %s")
      :format(request.redirects, core.url_origin(request.url) or "nowhere"),
  }
end

--- The total timeout spans all hops: what is left of it goes to the next.
local function spend(client, request, earlier)
  local spec = request.spec or {}
  local total = request.total or spec.timeout_total or client.timeout_total
  if total == math.huge then return end
  request.total = total
  spec.timeout_total = math.max(total - busy_seconds(earlier), 0.001)
  request.spec = spec
end

--- Follows `res`, the answer to `request`, until one that is not to be followed.
--- `sends` and the timings of all hops add up. Waits.
---@param client neap.http.Client
---@param request neap.http.Request changed to the last hop's
---@param res neap.http.Response
---@return neap.http.Response? res, neap.Error? err
function M.follow(client, request, res)
  local hops, sends, earlier = 0, 0, nil
  while redirect.STATUSES[res.status] do
    local followed, err = redirect.step(request, res, client.secrets)
    if followed == false then break end
    hops = hops + 1
    sends = sends + res.sends
    res:close()
    if not followed then
      err.sends = sends
      return nil, err
    end
    if hops > request.redirects then return nil, too_many(request, sends) end
    local timings = response.own_timings(res)
    if earlier then response.add_timings(timings, earlier) end
    earlier = timings
    spend(client, request, earlier)
    res, err = hop(client, request)
    if not res then
      err.sends = (err.sends or 0) + sends
      err.sent = "yes" -- an earlier hop was answered
      return nil, err
    end
    res.url, res.earlier = request.url, earlier
  end
  res.sends = res.sends + sends
  return res
end

--- Sends the request and returns the last answer. Waits.
---@param client neap.http.Client
---@param request neap.http.Request
---@return neap.http.Response? res, neap.Error? err
function M.perform(client, request)
  local replay_safe = request.replay_safe or nil
  local res, err = hop(client, request)
  if res then
    res.url = request.url
    if request.redirects > 0 and redirect.STATUSES[res.status] then res, err = M.follow(client, request, res) end
  end
  (res or err).replay_safe = replay_safe
  return res, err
end

return M
