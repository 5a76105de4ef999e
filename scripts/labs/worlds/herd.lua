-- A service that takes 20 requests at a time and refuses the others. The figures are
-- made up.
upstream {
  host = "api.example.com",
  latency = { law = "lognormal", median = 0.1, sigma = 0.3 },
  capacity = 20, over = "reject", retry_after = 1,
  log = true,
}
