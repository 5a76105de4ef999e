-- A service that fails one request in five: the cell that the tests run in seconds. The
-- figures are made up.
upstream {
  host = "api.example.com",
  latency = { law = "uniform", min = 0.08, max = 0.12 },
  errors = { { status = 503, probability = 0.2 } },
}
