-- A service of 50 workers that is slow and fails one request in five during the
-- second half minute. The figures are made up.
upstream {
  host = "api.example.com",
  latency = { law = "lognormal", median = 0.1, sigma = 0.8 },
  capacity = 50, over = "queue",
  brownout = { from = 30, to = 60, latency = 5, error = 0.2, ramp = 5, ramp_down = 5 },
}
