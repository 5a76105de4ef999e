-- SPDX-License-Identifier: MIT
-- The priority queue with aging against a plain list, by random use with a fixed
-- seed in virtual time: 100,000 operations in two tests.
local core = require "neap.core"
local neap = require "neap"

local function draw(n) return math.floor(core.random() * n) + 1 end

-- ---------------------------------------------------------------------------
-- The model: looks at every value and its age at every get
-- ---------------------------------------------------------------------------

local Model = {}
Model.__index = Model

--- The value with the lowest number now, the first of equals.
function Model:best(now)
  local at, lowest
  for i, item in ipairs(self.inside) do
    local priority = item.priority - self.aging * (now - item.began)
    if not at or priority < lowest then at, lowest = i, priority end
  end
  return at
end

function Model:put(op, now)
  op.began = now
  local getter = table.remove(self.getters, 1)
  if getter then
    getter.expected, op.expected = op.value, true
  elseif #self.inside < self.max then
    self.inside[#self.inside + 1], op.expected = op, true
  elseif op.timeout == 0 then
    op.expected = "timeout"
  else
    self.putters[#self.putters + 1] = op
  end
end

function Model:get(op, now)
  local at = self:best(now)
  if at then
    op.expected = table.remove(self.inside, at).value
    local putter = table.remove(self.putters, 1)
    if putter then self.inside[#self.inside + 1], putter.expected = putter, true end
  elseif op.timeout == 0 then
    op.expected = "timeout"
  else
    self.getters[#self.getters + 1] = op
  end
end

--- Those whose deadline has passed leave.
function Model:expire(now)
  for _, line in ipairs { self.putters, self.getters } do
    for i = #line, 1, -1 do
      if line[i].deadline and line[i].deadline < now then table.remove(line, i).expected = "timeout" end
    end
  end
end

-- ---------------------------------------------------------------------------
-- The comparison
-- ---------------------------------------------------------------------------

local function run(queue, op)
  local result, err
  if op.value then
    result, err = queue:put(op.value, { priority = op.priority, timeout = op.timeout })
  else
    result, err = queue:get(op.timeout)
  end
  op.got = result or err.kind
end

--- Time stands at multiples of 1/8 s and deadlines between them; both and the
--- aging are exact in binary.
local function random_timeout()
  local kind = draw(4)
  if kind == 1 then return 0 end
  if kind == 2 then return draw(24) / 8 - 1 / 16 end
end

local function compare(aging, max, steps)
  local queue = neap.queue { priority = true, aging = aging, max = max }
  local model = setmetatable({ aging = aging, max = max, inside = {}, putters = {}, getters = {} }, Model)
  local ops, reached = {}, { cancelled = 0, timeout = 0, overtaken = 0 }
  local base = neap.now()
  neap.scope(function(s)
    local puts = 5
    for step = 1, steps do
      local action, now = draw(16), neap.now()
      model:expire(now)
      if step % 300 == 0 then puts = 2 + draw(6) end -- now too many, now too few
      if action <= 10 then
        local op = { timeout = random_timeout(), priority = draw(12) / 2 - 3 }
        if op.timeout and op.timeout > 0 then op.deadline = now + op.timeout end
        if action <= puts then op.value = step end
        ops[#ops + 1] = op
        if op.value then model:put(op, now) else model:get(op, now) end
        op.task = s:spawn(run, queue, op)
        neap.sleep(0)
      elseif action <= 12 then
        local line = draw(2) == 1 and model.putters or model.getters
        if #line > 0 then
          local op = table.remove(line, draw(#line))
          op.task:cancel()
          op.expected = "cancelled"
        end
      elseif action <= 14 then
        neap.sleep(draw(16) / 8)
        model:expire(neap.now())
      end
      assert.equal(#model.inside, queue:len(), "step " .. step)
      local getters, putters = queue:waiting()
      assert.equal(#model.getters, getters, "step " .. step)
      assert.equal(#model.putters, putters, "step " .. step)
    end
    for _, line in ipairs { model.putters, model.getters } do
      for _, op in ipairs(line) do op.expected = "cancelled" end
    end
    s:cancel()
  end)
  local last = {}
  for i, op in ipairs(ops) do
    local got = op.got or op.task:status()
    if op.expected ~= got then assert.equal(op.expected, got, "operation " .. i) end
    if reached[got] then reached[got] = reached[got] + 1 end
    if type(got) == "number" then
      if last.got and got < last.got then reached.overtaken = reached.overtaken + 1 end
      last = op
    end
  end
  assert.is_true(neap.now() - base > 1000)
  for what, count in pairs(reached) do assert.is_true(count > steps / 100, what .. " " .. count) end
end

describe("a priority queue under random puts, gets, cancels and timeouts", function()
  it("with aging does what the plain list does", function() compare(0.25, 12, 60000) end)

  it("without aging does what the plain list does", function() compare(0, 5, 40000) end)
end)
