return {
  name = "neap.cache",
  about = "Keeps results for a while: the least recently used ones go first, callers of one key share one call, and a "
    .. "file keeps them beyond the process.",
  options = {
    { "ttl", type = "number", above = 0, default = 300, unit = "s",
      doc = "how long a result is fresh; `math.huge`: until it must make room", source = "Django (300)" },
    { "max_entries", type = "integer", min = 1, infinite = true, default = 1024, unit = "count",
      doc = "in memory; beyond it the least recently used goes", source = "undici MemoryCacheStore (1024)" },
    { "max_bytes", type = "number", min = 1, default = 100 * 2 ^ 20, unit = "bytes",
      doc = "in memory, keys and values; beyond it the least recently used goes, and what is larger is not kept",
      source = "undici MemoryCacheStore (100 MiB)" },
    { "singleflight", type = "boolean", default = true,
      doc = "callers that want a key while it is being computed wait for that one call", source = "Go singleflight" },
    { "negative_ttl", type = "number", above = 0, unit = "s",
      doc = "how long a failure (`nil, err`, or a status from 400 up) is kept; default: not at all",
      source = "nscd: negative-time-to-live" },
    { "stale_while_revalidate", type = "number", min = 0, default = 0, unit = "s",
      doc = "how long after its time a result is still answered at once, while one call in the background renews it",
      source = "RFC 5861" },
    { "key", type = "function",
      doc = "`key(...)` of the call's arguments: a string, or nil for a call that passes by the cache; default: made "
        .. "of the function and its arguments", source = "neap" },
    { "cacheable", type = "function",
      doc = "`cacheable(result, err)`: whether it may be kept; default: results that are not streams, and failures "
        .. "that are not our own doing", source = "neap" },
    { "store", type = "table", live = false, doc = "a `neap.cache.file` behind the memory; default: none",
      source = "undici SqliteCacheStore" },
  },
}
