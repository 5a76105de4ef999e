return {
  name = "neap.batcher",
  about = "Gathers single items into batches, sends them together, and gives each caller its own answer.",
  options = {
    { "run", type = "function", required = true,
      doc = "`(items, key) -> results[, errors] | nil, err`: sends one batch; results and errors by the item's index",
      source = "neap.map's results" },
    { "max_size", type = "integer", min = 1, default = 100, unit = "items",
      doc = "a batch of so many is sent at once", source = "the article's TimeBasedBatcher (100)" },
    { "max_delay", type = "number", min = 0, default = 0.1, unit = "s",
      doc = "a batch is sent so long after its first item; 0: with whatever else is submitted in the same turn of the "
        .. "loop; `math.huge`: never for its age", source = "the article's TimeBasedBatcher (0.1)" },
    { "max_weight", type = "number", above = 0,
      doc = "a batch never weighs more, unless a single item does: that one is sent alone; needs `weight`",
      source = "the article's group_by_complexity" },
    { "weight", type = "function", doc = "`(item) -> number` of at least 0: tokens, bytes; needs `max_weight`",
      source = "the article's group_by_complexity" },
    { "group_by", type = "function",
      doc = "`(item) -> key`: only items with equal keys (strings, numbers) share a batch", source = "neap" },
    { "concurrency", type = "integer", min = 1, unit = "batches",
      doc = "batches under way at the same time; one that must wait takes in further items until it is full; "
        .. "default: no limit", source = "neap (the article's lock is a limit of 1)" },
    { "max_waiting", type = "integer", min = 1, unit = "items",
      doc = "items that wait to be sent; beyond it `nil, err` of kind \"queue_full\"; default: no limit",
      source = "neap.semaphore's max_waiting" },
    { "name", type = "string", live = false, doc = "in events, errors and reports; default \"batcher\"",
      source = "neap" },
  },
}
