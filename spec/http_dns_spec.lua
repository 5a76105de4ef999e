local child = require "spec.support.child"
local http = require "spec.support.http"
local neap = require "neap"
local tmp = require "spec.support.tmp"

--- Scripts run in a child neap whose name lookups are those of
--- spec/c/slow_getaddrinfo.c.
describe("name lookups #real", function()
  local dir, library

  setup(function()
    dir = tmp.dir()
    library = dir .. "/slow_getaddrinfo.so"
    local cc = child.run_program("/usr/bin/cc", {
      "-shared", "-fPIC", "-O1", "-o", library, "spec/c/slow_getaddrinfo.c", "-ldl",
    })
    assert(cc.code == 0, cc.err)
  end)

  teardown(function() tmp.remove(dir) end)

  after_each(http.finish)

  --- Runs `script` and returns what it printed, and how long it ran.
  local function run(script, ...)
    local path = tmp.write(dir .. "/script.lua", script)
    local env = {
      LD_PRELOAD = library, NEAP_SPEC_LOOKUPS = dir .. "/lookups", ASAN_OPTIONS = "verify_asan_link_order=0",
    }
    os.remove(dir .. "/lookups")
    local before = neap.now()
    local result = child.run({ "run", path, ... }, { env = env })
    assert.equal("", result.err)
    assert.equal(0, result.code)
    return result.out, neap.now() - before, #(tmp.read(dir .. "/lookups") or "")
  end

  it("that hang run into timeout.connect without blocking anything, nor the end of the program", function()
    local printed, seconds, lookups = run [[
      local neap = require "neap"
      local client = neap.http.client { timeout = { connect = 0.2 } }
      local ticks = 0
      neap.spawn(function() for _ = 1, 20 do neap.sleep(0.01) ticks = ticks + 1 end end)
      local before = neap.now()
      local res, err = client:post "http://hang.test/"
      print(res, err.kind, err.timeout, err.phase, err.sent, err.sends)
      print(neap.now() - before < 0.4, ticks >= 15)
    ]]
    assert.equal("nil\ttimeout\tconnect\tdns\tno\t0\ntrue\ttrue\n", printed)
    assert.equal(1, lookups)
    assert.is_true(seconds < 3, seconds)
  end)

  it("that hang are abandoned at once on cancel and on close", function()
    local printed, seconds = run [[
      local neap = require "neap"
      local client = neap.http.client()
      local before = neap.now()
      print(neap.timeout(0.1, function() return client:get "http://hang.test/" end) == nil)
      local task = neap.spawn(function() return select(2, client:get "http://hang2.test/") end)
      neap.sleep(0.05)
      client:close()
      print(task:await().kind)
      print(neap.now() - before < 0.5)
    ]]
    assert.equal("true\nclosed\ntrue\n", printed)
    assert.is_true(seconds < 3, seconds)
  end)

  it("are kept for dns_cache_ttl", function()
    local server = http.serve(function(c) c:respond(200, "ok", { "Connection: close" }):close() end)
    local script = [[
      local neap = require "neap"
      local client = neap.http.client { dns_cache_ttl = tonumber(arg[2]) }
      for _ = 1, 3 do print(client:get("http://local.test:" .. arg[1] .. "/").body) end
    ]]
    local printed, _, lookups = run(script, tostring(server.port), "60")
    assert.equal("ok\nok\nok\n", printed)
    assert.equal(1, lookups)
    printed, _, lookups = run(script, tostring(server.port), "0")
    assert.equal("ok\nok\nok\n", printed)
    assert.equal(3, lookups)
  end)

  it("of one cold burst are not one thread for each request", function()
    local server = http.echo()
    local printed, _, lookups = run([[
      local neap = require "neap"
      local client = neap.http.client { max_connections = 200 }
      local list, ok = {}, 0
      for i = 1, 200 do list[i] = i end
      neap.map(list, function()
        if client:get("http://local.test:" .. arg[1] .. "/") then ok = ok + 1 end
        return true
      end, { concurrency = 200 })
      print(ok)
    ]], tostring(server.port))
    assert.equal("200\n", printed)
    assert.is_true(lookups <= 64, lookups .. " lookups")
  end)
end)
