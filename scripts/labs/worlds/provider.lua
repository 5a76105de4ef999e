-- A provider that allows 600 requests a minute, checked by the second. Its 429s say
-- when to come back, in whole seconds. The figures are made up.
upstream {
  host = "api.example.com",
  latency = { law = "lognormal", median = 0.8, sigma = 0.5 },
  rate_limit = { rpm = 600, window = 1 },
}
