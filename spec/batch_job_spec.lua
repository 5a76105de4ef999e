local errors = require "neap.error"
local jobs = require "neap.batch.job"
local json = require "neap.json"
local neap = require "neap"
local reader = require "neap.batch.reader"

local function line(id)
  return ('{"custom_id":"%s","url":"/v1/x","body":{"id":"%s"}}\n'):format(id, id)
end

local function lines(n)
  local list = {}
  for i = 1, n do list[i] = line("r" .. i) end
  return table.concat(list)
end

-- A source of `text`; endless: the text again and again with new ids.
local function source_of(text)
  local given
  return {
    read = function()
      if given then return nil end
      given = true
      return text
    end,
    close = function() end,
  }
end

-- A job on fakes: `answer(request, n)` plays the server, what it returns is the
-- answer; n counts the calls for this custom_id.
local function job_of(text, answer, opts)
  opts = opts or {}
  local world = { rows = {}, calls = {}, order = {}, now_in_flight = 0, most_in_flight = 0, requests = {} }
  local client = {}
  function client:request(request)
    local id = request.headers["X-Client-Request-Id"]
    world.calls[id] = (world.calls[id] or 0) + 1
    world.order[#world.order + 1] = id
    world.requests[#world.requests + 1] = request
    world.now_in_flight = world.now_in_flight + 1
    world.most_in_flight = math.max(world.most_in_flight, world.now_in_flight)
    local ok, res, err = pcall(answer, request, world.calls[id])
    world.now_in_flight = world.now_in_flight - 1
    if not ok then error(res, 0) end
    return res, err
  end
  local writer = {}
  function writer:append(text_line)
    if opts.disk then
      local ok, err = opts.disk(#world.rows + 1)
      if not ok then return nil, err end
    end
    local row = assert(json.decode(text_line))
    world.rows[#world.rows + 1] = row
    return true
  end
  world.job = jobs.new({ client = client, reader = reader.new(opts.source or source_of(text)), writer = writer }, {
    base_url = "http://server", concurrency = opts.concurrency or 10, max_attempts = opts.max_attempts or 5,
    on_bad_line = opts.on_bad_line,
  })
  return world
end

local function ok(fields)
  local res = { status = 200, headers = {}, body = "{}" }
  for key, value in pairs(fields or {}) do res[key] = value end
  return res
end

local function ids_of(rows)
  local seen = {}
  for _, row in ipairs(rows) do seen[row.custom_id] = (seen[row.custom_id] or 0) + 1 end
  return seen
end

local function assert_each_once(n, rows)
  local seen = ids_of(rows)
  assert.equal(n, #rows)
  for i = 1, n do assert.equal(1, seen["r" .. i], "r" .. i) end
end

describe("a batch job", function()
  it("answers every request once", function()
    local world = job_of(lines(200), function()
      neap.sleep(neap.now() % 0.1)
      return ok()
    end)
    world.job:run()
    assert_each_once(200, world.rows)
    local stats = world.job.stats
    assert.equal(200, stats.taken)
    assert.equal(200, stats.done)
    assert.equal(200, stats.ok)
    assert.equal(0, stats.failed)
    assert.equal(0, stats.in_flight)
    assert.equal(200, stats.statuses[200])
    assert.equal(#lines(200), stats.bytes)
    assert.equal(200, stats.latency.count)
  end)

  it("keeps a sliding window full: a slow request holds up nobody", function()
    local world = job_of(lines(91), function(request)
      neap.sleep(request.body:find '"r1"' and 10.5 or 1)
      return ok()
    end, { concurrency = 10 })
    local began = neap.now()
    world.job:run()
    -- 90 of 1 s through nine places while the slow one has the tenth.
    assert.near(10.5, neap.now() - began, 1e-6)
    assert.equal(10, world.most_in_flight)
    assert.equal("r1", world.rows[91].custom_id)
  end)

  it("takes from the input only what fits the window", function()
    local reads = 0
    local world = job_of(nil, function()
      neap.sleep(1)
      return ok()
    end, {
      concurrency = 5,
      source = {
        read = function()
          reads = reads + 1
          if reads <= 100 then return line("r" .. reads) end
        end,
        close = function() end,
      },
    })
    local task = neap.spawn(function() world.job:run() end)
    neap.sleep(0.5)
    assert.is_true(reads <= 7, reads .. " lines read for five places")
    task:await()
    assert_each_once(100, world.rows)
  end)

  it("writes results in the order in which they complete", function()
    local world = job_of(lines(3), function(request)
      neap.sleep(4 - tonumber(request.body:match '"r(%d)"'))
      return ok()
    end)
    world.job:run()
    assert.equal("r3", world.rows[1].custom_id)
    assert.equal("r1", world.rows[3].custom_id)
  end)

  it("sends body, custom_id and one idempotency key for all attempts of an item", function()
    local world = job_of(lines(2), function(_, n) return n < 3 and ok { status = 503 } or ok() end)
    world.job:run()
    local keys, count = {}, 0
    for _, request in ipairs(world.requests) do
      local id = request.headers["X-Client-Request-Id"]
      assert.equal(('{"id":"%s"}'):format(id), request.body)
      assert.equal("http://server/v1/x", request.url)
      assert.equal("POST", request.method)
      keys[id] = keys[id] or request.idempotency_key
      assert.equal(keys[id], request.idempotency_key)
      count = count + 1
    end
    assert.equal(6, count)
    assert.not_equal(keys.r1, keys.r2)
    local again = job_of(lines(1), function() return ok() end)
    again.job:run()
    assert.not_equal(keys.r1, again.requests[1].idempotency_key)
  end)

  it("repeats what may pass and counts it", function()
    local world = job_of(lines(10), function(_, n)
      if n == 1 then return ok { status = 503 } end
      if n == 2 then
        return nil, errors.new { kind = "receive", message = "reset", sent = "yes", replay_safe = true }
      end
      return ok()
    end)
    world.job:run()
    local stats = world.job.stats
    assert_each_once(10, world.rows)
    assert.equal(20, stats.retries)
    assert.equal(0, stats.waiting)
    assert.equal(10, stats.ok)
    assert.equal(20, stats.latency.count)
    assert.same({ [200] = 10 }, stats.statuses)
  end)

  it("counts what libcurl has sent again by itself, but no redirects", function()
    local world = job_of(lines(2), function(request)
      return ok { sends = 3, url = request.body:find "r1" and request.url or "http://elsewhere/" }
    end)
    world.job:run()
    assert.equal(2, world.job.stats.retries)
  end)

  it("waits as long as the server asks", function()
    local world = job_of(lines(1), function(_, n)
      return n == 1 and ok { status = 429, headers = { ["retry-after"] = "30" } } or ok()
    end)
    local began = neap.now()
    world.job:run()
    assert.is_true(neap.now() - began >= 30)
    assert.is_true(neap.now() - began <= 61)
  end)

  it("shows what waits before another attempt", function()
    local world = job_of(lines(3), function(_, n)
      return n == 1 and ok { status = 429, headers = { ["retry-after"] = "30" } } or ok()
    end)
    local task = neap.spawn(function() world.job:run() end)
    neap.sleep(10)
    assert.equal(3, world.job.stats.waiting)
    assert.equal(3, world.job.stats.in_flight)
    task:await()
    assert.equal(0, world.job.stats.waiting)
  end)

  it("gives up after max_attempts; the last answer is the result", function()
    local world = job_of(lines(1), function() return ok { status = 503, body = '{"busy":true}' } end,
      { max_attempts = 3 })
    world.job:run()
    assert.equal(3, world.calls.r1)
    assert.equal(503, world.rows[1].response.status_code)
    assert.is_true(world.rows[1].response.body.busy)
    assert.equal(1, world.job.stats.failed)
    assert.same({ [503] = 1 }, world.job.stats.statuses)
  end)

  it("does not repeat what fails for good", function()
    local world = job_of(lines(1), function() return ok { status = 400 } end)
    world.job:run()
    assert.equal(1, world.calls.r1)
    assert.equal(400, world.rows[1].response.status_code)
    assert.equal(1, world.job.stats.failed)
  end)

  it("writes kind and message where no answer came", function()
    local world = job_of(lines(1), function()
      return nil, errors.new { kind = "connect", message = "connection refused", sent = "no" }
    end, { max_attempts = 2 })
    world.job:run()
    assert.equal(2, world.calls.r1)
    assert.equal(json.null, world.rows[1].response)
    assert.same({ code = "connect", message = "connection refused" }, world.rows[1].error)
    assert.same({ connect = 1 }, world.job.stats.errors)
    assert.equal(0, world.job.stats.latency.count)
  end)

  it("makes error results of bad lines and runs the others", function()
    local problems = {}
    local world = job_of(line "r1" .. "nonsense\n" .. line "r1" .. line "r2", function() return ok() end,
      { on_bad_line = function(problem) problems[#problems + 1] = problem end })
    world.job:run()
    assert.equal(2, #problems)
    assert.matches("^line 2 is not JSON", problems[1])
    assert.matches("^line 3 repeats", problems[2])
    assert.equal(4, #world.rows)
    assert.equal(2, world.job.stats.ok)
    assert.equal(2, world.job.stats.failed)
    assert.equal(2, world.job.stats.bad)
    assert.same({ invalid = 2 }, world.job.stats.errors)
    assert.equal(1, world.calls.r1)
  end)

  it("finishes what is in flight when stopped, and takes nothing more", function()
    local world = job_of(lines(100), function()
      neap.sleep(1)
      return ok()
    end, { concurrency = 7 })
    local task = neap.spawn(function() world.job:run() end)
    neap.sleep(1.5)
    world.job:stop()
    task:await()
    assert.near(0.5, neap.now() % 1, 0.51)
    assert.equal(14, #world.rows)
    assert.equal(14, world.job.stats.taken)
    assert.equal(0, world.job.stats.in_flight)
    assert.is_true(world.job.stopping)
    assert.is_false(world.job.aborted)
  end)

  it("gives up in the input's order what waits for another attempt when it is stopped", function()
    local world = job_of(lines(40), function() return ok { status = 429, headers = { ["retry-after"] = "60" } } end,
      { concurrency = 40 })
    local task = neap.spawn(function() world.job:run() end)
    neap.sleep(10)
    assert.equal(40, world.job.stats.waiting)
    world.job:stop()
    task:await()
    local names = {}
    for i, row in ipairs(world.rows) do names[i] = row.custom_id end
    local wanted = {}
    for i = 1, 40 do wanted[i] = "r" .. i end
    assert.same(wanted, names)
  end)

  it("takes nothing at all when stopped before it runs", function()
    local world = job_of(lines(3), function() return ok() end)
    world.job:stop()
    world.job:run()
    assert.equal(0, #world.rows)
  end)

  it("does not wait for the input when stopped", function()
    local world = job_of(nil, function() return ok() end, {
      source = { read = function() neap.sleep(1000) end, close = function() end },
    })
    local task = neap.spawn(function() world.job:run() end)
    neap.sleep(1)
    local began = neap.now()
    world.job:stop()
    task:await()
    assert.equal(began, neap.now())
  end)

  it("ends at once when aborted", function()
    local world = job_of(lines(100), function()
      neap.sleep(1)
      return ok()
    end, { concurrency = 7 })
    local task = neap.spawn(function() world.job:run() end)
    neap.sleep(1.5)
    local began = neap.now()
    world.job:stop()
    world.job:abort()
    task:await()
    assert.equal("done", task:status())
    assert.equal(began, neap.now())
    assert.equal(7, #world.rows)
    assert.equal(0, world.now_in_flight)
    assert.equal(7, world.job.stats.in_flight)
    assert.is_true(world.job.aborted)
  end)

  it("stops at once when the output cannot be written", function()
    local world = job_of(lines(100), function()
      neap.sleep(1)
      return ok()
    end, {
      concurrency = 4,
      disk = function(n)
        if n <= 6 then return true end
        return nil, errors.new { kind = "invalid", message = "cannot write 'x': no space left on device" }
      end,
    })
    world.job:run()
    assert.equal(6, #world.rows)
    assert.equal(6, world.job.stats.done)
    assert.matches("no space", world.job.write_error.message)
    assert.is_true(#world.order <= 12)
  end)

  it("finishes what it has read when the input breaks off", function()
    local reads = 0
    local world = job_of(nil, function() return ok() end, {
      source = {
        read = function()
          reads = reads + 1
          if reads == 1 then return lines(2) end
          return nil, errors.new { kind = "invalid", message = "cannot read 'x': i/o error" }
        end,
        close = function() end,
      },
    })
    world.job:run()
    assert_each_once(2, world.rows)
    assert.matches("i/o error", world.job.read_error.message)
  end)

  describe("address", function()
    local cases = {
      { "http://h", "/v1/x", "http://h/v1/x" },
      { "http://h/", "/v1/x", "http://h/v1/x" },
      { "http://h/v1", "/v1/x", "http://h/v1/x" },
      { "http://h/v1/", "/v1/x", "http://h/v1/x" },
      { "http://h/v1//", "/v1/x?a=b", "http://h/v1/x?a=b" },
      { "http://h/v1", "/v1?a=b", "http://h/v1?a=b" },
      { "http://h/v1", "/v1", "http://h/v1" },
      { "http://h/v1", "/x", "http://h/v1/x" },
      { "http://h/v1", "/v10/x", "http://h/v1/v10/x" },
      { "http://h/api/v1", "/v1/x", "http://h/api/v1/x" },
      { "http://h/api", "/v1/x", "http://h/api/v1/x" },
      { "http://h/v1beta", "/v1beta/x", "http://h/v1beta/x" },
      { "http://h/v2", "/v1/x", "http://h/v2/v1/x" },
      { "http://v1", "/v1/x", "http://v1/v1/x" },
    }
    for _, case in ipairs(cases) do
      it(("of %s under %s is %s"):format(case[2], case[1], case[3]), function()
        assert.equal(case[3], jobs.join(case[1], case[2]))
      end)
    end
  end)
end)
