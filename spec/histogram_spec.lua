local histogram = require "neap.histogram"
local core = require "neap.core"

describe("neap.histogram", function()
  it("is empty at first", function()
    local h = histogram.new()
    assert.equal(0, h.count)
    assert.is_nil(h.min)
    assert.is_nil(h:percentile(50))
    assert.is_nil(h:mean())
  end)

  it("gives every percentile of one value exactly", function()
    local h = histogram.new()
    h:add(0.1234)
    for _, percent in ipairs { 0, 1, 50, 99.9, 100 } do assert.equal(0.1234, h:percentile(percent)) end
    assert.equal(0.1234, h:mean())
  end)

  it("keeps the least, the greatest and the mean exact", function()
    local h = histogram.new()
    for _, value in ipairs { 3, 1, 2, 10 } do h:add(value) end
    assert.equal(1, h:percentile(0))
    assert.equal(10, h:percentile(100))
    assert.equal(4, h:mean())
    assert.equal(4, h.count)
  end)

  it("is within 0.8 % of the true percentile over six decades", function()
    local h, values, rng = histogram.new(), {}, core.rng(7, 1)
    for i = 1, 20000 do
      values[i] = 10 ^ (rng:double() * 6 - 4)
      h:add(values[i])
    end
    table.sort(values)
    for percent = 1, 99 do
      local exact = values[math.ceil(percent / 100 * #values)]
      local ratio = h:percentile(percent) / exact
      assert.is_true(math.abs(ratio - 1) < 0.008, ("p%d is off by %g"):format(percent, ratio - 1))
    end
  end)

  it("stays small however many values come", function()
    local h, rng = histogram.new(), core.rng(7, 2)
    for _ = 1, 200000 do h:add(rng:double() * 100) end
    local buckets = 0
    for _ in pairs(h.buckets) do buckets = buckets + 1 end
    assert.is_true(buckets < 1500, buckets .. " buckets")
  end)

  it("puts values beyond its range into the outer buckets", function()
    local h = histogram.new()
    for _, value in ipairs { 0, 1e-300, 1e300, math.huge } do h:add(value) end
    assert.equal(0, h:percentile(0))
    assert.equal(math.huge, h:percentile(100))
    assert.is_true(h:percentile(50) <= 1e-8)
  end)

  it("refuses what is no value and no percentage", function()
    local h = histogram.new()
    for _, value in ipairs { -1, 0 / 0, "1" } do
      assert.has_error(function() h:add(value) end)
    end
    assert.has_error(function() h:percentile(101) end)
    assert.has_error(function() h:percentile(-1) end)
    assert.equal(0, h.count)
  end)
end)
