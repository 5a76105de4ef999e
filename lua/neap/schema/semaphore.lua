return {
  name = "neap.semaphore",
  about = "Permits that tasks hold, strictly first come, first served: `neap.semaphore(limit, options)`. The limit is "
    .. "changed by `set_limit`.",
  options = {
    { "max_waiting", type = "integer", min = 1, max = 2 ^ 31 - 1, unit = "count", live = false,
      doc = "tasks in line; further ones get `nil, err` of kind \"queue_full\" at once",
      source = "resilience4j, Polly" },
  },
}
