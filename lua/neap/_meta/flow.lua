---@meta
--- Semaphores, queues, events and rate limiters: what runtime/bind/lua_*.c and
--- lua/neap/{flow,rate_limiter}.lua give them. Waiting methods return nil and an error of kind
--- "timeout" at their deadline, raise kind "cancelled" in a cancelled task, and
--- raise for misuse. Timeouts are seconds: none waits for ever, 0 tries once.

local core = {}

-- Semaphore -----------------------------------------------------------------

---@class neap.semaphore
local semaphore = {}

--- Takes `n` permits (1), in strict order of arrival. More than the limit waits
--- until the limit grows. With `front` it enters before all others in line, in
--- order among such, and is never refused: for who comes back to finish something.
--- Does not yield when the permits are free. Waits.
---@param n? integer 1 or more
---@param timeout? number seconds
---@param front? boolean
---@return true? acquired
---@return neap.Error? err kind "timeout" or "queue_full"
function semaphore:acquire(n, timeout, front) end

--- Gives `n` permits (1) back; raises when fewer are held. Never waits.
---@param n? integer
function semaphore:release(n) end

--- Calls `fn(...)` holding one permit, which comes back however fn ends. Returns
--- fn's results; nil and an error when the line is full. `with(n, fn, ...)` holds
--- n permits. Waits.
---@param fn function
---@param ... any passed to fn
---@return any ...
function semaphore:with(fn, ...) end

--- Changes the limit. Below what is held nobody enters until enough came back.
--- Never waits.
---@param limit integer 0 or more
function semaphore:set_limit(limit) end

---@return integer
function semaphore:limit() end

--- Permits that are out.
---@return integer
function semaphore:held() end

--- Permits that are free.
---@return integer
function semaphore:available() end

--- Tasks in line.
---@return integer
function semaphore:waiting() end

--- For neap.flow.
---@param limit integer
---@param max_waiting? integer
---@return neap.semaphore
function core.semaphore(limit, max_waiting) end

-- Event ----------------------------------------------------------------------

---@class neap.event
local event = {}

--- Sets it and wakes everybody who waits, in order. Never waits.
function event:set() end

--- Never waits.
function event:clear() end

---@return boolean
function event:is_set() end

--- Returns when it is set. Waits.
---@param timeout? number seconds
---@return true? set
---@return neap.Error? err kind "timeout"
function event:wait(timeout) end

--- Tasks that wait.
---@return integer
function event:waiting() end

--- An event, not set.
---@return neap.event
function core.event() end

-- Queue ----------------------------------------------------------------------

---@class neap.queue
local queue = {}

--- Puts a value, in line while the queue is full. Waits.
---@param value any but nil
---@param opts? {priority: number, timeout: number} seconds
---@return true? put
---@return neap.Error? err kind "timeout" or "closed"
function queue:put(value, opts) end

--- Takes the first value. Waits.
---@param timeout? number seconds
---@return any value nil: see err
---@return neap.Error? err kind "timeout", or "closed" once it is closed and drained
function queue:get(timeout) end

--- An iterator of values until the queue is closed and drained. Its calls wait.
---@return fun(): any
function queue:iter() end

--- One value that was got is done with; raises when none is open. Never waits.
function queue:task_done() end

--- Returns when every value that was put is done with. Waits.
---@param timeout? number seconds
---@return true? joined
---@return neap.Error? err kind "timeout"
function queue:join(timeout) end

--- Refuses further puts, also those in line; getters take what is left. Never
--- waits.
function queue:close() end

---@return boolean
function queue:is_closed() end

--- Values inside.
---@return integer
function queue:len() end

--- Values that were put and are not done with.
---@return integer
function queue:unfinished() end

--- Tasks in line.
---@return integer getters
---@return integer putters
function queue:waiting() end

--- For neap.flow.
---@param max? integer
---@param by_priority boolean
---@param aging? number priority a second
---@return neap.queue
function core.queue(max, by_priority, aging) end

-- Rate limiter ----------------------------------------------------------------

-- Its options: _meta/policies.lua.

---@alias neap.rate_limiter.Kind "requests"|"tokens"|"input_tokens"|"output_tokens"
---@alias neap.rate_limiter.Amounts number|table<neap.rate_limiter.Kind, number>

---@class neap.rate_limiter
local limiter = {}

