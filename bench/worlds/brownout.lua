-- Sixty servers with one line (M/M/60), which from second 2 to 4 take three times as
-- long and fail six requests in ten, and work on what nobody waits for any more. The
-- figures are made up.
upstream {
  host = "api.example.com",
  latency = { law = "exponential", mean = 0.1 },
  capacity = 60, over = "queue",
  errors = { { status = 503, probability = 0.05 } },
  brownout = { from = 2, to = 4, latency = 3, error = 0.6 },
  on_disconnect = "continue",
}
