return {
  name = "neap.throttle",
  about = "Adaptive throttling: rejects calls here, with the probability max(0, (requests - k * accepts) / (requests + "
    .. "1)), while the upstream accepts too few of them.",
  options = {
    { "k", type = "number", min = 1, max = 1000, default = 2,
      doc = "calls let through for each one accepted; nearer to 1 rejects more here and less there",
      source = "Google SRE, Handling Overload (2; 1.1 where a rejection costs the upstream much)" },
    { "window", type = "number", min = 0.1, max = 86400, default = 120, unit = "s",
      doc = "how far back calls count; longer than any call takes", source = "Google SRE (2 minutes)" },
    { "min_requests", type = "integer", min = 0, max = 1e9, default = 0, unit = "calls",
      doc = "no rejections below so many calls in the window",
      source = "neap (0: the formula alone); Envoy: rps_threshold" },
    { "max_rejection", type = "number", above = 0, max = 1, default = 1, unit = "share",
      doc = "the probability goes no higher", source = "neap (1: the formula alone); Envoy: 80 %" },
    { "accepted", type = "function",
      doc = "`(result, err) -> boolean`: the upstream took the call; default: it was not throttled (429), overloaded "
        .. "(503, 529) or failed (408, other 5xx, no connection, timeout)", source = "Google SRE; Envoy: 5xx" },
  },
}
