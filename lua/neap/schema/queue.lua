return {
  name = "neap.queue",
  about = "Carries values between tasks, bounded or not, by order of arrival or by priority.",
  options = {
    { "max", type = "integer", min = 1, max = 2 ^ 31 - 1, unit = "count", live = false,
      doc = "values inside before putters wait; default: unbounded", source = "asyncio.Queue" },
    { "priority", type = "boolean", default = false, live = false,
      doc = "the lowest number comes first, equals in order of arrival", source = "heapq, the seed article" },
    { "aging", type = "number", min = 0, max = 1e12, default = 0, unit = "1/s", live = false,
      doc = "what a value's priority number sinks by for each second since its `put`, so that none starves; needs "
        .. "`priority = true`", source = "neap (aging, as in operating systems' schedulers)" },
  },
}
