-- SPDX-License-Identifier: MIT
local errors = require "neap.error"
local neap = require "neap"
local uv = require "neap.uv"

local await = require "neap.await"

--- Resumes `delay` virtual seconds later, from a task.
local function later(delay, ...)
  local values, count = { ... }, select("#", ...)
  return function(resume)
    neap.spawn(function()
      neap.sleep(delay)
      resume(unpack(values, 1, count))
    end)
  end
end

local function count(...) return select("#", ...), ... end

describe("neap.await", function()
  it("waits until it is resumed and returns what was given", function()
    local before = neap.now()
    assert.equal("x", await(later(3, "x")))
    assert.near(3, neap.now() - before, 1e-6)
  end)

  it("keeps the number of values, nils included", function()
    assert.equal(0, (count(await(later(0)))))
    assert.same({ 1 }, { count(await(later(0, nil))) })
    assert.same({ 4, nil, 2, nil, nil }, { count(await(later(0, nil, 2, nil, nil))) })
  end)

  it("may be resumed at once", function()
    assert.equal("now", await(function(resume) resume("now") end))
  end)

  it("passes its further arguments on", function()
    assert.same({ 1, nil, 3 }, { await(function(resume, a, b, c) resume(a, b, c) end, 1, nil, 3) })
  end)

  it("takes the first resume and tells the others that they are late", function()
    local first, second, third
    local value = await(function(resume)
      first = resume("a")
      second = resume("b")
      third = resume
    end)
    assert.equal("a", value)
    assert.is_true(first)
    assert.is_false(second)
    assert.is_false(third("c"))
  end)

  it("raises in the cancelled task and ignores a late resume", function()
    local resume, err
    local task = neap.spawn(function()
      local ok
      ok, err = pcall(await, function(r) resume = r end)
      assert.is_false(ok)
    end)
    neap.sleep(0)
    task:cancel()
    assert.is_false(resume("before the task runs again"))
    task:await()
    assert.is_true(errors.is(err, "cancelled"))
    assert.is_false(resume("later"))
  end)

  it("ends with a timeout around it", function()
    local resume
    local value, err = neap.timeout(2, function() return await(function(r) resume = r end) end)
    assert.is_nil(value)
    assert.equal("timeout", err.kind)
    assert.is_false(resume(1))
  end)

  it("does not begin in a task that is cancelled already", function()
    local began = false
    local task
    task = neap.spawn(function()
      task:cancel()
      await(function() began = true end)
    end)
    task:await()
    assert.equal("cancelled", task:status())
    assert.is_false(began)
  end)

  it("raises what the function raises, and ignores a resume after that", function()
    local resume
    local err = assert.has_error(function()
      await(function(r)
        resume = r
        error({ my = "error" }, 0)
      end)
    end, { my = "error" })
    assert.truthy(err)
    assert.is_false(resume(1))
  end)

  it("raises without a function", function()
    assert.has_error(function() await(nil) end, "neap.await: expected a function, got nil")
  end)

  it("names the place of the deadlock when nothing can resume it", function()
    local ok, err = pcall(await, function() end)
    assert.is_false(ok)
    local message = tostring(err)
    assert.truthy(message:find("deadlock", 1, true), message)
    assert.truthy(message:find("waits for await at", 1, true), message)
    assert.truthy(message:find("await_spec.lua", 1, true), message)
  end)

  it("serves many waits at once", function()
    local list = {}
    for i = 1, 500 do list[i] = i end
    local results = neap.map(list, function(i) return await(later((i * 7919) % 13, i * 2)) end)
    for i = 1, 500 do assert.equal(i * 2, results[i]) end
  end)
end)

describe("neap.await on luv #real", function()
  it("waits for a luv timer", function()
    local timer = uv.new_timer()
    local fired = await(function(resume)
      timer:start(5, 0, function() resume("fired") end)
    end)
    timer:close()
    assert.equal("fired", fired)
  end)

  it("goes on at once when a luv timer is due before the loop looks", function()
    local timer, before = uv.new_timer(), neap.now()
    local sleeper = neap.spawn(neap.sleep, 20)
    neap.sleep(0)
    await(function(resume)
      timer:start(1, 0, function() resume() end)
      local start = os.clock()
      while os.clock() - start < 0.01 do end
    end)
    timer:close()
    sleeper:cancel()
    assert.is_true(neap.now() - before < 10)
  end)

  it("gives luv's error first", function()
    local err, stat = await(function(resume) uv.fs_stat("/no/such/file", resume) end)
    assert.truthy(err:find "^ENOENT")
    assert.is_nil(stat)
  end)
end)
