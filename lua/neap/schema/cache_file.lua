return {
  name = "neap.cache.file",
  about = "One append-only file of results with its index in memory, for `neap.cache{ store = ... }` or alone.",
  options = {
    { "max_entries", type = "integer", min = 1, infinite = true, default = 1000000, unit = "count",
      doc = "beyond it the least recently used goes; each takes about 200 bytes of memory", source = "neap" },
    { "max_bytes", type = "number", min = 1, default = 2 ^ 30, unit = "bytes",
      doc = "keys and values that are alive; the file may be larger by what is garbage", source = "neap" },
    { "garbage", type = "number", above = 0, max = 1, default = 0.5, unit = "share",
      doc = "the file is written anew when that share of it is garbage", source = "neap" },
    { "min_compact", type = "number", min = 0, default = 64 * 2 ^ 10, unit = "bytes",
      doc = "a file smaller than that is left as it is", source = "neap" },
    { "sync", type = "boolean", default = false,
      doc = "wait for the disk after each write: a power cut then loses nothing that was kept; a killed process loses "
        .. "nothing either way", source = "neap" },
  },
}
