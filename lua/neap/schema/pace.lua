return {
  name = "neap.pace",
  about = "Passes calls through a rate limiter: reserves what each may use, settles what it used in truth, and learns "
    .. "from the headers of every response.",
  options = {
    { "limiter", type = "userdata|table", required = true, live = false,
      doc = "a `neap.rate_limiter`, or its options", source = "curator: requests and tokens reserved together" },
    { "amounts", type = "function",
      doc = "`(...) -> amounts`: what to reserve for the call's arguments; default: one request",
      source = "curator (estimate, then refund)" },
    { "actual", type = "function",
      doc = "`(result, err, ...) -> amounts`: what was used; default: the result's `usage`, nothing but the request "
        .. "for one that was refused, all of it when nobody knows", source = "curator (refund), on every outcome" },
    { "observe", type = "boolean|string", one_of = { true, false, "limits" }, default = true,
      doc = "re-base the limiter by each response's rate-limit headers, and hold everybody back as long as a refusal's "
        .. "Retry-After says; \"limits\": the former only", source = "promptfoo; \"limits\": neap" },
    { "timeout", type = "number", min = 0, unit = "s",
      doc = "longest wait for the turn; then `nil, err` of kind \"queue_timeout\", phase \"pace\"", source = "neap" },
  },
}
