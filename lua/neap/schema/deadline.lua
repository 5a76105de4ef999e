return {
  name = "neap.deadline",
  about = "Cuts off everything inside it after so many seconds, waits included.",
  options = {
    { "seconds", type = "number", required = true, above = 0, unit = "s", doc = "for the whole call",
      source = "trio fail_after" },
  },
}
