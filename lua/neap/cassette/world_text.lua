--- Fitted laws as text: a world file, and a table of how well they fit. Pure.
local M = {}

--- 1234567 as "1,234,567".
---@param n integer
---@return string
function M.count(n)
  local text = ("%d"):format(n)
  repeat
    local longer, changed = text:gsub("^(%-?%d+)(%d%d%d)", "%1,%2")
    text = longer
  until changed == 0
  return text
end

--- A number as short as it may be.
local function number(value)
  return (("%.6g"):format(value))
end

local PARAMETERS = { constant = { "seconds" }, uniform = { "min", "max" }, exponential = { "mean" },
  lognormal = { "median", "sigma" }, pareto = { "min", "alpha" } }

--- Lines of at most 110 columns of numbers.
local function samples_text(samples, indent)
  local lines, line = {}, indent
  for _, value in ipairs(samples) do
    local text = ("%.4g"):format(value) .. ", "
    if #line + #text > 110 then
      lines[#lines + 1] = (line:gsub(" $", ""))
      line = indent
    end
    line = line .. text
  end
  lines[#lines + 1] = (line:gsub(" $", ""))
  return table.concat(lines, "\n")
end

--- A law as Lua.
---@param indent? string of the samples
local function law_text(spec, indent)
  if spec.law == "empirical" then
    indent = indent or "    "
    return ('{ law = "empirical", samples = {\n%s\n%s} }'):format(samples_text(spec.samples, indent), indent:sub(3))
  end
  local parts = { ('law = "%s"'):format(spec.law) }
  for _, name in ipairs(PARAMETERS[spec.law]) do parts[#parts + 1] = name .. " = " .. number(spec[name]) end
  return "{ " .. table.concat(parts, ", ") .. " }"
end

local function milliseconds(seconds)
  local ms = seconds * 1000
  return ms >= 100 and ("%.0f"):format(ms) or ("%.3g"):format(ms)
end

--- How well a law fits, in one line.
local function goodness(fit)
  local quantiles = {}
  for i, name in ipairs { "p50", "p90", "p99" } do
    quantiles[i] = ("%s %s (%s)"):format(name, milliseconds(fit.fitted[name]), milliseconds(fit.recorded[name]))
  end
  if fit.spread then
    return ("constant: %s ms, the %s values differ by at most %s ms"):format(milliseconds(fit.spec.seconds),
      M.count(fit.count), milliseconds(fit.spread))
  end
  local text = ("%s: KS distance %.3f%s; ms fitted (recorded): %s"):format(fit.spec.law, fit.distance,
    fit.p and (", p %.2f"):format(fit.p) or "", table.concat(quantiles, ", "))
  local other = fit.rejected
  if other then
    text = ("%s; %s is not good enough (KS %.3f, p %.2f)"):format(text, other.law, other.distance, other.p)
  end
  return text
end

M.goodness = goodness

local function rate_limit_text(limit)
  local parts = {}
  for _, name in ipairs { "rpm", "tpm", "itpm", "otpm", "rpd", "tpd", "window" } do
    if limit[name] then parts[#parts + 1] = name .. " = " .. ("%.10g"):format(limit[name]) end
  end
  parts[#parts + 1] = ('headers = "%s"'):format(limit.headers)
  return "{ " .. table.concat(parts, ", ") .. " }"
end

local function connect_text(host)
  local parts = {}
  if host.connect then parts[1] = "latency = " .. law_text(host.connect.spec) end
  if host.refuse > 0 then parts[#parts + 1] = "refuse = " .. number(host.refuse) end
  if host.connect_hang > 0 then parts[#parts + 1] = "hang = " .. number(host.connect_hang) end
  if #parts > 0 then return "{ " .. table.concat(parts, ", ") .. " }" end
end

--- A line that cannot end its comment.
local function comment(text)
  return "-- " .. text:gsub("[%c]", " ") .. "\n"
end

local function errors_text(rules)
  local parts = {}
  for i, rule in ipairs(rules) do
    local latency = rule.latency
    parts[i] = ("%s    { status = %d, probability = %s%s%s },\n"):format(
      "    " .. comment(M.count(rule.count) .. (latency and "; " .. goodness(latency) or "")), rule.status,
      number(rule.probability), rule.retry_after and ", retry_after = " .. number(rule.retry_after) or "",
      latency and ", latency = " .. law_text(latency.spec, "      ") or "")
  end
  return "{\n" .. table.concat(parts) .. "  }"
end

local function host_text(host)
  local out = { "\n" }
  out[2] = comment(("%s: %s requests, %s answered%s"):format(host.host, M.count(host.requests), M.count(host.answers),
    host.limited > 0 and (", %s x 429"):format(M.count(host.limited)) or ""))
  for _, endpoint in ipairs(host.endpoints) do
    out[#out + 1] = comment(("  %s, %s requests%s"):format(endpoint.name, M.count(endpoint.requests),
      endpoint.latency and "; " .. goodness(endpoint.latency) or ", none answered"))
  end
  if host.more > 0 then out[#out + 1] = comment(("  and %s more endpoints"):format(M.count(host.more))) end
  for _, note in ipairs(host.notes) do out[#out + 1] = comment("Note: " .. note .. ".") end
  out[#out + 1] = ("upstream {\n  host = %q,\n"):format(host.host)
  local function option(name, text, remark)
    if remark then out[#out + 1] = "  " .. comment(remark) end
    out[#out + 1] = ("  %s = %s,\n"):format(name, text)
  end
  if host.latency then option("latency", law_text(host.latency.spec), goodness(host.latency)) end
  local connect = connect_text(host)
  if connect then
    option("connect", connect, host.connect and ("new connections (%s), "):format(M.count(host.connect.count))
      .. goodness(host.connect))
  end
  if #host.errors > 0 then option("errors", errors_text(host.errors)) end
  if host.drop > 0 then option("drop", number(host.drop)) end
  if host.hang > 0 then option("hang", number(host.hang)) end
  if host.rate_limit then option("rate_limit", rate_limit_text(host.rate_limit), "as the answers' headers told it") end
  out[#out + 1] = "}\n"
  return table.concat(out)
end

--- A world file.
---@param fitted neap.cassette.Fitted
---@return string
function M.world(fitted)
  local out = { comment(("A world %s (%.3g s)."):format(fitted.source, fitted.seconds)),
    comment "Latency: maximum likelihood, the law with the smallest AIC; p by parametric bootstrap, 200 samples.",
    ("source = %q\n"):format(fitted.source) }
  for _, host in ipairs(fitted.hosts) do out[#out + 1] = host_text(host) end
  return table.concat(out)
end

--- The goodness of fit.
---@param fitted neap.cassette.Fitted
---@return string
function M.report(fitted)
  local out = { fitted.source .. "\n" }
  for _, host in ipairs(fitted.hosts) do
    out[#out + 1] = ("%s: %s requests, %s answered\n"):format(host.host, M.count(host.requests),
      M.count(host.answers))
    if host.latency then out[#out + 1] = ("  latency, %s\n"):format(goodness(host.latency)) end
    if #host.endpoints > 1 then
      for _, endpoint in ipairs(host.endpoints) do
        if endpoint.latency then
          out[#out + 1] = ("    %s (%s), %s\n"):format(endpoint.name, M.count(endpoint.requests),
            goodness(endpoint.latency))
        end
      end
    end
    for _, rule in ipairs(host.errors) do
      out[#out + 1] = ("  %d: %s, %.2f %%%s\n"):format(rule.status, M.count(rule.count), rule.probability * 100,
        rule.latency and ", " .. goodness(rule.latency) or "")
    end
    if host.drop > 0 then
      out[#out + 1] = ("  drop: %s, %.2f %%\n"):format(M.count(host.dropped), host.drop * 100)
    end
    if host.rate_limit then out[#out + 1] = "  rate limit " .. rate_limit_text(host.rate_limit) .. "\n" end
    for _, note in ipairs(host.notes) do out[#out + 1] = "  note: " .. note .. "\n" end
  end
  return table.concat(out)
end

return M
