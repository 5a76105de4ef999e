--- Keeps `pairs` and `next` loops right under the JIT.
---
--- LuaJIT 2.1.0-beta3 as of March 2022 (Debian 12) walks a table wrongly when it
--- gives up compiling a `for ... in pairs(t)` that is running: elements are skipped,
--- or a number comes out as the key (LuaJIT#827, fixed in April 2022). The fault is
--- in the special instruction for loops over the built-in `next`; with any other
--- iterator function such a loop takes the general way, which has no fault. Costs
--- about 10 ns an element.
local raw_next = next

local function step(t, key)
  return raw_next(t, key)
end

local function check(name, t)
  if type(t) ~= "table" then
    error(("bad argument #1 to '%s' (table expected, got %s)"):format(name, type(t)), 3)
  end
end

function next(t, key) -- luacheck: globals next
  check("next", t)
  return raw_next(t, key)
end

function pairs(t) -- luacheck: globals pairs
  check("pairs", t)
  return step, t, nil
end
