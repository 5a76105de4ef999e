-- Two regions of three hosts: all of Europe goes down for half a minute, and the
-- slower American host stands. The figures are made up.
local fast = { law = "lognormal", median = 0.1, sigma = 0.5 }
local slow = { law = "lognormal", median = 0.18, sigma = 0.5 }

upstream { host = "eu-1.example.com", region = "eu", latency = fast, connect = 0.03, keepalive = 60 }
upstream { host = "eu-2.example.com", region = "eu", latency = fast, connect = 0.03, keepalive = 60 }
upstream { host = "us.example.com", region = "us", latency = slow, connect = 0.1, keepalive = 60 }

outage { region = "eu", from = 30, to = 60 }
