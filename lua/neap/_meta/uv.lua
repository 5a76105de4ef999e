---@meta
--- luv and the wait under neap.await: what runtime/bind/lua_uv.c and lua_await.c
--- give lua/neap/uv.lua and await.lua.

local core = {}

--- luv's table. Once in a runtime.
---@param on_error fun(err: any): any the message handler of callbacks
---@return table uv
function core.uv_open(on_error) end

--- Calls `fn(...)` in the loop's next round, outside any task, as luv calls a
--- callback; in order. Never waits.
---@param fn function
---@param ... any up to 8
function core.uv_later(fn, ...) end

---@class neap.gate
local gate = {}

--- Waits until the gate is open; at once when it is. One wait in its life.
function gate:wait() end

--- Opens it. Never waits.
---@return boolean passes false: it was open, or its wait was given up
function gate:open() end

--- Gives the wait up before it begins. Never waits.
function gate:leave() end

--- A closed gate. Never waits, but raises where a wait would.
---@return neap.gate
function core.gate_new() end
