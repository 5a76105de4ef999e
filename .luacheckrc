-- SPDX-License-Identifier: MIT
std = "luajit"
max_line_length = 120
self = false
exclude_files = { "lua/neap/_meta" }
files["spec"] = { std = "+busted" }
-- World files have an environment of their own (lua/neap/world/file.lua).
local worlds = { read_globals = { "upstream", "outage", "brownout", "neap" }, globals = { "source" } }
files["scripts/labs/worlds"], files["bench/worlds"] = worlds, worlds
-- Makes coroutines of scripts pass the runtime's waits on.
files["lua/neap/coroutine.lua"] = { globals = { "coroutine.resume", "coroutine.wrap" } }
