--- Redirects: what the next request is, if any (RFC 9110, section 15.4; the change
--- from POST to GET as the WHATWG fetch standard has it).
local core = require "neap.core"
local error_module = require "neap.error"
local headers = require "neap.http.headers"

local M = {}

--- Statuses that carry a redirect.
M.STATUSES = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }

--- Never sent to another scheme, host or port than they were meant for.
M.SECRET_HEADERS = {
  ["authorization"] = true, ["proxy-authorization"] = true, ["cookie"] = true,
  ["x-api-key"] = true, ["api-key"] = true,
}

--- What describes a body that is not sent any more, or a repeat that is none.
local BODY_HEADERS = {
  ["content-type"] = true, ["content-length"] = true, ["content-encoding"] = true,
  ["content-language"] = true, ["content-location"] = true, ["transfer-encoding"] = true,
  ["idempotency-key"] = true,
}

--- The redirect's method: GET for a POST that was answered by 301 or 302, and for
--- all but HEAD after 303.
---@param status integer
---@param method string
---@return string
function M.method(status, method)
  if status == 303 then return method == "HEAD" and "HEAD" or "GET" end
  if (status == 301 or status == 302) and method == "POST" then return "GET" end
  return method
end

local function fail(request, message)
  return nil, error_module.new {
    kind = "redirect", phase = "first_byte", sent = "yes",
    message = message:format(core.url_origin(request.url) or "the server"),
  }
end

--- Works out the next hop and changes `request` (url, method, headers, body) to it.
--- Returns false when the response is not to be followed: no Location, or a body
--- that must not or cannot be sent again.
---@param request neap.http.Request
---@param res neap.http.Response
---@param secrets table<string, boolean> lower-case names
---@return boolean? followed, neap.Error? err kind "redirect"
function M.step(request, res, secrets)
  local location = res.headers.location
  if not location then return false end
  local method = M.method(res.status, request.method)
  local repeated = method == request.method and method ~= "GET" and method ~= "HEAD"
  if repeated and not request.replay_safe then return false end
  local body = request.body
  if repeated and type(body) == "table" and not body.restartable then return false end

  local target = core.url_resolve(request.url, location)
  if not target then return fail(request, "%s redirects to an address that is malformed") end
  if not target:find "^[hH][tT][tT][pP][sS]?://" then
    return fail(request, "%s redirects to a scheme other than http and https")
  end
  local origin = core.url_origin(target)
  if not origin then return fail(request, "%s redirects to an address that is malformed") end
  if origin ~= core.url_origin(request.url) then
    request.headers = headers.without(headers.without(request.headers, secrets), { host = true })
  end
  if method ~= request.method then
    request.method, request.body = method, nil
    request.headers = headers.without(request.headers, BODY_HEADERS)
    if request.spec then request.spec.replay_safe = nil end
    request.replay_safe = true
  end
  request.url = target
  return true
end

return M
