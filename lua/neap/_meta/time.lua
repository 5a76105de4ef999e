---@meta
--- Time and randomness: runtime/bind/lua_time.c and lua_rng.c, the only doors to
--- both.

local core = {}

--- Monotonic seconds of the runtime's clock, real or virtual.
---@return number
function core.now() end

--- Seconds since the Unix epoch on the runtime's clock.
---@return number
function core.time() end

--- Seconds of the machine's clock whatever the mode: to measure what code costs,
--- never to wait by.
---@return number
function core.machine_time() end

--- 0 lets every other ready task run first. Raises for negative numbers and NaN,
--- and kind "cancelled". Waits.
---@param seconds number 0 or more
function core.sleep(seconds) end

--- Switches the clock. Monotonic time never goes backwards.
---@param on boolean
---@param wall? number seconds since the epoch at this instant; default: the real ones
function core.clock_virtual(on, wall) end

---@return boolean
function core.is_virtual() end

--- A draw from the runtime's own stream, uniform in [0, 1).
---@return number
function core.random() end

---@class neap.rng
local rng = {}

--- The stream's next draw, uniform in [0, 1).
---@return number
function rng:double() end

--- A stream of its own: equal seed and stream give equal draws on every machine.
---@param seed integer 0 to 2^53
---@param stream? integer default 0
---@return neap.rng
function core.rng(seed, stream) end

--- Restarts the runtime's stream and math.random's.
---@param seed integer 0 to 2^53
function core.reseed(seed) end

--- The seed in use.
---@return integer
function core.seed() end

return core
