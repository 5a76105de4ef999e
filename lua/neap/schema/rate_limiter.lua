local function per_minute(kind, source)
  return { kind .. "_per_minute", type = "number", above = 0, max = 1e9, unit = "1/min",
    doc = ("rate of %s"):format((kind:gsub("_", " "))), source = source }
end

local function burst_of(kind, default)
  return { kind .. "_burst", type = "number", min = 1, max = 1e12, unit = kind:find "token" and "tokens" or "count",
    doc = ("%s that may pass at once; default: %s's worth"):format((kind:gsub("_", " ")), default),
    source = kind == "requests" and "neap (many providers check requests by the second)"
      or "neap (providers fill their own buckets to a minute's worth)" }
end

return {
  name = "neap.rate_limiter",
  about = "Paces requests, tokens, input and output tokens: taken together or not at all, strictly first come, first "
    .. "served, each by GCRA. Needs `rate` or one of the `..._per_minute` options, unless `learn` is \"replace\".",
  options = {
    { "rate", type = "number", above = 0, max = 1e9, unit = "requests", doc = "requests in `per` seconds",
      source = "aiolimiter" },
    { "per", type = "number", above = 0, max = 366 * 86400, unit = "s", doc = "the period of `rate`; default: 1",
      source = "aiolimiter" },
    { "burst", type = "number", min = 1, max = 1e12, unit = "count",
      doc = "requests that may pass at once (of `rate`, else of `requests_per_minute`); default: a second's worth, "
        .. "at least 1", source = "redis-cell (`max_burst`)" },
    per_minute("requests", "OpenAI, Anthropic (RPM)"),
    per_minute("tokens", "OpenAI, Azure (TPM)"),
    per_minute("input_tokens", "Anthropic (ITPM)"),
    per_minute("output_tokens", "Anthropic (OTPM)"),
    burst_of("requests", "a second"),
    burst_of("tokens", "a minute"),
    burst_of("input_tokens", "a minute"),
    burst_of("output_tokens", "a minute"),
    { "learn", type = "string", one_of = { "lower", "replace", "never" }, default = "lower",
      doc = "what `observe` makes of a response's limit, remaining and reset: \"lower\" a limit of the server's own "
        .. "beside the configured one, which stays a ceiling; \"replace\" the same, and the server's limit replaces "
        .. "the configured rate of its kind, higher or lower; \"never\" only Retry-After counts",
      source = "promptfoo (re-basing); the ceiling: neap" },
    { "name", type = "string", live = false, doc = "what it is called in telemetry; default: \"rate_limiter\"",
      source = "neap" },
    { "max_waiting", type = "integer", min = 1, max = 2 ^ 31 - 1, unit = "count",
      doc = "tasks in line; further ones get `nil, err` of kind \"queue_full\" at once", source = "neap" },
  },
}
