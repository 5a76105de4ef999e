-- Two regions, one of which fails for half a minute in the unpleasant way: a call takes
-- two seconds there and then ends in 503. The figures are made up.
upstream { host = "eu.example.com", region = "eu", latency = 0.1 }
upstream { host = "us.example.com", region = "us", latency = 0.1 }

brownout { region = "eu", from = 30, to = 60, latency = 20, error = 1 }