--- Takes the amounts of every rate at once, in strict order of arrival. A number
--- is for a limiter of one kind; in a table `requests` defaults to 1, and tokens
--- to input plus output where these are named. With `front` it enters before all
--- others in line, in order among such, and is never refused. Waits.
---@param amounts? neap.rate_limiter.Amounts default: 1
---@param timeout? number seconds
---@param front? boolean
---@return neap.lease? lease
---@return neap.Error? err kind "timeout", "queue_full", or "invalid" above a burst
function limiter:acquire(amounts, timeout, front) end

--- Takes in what a response's headers say about limits. With the lease of the
--- request that it answers the learned limits are set, up or down; without, they
--- are only lowered. Never waits.
---@param headers table<string, string>
---@param lease? neap.lease
---@param status? integer of the response; below 400 its Retry-After is not about limits
function limiter:observe(headers, lease, status) end

--- Changes options in use, checked like the constructor's; levels and debts stay.
--- Who waits for more than a new burst gets an error of kind "invalid". Never waits.
---@param changes neap.rate_limiter.Options
function limiter:update(changes) end

--- When a task in line will pass if nothing changes, or the head of the line; nil
--- when it does not wait here. Never waits.
---@param task? neap.task
---@return number? seconds on the scale of neap.now()
function limiter:eta(task) end

---@class neap.rate_limiter.Snapshot
---@field kind "rate_limiter"
---@field name string
---@field state "ready"|"pacing"|"paused"
---@field waiting integer tasks in line
---@field reason? string
---@field next_change? number neap.now() at which the next passes, or the pause ends
---@field kinds table<neap.rate_limiter.Kind, neap.rate_limiter.KindSnapshot>

---@class neap.rate_limiter.KindSnapshot
---@field available number
---@field rate? number configured, per `per` seconds
---@field per? number
---@field burst? number
---@field learned_limit? number the server's, per `learned_per` seconds
---@field learned_per? number

--- Plain data about the present state. Never waits.
---@return neap.rate_limiter.Snapshot
function limiter:snapshot() end

--- Units that could pass now if nobody waited; math.huge for a kind without limit.
---@param kind? neap.rate_limiter.Kind default: the only one
---@return number
function limiter:available(kind) end

--- Tasks in line.
---@return integer
function limiter:waiting() end

--- For neap.rate_limiter, as all below.
---@param kind neap.rate_limiter.Kind
---@param rate number
---@param per number seconds
---@param burst number
---@return integer number
function limiter:add(kind, rate, per, burst) end

---@param number integer from `add`
---@param rate number
---@param per number seconds
---@param burst number
function limiter:set(number, rate, per, burst) end

--- Adds the rate of a kind that is learned.
---@param kind neap.rate_limiter.Kind
function limiter:add_learned(kind) end

--- A server's word about its bucket; nobody passes before `serve`.
---@param kind neap.rate_limiter.Kind
---@param lease? neap.lease the request that it answers
---@param rate number
---@param per number seconds
---@param burst number
---@param left? number units
---@param full_in? number seconds; then, and each `window` from then on, it is full
---@param window? number seconds
---@return boolean heard
function limiter:learn(kind, lease, rate, per, burst, left, full_in, window) end

--- Grants whatever is due.
function limiter:serve() end

--- Lets everything pass as before anything was learned.
function limiter:forget() end

---@param n? integer default: no bound
function limiter:set_max_waiting(n) end

--- A lease that nobody has asked for yet.
---@param amounts? neap.rate_limiter.Amounts
---@return neap.lease? lease
---@return neap.Error? err kind "invalid"
function limiter:lease(amounts) end

--- Nothing passes for so long.
---@param seconds number
---@return boolean whether that is longer than before
function limiter:hold(seconds) end

---@return number seconds on the scale of neap.now()
function limiter:held_until() end

---@class neap.lease
local lease = {}

--- Says what was used in truth: the difference is given back or charged. The last
--- word counts; kinds that are not named stay as they were. Never waits.
---@param actual neap.rate_limiter.Amounts
function lease:settle(actual) end

--- The instant that the grant was computed for, on the scale of neap.now().
---@return number seconds
function lease:date() end

--- From the call to the grant's date.
---@return number seconds
function lease:waited() end

--- For neap.rate_limiter: asks the limiter. Waits.
---@param timeout? number seconds
---@param front? boolean
---@return neap.lease? lease itself
---@return neap.Error? err
function lease:acquire(timeout, front) end

--- For neap.rate_limiter: a limiter without rates.
---@param max_waiting? integer
---@return neap.rate_limiter
function core.rate_limiter(max_waiting) end

return core
