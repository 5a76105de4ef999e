---@meta
--- The simulated network as C gives it (runtime/bind/lua_sim.c); lua/neap/sim/
--- stands on it. A request is known by its slot: a small number, which is the
--- caller's from `arrive` until sim_answer, sim_end, sim_drop or `gone`. What is sent
--- into the slot of a client that has left is lost. Times are seconds of core.now().
--- None of these waits.

local core = {}

--- What C calls: outside any task, one after the other, in the order of what
--- happened. An error in one ends the request with kind "internal".
---@class neap.core.SimUpcalls
---@field find fun(scheme: string, host: string): integer?, string?, string? who answers for "name:port", a number above 0; or nil, a kind and a message
---@field connect fun(number: integer, now: number, slot: integer, operation: integer, method: string, target: string): "stands"|"refused"|"hang", number, number, number, number? a new connection: seconds of dns, connect and tls, and how long the server keeps it idle
---@field arrive fun(slot: integer, number: integer, now: number, method: string, target: string, operation: integer): number?, table?, string? a request is complete. Returns the instant of its `due`, or a whole answer (status, headers, body)
---@field due fun(slot: integer, now: number): number?, table?, string? the instant has come, or what was unread has been taken; returns as `arrive`
---@field gone fun(slot: integer, now: number) the client has left before the end of its answer
---@field identify fun(): integer the operation that the running task's next request belongs to, 0: none; called as it is sent

--- Puts a network in the place of the real one for clients on a virtual clock;
--- another one goes down first.
---@param upcalls neap.core.SimUpcalls
function core.sim_up(upcalls) end

--- Requests under way end with kind "closed"; nothing is told of them. Idempotent.
function core.sim_down() end

--- `find` is asked again for every host.
function core.sim_reroute() end

--- A slot for a deadline of one's own.
---@return integer slot
function core.sim_timer() end

--- Calls `due` then, once; nil: not any more.
---@param slot integer
---@param at? number
function core.sim_wake(slot, at) end

--- A whole answer. Raises on a status, header or body that cannot be sent.
---@param slot integer
---@param status integer 200 to 999
---@param headers? table<string, string|string[]>|string[] a map (sent in the order of the names) or a flat list
---@param body string
function core.sim_answer(slot, status, headers, body) end

--- The head of an answer in pieces; without a length it is chunked.
---@param slot integer
---@param status integer
---@param headers? table<string, string|string[]>|string[]
---@param length? integer bytes
function core.sim_head(slot, status, headers, length) end

--- Bytes of the body.
---@param slot integer
---@param data string
---@return integer unread bytes that the client has not taken yet
function core.sim_body(slot, data) end

--- `due` is called once nothing is unread.
---@param slot integer
function core.sim_wake_when_read(slot) end

--- The answer is complete.
---@param slot integer
function core.sim_end(slot) end

--- The connection is reset, or closed in order, wherever the answer is.
---@param slot integer
---@param orderly? boolean
function core.sim_drop(slot, orderly) end

--- The request ends with an error of this kind and message.
---@param slot integer
---@param kind string of neap.error.kinds
---@param message string one sentence
function core.sim_fail(slot, kind, message) end

--- Whether the client still waits.
---@param slot integer
---@return boolean
function core.sim_is_there(slot) end

---@param slot integer
---@return string? body nil: the client has left
function core.sim_body_of(slot) end

--- Headers as a server gets them, names in lower case.
---@param slot integer
---@return string[]? flat {"name", "value", ...}; nil: the client has left
function core.sim_headers_of(slot) end

--- The first header of that name among those that the client was given.
---@param slot integer
---@param name string lower case
---@return string?
function core.sim_header_of(slot, name) end

--- Seconds of processor time of this process, whatever the clock: to measure what
--- code costs.
---@return number
function core.cpu_time() end

return core
