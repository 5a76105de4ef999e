return {
  name = "neap.hedge",
  about = "Sends a copy of a call that takes long; the first success wins and the others are cancelled. Only for calls "
    .. "that may be sent twice.",
  options = {
    { "delay", type = "number", min = 0, max = 86400, unit = "s",
      doc = "send the next copy when the last one has been under way so long; 0 sends all at once; default: the live "
        .. "`percentile`", source = "gRPC A6: hedgingDelay" },
    { "percentile", type = "number", min = 0.5, max = 0.9999, unit = "share",
      doc = "send it when so many of the recent calls had ended; default: 1 - `max_extra_load`, so 0.99, and at "
        .. "least 0.5", source = "Finagle BackupRequestFilter" },
    { "max_hedges", type = "integer", min = 1, max = 10, default = 1, unit = "copies",
      doc = "copies of one call besides the first", source = "Polly MaxHedgedAttempts (1)" },
    { "max_extra_load", type = "number", above = 0, max = 10, default = 0.01, unit = "share",
      doc = "copies per call in the long run: every call earns it, every copy spends 1",
      source = "Finagle maxExtraLoad (0.01)" },
    { "burst", type = "number", min = 1, max = 1e6, default = 10, unit = "copies",
      doc = "copies saved up at most", source = "neap" },
    { "min_delay", type = "number", min = 0, max = 86400, default = 0.001, unit = "s",
      doc = "the live delay is never shorter", source = "Finagle minSendBackupAfterMs (1)" },
    { "warmup", type = "integer", min = 1, max = 1e6, default = 100, unit = "calls",
      doc = "measured calls before the percentile is trusted; until then nothing is hedged", source = "neap" },
    { "window", type = "number", above = 0, max = 86400, default = 30, unit = "s",
      doc = "the percentile is that of the last one to one and a half windows, or of the last one to three times "
        .. "`warmup` calls where that is longer", source = "Finagle (30, in 3 slices)" },
    { "hedge_on", type = "function",
      doc = "`(result, err) -> boolean`: a failure after which the next copy is sent at once; default: what neap.retry "
        .. "would repeat, but for refusals (429, 503, 529)", source = "gRPC A6: nonFatalStatusCodes" },
    { "eligible", type = "function",
      doc = "`(call, ...) -> boolean`: whether this call may be hedged; default: all",
      source = "Polly: ActionGenerator" },
    { "budget", type = "table",
      doc = "a `neap.retry_budget`, or its options: every copy must be allowed by it too",
      source = "Finagle: retries and hedges draw on one budget" },
  },
}
