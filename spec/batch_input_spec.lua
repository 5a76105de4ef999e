local batch = require "spec.support.batch"
local child = require "spec.support.child"
local tmp = require "spec.support.tmp"

describe("neap batch, given bad input #real,", function()
  local dir, input, out

  before_each(function()
    dir = batch.dir()
    input, out = batch.input(dir, 2), dir .. "/out.jsonl"
  end)
  after_each(batch.finish)

  -- One clear line on standard error, exit code 2, and nothing has happened.
  local function refused(pattern, arguments, env)
    local result = child.run({ "batch", unpack(arguments) }, { env = env })
    assert.equal(2, result.code, result.err)
    assert.equal("", result.out)
    assert.matches("^neap: [^\n]*\n$", result.err)
    assert.matches(pattern, result.err)
    return result.err
  end

  local URL = "http://127.0.0.1:9"

  local function with(...) return { "-i", input, "-o", out, "--base-url", URL, ... } end

  it("names a missing file", function()
    refused("cannot read '.*/none': no such file or directory", { "-i", dir .. "/none", "-o", out, "--base-url", URL })
    assert.is_nil(tmp.read(out))
  end)

  it("says what cannot be written", function()
    refused("cannot write '.*': no such file or directory",
      { "-i", input, "-o", dir .. "/none/out", "--base-url", URL })
    refused("cannot write '.*': it is a directory", { "-i", input, "-o", dir, "--base-url", URL })
  end)

  it("refuses an output that is the input, also by another name", function()
    local before = tmp.read(input)
    local link = dir .. "/link"
    assert(require "neap.uv".fs_symlink(input, link))
    for _, path in ipairs { input, link } do
      refused("the output '.*' is the input", { "-i", input, "-o", path, "--base-url", URL, "--force" })
    end
    assert.equal(before, tmp.read(input))
  end)

  it("refuses an output that exists, unless --force", function()
    tmp.write(out, "precious")
    refused("exists already; %-%-force overwrites it", with())
    assert.equal("precious", tmp.read(out))
  end)

  it("suggests the nearest option", function()
    assert.matches("unknown option '%-%-concurency'; did you mean '%-%-concurrency'%?",
      refused("", with("--concurency", "5")))
    refused("did you mean '%-%-max%-attempts'%?", with("--max-attempt", "5"))
  end)

  it("refuses values out of range", function()
    refused("'%-%-concurrency' must be at least 1", with("--concurrency", "0"))
    refused("'%-%-concurrency' needs a whole number", with("--concurrency", "many"))
    refused("'%-%-max%-attempts' must be at least 1", with("--max-attempts", "0"))
    refused("'%-%-timeout' must be above 0", with("--timeout", "0"))
    refused("unexpected argument 'more'", with("more"))
  end)

  it("asks for what is missing", function()
    refused("'%-%-input' is required", { "-o", out, "--base-url", URL })
    refused("'%-%-output' is required", { "-i", input, "--base-url", URL })
    refused("'%-%-base%-url' is required", { "-i", input, "-o", out })
  end)

  it("refuses a base URL that is not http(s), names no server or has a query", function()
    for _, url in ipairs { "ftp://host/x", "host.example", "//host", "file:///etc", "" } do
      refused("must begin with http:// or https://", { "-i", input, "-o", out, "--base-url", url })
    end
    refused("names no server", { "-i", input, "-o", out, "--base-url", "http://" })
    refused("names no server", { "-i", input, "-o", out, "--base-url", "http:///v1" })
    refused("no query", { "-i", input, "-o", out, "--base-url", "http://h/v1?x=1" })
    refused("a port is 1 to 65535", { "-i", input, "-o", out, "--base-url", "http://127.0.0.1:99999" })
    assert.is_nil(tmp.read(out))
  end)

  it("refuses a header that is none, without repeating it", function()
    for _, text in ipairs { "secret-token", "", ": x", "a b: x" } do
      local line = refused("'%-%-header' needs 'Name: value'", with("--header", text))
      assert.is_nil(line:find("secret", 1, true))
    end
  end)

  it("refuses headers that say how long a body is", function()
    refused("neap sets 'Content%-Length' itself", with("--header", "Content-Length: 5"))
    refused("neap sets 'transfer%-encoding' itself", with("--header", "transfer-encoding: chunked"))
  end)

  it("refuses an API key that is not there or has a line end", function()
    refused("'NO_SUCH_KEY' %(%-%-api%-key%-env%) is not set", with("--api-key-env", "NO_SUCH_KEY"))
    local line = refused("control character", with("--api-key-env", "BAD_KEY"), { BAD_KEY = "secret\nX: y" })
    assert.is_nil(line:find("secret", 1, true))
  end)

  describe("in some lines,", function()
    local mock

    -- Runs the lines; the result of the child, and the rows by custom_id ("?"
    -- and the place for those without).
    local function run_lines(lines)
      mock = batch.mock()
      tmp.write(input, table.concat(lines, "\n") .. "\n")
      local result = child.run { "batch", "-i", input, "-o", out, "--base-url", mock.url }
      return result, batch.rows(out)
    end

    local cases = {
      { "a line that is not JSON", "{oops", 'line 2 is not JSON: [^\n]+' },
      { "a line without custom_id", '{"url":"/v1/x","body":{}}', 'line 2 has no "custom_id"' },
      { "a line without url", '{"custom_id":"x","body":{}}', 'line 2 has no "url"' },
      { "a line without body", '{"custom_id":"x","url":"/v1/x"}', 'line 2 has no "body"' },
      { "a repeated custom_id", batch.line "a", 'line 2 repeats the custom_id "a" of an earlier line' },
    }
    for _, case in ipairs(cases) do
      it(("names %s by its number, makes it an error result and runs the others"):format(case[1]), function()
        local result, rows = run_lines { batch.line "a", case[2], batch.line "b" }
        assert.equal(1, result.code)
        assert.matches("neap: batch: " .. case[3] .. "\n", result.err)
        assert.equal(3, #rows)
        local bad, good = nil, {}
        for _, row in ipairs(rows) do
          if row.error ~= require("neap.json").null then
            assert.is_nil(bad)
            bad = row
          else
            good[row.custom_id] = row.response.status_code
          end
        end
        assert.same({ a = 200, b = 200 }, good)
        assert.equal("invalid", bad.error.code)
        assert.matches("^" .. case[3] .. "$", bad.error.message)
        assert.matches("1 bad line%)", result.err)
        assert.same({ a = 1, b = 1 }, mock:stats().by_id)
      end)
    end

    it("names the first twenty on standard error and all in the output", function()
      local lines = {}
      for i = 1, 50 do lines[i] = "bad " .. i end
      local result, rows = run_lines(lines)
      assert.equal(1, result.code)
      assert.equal(50, #rows)
      local named = select(2, result.err:gsub("line %d+ is not JSON", ""))
      assert.equal(20, named)
      assert.matches("more bad lines follow", result.err)
      assert.matches("50 bad lines", result.err)
    end)
  end)
end)
