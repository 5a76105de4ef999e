-- A service that is slower the more it has to do, and works on what nobody waits for
-- any more: Brooker's simple_collapse_sim, its two hops (0.1 s each on average) as a
-- constant.
source = "Brooker, simple_collapse_sim"

upstream {
  host = "api.example.com",
  latency = 1.2, load = { per_request = 0.01 },
  on_disconnect = "continue",
}
