-- A provider with OpenAI's limits of tier 1 (the profile says of when, and where the
-- figures are from); how long its answers are is a guess.
upstream {
  host = "api.openai.com",
  profile = "openai-tier1",
  tokens = { per_second = 131, output = { law = "lognormal", median = 150, sigma = 0.6 } },
  connect = 0.05,
}
