---@meta
--- Tasks and scopes: what runtime/bind/lua_{task,scope,report}.c give boot.lua,
--- scope.lua, collect.lua and init.lua.

local core = {}

-- Tasks ------------------------------------------------------------------------

---@class neap.task
local task = {}

--- Waits until the task has ended. A task may be awaited often, by many.
---@return any ... its results; nil and an error when it failed or was cancelled
function task:await() end

--- Cancels the task: its current wait and every later one raises kind
--- "cancelled" there. Nothing happens to a task that has ended. Never waits.
function task:cancel() end

---@return "ready"|"running"|"waiting"|"done"|"failed"|"cancelled"
function task:status() end

--- Names the task in reports. Returns the task.
---@param name string
---@return neap.task
function task:set_name(name) end

--- The name given, else file:line of its function.
---@return string
function task:name() end

--- Where it was spawned, then where its spawner was, and so on.
---@return string[] sites "file:line"
function task:sites() end

--- Starts `fn(...)` as a task of the running task's innermost scope. Never waits.
---@param fn function
---@param ... any
---@return neap.task
function core.spawn(fn, ...) end

--- Like spawn, for a task that its scope does not wait for: once nothing else is
--- left there, it is cancelled. Never waits.
---@param fn function
---@param ... any
---@return neap.task
function core.spawn_background(fn, ...) end

--- A background task of the root, out of reach of every scope further in: for
--- work that tasks of several scopes wait for. Whoever starts it cancels it when
--- nobody waits any more; its errors must not leave it. Never waits.
---@param fn function
---@param ... any
---@return neap.task
function core.spawn_detached(fn, ...) end

--- The running task; nothing in a callback.
---@return neap.task?
function core.current() end

--- Counts of the scheduler and the loop: tasks, ready, waiting, spawned,
--- switches, timers, holds.
---@return table<string, integer>
function core.stats() end

--- Registers the function through which a failed task's error passes.
---@param fn fun(task: neap.task, err: any, traceback: string): any
function core.on_failure(fn) end

--- A task that runs longer than this without waiting is logged.
---@param seconds number above 0
function core.hog_threshold(seconds) end

--- One line for each waiting task: its name, what it waits for, where.
---@return string
function core.waiting() end

--- Hands a message to the host's log.
---@param level "debug"|"info"|"warning"|"error"
---@param message string
function core.log(level, message) end

-- Scopes -----------------------------------------------------------------------

---@class neap.scope
---@class neap.Scope: neap.scope
local scope = {}

--- Starts `fn(...)` as a task of this scope. Raises once the scope was left.
---@param fn function
---@param ... any
---@return neap.task
function scope:spawn(fn, ...) end

--- Cancels everything inside, also the body's next wait. Never waits.
function scope:cancel() end

--- Waits until the scope's tasks have ended; for scope.lua.
function scope:wait() end

--- Leaves the scope; for scope.lua.
---@return "expired"|"cancelled"|nil reason a wait inside has raised because of it
---@return neap.Error[]? failures of its tasks
---@return boolean cancelled_outside
---@return "expired"|"cancelled"|nil cut the wait for the tasks was cut short
function scope:leave() end

--- Whether a task of the scope has failed.
---@return boolean
function scope:failed() end

--- Its tasks that have not ended.
---@return neap.task[]
function scope:tasks() end

--- The errors of its tasks so far; the scope forgets them.
---@return neap.Error[]?
function scope:take_failures() end

--- Enters a scope; for scope.lua. Raises kind "cancelled" in a cancelled task,
--- unless shield. Never waits.
---@param timeout? number seconds
---@param shield? boolean
---@param collect? boolean
---@return neap.scope
function core.scope_enter(timeout, shield, collect) end

--- A handler for xpcall: keeps the traceback of the running task's error.
---@param err any
---@return any err
function core.note_traceback(err) end
