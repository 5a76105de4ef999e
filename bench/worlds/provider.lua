-- A provider of completions: 12,000 requests a minute, checked by the second, an
-- answer of some tens of tokens, and one request in ten fails. The figures are made up.
upstream {
  host = "api.example.com",
  latency = { law = "lognormal", median = 0.12, sigma = 0.6 },
  tokens = { output = { law = "lognormal", median = 30, sigma = 0.5 }, per_second = 400 },
  errors = { { status = 503, probability = 0.1 } },
  rate_limit = { rpm = 12000, window = 1 },
}
