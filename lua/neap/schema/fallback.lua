return {
  name = "neap.fallback",
  about = "Answers in place of a call that failed.",
  options = {
    { "with", type = "function",
      doc = "`(result, err, ...) -> result | nil, err`: makes the answer; gets the outcome and the call's arguments; "
        .. "may wait; needed unless `value` is given", source = "Polly FallbackAction" },
    { "value", type = "any", doc = "the answer itself, when there is nothing to compute", source = "Polly" },
    { "on", type = "function",
      doc = "`(result, err) -> boolean`: which outcomes are replaced; default: every error but a cancel, and every "
        .. "status that says the upstream does not work (408, 429, 5xx)", source = "Polly ShouldHandle" },
  },
}
