-- SPDX-License-Identifier: MIT
-- Mocks and worlds in users' specs: who verifies them, when, and what the outputs show.
local child = require "spec.support.child"

describe("neap test with mocks #real", function()
  --- Runs a user's spec; the arguments come before it.
  local function run(text, ...)
    local path, folder = child.file("user_spec.lua", 'local neap = require "neap"\n' .. text)
    local argv = { "test", ... }
    argv[#argv + 1] = path
    local result = child.run(argv)
    child.remove(folder)
    return result
  end

  local UNUSED = [[
    it("is well", function() end)
    it("does not use it", function() neap.sim.mock():on { url = "/b" } end)
    it("leaves a task", function() neap.spawn(neap.sleep, 10) end)]]

  it("shows a test as failed in every output", function()
    local tap = run(UNUSED, "-o", "TAP").out
    assert.matches("ok 1 %- is well", tap)
    assert.matches("not ok %d %- does not use it\n[^\n]*user_spec.lua[^\n]*\n[^\n]*3: the mock of /b was not used", tap)
    assert.matches("not ok %d %- leaves a task\n.*left 1 task running", tap)
    assert.is_nil(tap:find("\nok %d %- does") or tap:find("\nok %d %- leaves"))
    local gtest = run(UNUSED, "-o", "gtest").out
    assert.matches("%[       OK %] [^\n]*is well", gtest)
    assert.is_nil(gtest:find("OK %] [^\n]*does not use it"))
    local json = run(UNUSED, "-o", "json").out
    assert.matches('"failures":%[{', json)
    assert.matches("the mock of /b was not used", json)
    local dots = run(UNUSED, "-o", "utfTerminal").out
    assert.matches("1 success / 1 failure / 1 error", dots)
  end)

  it("fails a test that leaves a stream or a request in flight, and lets one be that was read", function()
    local result = run [[
      local client
      before_each(function()
        client = neap.http.client {}
        neap.sim.mock():on {}:reply { chunks = { { after = 0.1, data = "a" }, { after = 5, data = "b" } } }
      end)
      it("reads it", function() assert(client:get("http://a.test/", { stream = true }):read_all()) end)
      it("closes it", function() assert(client:get("http://a.test/", { stream = true })):close() end)
      it("leaves it", function() assert(client:get("http://a.test/", { stream = true })) end)
      it("is not blamed", function() assert(client:get "http://a.test/") end)]]
    assert.matches("3 passed, 1 failed, 0 skipped\n$", result.out)
    assert.matches("user_spec.lua:9: [^\n]*left 1 operation in flight %(requests and their streams", result.out)
  end)

  it("keeps the mock of a lazy_setup for all tests of its describe, and verifies it at its end", function()
    local result = run [[
      describe("lazy", function()
        local client, mock
        lazy_setup(function()
          client, mock = neap.http.client {}, neap.sim.mock()
          mock:on { url = "/a" }:times(2)
          mock:on { url = "/late" }
        end)
        it("asks", function() assert(client:get "http://a.test/a") end)
        it("asks again", function() assert(client:get "http://a.test/a") end)
      end)
      it("comes after it", function() assert.is_nil(require("neap.sim.network").current()) end)]]
    assert.matches("3 passed, 1 failed, 0 skipped\n$", result.out)
    assert.matches("user_spec.lua:7: the mock of /late was not used", result.out)
  end)

  local OUTER = [[
    describe("a job", function()
      local client, mock
      setup(function()
        client, mock = neap.http.client {}, neap.sim.mock()
        mock:on { url = "/first" }
        mock:on { url = "/second" }
      end)
      it("asks first", function() assert(client:get "http://a.test/first") end)
      describe("within", function()
        it("asks second", function() assert(client:get "http://a.test/second") end)
      end)
    end)]]

  it("does not tell unused rules when not all tests ran", function()
    assert.matches("2 passed, 0 failed", run(OUTER).out)
    assert.matches("1 passed, 0 failed", run(OUTER, "--filter=first").out)
    assert.matches("1 passed, 0 failed", run(OUTER, "--filter-out=first").out)
    assert.matches("0 passed, 0 failed", run(OUTER, "--filter=nothing").out)
    assert.matches("1 passed, 0 failed, 1 skipped", run((OUTER:gsub('it%("asks second"', 'pending("asks second"'))).out)
    local second = 'assert%(client:get "http://a.test/second"%)'
    assert.matches("1 passed, 1 failed", run((OUTER:gsub(second, 'error "x"'))).out)
    local unused = run((OUTER:gsub(second, '')))
    assert.matches("2 passed, 1 failed", unused.out)
    assert.matches("user_spec.lua:7: the mock of /second was not used", unused.out)
  end)

  it("puts the mock of a setup up again when that of a test has gone", function()
    local result = run [[
      describe("a job", function()
        local client, outer
        setup(function()
          client, outer = neap.http.client {}, neap.sim.mock()
          outer:on { url = "/outer" }:reply(201):times(2)
        end)
        it("asks", function() assert.equal(201, client:get("http://a.test/outer").status) end)
        it("has its own", function()
          neap.sim.mock():on { url = "/inner" }:reply(202)
          assert.equal(202, client:get("http://a.test/inner").status)
        end)
        it("has a world", function()
          neap.sim.world { { host = "a.test", latency = 1 } }
          assert.equal(200, client:get("http://a.test/inner").status)
        end)
        it("asks again", function()
          assert.equal(201, client:get("http://a.test/outer").status)
          assert.equal(2, #outer.requests)
          outer:close()
        end)
        it("has none when it was closed", function() assert.is_nil(require("neap.sim.network").current()) end)
      end)]]
    assert.matches("5 passed, 0 failed, 0 skipped\n$", result.out)
  end)

  it("tells what a test asked of the mock of its describe in that test, and once for all retries", function()
    local result = run [[
      describe("a job", function()
        local client
        setup(function()
          client = neap.http.client {}
          neap.sim.mock():on { url = "/a" }:optional()
        end)
        it("asks for something else", function()
          local retry = neap.retry { max_attempts = 3, backoff = { base = 1 }, retry_on = function() return true end }
          retry:call(client.get, client, "http://a.test/b")
        end)
        it("is not blamed", function() end)
      end)]]
    assert.matches("1 passed, 1 failed, 0 skipped\n$", result.out)
    assert.matches("user_spec.lua:8: no rule of the mock is for GET http://a.test/b %(3 times%)\n", result.out)
    assert.equal(1, select(2, result.out:gsub("no rule of the mock is for", "")))
  end)
end)
