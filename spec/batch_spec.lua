local badserver = require "spec.support.badserver"
local batch = require "spec.support.batch"
local child = require "spec.support.child"
local core = require "neap.core"
local json = require "neap.json"
local neap = require "neap"
local tmp = require "spec.support.tmp"

local root = debug.getinfo(1, "S").source:match "^@(.*/)spec/[^/]*$" or "./"

local function run(arguments, options)
  return child.run({ "batch", unpack(arguments) }, options)
end

local function start(arguments, options)
  return child.start({ "batch", unpack(arguments) }, options)
end

local function eventually(condition, what)
  for _ = 1, 1000 do
    if condition() then return end
    neap.sleep(0.005)
  end
  error(what .. " did not come true", 2)
end

describe("neap batch #real", function()
  local dir, out

  before_each(function()
    dir = batch.dir()
    out = dir .. "/out.jsonl"
  end)
  after_each(batch.finish)

  describe("against a healthy server", function()
    it("answers every request of the bundled sample exactly once", function()
      local mock = batch.mock()
      local result = run { "-i", root .. "scripts/data/requests.jsonl", "-o", out, "--base-url", mock.url }
      assert.equal(0, result.code, result.err)
      assert.equal("", result.out)
      local found, count = batch.by_id(batch.rows(out)), 0
      for i = 1, 1000 do
        local row = found[("req-%04d"):format(i)]
        assert.equal(200, row.response.status_code)
        assert.equal("assistant", row.response.body.choices[1].message.role)
        assert.equal(json.null, row.error)
        count = count + 1
      end
      assert.equal(1000, count)
      local stats = mock:stats()
      local bodies = 0
      for id, times in pairs(stats.by_id) do assert.equal(1, times, id) end
      for _, times in pairs(stats.by_body) do bodies = bodies + times end
      assert.equal(1000, bodies)
      assert.matches("1,000 requests in [%d.]+ s", result.err)
      assert.matches("statuses  200: 1,000\n", result.err)
      assert.matches("latency   p50", result.err)
    end)

    it("takes a base URL with and without /v1 and the blanks of a last line", function()
      local mock = batch.mock()
      for _, suffix in ipairs { "", "/", "/v1", "/v1/" } do
        local input = tmp.write(dir .. "/in.jsonl", batch.line "a" .. "\n\n  \r\n" .. batch.line "b")
        local result = run { "-i", input, "-o", out, "-f", "--base-url", mock.url .. suffix }
        assert.equal(0, result.code, result.err)
        assert.equal(2, #batch.rows(out))
      end
      local page = assert(assert(mock.client:get(mock.url .. "/stats?full=1")):json())
      for _, row in ipairs(page.full) do assert.equal("/v1/chat/completions", row.path) end
    end)

    it("reads standard input and writes standard output", function()
      local mock = batch.mock()
      local result = run({ "-i", "-", "-o", "-", "--base-url", mock.url, "-q" },
        { stdin = batch.line "a" .. "\n" .. batch.line "b" })
      assert.equal(0, result.code, result.err)
      assert.equal("", result.err)
      local found = batch.by_id(batch.rows(tmp.write(dir .. "/stdout", result.out)))
      assert.equal(200, found.a.response.status_code)
      assert.equal(200, found.b.response.status_code)
    end)

    it("does not wait for the end of standard input to answer", function()
      local mock = batch.mock()
      local process = start({ "-i", "-", "-o", "-", "--base-url", mock.url }, { stdin = true })
      process:write(batch.line "a" .. "\n")
      process:wait_for '"custom_id":"a"'
      process:write(batch.line "b" .. "\n")
      process:wait_for '"custom_id":"b"'
      process:close_stdin()
      assert.equal(0, process:wait().code)
    end)

    it("has nothing to do for an empty input", function()
      local result = run { "-i", tmp.write(dir .. "/empty", ""), "-o", out, "--base-url", "http://127.0.0.1:9" }
      assert.equal(0, result.code)
      assert.equal("", tmp.read(out))
      assert.matches("^0 requests", result.err)
    end)
  end)

  it("loses nobody and answers nobody twice through errors, limits and dropped connections", function()
    local mock = batch.mock("--latency", "uniform:min=0.001,max=0.02", "--error", "503:0.05", "--error",
      "429:0.02,retry_after=1", "--drop", "0.03", "--seed", "5")
    local n = 400
    local result = run { "-i", batch.input(dir, n), "-o", out, "--base-url", mock.url, "--max-attempts", "12", "-c",
      "50" }
    assert.equal(0, result.code, result.err)
    local found = batch.by_id(batch.rows(out))
    local stats = mock:stats()
    local arrived = 0
    for i = 1, n do
      assert.equal(200, found["r" .. i].response.status_code)
      arrived = arrived + stats.by_id["r" .. i]
    end
    -- Every attempt is accounted for, and there were some.
    local retries = tonumber((result.err:match "retries +([%d,]+)":gsub(",", "")))
    assert.is_true(retries > 10, retries .. " retries")
    assert.is_true(arrived > n and arrived <= n + retries, ("%d arrived, %d retries"):format(arrived, retries))
  end)

  describe("for one request", function()
    local seen

    -- A server that notes the requests and answers with what `answer` says.
    local function serve(answer)
      seen = {}
      local server = badserver.start {
        request = function(connection, request)
          seen[#seen + 1] = request
          answer(connection, request, #seen)
        end,
      }
      finally(function() server:close() end)
      return server.url
    end

    local function fine(connection) connection:respond(200, "{}") end

    local function run_line(url, text, ...)
      return run({ "-i", tmp.write(dir .. "/in.jsonl", text .. "\n"), "-o", out, "--base-url", url, ... })
    end

    it("sends the body's bytes, the custom_id, and one idempotency key for all attempts", function()
      local url = serve(function(connection, _, n) connection:respond(n < 2 and 503 or 200, "{}") end)
      local body = '{ "n": 12345678901234567890, "f":1.10, "e":[ ] }'
      assert.equal(0, run_line(url, '{"custom_id":"a\\u000ab","url":"/v1/x","body":' .. body .. "}").code)
      assert.equal(2, #seen)
      for _, request in ipairs(seen) do
        assert.equal(body, request.body)
        assert.equal("POST", request.method)
        assert.equal("/v1/x", request.target)
        assert.equal("application/json", request.headers["content-type"])
        assert.equal("a%0Ab", request.headers["x-client-request-id"])
        assert.is_truthy(request.headers["idempotency-key"])
        assert.equal(seen[1].headers["idempotency-key"], request.headers["idempotency-key"])
        assert.is_nil(request.headers.authorization)
      end
    end)

    it("sends the API key and the headers that are asked for", function()
      local url = serve(fine)
      local text = batch.line "a"
      local input = tmp.write(dir .. "/in.jsonl", text)
      local function go(env, ...)
        local result = run({ "-i", input, "-o", out, "-f", "--base-url", url, ... }, { env = env })
        assert.equal(0, result.code, result.err)
        return seen[#seen].headers
      end
      assert.equal("Bearer k1", go({ OPENAI_API_KEY = "k1" }).authorization)
      assert.is_nil(go({ OPENAI_API_KEY = false }).authorization)
      assert.equal("Bearer k2", go({ OPENAI_API_KEY = "k1", OTHER = "k2" }, "--api-key-env", "OTHER").authorization)
      local headers = go({ OPENAI_API_KEY = "k1" }, "-H", "Authorization: Basic abc", "--header", "X-One:  two words ",
        "-H", "Content-Type: application/vnd.x+json")
      assert.equal("Basic abc", headers.authorization)
      assert.equal("two words", headers["x-one"])
      assert.equal("application/vnd.x+json", headers["content-type"])
    end)

    it("puts any answer into response, its JSON as the bytes that came", function()
      local url = serve(function(connection)
        connection:respond(418, '{\r\n "n":12345678901234567890,\n "a":[1.10]}', { "X-Request-Id: srv-1" })
      end)
      local result = run_line(url, batch.line "a")
      assert.equal(1, result.code)
      assert.is_truthy(tmp.read(out):find('"response":{"status_code":418,"request_id":"srv-1",'
        .. '"body":{   "n":12345678901234567890,  "a":[1.10]}},"error":null}\n', 1, true), tmp.read(out))
      assert.matches("failed    1\n", result.err)
      assert.equal(1, #seen)
    end)

    it("makes a JSON string of an answer that is not JSON", function()
      local url = serve(function(connection) connection:respond(200, "<b>\"caf\233\"</b>\n") end)
      assert.equal(0, run_line(url, batch.line "a").code)
      local row = batch.rows(out)[1]
      assert.equal("<b>\"caf\239\191\189\"</b>\n", row.response.body)
      assert.equal("", row.response.request_id)
    end)

    it("writes our error kind where no answer came", function()
      local port = badserver.free_port()
      local result = run_line(("http://127.0.0.1:%d"):format(port), batch.line "a", "--max-attempts", "2")
      assert.equal(1, result.code)
      local row = batch.rows(out)[1]
      assert.equal(json.null, row.response)
      assert.equal("connect", row.error.code)
      assert.matches("statuses  connect: 1\n", result.err)
      assert.matches("retries   1\n", result.err)
    end)

    it("gives each attempt --timeout seconds", function()
      local url = serve(function() end)
      local began = neap.now()
      assert.equal(1, run_line(url, batch.line "a", "--timeout", "0.2", "--max-attempts", "1").code)
      assert.equal("timeout", batch.rows(out)[1].error.code)
      assert.is_true(neap.now() - began < 3)
      assert.equal(1, #seen)
    end)

    it("uses the line's method", function()
      local url = serve(fine)
      assert.equal(0, run_line(url, '{"custom_id":"a","method":"GET","url":"/v1/models"}').code)
      assert.equal("GET", seen[1].method)
      assert.equal("/v1/models", seen[1].target)
      assert.equal("", seen[1].body)
    end)
  end)

  describe("interrupted", function()
    it("once takes nothing more, finishes what is in flight, reports and exits with 130", function()
      local mock = batch.mock("--latency", "fixed:0.4")
      local process = start { "-i", batch.input(dir, 100), "-o", out, "--base-url", mock.url, "-c", "4" }
      eventually(function() return mock:stats().requests == 4 end, "four requests")
      process:kill "sigint"
      assert.equal(130, process:wait().code)
      assert.equal("", process.out)
      assert.matches("interrupted; finishing 4 in flight", process.err)
      assert.matches("interrupted: 4 requests in", process.err)
      local rows = batch.rows(out)
      assert.equal(4, #rows)
      for _, row in ipairs(rows) do assert.equal(200, row.response.status_code) end
      assert.equal(4, mock:stats().requests)
    end)

    it("does not wait for another attempt: what was answered last is the result", function()
      local mock = batch.mock("--error", "429:1,retry_after=60")
      local process = start { "-i", batch.input(dir, 3), "-o", out, "--base-url", mock.url }
      eventually(function() return mock:stats().requests == 3 end, "three requests")
      neap.sleep(0.2)
      process:kill "sigint"
      assert.equal(130, process:wait().code)
      local rows = batch.rows(out)
      assert.equal(3, #rows)
      for _, row in ipairs(rows) do assert.equal(429, row.response.status_code) end
      assert.matches("retries   0", process.err)
    end)

    it("twice ends at once; what was written stays whole", function()
      local mock = batch.mock("--hang", "1")
      local process = start { "-i", batch.input(dir, 100), "-o", out, "--base-url", mock.url, "-c", "4" }
      eventually(function() return mock:stats().requests == 4 end, "four requests")
      process:kill "sigint"
      process:wait_until(function() return process.err:find "finishing" end)
      local began = neap.now()
      process:kill "sigint"
      assert.equal(130, process:wait().code)
      assert.is_true(neap.now() - began < 2)
      assert.matches("aborted: 0 requests", process.err)
      assert.matches("cut off   4 in flight", process.err)
      assert.same({}, batch.rows(out))
    end)

    it("while it waits for standard input ends without more", function()
      local process = start({ "-i", "-", "-o", out, "--base-url", "http://127.0.0.1:9" }, { stdin = true })
      eventually(function() return tmp.read(out) end, "the output")
      neap.sleep(0.05) -- the handler is set right after the output is made
      process:kill "sigint"
      process:wait_until(function() return process.code end)
      process:close_stdin()
      assert.equal(130, process:wait().code)
      assert.matches("interrupted: 0 requests", process.err)
    end)

    it("by SIGTERM does the same", function()
      local mock = batch.mock("--latency", "fixed:0.3")
      local process = start { "-i", batch.input(dir, 10), "-o", out, "--base-url", mock.url, "-c", "2" }
      eventually(function() return mock:stats().requests == 2 end, "two requests")
      process:kill "sigterm"
      assert.equal(143, process:wait().code)
      assert.equal(2, #batch.rows(out))
    end)
  end)

  describe("when the output cannot take more", function()
    it("stops, says why and exits with 1", function()
      local mock = batch.mock()
      local result = run { "-i", batch.input(dir, 300), "-o", "/dev/full", "--base-url", mock.url, "-c", "5" }
      assert.equal(1, result.code)
      assert.matches("neap: batch: cannot write '/dev/full': no space left on device\n", result.err)
      assert.is_true(mock:stats().requests < 30)
    end)

    it("leaves no half line", function()
      local mock = batch.mock()
      local program = ("trap '' XFSZ; ulimit -f 7; exec '%s' batch -i '%s' -o '%s' --base-url %s -c 5"):format(
        core.host.exe_path(), batch.input(dir, 300), out, mock.url)
      local process = child.start_program("/bin/sh", { "-c", program })
      assert.equal(1, process:wait().code)
      assert.matches("cannot write '.*': file too large\n", process.err)
      local rows = batch.rows(out)
      assert.is_true(#rows >= 1 and #rows <= 12, #rows .. " rows")
    end)
  end)

  it("needs no more memory for a longer input", function()
    if os.getenv "NEAP_SANITIZED" then return pending "memory is the sanitizer's" end
    local nginx = require("spec.support.nginx").start()
    finally(function() nginx:stop() end)
    -- The command line, then the greatest resident size of the process, in kB.
    local code = [[
      require("neap.cli").main(...)
      io.stdout:write("peak ", io.open("/proc/self/status"):read("*a"):match "VmHWM:%s+(%d+)")]]
    local function peak(n)
      local list, padding = {}, ("x"):rep(300)
      for i = 1, n do
        list[i] = ('{"custom_id":"item-%d","url":"/ok","body":{"i":%d,"text":"%s"}}'):format(i, i, padding)
      end
      list[n + 1] = ""
      local input = tmp.write(dir .. "/in.jsonl", table.concat(list, "\n"))
      local result = child.run { "-e", code, "batch", "-i", input, "-o", out, "-f", "-q", "--base-url", nginx.http }
      assert.equal(0, result.code, result.err)
      assert.equal(n, select(2, tmp.read(out):gsub("\n", "")))
      return tonumber(result.out:match "peak (%d+)")
    end
    -- The longer input has 13 MB more, its output 8. The ids take 0.5.
    local short, long = peak(3000), peak(40000)
    assert.is_true(long - short < 4096, ("%d kB for 3,000 requests, %d for 40,000"):format(short, long))
  end)

  it("draws a bar on a terminal", function()
    local mock = batch.mock("--latency", "fixed:0.2")
    local command = ("'%s' batch -i '%s' -o '%s' --base-url %s -c 10"):format(core.host.exe_path(),
      batch.input(dir, 30), out, mock.url)
    local process = child.start_program("script", { "-qfec", command, "/dev/null" })
    assert.equal(0, process:wait().code)
    assert.matches("\r\27%[K%[#*%.*%] +%d+ %%  %d+ done  10 in flight", process.out)
    assert.matches("\r\27%[K30 requests in", process.out)
  end)

  it("draws nothing with --no-progress and says nothing with --quiet", function()
    local mock = batch.mock()
    local input = batch.input(dir, 5)
    assert.matches("^5 requests in", run({ "-i", input, "-o", out, "--base-url", mock.url, "--no-progress" }).err)
    assert.equal("", run({ "-i", input, "-o", out, "-f", "--base-url", mock.url, "--quiet" }).err)
  end)
end)
