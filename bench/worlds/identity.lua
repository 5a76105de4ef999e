-- What bench/identity.sh has its script meet: every law that draws, every way to fail.
source = "made up"

upstream { host = "api.test", region = "eu", latency = { law = "lognormal", median = 0.08, sigma = 0.9 },
  connect = { latency = { law = "uniform", min = 0.01, max = 0.05 }, refuse = 0.02, hang = 0.005 }, keepalive = 2,
  errors = { { status = 503, probability = 0.06 }, { status = 429, probability = 0.02, retry_after = 1 } },
  drop = 0.02, hang = 0.01, capacity = { { at = 0, slots = 12 }, { at = 3, slots = 6 }, { at = 8, slots = 20 } },
  over = "queue", brownout = { from = 4, to = 7, latency = 3, error = 0.2, ramp = 1 } }

upstream { host = "spare.test", region = "us", latency = { law = "pareto", min = 0.05, alpha = 2 }, drop = 0.01 }

upstream { host = "llm.test", region = "eu", latency = { law = "exponential", mean = 0.2 },
  tokens = { output = { law = "uniform", min = 5, max = 40 }, per_second = 40 },
  rate_limit = { rpm = 240, tpm = 20000, window = 5 } }

upstream { host = "jobs.test", handler = function(request)
  neap.sleep(math.random() / 5)
  if math.random() < 0.1 then return 500, "no" end
  return { status = 202, chunks = { { after = 0, data = "id=" }, { after = 0.1, data = request.attempt or "-" } } }
end }

outage { region = "eu", from = 5, to = 5.8 }
outage { region = "us", from = 6, to = 6.2, how = "hang" }
