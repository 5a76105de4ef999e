-- A service that fails one call in twenty on good days, and is down from second 60 to
-- 90, when each call hangs for two seconds and fails. The figures are made up.
upstream {
  host = "api.example.com",
  latency = 0.1, errors = { { status = 503, probability = 0.05 } },
  brownout = { from = 60, to = 90, latency = 20, error = 1 },
}
