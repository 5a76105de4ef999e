return {
  name = "neap.bulkhead",
  about = "At most so many calls at a time; further ones wait in line, up to a bound.",
  options = {
    { "limit", type = "integer", required = true, min = 0, max = 2 ^ 31 - 1, unit = "calls",
      doc = "calls at a time; 0 stops everything", source = "resilience4j maxConcurrentCalls, Polly PermitLimit" },
    { "max_waiting", type = "integer", min = 1, max = 2 ^ 31 - 1, unit = "calls", live = false,
      doc = "calls in line; beyond it `nil, err` of kind \"queue_full\"; default: no bound",
      source = "OpenResty backlog, Polly QueueLimit" },
    { "timeout", type = "number", min = 0, unit = "s",
      doc = "longest wait in line; then `nil, err` of kind \"queue_timeout\"; 0 tries; default: no limit",
      source = "resilience4j maxWaitDuration" },
  },
}
