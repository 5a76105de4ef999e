-- A service of 20 workers with a line; a request takes 0.05 s at least and 0.13 s on
-- average, but one in a hundred longer than 0.9 s. The figures are made up.
upstream {
  host = "api.example.com",
  latency = { law = "pareto", min = 0.05, alpha = 1.6 },
  capacity = 20, over = "queue",
  on_disconnect = "continue",
}
