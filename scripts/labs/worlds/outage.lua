-- A service that works on 50 requests at a time and fails one in a hundred; from second
-- 20 to 30 it is down, and what stands in front of it answers everybody with 503. The
-- figures are made up.
upstream {
  host = "api.example.com",
  latency = { law = "lognormal", median = 0.2, sigma = 0.6 }, capacity = 50, over = "queue",
  errors = { { status = 503, probability = 0.01 } },
  outage = { from = 20, to = 30, status = 503 },
}
